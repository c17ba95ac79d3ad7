"""What is kept beside the pixels: from every format, in every format."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, IptcImagePlugin, TiffImagePlugin

from dagn_pre import Restorer, images
from dagn_pre.errors import UsageError
from dagn_pre.metadata import Metadata, digest, is_marked
from tests.support import odd_files, photograph

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x78\0\x07caption"
PROFILE = bytes(range(256)) * 2


def exif() -> bytes:
    """As a camera writes it, with a maker's note and a place."""
    made = Image.Exif()
    made.update({0x010F: "Maker", 0x0110: "Model", 0x0132: "2024:05:06 07:08:09", 0x8298: "someone"})
    made.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: b"note" * 16})
    made.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0)})
    return made.tobytes()


def photoshop(iptc: bytes) -> bytes:
    block = b"8BIM\x04\x04\0\0" + struct.pack(">L", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + 14 + len(block)) + b"Photoshop 3.0\0" + block


PICTURE = Image.fromarray(photograph())
SOURCES = {
    "jpg": lambda: odd_files.jpeg(
        exif=exif(), xmp=XMP, icc_profile=PROFILE, dpi=(300, 300), comment=b"a comment", extra=photoshop(IPTC)
    ),
    "tif": lambda: odd_files.saved(
        PICTURE,
        "TIFF",
        tiffinfo={271: "Maker", 272: "Model", 700: XMP, 33723: IPTC},
        dpi=(300, 300),
        icc_profile=PROFILE,
    ),
    "png": lambda: odd_files.png(
        PICTURE,
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"tEXt", b"Comment\0a comment"),
        (b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(b"\niptc\n      12\n" + IPTC.hex().encode() + b"\n")),
        exif=exif(),
        icc_profile=PROFILE,
        dpi=(300, 300),
    ),
    "webp": lambda: odd_files.saved(PICTURE, "WEBP", exif=exif(), xmp=XMP, icc_profile=PROFILE, lossless=True),
}


def opened(data: bytes) -> Image.Image:
    image = images.open_image(data)
    image.load()
    return image


def written(metadata: Metadata, path, picture: Image.Image = PICTURE, **options) -> tuple[Image.Image, tuple[str, ...]]:
    lost = images.save(picture, path, metadata, **options)
    return opened(path.read_bytes()), lost


# -- every part, from format to format -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "webp", "bmp"])
@pytest.mark.parametrize("source", SOURCES)
def test_what_a_format_has_a_place_for_is_kept_and_the_rest_named(tmp_path, source, target):
    before = Metadata.of(opened(SOURCES[source]()))
    assert not before.lost and before.exif and before.xmp == XMP and before.icc_profile == PROFILE
    image, lost = written(before, tmp_path / f"a.{target}")
    after = Metadata.of(image)
    kept = {
        "png": {"exif", "xmp", "icc_profile", "dpi", "comments", "iptc"},
        "jpg": {"exif", "xmp", "icc_profile", "dpi", "comments", "iptc"},
        "tiff": {"exif", "xmp", "icc_profile", "dpi", "comments", "iptc"},
        "webp": {"exif", "xmp", "icc_profile"},
        "bmp": {"dpi"},
    }[target]
    for part in ("xmp", "icc_profile", "iptc"):
        assert getattr(after, part) == (getattr(before, part) if part in kept else None)
    if target in ("png", "jpg", "webp"):
        assert after.exif == before.exif  # byte for byte
    if "exif" in kept:
        assert {tag: image.getexif()[tag] for tag in (0x010F, 0x0110)} == {0x010F: "Maker", 0x0110: "Model"}
    if "dpi" in kept and before.dpi:
        assert after.dpi == pytest.approx((300, 300), abs=0.01)
    if before.comments and target != "tiff":
        assert after.comments == (before.comments if "comments" in kept else ())
    names = {"exif": "EXIF", "xmp": "XMP", "icc_profile": "ICC profile", "comments": "comments", "iptc": "IPTC"}
    names["dpi"] = "resolution"  # the EXIF here does not say it
    assert set(lost) == {name for part, name in names.items() if getattr(before, part) and part not in kept}


