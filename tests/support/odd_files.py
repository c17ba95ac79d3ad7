"""Files as cameras, phones, editors and accidents leave them, made from scratch: bytes of whole files, for several tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from dagn_pre import codec
from tests.support import photograph

ASCII, SHORT, LONG, RATIONAL, SLONG = 2, 3, 4, 5, 9


def exif(*entries: tuple[int, int, int, bytes], next_directory: int = 0) -> bytes:
    """EXIF of one little-endian directory: (tag, type, count, up to four bytes of value or offset) as they are given."""
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHL", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<L", 8) + directory + struct.pack("<L", next_directory) + bytes(64)


TURNED = (0x0112, SHORT, 1, b"\6\0")  # orientation 6: to be turned by 90 degrees
ODD_EXIF = {  # readers show the picture turned, and pass over the rest
    "resolution unit as text": exif((0x0128, ASCII, 2, b"2\0"), TURNED),
    "date as a fraction": exif(TURNED, (0x0132, RATIONAL, 1, struct.pack("<L", 40))),
    "resolution as text": exif((0x011A, ASCII, 3, b"72\0"), TURNED),
    "unknown type": exif((0x010F, 77, 1, b"x"), TURNED),
    "count beyond the file": exif(TURNED, (0x0131, ASCII, 2**31 - 1, b"\xff\xff\xff\xff")),
    "directory of EXIF outside": exif(TURNED, (0x8769, LONG, 1, struct.pack("<L", 70_000))),
    "directory of GPS is the first": exif(TURNED, (0x8825, LONG, 1, struct.pack("<L", 8))),
    "negative copyright": exif(TURNED, (0x8298, SLONG, 1, b"\xff\xff\xff\xff")),
    "directory of EXIF as text": exif(TURNED, (0x8769, ASCII, 4, b"abc\0")),
    "thumbnail outside": exif(TURNED, next_directory=99_999),
}
UNREADABLE_EXIF = {
    "noise": b"Exif\0\0" + bytes(range(1, 100)),
    "nothing": b"Exif\0\0",
    "half a header": b"Exif\0\0II*",
    "no directory": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "byte orders mixed": b"Exif\0\0MM*\0\0\0\0\x08\0\1",
    "text": b"Exif\0\0<?xml version='1.0'?><nothing/>",
}


def jpeg(quality: int = 20, height: int = 64, width: int = 96, seed: int = 0, **options) -> bytes:
    """By Pillow, with its options."""
    return saved(Image.fromarray(photograph(height, width, seed)), "JPEG", quality=quality, **options)


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png(image: Image.Image, *chunks: tuple[bytes, bytes], **options) -> bytes:
    """A PNG with further chunks right after its header."""
    data = saved(image, "PNG", **options)
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def gray_png(samples: np.ndarray, bits: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A gray PNG of that depth, written by hand: before release 13 Pillow's encoder leaves ``bits`` unread for gray images."""
    height, width = samples.shape
    rows = np.packbits(np.unpackbits(samples[..., None], axis=2)[..., 8 - bits :].reshape(height, -1), axis=1)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())  # before each row its filter: none
    header = struct.pack(">LLBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with a further segment at its start."""
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + data[2:]


Numbers = dict[int, int]  # a table's number -> its new one


def with_tables(data: bytes, *unused: tuple[int, list[int]], numbers: Numbers | None = None, deep: bool = False) -> bytes:
    """A JPEG with the same pixels whose quantisation tables have other numbers, hold 16 bits, or follow unused ones, which are
    (number, 64 steps in zigzag order)."""
    numbers = numbers or {}
    parts, position = [data[:2]], 2
    parts += [bytes((0xFF, 0xDB)) + struct.pack(">HB", 67, number) + bytes(steps) for number, steps in unused]
    for one in codec.segments(data):
        content = one.data
        if one.marker == 0xDB:
            tables = [content[start : start + 65] for start in range(0, len(content), 65)]
            heads = [bytes([numbers.get(table[0], table[0]) | (16 if deep else 0)]) for table in tables]
            bodies = [struct.pack(">64H", *table[1:]) if deep else table[1:] for table in tables]
            content = b"".join(head + body for head, body in zip(heads, bodies))
        elif one.marker in codec.FRAMES:
            frame = bytearray(content)
            frame[8::3] = bytes(numbers.get(number, number) for number in frame[8::3])
            content = bytes(frame)
        parts.append(bytes((0xFF, one.marker)) + struct.pack(">H", len(content) + 2) + content)
        position = one.stop
    return b"".join([*parts, data[position:]])


def mpo() -> bytes:
    return saved(
        Image.fromarray(photograph()), "MPO", save_all=True, append_images=[Image.fromarray(photograph(seed=1))], quality=20
    )


def animation(format: str = "GIF", frames: int = 3) -> bytes:
    pictures = [Image.fromarray(photograph(seed=seed)) for seed in range(frames)]
    return saved(pictures[0], format, save_all=True, append_images=pictures[1:])


def damaged() -> dict[str, bytes]:
    """Name -> bytes of a file that cannot be read, of which some fail late and with unusual exceptions."""
    picture = Image.fromarray(photograph())
    tiff, pages = saved(picture, "TIFF", compression="tiff_adobe_deflate"), animation("TIFF")
    second = int.from_bytes(pages[8 + 2 + 12 * pages[8] :][:4], "little")  # where the first directory says the next is
    formats = {"png": "PNG", "webp": "WEBP", "jp2": "JPEG2000", "avif": "AVIF", "bmp": "BMP"}
    whole = {suffix: saved(picture, format) for suffix, format in formats.items()}
    whole |= {"gif": animation(), "jpg": jpeg(), "tif": tiff}
    found = {f"cut.{suffix}": data[: len(data) * 2 // 3] for suffix, data in whole.items()}
    found["pages.tif"] = pages[: second + 20]
    found["frames.gif"] = whole["gif"][: whole["gif"].rindex(b",\0\0\0\0") + 5]  # within the last frame's header
    found["header.png"] = whole["png"][:20]
    found["zero.jpg"] = b"".join([jpeg()[: (place := jpeg().index(b"\xff\xc0")) + 5], b"\0\0", jpeg()[place + 7 :]])
    found["letters.ppm"] = b"P6\nwide high\n255\n" + bytes(300)
    found["short.ppm"] = b"P6\n96 64\n255\n" + bytes(300)
    found["empty.webp"] = b""
    found["text.jpg"] = b"no picture"
    return found


def grey_levels(width: int = 96, height: int = 64) -> np.ndarray:
    """(height, width, 3) uint8 whose channels are equal."""
    return np.repeat(photograph(height, width)[..., :1], 3, axis=2)
