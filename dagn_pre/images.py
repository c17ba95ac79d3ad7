"""Image files and PIL images, in and out: which kinds work, which are refused by name, and what is kept.

===================  ==================================================================================================
RGB, CMYK, YCbCr     work; CMYK and YCbCr come out as RGB
gray (L, 1)          works; restored as RGB and reduced to its mean again, so no colour appears; PIL "1" comes out as L.
                     Colour pictures and arrays whose channels are all equal stay gray the same way
alpha (LA, RGBA)     works; alpha is kept for PIL images and by the CLI, left out of the (H, W, 3) array of a path or bytes
palette (P, PA)      works as RGB or RGBA
a PNG's colour key   works as LA or RGBA
orientation          of EXIF, a PNG's profile or XMP: pixels are restored as stored, where JPEG's grid is; arrays and CLI
                     outputs are then turned upright. TIFF and HEIC arrive upright
many frames          refused (animations, multi-page TIFF); of an MPO the first picture is taken, the others are previews
more than 8 bits     refused, 16-bit PPM and 10-bit AVIF too: JPEG holds 8 bits, so such an image has never been a JPEG
no end marker        a JPEG that lacks nothing else is read, with a note (``strict_files`` refuses it)
signed samples       refused, and floating-point ones: of a TIFF, which Pillow would read as if they were unsigned
metadata             never refuses a picture: :mod:`dagn_pre.metadata` says what is kept
===================  ==================================================================================================

HEIC needs the extra ``heif``.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dagn_pre import chunks, codec, files
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError
from dagn_pre.metadata import Metadata, digest, is_marked, left_turned, orientation, read_more

MAX_PIXELS = 178_956_970  # where Pillow itself suspects a decompression bomb
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
OTHER_SUFFIXES = (".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".avif") + (
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".heic", ".heif", ".hif")  # fmt: skip
KEPT_SUFFIXES = OTHER_SUFFIXES[OTHER_SUFFIXES.index(".mpo") :]  # in outputs' names: phones write a.heic beside a.jpg
SUFFIXES = frozenset(JPEG_SUFFIXES + OTHER_SUFFIXES)
WRITABLE_SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".bmp", *JPEG_SUFFIXES)  # FORMATS, in the order that people are told
FORMATS = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"} | dict.fromkeys(
    JPEG_SUFFIXES, "JPEG"
)
OPAQUE = ("JPEG", "BMP")  # formats without alpha
# How each is written; JPEG without loss as far as it can.
LOSSLESS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
COLOUR_OF_MODE = {
    "1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"
}  # fmt: skip
GREY_STEPS = {"L;2": 85, "L;4": 17}  # between the gray levels of 2 and 4 bits
BITS, COMPRESSION, COLOURS, SAMPLE_FORMAT, CHROMA = 258, 259, 262, 339, 530  # tags of TIFF
SAMPLES = {2: "signed", 3: "floating-point"}  # by SAMPLE_FORMAT
TURNS = {  # orientation -> what turns a picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DRAWINGS = ("EPS", "MPEG")  # which Pillow knows, and hands to another program or to none
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# Pixels, palette, colour key, alpha, animation. Everything else in these files is metadata.
PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
WEBP_PICTURE = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
WEBP_METADATA = 0x20 | 0x08 | 0x04  # flags of VP8X: ICC profile, EXIF, XMP


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded; ``quality`` and ``subsampling`` are None unless it is JPEG."""

    format: str
    width: int
    height: int
    mode: str
    subsampling: str | None
    quality: Quality | None

    @classmethod
    def of(cls, image: Image.Image, name: str = "image") -> Header:
        """Of an image that has been opened, and not decoded; raises ImageError, in which ``name`` is named."""
        with codec.reading(name):
            return cls(
                format=image.format or "?",
                width=image.width,
                height=image.height,
                mode=image.mode,
                subsampling=codec.header_subsampling(image),
                quality=codec.header_quality(image),
            )


def label(source: object) -> str:
    return str(source) if isinstance(source, (str, Path)) else "image"