def test_other_readers_find_what_was_kept(tmp_path):
    metadata = Metadata.of(opened(SOURCES["jpg"]()))
    jpg, _ = written(metadata, tmp_path / "a.jpg")
    tiff, _ = written(metadata, tmp_path / "a.tiff")
    for image in (jpg, tiff):
        assert IptcImagePlugin.getiptcinfo(image)[(2, 120)] == b"caption"
        assert image.getexif().get_ifd(0x8825)[1] == "N" and image.getexif().get_ifd(0x8769)[0x829A] == pytest.approx(0.01)
        assert image.info["dpi"] == (300, 300)
    assert tiff.tag_v2[TiffImagePlugin.IMAGEDESCRIPTION] == "a comment" and tiff.size == PICTURE.size
    png, _ = written(metadata, tmp_path / "a.png")
    assert png.text["Comment"] == "a comment" and b"caption".hex() in png.text["Raw profile type iptc"]


def test_a_tiffs_own_tags_are_not_those_of_a_cameras_file(tmp_path):
    """Some phones write width and height into EXIF, which a TIFF would take for its own."""
    data = odd_files.exif((0x0100, odd_files.LONG, 1, struct.pack("<L", 9)), (0x0101, odd_files.LONG, 1, struct.pack("<L", 7)))
    image, _ = written(Metadata.of(opened(odd_files.jpeg(exif=data))), tmp_path / "a.tiff")
    assert np.array_equal(np.asarray(image), np.asarray(PICTURE))


# -- EXIF -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("kind", odd_files.ODD_EXIF)
def test_odd_exif_is_written_and_upright(tmp_path, kind, target):
    image = opened(odd_files.jpeg(exif=odd_files.ODD_EXIF[kind]))
    after, lost = written(Metadata.of(image).upright(), tmp_path / f"a.{target}")
    assert lost == () or target == "tiff"
    assert after.getexif().get(0x0112, 1) == 1
    if target != "tiff":  # all else is as it was
        untouched = bytearray(odd_files.ODD_EXIF[kind])
        untouched[untouched.index(odd_files.TURNED[0].to_bytes(2, "little") + b"\3\0\1\0\0\0") + 8] = 1
        assert Metadata.of(after).exif == bytes(untouched)


@pytest.mark.parametrize("kind", odd_files.UNREADABLE_EXIF)
def test_unreadable_exif_is_left_out_and_named(tmp_path, kind):
    metadata = Metadata.of(opened(odd_files.jpeg(exif=odd_files.UNREADABLE_EXIF[kind], comment=b"hello")))
    _, lost = written(metadata, tmp_path / "a.png")
    assert metadata.comments == (b"hello",)
    assert lost == (() if kind in ("nothing", "no directory", "byte orders mixed") else ("EXIF",))


TEXTS = {"UTF-8": "Jörg Müller © 日本".encode(), "Latin-1": "Jörg Müller ©".encode("latin-1"), "ASCII": b"someone"}


def with_texts(text: bytes, *more: tuple[int, int, bytes]) -> bytes:
    """EXIF with that text as description, artist and copyright, and as an offset of time in its own directory."""
    text += b"\0"
    directory, inner = 10 + 12 * 4 + 4, 2 + 12 * (1 + len(more)) + 4
    place = directory + inner
    entries = b"".join(struct.pack("<HHLL", tag, 2, len(text), place) for tag in (0x010E, 0x013B, 0x8298))
    entries += struct.pack("<HHLL", 0x8769, 4, 1, directory)
    entries = b"II*\0" + struct.pack("<LH", 8, 4) + entries + bytes(4)
    own = struct.pack("<HHLL", 0x9010, 2, len(text), place)
    own += b"".join(struct.pack("<HHLL", tag, kind, len(value), place + len(text)) for tag, kind, value in more)
    own = struct.pack("<H", 1 + len(more)) + own + bytes(4)
    return b"Exif\0\0" + entries + own + text + b"".join(value for *_, value in more)


