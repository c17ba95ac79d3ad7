"""Which files are read, as what, and what is said of those that are not."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dagn_pre import Restorer, codec, folders, images
from dagn_pre.cli.main import main
from dagn_pre.errors import ImageError, ImageWarning
from dagn_pre.metadata import Metadata, orientation
from tests.support import odd_files, photograph


@pytest.fixture(scope="module")
def tiny(tiny_weights) -> Restorer:
    return Restorer(tiny_weights, device="cpu", max_quality=None)


def upright_pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(images.turned(Image.fromarray(images.Pixels.of(image).rgb), orientation(image)))


def opened(data: bytes) -> Image.Image:
    return images.open_image(data)


# -- no other exception than ImageError -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", odd_files.damaged())
def test_a_damaged_file_is_an_image_error_that_names_it(tiny, tmp_path, name):
    (tmp_path / name).write_bytes(odd_files.damaged()[name])
    for call in (tiny, tiny.estimate_quality, tiny.restored_before):
        with pytest.raises(ImageError, match=rf"{name}: (damaged|not an image|the file is empty|0x|96x0)"):
            call(tmp_path / name)
    with pytest.raises(ImageError):
        tiny((tmp_path / name).read_bytes())
    if "frames" not in name and "pages" not in name and name != "cut.gif":  # whose first picture is whole
        with pytest.raises(ImageError):
            codec.decode((tmp_path / name).read_bytes())


def test_a_decoders_exceptions_of_every_kind_are_image_errors(monkeypatch):
    image = Image.open(io.BytesIO(odd_files.saved(Image.fromarray(photograph()), "BMP")))
    for error in (KeyError(3), AssertionError(), RecursionError("deep"), MemoryError(), OverflowError("large"), EOFError()):

        def fail(error=error):
            raise error

        monkeypatch.setattr(image, "load", fail)
        with pytest.raises(ImageError, match="photo: "):
            images.Pixels.of(image, "photo")


def test_interrupts_are_no_image_errors(monkeypatch):
    image = Image.open(io.BytesIO(odd_files.jpeg()))
    monkeypatch.setattr(image, "load", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        images.Pixels.of(image)


@pytest.mark.parametrize("source", ["nowhere.jpg", "", "a\0b.jpg"])
def test_paths_that_cannot_be_opened_are_image_errors(tiny, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError):
        tiny(source)


def test_a_closed_pil_image_is_an_image_error(tiny, tmp_path):
    (tmp_path / "a.jpg").write_bytes(odd_files.jpeg())
    with Image.open(tmp_path / "a.jpg") as image:
        pass
    with pytest.raises(ImageError, match=r"a\.jpg: the image is closed"):
        tiny(image)
    with Image.open(tmp_path / "a.jpg") as image:
        image.load()
    assert np.array_equal(np.asarray(tiny(image)), tiny(tmp_path / "a.jpg"))


# -- metadata refuses no picture ------------------------------------------------------------------------------------------

PICTURE = Image.fromarray(photograph())
BROKEN_METADATA = {
    "JFIF cut short": odd_files.with_segment(odd_files.jpeg(), 0xE0, b"JFIF\0"),
    "Adobe cut short": odd_files.with_segment(odd_files.jpeg(), 0xEE, b"Adobe"),
    "ICC cut short": odd_files.with_segment(odd_files.jpeg(), 0xE2, b"ICC_PROFILE\0"),
    "Photoshop cut short": odd_files.with_segment(odd_files.jpeg(), 0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
    "MPF that is none": odd_files.with_segment(odd_files.jpeg(), 0xE2, b"MPF\0" + bytes(30)),
    "XMP that is none": odd_files.with_segment(odd_files.jpeg(), 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff\xfe\0<"),
    "PNG profile of another method": odd_files.png(Image.fromarray(photograph()), (b"iCCP", b"a\0\1xyz")),
    "PNG gamma cut short": odd_files.png(Image.fromarray(photograph()), (b"gAMA", b"\0")),
    "PNG text too long": odd_files.png(
        Image.fromarray(photograph()), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * 1024**2)))
    ),
    "PNG text named as what Pillow keeps": odd_files.png(Image.fromarray(photograph()), (b"tEXt", b"transparency\0none")),
    "PNG text of a wrong checksum": odd_files.png(PICTURE, (b"tEXt", b"k\0abc")).replace(b"k\0abc", b"k\0abd"),
    "WebP chunk beyond the file": odd_files.saved(Image.fromarray(photograph()), "WEBP", exif=b"Exif\0\0II*\0")[:-3],
    "AVIF with EXIF that is none": odd_files.saved(
        Image.fromarray(photograph()), "AVIF", exif=odd_files.exif(odd_files.TURNED)
    ).replace(b"II*\0\x08", b"IX*\0\x08"),
}


@pytest.mark.parametrize("kind", BROKEN_METADATA)
def test_a_picture_is_not_refused_for_its_metadata(tiny, kind):
    restored = tiny(BROKEN_METADATA[kind])
    assert restored.shape in ((64, 96, 3), (96, 64, 3))
    assert Metadata.of(opened(BROKEN_METADATA[kind])) is not None


@pytest.mark.parametrize("kind", odd_files.ODD_EXIF)
def test_odd_exif_still_turns_the_picture(tiny, kind):
    data = odd_files.jpeg(exif=odd_files.ODD_EXIF[kind])
    assert tiny(data).shape == (96, 64, 3)
    image = tiny(opened(data))
    assert image.size == (96, 64) and orientation(image) == 6


@pytest.mark.parametrize("kind", odd_files.UNREADABLE_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_unreadable_exif_turns_nothing(tiny, kind, format):
    data = odd_files.saved(Image.fromarray(photograph()), format, exif=odd_files.UNREADABLE_EXIF[kind])
    assert tiny(data).shape == (64, 96, 3)
    assert orientation(opened(data)) == 1


# -- reasons --------------------------------------------------------------------------------------------------------------


def deep_jp2() -> bytes:
    return cv2.imencode(".jp2", photograph().astype(np.uint16) * 257)[1].tobytes()


def deep_heic() -> bytes:
    import pillow_heif

    pixels = (photograph().astype(np.uint16) * 257).tobytes()
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (96, 64), pixels).save(buffer, quality=50)
    return buffer.getvalue()


def twelve_bits() -> bytes:
    data = bytearray(odd_files.jpeg())
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def framed(marker: int) -> bytes:
    """A JPEG that says it is of another process."""
    return odd_files.jpeg().replace(b"\xff\xc0", bytes((0xFF, marker)), 1)


def tiff(samples: np.ndarray, colours: int = 2, *more: tuple[int, int], planes: bool = False) -> bytes:
    """A TIFF without compression of (H, W, C) samples, pixel by pixel or plane by plane, with further tags (number, value)."""
    height, width, channels = samples.shape
    parts = [samples[..., channel].tobytes() for channel in range(channels)] if planes else [samples.tobytes()]
    data, bits = b"".join(parts), [8 * samples.itemsize] * channels
    places = [8 + sum(map(len, parts[:index])) for index in range(len(parts))]
    tags = [(256, [width]), (257, [height]), (258, bits), (259, [1]), (262, [colours]), (273, places), (277, [channels])]
    tags += [(278, [height]), (279, [*map(len, parts)]), (284, [1 + planes]), *((number, [value]) for number, value in more)]
    start = 8 + len(data)
    behind, entries, values = start + 6 + 12 * len(tags), b"", b""
    for number, found in sorted(tags):
        content = struct.pack(f"<{len(found)}L", *found)
        value = content if len(found) == 1 else struct.pack("<L", behind + len(values))
        entries += struct.pack("<HHL", number, odd_files.LONG, len(found)) + value
        values += b"" if len(found) == 1 else content
    return b"II*\0" + struct.pack("<L", start) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values


REASONS = {
    "lossless": lambda: framed(0xC3),
    "hierarchical": lambda: framed(0xC5),
    "JPEG-LS": lambda: b"\xff\xd8\xff\xf7\0\x0b\x08\0\x40\0\x60\1\1\x11\0" + bytes(99),
    "pointer of Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "format that is read, but EPS": lambda: odd_files.saved(Image.fromarray(photograph()), "EPS"),
    "format that is read, but HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(99),
    r"cut short \(a PNG": lambda: odd_files.png(Image.new("L", (9, 9)))[:30],
    r"cut short \(a GIF": lambda: odd_files.animation()[:9],
    r"cut short \(JPEG 2000": lambda: odd_files.saved(Image.fromarray(photograph()), "JPEG2000")[:99],
    "a kind of TIFF": lambda: b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    "colour mode 'LAB' is refused; convert to RGB": lambda: odd_files.saved(Image.new("LAB", (20, 20)), "TIFF"),
    "12 bits per sample": twelve_bits,
    "JPEG XL": lambda: b"\xff\x0a" + bytes(50),
    "16 bits per channel": lambda: b"P6 4 4 65535\n" + bytes(96),
    "10 bits per channel": lambda: b"P6 4 4 1023\n" + bytes(96),
    "mode 'I' is refused": lambda: b"P5 4 4 4095\n" + bytes(32),
    "mode 'F' is refused": lambda: b"Pf 4 4 -1.0\n" + bytes(64),
    "signed samples are refused; convert": lambda: tiff(photograph()[..., :1], 1, (339, 2)),
    "mode 'F' is refused, since": lambda: tiff(photograph()[..., :1].astype(np.float32), 1, (339, 3)),
    "a TIFF of YCbCr without compression whose pixels share": lambda: tiff(np.zeros((4, 4, 3), np.uint8), 6, (530, 0x20002)),
    "has 3 frames": odd_files.animation,
    "has 2 frames": lambda: odd_files.animation("WEBP", 2),
    "has 4 frames": lambda: odd_files.animation("PNG", 4),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_refused_is_refused_for_its_reason(tiny, reason):
    with pytest.raises(ImageError, match=reason):
        tiny(REASONS[reason]())


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bits_of_a_tiff_are_refused_in_planes_too(tiny, planes, channels):
    with pytest.raises(ImageError, match="16 bits per channel"):
        tiny(tiff(np.zeros((4, 8, channels), np.uint16), planes=planes))


@pytest.mark.parametrize("planes", [False, True])
def test_8_bits_of_a_tiff_are_read_in_planes_too(planes):
    rgb = photograph()
    assert np.array_equal(images.Pixels.of(opened(tiff(rgb, planes=planes))).rgb, rgb)


@pytest.mark.parametrize("make, bits", [(deep_jp2, 16), (deep_heic, 12)])
def test_more_than_8_bits_that_a_decoder_reduces_in_silence_are_refused(tiny, make, bits):
    with pytest.raises(ImageError, match=rf"(10|{bits}) bits per channel"):
        tiny(make())


def test_ten_bits_of_an_avif_are_refused(tiny):
    data = cv2.imencode(".avif", photograph().astype(np.uint16) * 4, [cv2.IMWRITE_AVIF_DEPTH, 10])[1].tobytes()
    with pytest.raises(ImageError, match="10 bits per channel"):
        tiny(data)
    assert tiny(cv2.imencode(".avif", photograph())[1].tobytes()).shape == (64, 96, 3)


def test_a_bmp_of_16_bits_for_all_three_channels_is_none_of_16_bits(tiny):
    head = b"BM" + (54 + 32).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + (4).to_bytes(4, "little") * 2 + b"\1\0\x10\0" + bytes(24)
    assert tiny(head + info + bytes(32)).shape == (4, 4, 3)


def test_too_many_pixels_are_said_as_such(tiny, tmp_path):
    Image.new("1", (25_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ImageError, match=r"bomb\.png: more pixels than the limit.*500000000"):
        tiny(tmp_path / "bomb.png")


def heic(**options) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return odd_files.saved(Image.fromarray(photograph()), "HEIF", **options)


def test_heic_is_read_upright(tiny):
    assert tiny(heic(exif=odd_files.exif(odd_files.TURNED))).shape == (96, 64, 3)
    image = opened(heic(exif=odd_files.exif(odd_files.TURNED)))
    assert image.size == (64, 96) and orientation(image) == 1


def test_heic_without_the_extra_says_what_to_install(tiny, monkeypatch):
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    with pytest.raises(ImageError, match=r'HEIC.*pip install "dagn-pre\[heif\]"'):
        tiny(data)


# -- a file without its end marker ----------------------------------------------------------------------------------------


def test_a_missing_end_marker_is_a_warning_or_refused(tiny, tiny_weights, tmp_path):
    data = odd_files.jpeg()
    (tmp_path / "a.jpg").write_bytes(data[:-2])
    with pytest.warns(ImageWarning, match=r"a\.jpg: has no end marker"):
        assert np.array_equal(tiny(tmp_path / "a.jpg"), tiny(data))
    with pytest.raises(ImageError, match=r"a\.jpg: has no end marker"):
        Restorer(tiny_weights, device="cpu", strict_files=True)(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image, pytest.warns(ImageWarning):
        assert np.array_equal(np.asarray(tiny(image)), tiny(data))


@pytest.mark.parametrize("behind", [b"", bytes(4096), b"<html>" * 50], ids=["nothing", "zeros", "text"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_missing_end_marker_is_said_whatever_is_behind(tiny, tiny_weights, behind, progressive):
    whole = odd_files.jpeg(progressive=progressive)
    data = whole[:-2] + behind
    (note,) = tiny.restore(data, name="a.jpg").notes
    assert note == "a.jpg: has no end marker; read all the same, since nothing else is missing"
    assert np.array_equal(tiny.restore(data).image, tiny(whole)) and tiny.plan(data, name="a.jpg").notes == (note,)
    with pytest.raises(ImageError, match="image: has no end marker, and files are taken strictly"):
        Restorer(tiny_weights, device="cpu", strict_files=True)(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_data_that_zeros_stand_for_is_missing(tiny, progressive):
    data = odd_files.jpeg(progressive=progressive)
    with pytest.raises(ImageError, match="damaged or cut short"):
        tiny(data[: len(data) * 3 // 4] + bytes(100_000))


def test_a_missing_end_marker_is_a_note_of_what_is_skipped_too(tiny_weights):
    found = Restorer(tiny_weights, device="cpu", max_quality=10).restore(odd_files.jpeg()[:-2])
    assert not found.restored and "no end marker" in found.notes[0]


def test_notes_are_warnings_of_a_call_alone_at_the_callers_line(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiny.restore(odd_files.jpeg()[:-2]).notes
    with pytest.warns(ImageWarning) as told:
        tiny(odd_files.jpeg()[:-2])
    assert [one.filename for one in told] == [__file__]


@pytest.mark.parametrize("arguments", ["compress a.jpg b.jpg --qf 10", "inspect a.jpg", "restore a.jpg b.png"])
def test_commands_tell_a_missing_end_marker(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(odd_files.jpeg()[:-2])
    with pytest.warns(ImageWarning, match=r"a\.jpg: has no end marker; read all the same"):
        assert main(arguments.split()) == 0


def test_whole_files_are_no_warning(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny([odd_files.jpeg(), odd_files.jpeg(progressive=True) + b"trailing bytes", odd_files.mpo()])


# -- transparency ---------------------------------------------------------------------------------------------------------


def keyed(mode: str) -> tuple[bytes, np.ndarray]:
    """A PNG of that mode, one of whose colours is transparent, and where it is."""
    rgb = photograph()
    rgb[:20, :30] = 200
    image = Image.fromarray(rgb).convert(mode)
    key = image.getpixel((0, 0))
    pixels = np.asarray(image.convert("L") if mode == "1" else image)
    return odd_files.saved(image, "PNG", transparency=key), (pixels == key).reshape(64, 96, -1).all(2)


@pytest.mark.parametrize("mode, colour", [("RGB", "RGBA"), ("L", "LA"), ("1", "LA")])
def test_a_pngs_colour_key_is_transparent(tiny, mode, colour):
    data, where = keyed(mode)
    restored = tiny(opened(data))
    assert restored.mode == colour
    assert np.array_equal(np.asarray(restored.getchannel("A")) == 0, where) and where.any()
    assert tiny(data).shape == (64, 96, 3)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("key", ["black", "white"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_gray_pngs_key_is_of_its_own_depth(bits, key, loaded):
    levels = np.arange(16, dtype=np.uint8).repeat(16).reshape(16, 16) * 17  # black to white
    white = (1 << bits) - 1
    key_chunk = (b"tRNS", (white if key == "white" else 0).to_bytes(2, "big"))
    image = opened(odd_files.gray_png(levels >> 8 - bits, bits, key_chunk))
    if loaded:
        image.load()
    pixels = images.Pixels.of(image)
    expected = 255 if key == "white" else 0
    assert pixels.colour == "LA" and np.array_equal(pixels.alpha == 0, pixels.rgb[..., 0] == expected)
    assert (pixels.alpha == 0).any() and (pixels.alpha == 255).any()


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 16))])
@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_palettes_transparent_colours(tiny, transparency, format):
    if format == "GIF" and not isinstance(transparency, int):
        return  # GIF has one
    image = Image.fromarray(photograph()).quantize(16)
    pixels = images.Pixels.of(opened(odd_files.saved(image, format, transparency=transparency)))
    table = [255 * (index != transparency) for index in range(16)] if isinstance(transparency, int) else transparency
    assert pixels.colour == "RGBA" and np.array_equal(pixels.alpha, np.array(list(table), np.uint8)[np.asarray(image)])


# -- orientation ----------------------------------------------------------------------------------------------------------

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s</rdf:RDF></x:xmpmeta>'
XMP_TURNED = {
    "attribute": XMP % b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>',
    "element": XMP % b"<rdf:Description><tiff:Orientation>6</tiff:Orientation></rdf:Description>",
    "single quotes": XMP % b"<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/>",
    "blanks": XMP % b'<rdf:Description tiff:Orientation = " 6 "/>',
    "element with blanks": XMP % b"<rdf:Description><tiff:Orientation >\n 6\n</tiff:Orientation></rdf:Description>",
}
XMP_TURNED["UTF-16"] = XMP_TURNED["attribute"].decode().encode("utf-16")
XMP_TURNED["UTF-16, big-endian"] = XMP_TURNED["blanks"].decode().encode("utf-16-be")
XMP_UNCLEAR = [XMP % b'<rdf:Description tiff:Orientation="%s"/>' % value for value in (b"0", b"9", b"66", b"", b"left")]


def profiled(kind: str, data: bytes) -> bytes:
    text = f"\n{kind}\n{len(data):8}\n{data.hex()}\n"
    return odd_files.png(Image.fromarray(photograph()), (b"tEXt", f"Raw profile type {kind}\0{text}".encode()))


TURNED = {
    "JPEG, EXIF": odd_files.jpeg(exif=odd_files.exif(odd_files.TURNED)),
    "JPEG, EXIF as a byte": odd_files.jpeg(exif=odd_files.exif((0x0112, 1, 1, b"\6"))),
    "JPEG, EXIF as text": odd_files.jpeg(exif=odd_files.exif((0x0112, odd_files.ASCII, 2, b"6\0"))),
    "JPEG, EXIF as a long": odd_files.jpeg(exif=odd_files.exif((0x0112, odd_files.LONG, 1, b"\6\0\0\0"))),
    "JPEG, EXIF that is none before XMP": odd_files.jpeg(
        exif=odd_files.exif((0x0112, odd_files.SHORT, 1, b"\0\0")), xmp=XMP_TURNED["attribute"]
    ),
    **{f"JPEG, XMP, {kind}": odd_files.jpeg(xmp=packet) for kind, packet in XMP_TURNED.items()},
    **{f"WebP, XMP, {kind}": odd_files.saved(PICTURE, "WEBP", xmp=packet) for kind, packet in XMP_TURNED.items()},
    **{f"TIFF, XMP, {kind}": odd_files.saved(PICTURE, "TIFF", tiffinfo={700: packet}) for kind, packet in XMP_TURNED.items()},
    **{
        f"TIFF, XMP and tag, {kind}": odd_files.saved(PICTURE, "TIFF", tiffinfo={700: packet, 0x0112: 6})
        for kind, packet in XMP_TURNED.items()
    },
    "PNG, EXIF": odd_files.saved(Image.fromarray(photograph()), "PNG", exif=odd_files.exif(odd_files.TURNED)),
    "PNG, profile": profiled("exif", odd_files.exif(odd_files.TURNED)),
    "PNG, profile of a JPEG's segment": profiled("APP1", odd_files.exif(odd_files.TURNED)),
    "PNG, profile of XMP": profiled("xmp", XMP_TURNED["single quotes"]),
    "PNG, XMP": odd_files.png(
        Image.fromarray(photograph()), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_TURNED["attribute"])
    ),
    "WebP, EXIF": odd_files.saved(Image.fromarray(photograph()), "WEBP", exif=odd_files.exif(odd_files.TURNED)),
    "AVIF, EXIF": odd_files.saved(Image.fromarray(photograph()), "AVIF", exif=odd_files.exif(odd_files.TURNED)),
    "TIFF": odd_files.saved(Image.fromarray(photograph()), "TIFF", tiffinfo={0x0112: 6}),
}


@pytest.mark.parametrize("kind", TURNED)
def test_every_orientation_turns_arrays_and_written_files_once(tiny, tmp_path, kind):
    array = tiny(TURNED[kind])
    assert array.shape == (96, 64, 3)
    image = opened(TURNED[kind])
    restored = tiny(image)
    upright = images.turned(restored, orientation(image))
    assert np.array_equal(np.asarray(upright), array)
    for suffix in ("png", "tiff", "webp"):
        images.save(upright, tmp_path / f"a.{suffix}", Metadata.of(image).upright())
        written = images.open_image(tmp_path / f"a.{suffix}")
        assert np.array_equal(upright_pixels(written), array)
        assert orientation(written) == 1


@pytest.mark.parametrize("value", [0, 1, 9, 255])
def test_orientations_that_there_are_not_turn_nothing(value):
    data = odd_files.jpeg(exif=odd_files.exif((0x0112, odd_files.SHORT, 1, bytes([value, 0]))))
    assert orientation(opened(data)) == 1


@pytest.mark.parametrize("packet", XMP_UNCLEAR)
@pytest.mark.parametrize("exif", [b"", odd_files.exif((0x0112, odd_files.SHORT, 1, b"\x09\0"))], ids=["XMP", "both"])
def test_orientations_that_make_no_sense_stay_as_they_are(exif, packet):
    image = opened(odd_files.jpeg(exif=exif, xmp=packet))
    metadata = Metadata.of(image)
    assert orientation(image) == 1 and metadata.upright() == metadata


@pytest.mark.parametrize("value", range(1, 9))
def test_all_eight_orientations(value):
    image = opened(odd_files.jpeg(exif=odd_files.exif((0x0112, odd_files.SHORT, 1, bytes([value, 0])))))
    from PIL import ImageOps

    assert np.array_equal(upright_pixels(image), np.asarray(ImageOps.exif_transpose(image)))


# -- gray, and arrays from OpenCV -----------------------------------------------------------------------------------------


def test_gray_stays_gray_in_colour_pipelines(tiny):
    import torch

    grey, colour = odd_files.grey_levels(), photograph()
    one = grey[..., 0]
    expected = np.asarray(tiny(Image.fromarray(one)))
    restored = tiny([grey, colour])
    for array in (tiny(grey), restored[0], tiny(grey, channel_order="bgr"), np.asarray(tiny(Image.fromarray(grey)))):
        assert all(np.abs(array[..., channel].astype(int) - expected).max() <= 1 for channel in range(3))
        assert (array[..., :1] == array).all() and (array != grey).any()
    assert (restored[1][..., :1] != restored[1]).any()
    tensor = tiny(torch.from_numpy(grey).permute(2, 0, 1))
    assert (tensor[:1] == tensor).all()
    for data in (codec.encode(one, 20), codec.encode(grey, 20), odd_files.saved(Image.fromarray(grey), "PNG")):
        assert (tiny(data)[..., :1] == tiny(data)).all()


@pytest.mark.parametrize("subsampling", codec.SUBSAMPLINGS)
@pytest.mark.parametrize("height, width", [(64, 96), (50, 70), (33, 41), (17, 16), (8, 9), (1, 5)])
def test_an_array_from_opencv_is_what_the_file_is(tiny, tmp_path, subsampling, height, width):
    path = tmp_path / "a.jpg"
    path.write_bytes(codec.encode(photograph(height, width), 20, subsampling))
    array = cv2.imread(str(path))
    assert np.array_equal(tiny(array, channel_order="bgr")[..., ::-1], tiny(path))


# -- writing --------------------------------------------------------------------------------------------------------------


def test_sides_beyond_a_jpegs_are_an_image_error_that_names_the_file(tmp_path):
    with pytest.raises(ImageError, match=r"a\.jpg: a JPEG holds 65500 pixels a side, not 65501x1; choose another format"):
        images.encode(Image.new("L", (65501, 1)), "a.jpg")
    assert images.encode(Image.new("L", (65501, 1)), "a.png")


# -- folders --------------------------------------------------------------------------------------------------------------


def test_what_a_folder_holds_and_what_is_left_out(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    (folder / "sub" / ".hidden").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("b.JPG", "a.avif", "c.mpo", "sub/d.jp2", "sub/e.heic", "f.pgm"):
        (folder / name).write_bytes(b"x")
    for name in (".a.png", "._b.JPG", "sub/.hidden/g.png", "notes.txt", "raw.cr2"):
        (folder / name).write_bytes(b"x")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (tmp_path / "elsewhere" / "real.png").write_bytes(b"x")
    (folder / "there.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    os.mkfifo(folder / "pipe.jpg")
    found = folders.search(folder)
    names = [str(path.relative_to(folder)) for path in found.paths]
    assert names == ["a.avif", "b.JPG", "c.mpo", "f.pgm", "sub/d.jp2", "sub/e.heic", "there.png"]
    left_out = {reason: [path.name for path in paths] for reason, paths in found.left_out.items()}
    assert left_out == {
        "files of other formats": ["notes.txt", "raw.cr2"],
        "links to folders": ["linked"],
        "links to nothing": ["gone.png", "itself.png"],
        "no regular files": ["device.png", "pipe.jpg"],
    }
    assert folders.find_images(folder) == list(found.paths)
    scan = os.scandir

    def closed(place):
        if place == folder / "sub":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(images.os, "scandir", closed)
    assert "folders that cannot be read (Permission denied)" in folders.search(folder).left_out


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "device"])
def test_what_never_ends_is_refused(tiny, tmp_path, make):
    make(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="a.jpg: no regular file"):
        tiny(tmp_path / "a.jpg")


def test_formats_are_read_by_suffix_and_content(tiny, tmp_path):
    picture = Image.fromarray(photograph())
    files = {"a.avif": odd_files.saved(picture, "AVIF"), "b.jp2": odd_files.saved(picture, "JPEG2000")}
    files |= {"c.mpo": odd_files.mpo(), "d.heic": heic(), "e.pgm": odd_files.saved(picture.convert("L"), "PPM")}
    files |= {"f.jpg": odd_files.mpo(), "g.png": odd_files.jpeg()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for path in folders.find_images(tmp_path):
        assert tiny(path).shape == (64, 96, 3)
    assert len(folders.find_images(tmp_path)) == len(files)
    assert tiny.estimate_quality(tmp_path / "c.mpo").source == "header"