def open_image(source: str | Path | bytes, name: str | None = None) -> ImageFile.ImageFile:
    """Open a file or its bytes; pixels are decoded on first use.

    Raises:
        ImageError: no such file, empty, no image Pillow knows, or more than MAX_PIXELS; the message names the file, or says
            ``name``.
    """
    name = name or label(source)
    with codec.reading(name):
        data = source if isinstance(source, bytes) else content(source, name)
        if not data:  # bytes
            raise ImageError(f"{name}: the file is empty")
        if data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS:
            _register_heif(name)
        image: ImageFile.ImageFile | None
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            raise
        except Exception as error:
            image = _open_bare(data)
            if image is None:
                if isinstance(error, UnidentifiedImageError) and (reason := _unreadable(data)):
                    raise ImageError(f"{name}: {reason}") from error
                raise
    if image.format in DRAWINGS or isinstance(image, ImageFile.StubImageFile):
        raise ImageError(f"{name}: not an image in a format that is read, but {image.format}")
    read_more(image, data)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: {image.width}x{image.height} pixels are more than the limit of {MAX_PIXELS}")
    return image


def content(path: str | Path, name: str | None = None) -> bytes:
    """A file's bytes.

    Raises:
        ImageError: empty, or no file: devices and pipes may never end.
        OSError: as the system has it.
    """
    name = name or label(path)
    if "://" in str(path):
        raise ImageError(f"{name}: is a URL; read it first, and give the bytes")
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a folder tells its reason
        raise ImageError(f"{name}: no regular file")
    data = Path(path).read_bytes()
    if not data:
        raise ImageError(f"{name}: the file is empty")
    return data


def _open_bare(data: bytes) -> ImageFile.ImageFile | None:
    """The picture without its metadata, which the decoder may have stumbled over; None where that does not help."""
    bare = _bare(data)
    if bare is None:
        return None
    try:
        image = Image.open(io.BytesIO(bare))
    except Exception:
        return None
    image.bare = True  # type: ignore[attr-defined]  # for Metadata.of; an image of Pillow takes any attribute
    return image


def _bare(data: bytes) -> bytes | None:
    """A JPEG, PNG, WebP, AVIF or HEIC without its metadata; None for other files, and for those whose parts cannot be told."""
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data[: chunks.PNG_HEAD] + b"".join(chunk for name, chunk in chunks.of_png(data) if name in PNG_PICTURE)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kept = bytearray(b"".join(chunk for name, chunk in chunks.of_webp(data) if name in WEBP_PICTURE))
        if kept.startswith(b"VP8X"):
            kept[8:9] = bytes(flags & ~WEBP_METADATA for flags in kept[8:9])
        return b"RIFF" + (len(kept) + 4).to_bytes(4, "little") + b"WEBP" + kept
    if data[4:8] == b"ftyp" and b"Exif" in data:  # the kind of an item; no one looks for one of another kind
        return data.replace(b"Exif", b"none", 1)
    return None


def _bare_jpeg(data: bytes) -> bytes | None:
    try:
        found = list(codec.segments(data))
    except ImageError:
        return None
    kept, position = [], 0
    for segment in found:
        # Adobe's segment says which colours the components are.
        if segment.metadata and not (segment.marker == codec.APP14 and len(segment.data) >= 12):
            kept.append(data[position : segment.start])
            position = segment.stop
    return b"".join([*kept, data[position:]])


def _register_heif(name: str) -> None:
    if "HEIF" in Image.OPEN:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ImageError(f'{name}: reading HEIC needs the extra: pip install "dagn-pre[heif]"') from error
    register_heif_opener()


BEGINNINGS = {  # of files -> why they are not read
    b"\xff\x0a": "JPEG XL, which Pillow does not read",
    b"\0\0\0\x0cJXL ": "JPEG XL, which Pillow does not read",
    b"version https://git-lfs": "a pointer of Git LFS, not the picture: git lfs pull",
    b"\x89PNG\r\n\x1a\n": "damaged or cut short (a PNG whose header cannot be read)",
    b"GIF8": "damaged or cut short (a GIF whose header cannot be read)",
    b"\0\0\0\x0cjP  ": "damaged or cut short (JPEG 2000 whose header cannot be read)",
    b"\xff\x4f\xff\x51": "damaged or cut short (JPEG 2000 whose header cannot be read)",
} | dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "damaged or cut short, or a kind of TIFF that Pillow does not read")
PROCESSES = {  # markers of JPEG's frames that libjpeg does not read
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "lossless and hierarchical",
    0xCB: "lossless and arithmetic-coded", 0xCD: "hierarchical", 0xCE: "hierarchical",
    0xCF: "lossless and hierarchical", 0xF7: "JPEG-LS",
}  # fmt: skip