@pytest.mark.parametrize("target", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("kind", TEXTS)
def test_text_of_exif_keeps_its_bytes(tmp_path, kind, target):
    text = TEXTS[kind]
    first, lost = written(Metadata(exif=with_texts(text)), tmp_path / f"a.{target}")
    tiff, more = written(Metadata.of(first), tmp_path / "b.tiff")  # from a TIFF, too
    for image in (first, tiff, written(Metadata.of(tiff), tmp_path / "c.png")[0]):
        found = image.getexif()
        texts = [*(found[tag] for tag in (0x010E, 0x013B, 0x8298)), found.get_ifd(0x8769)[0x9010]]
        assert [one.encode("latin-1") for one in texts] == [text] * 4  # as Pillow reads bytes
    assert not lost and not more


@pytest.mark.parametrize("kind", TEXTS)
def test_text_of_exif_that_is_too_long_keeps_its_bytes(tmp_path, kind):
    image, lost = written(Metadata(exif=with_texts(TEXTS[kind], (0x927C, 7, bytes(LONG)))), tmp_path / "a.jpg")
    found = image.getexif()
    assert lost == ("part of EXIF",) and 0x927C not in found.get_ifd(0x8769)
    assert {found[0x013B], found[0x8298], found.get_ifd(0x8769)[0x9010]} == {TEXTS[kind].decode("latin-1")}


@pytest.mark.parametrize("tags", [{0x0112: 1}, {0x0112: 1, 0x011A: 300.0, 0x011B: 300.0, 0x0128: 2}, {}])
def test_exif_that_says_nothing_is_no_loss_in_a_tiff(tmp_path, tags):
    made = Image.Exif()
    made.update(tags)
    _, lost = written(Metadata.of(opened(odd_files.saved(PICTURE, "PNG", exif=made.tobytes()))), tmp_path / "a.tiff")
    assert lost == ()


@pytest.mark.parametrize("tags", [{0x0112: 6}, {0xC4A5: b"PrintIM"}])
def test_exif_that_has_no_place_in_a_tiff_is_named(tmp_path, tags):
    made = Image.Exif()
    made.update(tags)
    assert written(Metadata(exif=made.tobytes()), tmp_path / "a.tiff")[1] == ("EXIF",)


LONG = 70_000
TOO_LONG = {
    "EXIF": Metadata(exif=odd_files.exif((0x9286, 7, LONG, struct.pack("<L", 40))) + bytes(LONG)),
    "XMP": Metadata(xmp=XMP.replace(b"image/jpeg", b"x" * LONG)),
    "comments": Metadata(comments=(b"c" * LONG,)),
    "IPTC": Metadata(iptc=IPTC + bytes(LONG)),
}


@pytest.mark.parametrize("part", TOO_LONG)
def test_what_is_too_long_for_a_jpeg_is_left_out_and_named(tmp_path, part):
    image, lost = written(TOO_LONG[part], tmp_path / "a.jpg")
    assert lost == (part,) and image.size == PICTURE.size
    _, lost = written(TOO_LONG[part], tmp_path / "a.png")
    assert lost == ()


def test_of_exif_that_is_too_long_what_describes_the_picture_is_kept(tmp_path):
    made = Image.Exif()
    made.update({0x0110: "Model", 0x0112: 6})
    made.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: bytes(LONG)})
    image, lost = written(Metadata(exif=made.tobytes()), tmp_path / "a.jpg")
    found = image.getexif()
    assert lost == ("part of EXIF",) and found[0x0110] == "Model" and found[0x0112] == 6
    assert found.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)


def test_a_long_profile_is_kept_in_a_jpeg(tmp_path):
    profile = np.random.default_rng(0).bytes(200_000)
    image, lost = written(Metadata(icc_profile=profile), tmp_path / "a.jpg")
    assert image.info["icc_profile"] == profile and lost == ()


# -- resolution, comments, text, gamma ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["png", "jpg", "tiff"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: odd_files.jpeg(dpi=(300, 300)),
        lambda: bytes.fromhex("ffd8ffe000104a46494600010102007600760000") + odd_files.jpeg()[20:],  # 118 a centimetre
        lambda: odd_files.saved(PICTURE, "PNG", dpi=(300, 300)),
        lambda: odd_files.saved(PICTURE, "TIFF", dpi=(300, 300)),
        lambda: odd_files.saved(PICTURE, "BMP", dpi=(300, 300)),
        lambda: odd_files.saved(PICTURE, "TIFF", resolution_unit=3, x_resolution=118.11, y_resolution=118.11),
    ],
    ids=["JFIF", "JFIF in cm", "PNG", "TIFF", "BMP", "TIFF in cm"],
)
def test_resolution_is_kept(tmp_path, make, target):
    image, _ = written(Metadata.of(opened(make())), tmp_path / f"a.{target}")
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.5)


@pytest.mark.parametrize("make", [lambda: tiff(), lambda: odd_files.jpeg(exif=exif())], ids=["TIFF", "JPEG with EXIF"])
def test_a_resolution_that_no_one_told_is_none(make):
    assert Metadata.of(opened(make())).dpi is None


@pytest.mark.parametrize("dpi", [0.001, 0.01, 0.4, 1, 299.7, 65535, 65536, 101_600, 5e7, 2e9, 1e13])
@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "bmp"])
def test_a_resolution_is_kept_or_named(tmp_path, target, dpi):
    image, lost = written(Metadata(dpi=(dpi, dpi)), tmp_path / f"a.{target}")
    found = Metadata.of(image).dpi
    if lost:
        usual = (pytest.approx(96, abs=0.1),) * 2 if target == "bmp" else None  # Pillow writes one into every BMP
        assert lost == ("resolution",) and found == usual and not (1 <= dpi <= 65535)
    else:
        assert found == pytest.approx((dpi, dpi), rel=1e-6, abs=0.5 if target == "jpg" else 0.013)


def test_a_resolution_beyond_jfif_is_kept_by_exif(tmp_path):
    made = Image.Exif()
    made.update({0x011A: 101_600.0, 0x011B: 101_600.0, 0x0128: 2})
    metadata = Metadata.of(opened(odd_files.saved(PICTURE, "PNG", exif=made.tobytes())))
    image, lost = written(metadata, tmp_path / "a.jpg")
    assert Metadata.of(image).dpi == metadata.dpi == (101_600, 101_600) and lost == ()


ASPECTS = {
    "JFIF": lambda: bytes.fromhex("ffd8ffe000104a46494600010100000200010000") + odd_files.jpeg()[20:],
    "PNG": lambda: odd_files.png(PICTURE, (b"pHYs", struct.pack(">LLB", 2, 1, 0))),
    "TIFF": lambda: odd_files.saved(PICTURE, "TIFF", resolution_unit=1, x_resolution=2, y_resolution=1),
}


@pytest.mark.parametrize("target", ["png", "tiff", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("kind", ASPECTS)
def test_pixels_that_are_no_squares_stay_so_or_are_named(tmp_path, kind, target):
    image, lost = written(Metadata.of(opened(ASPECTS[kind]())), tmp_path / f"a.{target}")
    kept = target == "tiff"
    assert Metadata.of(image).aspect == ((2, 1) if kept else None) and lost == (() if kept else ("aspect of pixels",))


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (float("inf"), 1), ("a", "b"), (-1, -1), (72,)])
def test_a_resolution_that_is_none_is_none(dpi):
    image = opened(odd_files.jpeg())
    image.info["dpi"] = dpi
    assert Metadata.of(image).dpi is None


@pytest.mark.parametrize("comment", [b"plain", "grün".encode(), "grün".encode("latin-1"), b"\xff\x00bin", b"a\nb"])
def test_comments_are_kept(tmp_path, comment):
    metadata = Metadata.of(opened(odd_files.jpeg(comment=comment)))
    jpg, _ = written(metadata, tmp_path / "a.jpg")
    assert Metadata.of(jpg).comments == (comment,)
    png, lost = written(metadata, tmp_path / "a.png")
    if b"\0" not in comment:
        assert png.text["Comment"] == ("grün" if b"gr" in comment else comment.decode()) and not lost


@pytest.mark.parametrize("comment", ["grün".encode(), "grün".encode("latin-1"), "日本語".encode()])
def test_comments_are_utf_8_in_a_tiff(tmp_path, comment):
    image, lost = written(Metadata(comments=(comment, b"second")), tmp_path / "a.tiff")
    text = "日本語" if comment == "日本語".encode() else "grün"
    assert image.tag_v2[270].encode("latin-1").decode() == f"{text}\nsecond" and lost == ()


@pytest.mark.parametrize("key", [b"Comment", b"comment"])
@pytest.mark.parametrize("target", ["png", "jpg"])
def test_a_pngs_comment_is_written_once(tmp_path, target, key):
    source = opened(odd_files.png(PICTURE, (b"tEXt", key + b"\0a comment"), (b"tEXt", b"Title\0a title")))
    image, lost = written(Metadata.of(source), tmp_path / f"a.{target}")
    assert Metadata.of(source).comments == Metadata.of(image).comments == (b"a comment",)
    assert getattr(image, "text", {}) in ({}, {"Comment": "a comment", "Title": "a title"})
    assert lost == (() if target == "png" else ("text (Title)",))