def _unreadable(data: bytes) -> str | None:
    """Why Pillow does not know, or cannot decode, a file, where its bytes tell."""
    if data[4:11] in (b"ftypavi", b"ftypmif"):  # avif, avis, mif1
        return "damaged AVIF, or this Pillow reads none"
    for beginning, reason in BEGINNINGS.items():
        if data.startswith(beginning):
            return reason
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    process, depth = _frame(data)
    if process:
        return f"a JPEG of another kind ({process}), which Pillow does not read"
    if depth > 8:
        return f"a JPEG of {depth} bits per sample, which is refused; only those of 8 are read"
    return "damaged or cut short (a JPEG whose header cannot be read)"


def _frame(jpeg: bytes) -> tuple[str | None, int]:
    """By a JPEG's first frame header: what process Pillow lacks for it, and bits per sample; 0 where there is none."""
    with contextlib.suppress(ImageError):
        for segment in codec.segments(jpeg):
            if segment.marker in codec.FRAMES or segment.marker in PROCESSES:
                return PROCESSES.get(segment.marker), next(iter(segment.data), 0)
    return None, 0


def header(source: str | Path | bytes) -> Header:
    """Read a file's header; its pixels are not decoded.

    Raises:
        ImageError: as :func:`open_image`.
    """
    return Header.of(open_image(source), label(source))


@dataclass
class Pixels:
    """A PIL image taken apart for a restorer.

    Attributes:
        rgb: (H, W, 3) uint8, as stored.
        colour: the PIL mode to put together again: L, LA, RGB or RGBA.
        alpha: (H, W) uint8, or None.
        notes: what the owner of the file should know, as a warning each.
    """

    rgb: np.ndarray
    colour: str
    alpha: np.ndarray | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Image.Image, name: str = "image", strict: bool = False) -> Pixels:
        """Decode ``image``.

        A JPEG that lacks nothing but its end marker is read with a note, or refused if ``strict``.

        Raises:
            ImageError: no pixels, a refused mode, or data that ends too early; ``name`` is named.
        """
        with codec.reading(name):
            if not image.width or not image.height:
                raise ImageError(f"{name}: {image.width}x{image.height} pixels; an image needs at least one")
            if _is_closed(image):
                raise ImageError(f"{name}: the image is closed; use it while it is open, or load() it first")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # an MPO's other frames are previews
                raise ImageError(f"{name}: has {frames} frames or pages, which would be lost; split it first")
            colour, bits = COLOUR_OF_MODE.get(image.mode), _bits(image)
            if bits > 8 or image.mode[:1] in ("I", "F"):
                kind = f"{bits} bits per channel" if colour else f"mode {image.mode!r}"
                raise ImageError(f"{name}: {kind} is refused, since a JPEG holds 8 bits; convert to 8-bit gray or RGB first")
            if colour is None:
                raise ImageError(f"{name}: colour mode {image.mode!r} is refused; convert to RGB first")
            if odd := _refused_tiff(image):
                raise ImageError(f"{name}: {odd}; convert to 8-bit gray or RGB first")
            left_turned(image)
            jpeg = _file(image) if isinstance(image, JpegImageFile) else b""  # Pillow lets it go once it has the pixels
            try:
                pixels = cls._decoded(image)
            except Exception:
                helped = _helped(image, name)
                if helped is None:
                    raise
                pixels = cls._decoded(helped)
            if codec.unended(jpeg):
                pixels.notes = (_unended(jpeg, name, strict),)
            return pixels

    @classmethod
    def _decoded(cls, image: Image.Image) -> Pixels:
        if not isinstance(image.info.get("xmp", b""), (bytes, str)):  # a TIFF's decoder would search it for an orientation
            del image.info["xmp"]
        colour, raw = COLOUR_OF_MODE[image.mode], [tile[3] for tile in getattr(image, "tile", ()) if len(tile) > 3]
        image.load()
        if colour in ("L", "RGB") and image.mode in ("1", "L", "P", "RGB") and _has_transparent_colour(image):
            colour += "A"
            step = GREY_STEPS.get(raw[0], 1) if raw else _grey_step(image)
            if step > 1:  # Pillow leaves the key as the file has it, and scales the pixels
                image = image.copy()
                image.info["transparency"] *= step
        converted = image.convert(colour)
        alpha = np.asarray(converted.getchannel("A")) if colour.endswith("A") else None
        return cls(np.asarray(converted.convert("RGB")), colour, alpha)

    def rebuild(self, rgb: np.ndarray) -> Image.Image:
        """Put a restored (H, W, 3) uint8 array back into the original's kind, with its alpha."""
        if self.colour.startswith("L"):
            rebuilt = Image.fromarray(grey(rgb)[..., 0])
        else:
            rebuilt = Image.fromarray(rgb)
        if self.alpha is not None:
            rebuilt.putalpha(Image.fromarray(self.alpha))
        return rebuilt


def _is_closed(image: Image.Image) -> bool:
    """Whether a file was closed before it was decoded."""
    file = getattr(image, "fp", None)
    return bool(getattr(image, "tile", ())) and (file is None or file.closed)


def _file(image: Image.Image) -> bytes:
    """The bytes of an opened image's file; none where they are no longer at hand."""
    file = getattr(image, "fp", None)
    if file is None or file.closed:
        return getattr(image, "encoded", b"")
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    return data


def _helped(image: Image.Image, name: str) -> Image.Image | None:
    """What can be decoded of the file of an image that could not be: with the end marker that a JPEG lacks, or without the
    metadata that the decoder stumbles over. None for all others.

    Raises:
        ImageError: a kind of JPEG that Pillow does not decode.
    """
    data = _file(image)
    if not isinstance(image, JpegImageFile):
        return _open_bare(data)
    if (whole := codec.completed(data)) is not None:
        return Image.open(io.BytesIO(whole))
    if _frame(data)[0]:
        raise ImageError(f"{name}: {_unreadable(data)}")
    return _open_bare(data)


def _unended(jpeg: bytes, name: str, strict: bool) -> str:
    """What is to be said of a JPEG without an end marker.

    Raises:
        ImageError: more is missing, or files are taken strictly.
    """
    if codec.completed(jpeg) is None:
        raise ImageError(f"{name}: damaged or cut short (a JPEG without its end marker, and more is missing)")
    if strict:
        raise ImageError(f"{name}: has no end marker, and files are taken strictly")
    return f"{name}: has no end marker; read all the same, since nothing else is missing"


def _grey_step(image: Image.Image) -> int:
    """Between the gray levels of a decoded image, which no longer says its bits: as many as make a colour of the key."""
    key, pixels = image.info.get("transparency"), np.asarray(image)
    if image.mode != "L" or not isinstance(key, int):
        return 1
    return next((step for step in GREY_STEPS.values() if not (pixels % step).any() and (pixels == key * step).any()), 1)


def _has_transparent_colour(image: Image.Image) -> bool:
    return "transparency" in image.info or getattr(image.palette, "mode", "") == "RGBA"


def _bits(image: Image.Image) -> int:
    """Bits per channel that the file of an opened image holds, as far as it says; Pillow reduces some to 8 in silence."""
    arguments: list = []
    for tile in getattr(image, "tile", ()):
        arguments += [part for one in tile[3:] for part in (one if isinstance(one, tuple) else (one,))]
    if any(isinstance(one, str) and ";16" in one and not one.startswith("BGR") for one in arguments):  # BMP: 16 for all three
        return 16
    if image.format == "PPM":
        return max([8, *(one.bit_length() for one in arguments if isinstance(one, int))])
    if image.format == "HEIF":
        return image.info.get("bit_depth", 8)
    if isinstance(image, TiffImageFile):
        return max(_numbers(image, BITS) or (8,))
    if image.format not in ("JPEG2000", "AVIF"):
        return 8
    data = _file(image)
    if image.format == "AVIF":  # its box "av1C": four bytes, and in the third bits for 10 and for 12
        _, _, box = data.partition(b"av1C")
        flags = box[2] if len(box) > 2 else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    _, _, size = data.partition(b"\xff\x4f\xff\x51")  # the start of its codestream: 38 bytes on, three for each channel
    channels = int.from_bytes(size[36:38], "big")
    return max([8, *((depth & 0x7F) + 1 for depth in size[38 : 38 + 3 * channels : 3])])