def test_several_comments_and_a_gifs(tmp_path):
    two = odd_files.with_segment(odd_files.with_segment(odd_files.jpeg(), 0xFE, b"second"), 0xFE, b"first")
    jpg, _ = written(Metadata.of(opened(two)), tmp_path / "a.jpg")
    assert Metadata.of(jpg).comments == (b"first", b"second")
    gif = odd_files.saved(PICTURE.quantize(8), "GIF", comment=b"of a GIF")
    png, _ = written(Metadata.of(opened(gif)), tmp_path / "a.png")
    assert png.text["Comment"] == "of a GIF"


COLOURS = [(b"gAMA", struct.pack(">L", 100_000)), (b"cHRM", struct.pack(">8L", *range(30_000, 30_008))), (b"sRGB", b"\1")]


def test_a_pngs_text_and_gamma_are_kept_in_a_png_and_named_elsewhere(tmp_path):
    data = odd_files.png(
        PICTURE, *COLOURS, (b"tEXt", b"Title\0a title"), (b"iTXt", b"Author\0\0\0de\0Autor\0" + "Jürgen".encode())
    )
    metadata = Metadata.of(opened(data))
    png, lost = written(metadata, tmp_path / "a.png")
    assert (png.info["gamma"], png.info["srgb"], png.text["Title"]) == (1.0, 1, "a title") and not lost
    assert png.info["chromaticity"] == tuple(corner / 100_000 for corner in range(30_000, 30_008))
    assert png.text["Author"] == "Jürgen" and png.text["Author"].lang == "de"
    assert set(written(metadata, tmp_path / "a.jpg")[1]) == {"text (Title)", "text (Author)", "gamma", "colours"}


def test_the_usual_colours_are_no_loss(tmp_path):
    corners = struct.pack(">8L", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    usual = (b"gAMA", struct.pack(">L", 45455)), (b"sRGB", b"\0"), (b"cHRM", corners), (b"cICP", bytes((1, 13, 0, 1)))
    metadata = Metadata.of(opened(odd_files.png(PICTURE, *usual)))
    assert written(metadata, tmp_path / "a.jpg")[1] == ()


def test_colours_by_code_points_are_kept_in_a_png_and_named_elsewhere(tmp_path):
    wide = b"cICP", bytes((9, 16, 0, 1))  # BT.2020 and PQ
    metadata = Metadata.of(opened(odd_files.png(PICTURE, wide)))
    png, lost = written(metadata, tmp_path / "a.png")
    assert odd_files.png_chunk(*wide) in (tmp_path / "a.png").read_bytes() and not lost
    assert Metadata.of(png).chunks == metadata.chunks and written(metadata, tmp_path / "a.tiff")[1] == ("colours",)


def profile(space: bytes) -> bytes:
    return PROFILE[:16] + space + PROFILE[20:36] + b"acsp" + PROFILE[40:]


@pytest.mark.parametrize("target", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("mode, space", [
    ("RGB", b"GRAY"), ("RGB", b"CMYK"), ("RGB", b"Lab "), ("RGB", b"6CLR"), ("RGB", b"RGB "), ("L", b"GRAY"), ("L", b"RGB "),
    ("LA", b"RGB "), ("RGBA", b"RGB "), ("RGBA", b"GRAY"),
])  # fmt: skip
def test_a_profile_goes_with_its_colours_alone(tmp_path, target, mode, space):
    if target == "jpg" and mode.endswith("A"):
        return  # JPEG has no alpha
    source = opened(odd_files.saved(PICTURE.convert(mode), "PNG", icc_profile=profile(space)))
    image, lost = written(Metadata.of(source), tmp_path / f"a.{target}", PICTURE.convert(mode))
    fits = space == (b"GRAY" if mode.startswith("L") and target != "webp" else b"RGB ")  # whose pictures are in colour
    assert (image.info.get("icc_profile") == profile(space)) == fits
    assert lost == (() if fits else ("ICC profile of other colours",))


def jp2(*boxes: tuple[bytes, bytes], in_header: bool = False) -> bytes:
    """A JPEG 2000 file with further boxes."""
    data = odd_files.saved(PICTURE, "JPEG2000", comment="hello")
    more = b"".join(struct.pack(">L", len(content) + 8) + kind + content for kind, content in boxes)
    start = data.index(b"jp2h") - 4
    stop = start + int.from_bytes(data[start : start + 4], "big")
    if in_header:
        return data[:start] + struct.pack(">L", stop - start + len(more)) + data[start + 4 : stop] + more + data[stop:]
    return data[:stop] + more + data[stop:]


def gif(*extensions: bytes) -> bytes:
    data = odd_files.saved(PICTURE.quantize(4), "GIF")
    return data[:25] + b"".join(extensions) + data[25:]


XMP_UUID, EXIF_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), b"JpgTiffExif->JP2"
LEFT_BY_PILLOW = {
    "XMP of a GIF": (lambda: gif(b"!\xff\x0bXMP DataXMP", XMP, b"\1", bytes(range(255, -1, -1)), b"\0"), {"xmp": XMP}),
    "XMP of JPEG 2000": (lambda: jp2((b"uuid", XMP_UUID + XMP)), {"xmp": XMP}),
    "EXIF of JPEG 2000": (lambda: jp2((b"uuid", EXIF_UUID + exif()[6:])), {"exif": exif()}),
    "profile of JPEG 2000": (lambda: jp2((b"colr", b"\2\0\0" + PROFILE), in_header=True), {"icc_profile": PROFILE}),
    "IPTC among Photoshop's resources of a TIFF": (
        lambda: odd_files.saved(PICTURE, "TIFF", tiffinfo={34377: photoshop(IPTC)[18:]}), {"iptc": IPTC}
    ),
    "resolution in EXIF alone": (lambda: odd_files.saved(PICTURE, "PNG", exif=resolution(300, 2)), {"dpi": (300, 300)}),
    "resolution in EXIF in cm": (lambda: odd_files.jpeg(exif=resolution(100, 3)), {"dpi": (254, 254)}),
}  # fmt: skip


def resolution(density: float, unit: int) -> bytes:
    made = Image.Exif()
    made.update({0x011A: density, 0x011B: density, 0x0128: unit})
    return made.tobytes()


@pytest.mark.parametrize("kind", LEFT_BY_PILLOW)
def test_what_pillow_leaves_unread_is_read(kind):
    make, expected = LEFT_BY_PILLOW[kind]
    metadata = Metadata.of(opened(make()))
    assert {part: getattr(metadata, part) for part in expected} == expected and not metadata.lost


def tiff(*tags: tuple[int, int, int, bytes], samples: int = 3) -> bytes:
    """Of four pixels, with these tags (number, type, count, up to four bytes) and none that it does not need."""
    needed = [(256, 3, 1, b"\2"), (257, 3, 1, b"\2"), (258, 3, 1, b"\x08"), (262, 3, 1, b"\2"), (273, 4, 1, b"\x08")]
    needed += [(277, 3, 1, bytes([samples])), (279, 4, 1, bytes([4 * samples]))]
    entries = b"".join(struct.pack("<HHL4s", *tag) for tag in sorted((*needed, *tags)))
    pixels = bytes(range(4 * samples))
    count = struct.pack("<H", len(needed) + len(tags))
    return b"II*\0" + struct.pack("<L", 8 + len(pixels)) + pixels + count + entries + bytes(4)


GARBLED = odd_files.png(PICTURE, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.replace(b"image/jpeg", b"caf\xe9")))
NAMED = {
    "a phone's film": (lambda: odd_files.jpeg() + b"\0\0\0\x18ftypmp42" + bytes(500), "data behind the picture"),
    "a film behind a progressive file": (lambda: odd_files.jpeg(progressive=True) + b"MotionPhoto", "data behind the picture"),
    "behind a PNG": (lambda: odd_files.png(PICTURE) + b"PK", "data behind the picture"),
    "behind a WebP": (lambda: odd_files.saved(PICTURE, "WEBP") + b"more than a chunk", "data behind the picture"),
    "background": (lambda: odd_files.png(PICTURE, (b"bKGD", bytes(6))), "bKGD data"),
    "provenance": (lambda: odd_files.png(PICTURE, (b"caBX", b"c2pa")), "caBX data"),
    "a key twice": (lambda: odd_files.png(PICTURE, (b"tEXt", b"a\0one"), (b"tEXt", b"a\0two")), "part of text"),
    "text that is none": (lambda: GARBLED, "part of text"),
    "half a profile": (lambda: odd_files.with_segment(odd_files.jpeg(), 0xE2, b"ICC_PROFILE\0\1\2half"), "ICC profile"),
    "a damaged profile": (lambda: odd_files.png(PICTURE, (b"iCCP", b"name\0\0none")), "ICC profile"),
    "a map's coordinates": (lambda: tiff((33550, 12, 1, b"\x08")), "further tags of TIFF"),
    "XMP as a number": (lambda: tiff((700, 4, 1, b"\x08")), "XMP"),
    "a fifth channel": (lambda: tiff((338, 3, 2, bytes(4)), samples=5), "extra channels"),
    "a box": (lambda: jp2((b"uuid", bytes(20))), "boxes of JPEG 2000"),
    "a chunk of WebP": (lambda: riff(odd_files.saved(PICTURE, "WEBP"), b"ABCD\4\0\0\x001234"), "ABCD data"),
}


def riff(data: bytes, more: bytes) -> bytes:
    return data[:4] + struct.pack("<L", len(data) + len(more) - 8) + data[8:] + more


@pytest.mark.parametrize("kind", NAMED)
def test_what_is_not_read_is_named(kind):
    make, name = NAMED[kind]
    image = images.open_image(make())
    assert images.Pixels.of(image).rgb.size and Metadata.of(image).lost == (name,)


@pytest.mark.parametrize("padding", [b"", bytes(512), b"\xff" * 9])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_padding_behind_a_picture_is_no_loss(options, padding):
    assert Metadata.of(opened(odd_files.jpeg(**options) + padding)) == Metadata()


def test_what_has_no_place_anywhere_is_named():
    assert "further pictures" in Metadata.of(opened(odd_files.mpo())).lost
    assert Metadata.of(opened(odd_files.with_segment(odd_files.jpeg(), 0xEB, b"JP c2pa"))).lost == ("APP11 data",)
    thumbnail = b"Photoshop 3.0\x008BIM\x04\x0c\0\0\0\0\0\x02ab"
    assert Metadata.of(opened(odd_files.with_segment(odd_files.jpeg(), 0xED, thumbnail))).lost == ("Photoshop's own data",)
    cmyk = odd_files.saved(PICTURE.convert("CMYK"), "JPEG", icc_profile=PROFILE)
    assert Metadata.of(opened(cmyk)).lost == ("ICC profile of other colours",)


def test_iptc_as_numbers_and_in_blocks(tmp_path):
    tiff = bytearray(odd_files.saved(PICTURE, "TIFF", tiffinfo={33723: IPTC}))
    entry = tiff.index(struct.pack("<H", 33723))
    tiff[entry + 2 : entry + 8] = struct.pack("<HL", odd_files.LONG, len(IPTC) // 4)
    assert Metadata.of(opened(bytes(tiff))).iptc == IPTC
    png, _ = written(Metadata(iptc=IPTC), tmp_path / "a.png")  # within a block of Photoshop's
    assert Metadata.of(png).iptc == IPTC


# -- the mark -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny_weights) -> Restorer:
    return Restorer(tiny_weights, device="cpu", max_quality=None)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_a_restored_picture_is_recognised_and_left_alone(tiny, tiny_weights, tmp_path, suffix, mode):
    if suffix == "jpg" and "A" in mode:
        return  # JPEG has no alpha
    picture = PICTURE.convert(mode.rstrip("A"))
    if "A" in mode:
        picture.putalpha(Image.fromarray(photograph(seed=3)[..., 0]))
    path = tmp_path / f"a.{suffix}"
    written(Metadata(xmp=XMP), path, picture, mark=True)
    image, pixels = images.open_image(path), images.Pixels.of(images.open_image(path)).rgb
    assert is_marked(image, pixels) and images.is_restored(path.read_bytes(), pixels)
    assert tiny(image) is image and np.array_equal(tiny(path), pixels) and tiny.restored_before(path)
    assert not tiny.restored_before(pixels)
    again = Restorer(tiny_weights, device="cpu", max_quality=None, again=True)
    assert (again(path) != pixels).any()
    assert Metadata.of(image).xmp == XMP  # the mark is no part of it


def test_a_mark_on_other_pixels_counts_for_nothing(tiny, tmp_path):
    """As where an editor keeps the XMP of a picture that it crops, or compresses anew."""
    image, _ = written(Metadata(), tmp_path / "a.png", mark=True)
    marked = image.info["xmp"]
    cropped = image.crop((0, 0, 90, 60))
    for data in (odd_files.saved(cropped, "WEBP", lossless=True, xmp=marked), odd_files.jpeg(xmp=marked)):
        pixels = images.Pixels.of(opened(data)).rgb
        assert not is_marked(opened(data), pixels) and (tiny(data) != pixels).any()


MARKABLE = {
    "none": None,
    "usual": XMP,
    "UTF-16": XMP.decode().encode("utf-16"),
    "empty": re.sub(rb"(<rdf:RDF[^>]*)>.*</rdf:RDF>", rb"\1/>", XMP),
    "other prefix": XMP.replace(b"rdf:", b"r:").replace(b":rdf=", b":r="),
    "no prefix": XMP.replace(b"rdf:", b"").replace(b":rdf=", b"="),
    "in a packet": b'<?xpacket begin=""?>' + XMP + b" " * 2000 + b'<?xpacket end="w"?>',
}
UNMARKABLE = {"no RDF": b"<x/>", "noise": b"\xff\xfe<\0", "too long": XMP.replace(b"image/jpeg", b"y" * 65_200)}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("kind", [*MARKABLE, *UNMARKABLE])
def test_marks_beside_any_xmp(tmp_path, kind, suffix):
    image, lost = written(Metadata(xmp={**MARKABLE, **UNMARKABLE}[kind]), tmp_path / f"a.{suffix}", mark=True)
    assert image.size == PICTURE.size and is_marked(image, images.Pixels.of(image).rgb)
    assert ("XMP" in lost) == (kind in UNMARKABLE and (kind != "too long" or suffix == "jpg"))
    if kind in ("usual", "UTF-16", "other prefix", "no prefix", "in a packet"):
        assert b"image/jpeg" in (image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode())
        ElementTree.fromstring(MARK_OF_PACKET.sub(b"", image.info["xmp"]))


@pytest.mark.parametrize("mark", [False, True])
def test_xmp_that_goes_as_a_whole_is_not_named_as_a_part(tmp_path, mark):
    _, lost = written(Metadata(xmp=UNMARKABLE["too long"]), tmp_path / "a.jpg", mark=mark)
    assert lost == (("XMP",) if mark else ())
    assert written(Metadata(xmp=UNMARKABLE["no RDF"]), tmp_path / "a.png", mark=True)[1] == ("XMP",)


MARK_OF_PACKET = re.compile(rb"<\?xpacket[^>]*>")
NO_MARK = b'<rdf:Description xmlns:dagn="urn:dagn-pre" dagn:restored="zz"/>'


@pytest.mark.parametrize("xmp", [5, None, "text", (1, 2), b"", NO_MARK])
def test_no_mark_where_there_is_none(xmp):
    image = opened(odd_files.jpeg())
    image.info["xmp"] = xmp
    assert not is_marked(image, np.asarray(image))


def test_digests_tell_shapes_and_pixels_apart():
    rgb = photograph()
    assert digest(rgb) == digest(rgb.copy()) == digest(np.asfortranarray(rgb))
    assert len({digest(rgb), digest(rgb[:, ::-1]), digest(rgb.reshape(96, 64, 3)), digest(rgb // 2)}) == 4


def test_again_is_true_or_false(tiny_weights):
    with pytest.raises(UsageError, match="again must be True or False"):
        Restorer(tiny_weights, again="yes")


def test_marking_twice_leaves_one_mark(tmp_path):
    first, _ = written(Metadata(xmp=XMP), tmp_path / "a.png", mark=True)
    second, _ = written(Metadata.of(first), tmp_path / "b.png", mark=True)
    assert second.info["xmp"] == first.info["xmp"] and second.info["xmp"].count(b"dagn:restored") == 1


def test_saving_writes_nothing_that_the_image_itself_brings(tmp_path):
    picture = PICTURE.copy()
    picture.info = {"comment": b"stale", "icc_profile": b"stale", "dpi": (5, 5), "transparency": (1, 2, 3)}
    for suffix in ("png", "jpg", "tiff", "webp"):
        image, _ = written(Metadata(), tmp_path / f"a.{suffix}", picture)
        found = Metadata.of(image)
        assert replace(found, dpi=None) == Metadata()
    assert picture.info["comment"] == b"stale"


def test_webp_keeps_what_transparency_hides(tmp_path):
    picture = PICTURE.convert("RGBA")
    picture.putalpha(0)
    image, _ = written(Metadata(), tmp_path / "a.webp", picture)
    assert np.array_equal(np.asarray(image), np.asarray(picture))


def test_pil_images_come_back_with_their_metadata(tiny):
    restored = tiny(Image.open(io.BytesIO(SOURCES["jpg"]())))
    assert restored.info["exif"] == exif() and restored.info["xmp"] == XMP and restored.info["icc_profile"] == PROFILE
    assert restored.info["dpi"] == (300, 300) and restored.info["comment"] == b"a comment"