def _refused_tiff(image: Image.Image) -> str | None:
    """Why a TIFF is refused that Pillow opens, but reads wrongly or not at all."""
    if not isinstance(image, TiffImageFile):
        return None
    odd = sorted(set(_numbers(image, SAMPLE_FORMAT)) - {1})
    if odd:
        return f"{SAMPLES.get(odd[0], 'unusual')} samples are refused"
    if _numbers(image, COLOURS) == (6,) and _numbers(image, COMPRESSION) in ((), (1,)) and _numbers(image, CHROMA) != (1, 1):
        return "is a TIFF of YCbCr without compression whose pixels share their chroma, which Pillow does not read"
    return None


def _numbers(image: TiffImageFile, tag: int) -> tuple[int, ...]:
    """The values of a tag."""
    found = image.tag_v2.get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def save(image: Image.Image, path: str | Path, metadata: Metadata | None = None, mark: bool = False) -> tuple[str, ...]:
    """Write ``image`` to a file, whole or not at all; the rest is as of :func:`encode`."""
    data, lost = encode(image, path, metadata, mark)
    files.write_atomic(path, data)
    return lost


def encode(
    image: Image.Image, name: str | Path, metadata: Metadata | None = None, mark: bool = False
) -> tuple[bytes, tuple[str, ...]]:
    """``image`` as a file's bytes, without loss unless as JPEG (QF 95, 4:4:4), and as much of ``metadata`` as it holds.

    Args:
        image: L, LA, RGB or RGBA; what its ``info`` says is not written.
        name: its suffix is one of WRITABLE_SUFFIXES and tells the format.
        mark: whether to say in the file that this picture has been restored.

    Returns:
        The bytes, and names of the metadata that was lost.

    Raises:
        ImageError: alpha in a format that has none, more pixels a side than a JPEG holds.
        OSError, ValueError, ...: whatever Pillow's writer raises.
    """
    format = FORMATS[Path(name).suffix.lower()]
    if "A" in image.mode and format in OPAQUE:
        raise ImageError(f"{name}: {format} cannot hold an alpha channel; choose another format")
    if format == "JPEG" and max(image.size) > codec.LARGEST:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"{name}: a JPEG holds {codec.LARGEST} pixels a side, not {size}; choose another format")
    metadata, encoding = metadata or Metadata(), LOSSLESS.get(format, {})
    if image.info:
        image = image.copy()
        image.info = {}
    if mark:
        metadata = replace(metadata, mark=digest(_as_read(image, format, encoding)))
    options, lost = metadata.settings(format, image.mode)
    buffer = io.BytesIO()
    image.save(buffer, format, **encoding, **options)
    return buffer.getvalue(), lost


def _as_read(image: Image.Image, format: str, encoding: dict) -> np.ndarray:
    """The pixels that a reader of the file will see: (H, W, 3) uint8."""
    if format != "JPEG":
        return np.asarray(image.convert("RGB"))
    buffer = io.BytesIO()
    image.save(buffer, format, **encoding)
    return codec.decode(buffer.getvalue())


def is_restored(data: bytes, rgb: np.ndarray) -> bool:
    """Whether a file says that dagn-pre restored it, and these are its pixels: (H, W, 3) uint8 RGB, as stored. Never raises."""
    try:
        return b"urn:dagn-pre" in data and is_marked(open_image(data), rgb)
    except ImageError:
        return False


def grey(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> its channel mean, three times."""
    mean = rgb.mean(axis=2).round().astype(np.uint8)
    return np.repeat(mean[..., None], 3, axis=2)


def is_turned(image: Image.Image) -> bool:
    """Whether an orientation says that ``image``'s pixels are not stored upright."""
    return orientation(image) != 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width once turned as ``image``'s orientation says."""
    return (image.width, image.height) if orientation(image) >= 5 else (image.height, image.width)


def turned(picture: Image.Image, orientation: int) -> Image.Image:
    """``picture`` upright, where 1..8 is its orientation."""
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture
