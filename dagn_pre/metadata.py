"""What a picture carries beside its pixels: read from any format, and kept in any other as far as that has a place for it.

============  ============================================================================================================
EXIF          byte for byte but for the orientation, so that maker's notes and odd tags stay; TIFF has tags of its own, which
              take those that describe the picture
ICC profile   unless the colours change kind (CMYK), or it is one of other colours than the picture has
resolution    in dots per inch, where the file tells it, in EXIF also; WebP has it there alone. Without a unit it is the aspect
              of the pixels, which TIFF keeps
XMP           in all formats but BMP
comments      of JPEG, GIF, JPEG 2000 and PNG; PNG, JPEG and TIFF (as its description) hold them
IPTC          JPEG, TIFF and PNG (as the profile that ImageMagick and ExifTool know) hold it
text, gamma   of PNG alone, with the chunks that tell its colours
============  ============================================================================================================

What cannot be read, or has no place, is left out and named. No picture is refused for its metadata.

A restored picture is marked in its XMP with a digest of its pixels (:func:`is_marked`): a mark that other software carries on
to other pixels counts for nothing. BMP has no place for it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from dagn_pre import chunks, codec

DESCRIPTION, ORIENTATION, XMP, IPTC, EXIF_IFD, GPS_IFD = 0x010E, 0x0112, 700, 33723, 0x8769, 0x8825  # tags of TIFF and EXIF
SAMPLES, ACROSS, DOWN, UNIT, PHOTOSHOP, PROFILE_TAG = 0x0115, 0x011A, 0x011B, 0x0128, 34377, 34675
# Those that describe the picture, and not how a TIFF's bytes lie: maker, model, software, date, artist, rights, ratings, ...
DESCRIPTIVE = {DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0)}
LARGE = 4096  # bytes of a tag; such ones go where all of EXIF is too long for a JPEG: maker's notes, previews
INTEROPERABILITY = 0xA005  # an offset, which points elsewhere once EXIF is written anew
IPTC_RESOURCE = 0x0404  # where Photoshop, and everyone since, puts IPTC in a JPEG
ORIENTATION_IN_XMP = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)[0-9]""")
MARK = re.compile(
    rb"""<(?:[\w.-]+:)?Description [^<>]*xmlns:dagn=["']urn:dagn-pre["'][^<>]*dagn:restored=["']([0-9a-f]+)["'][^<>]*/>"""
)
RDF_END, EMPTY_RDF = re.compile(rb"</((?:[\w.-]+:)?)RDF\s*>"), re.compile(rb"<((?:[\w.-]+:)?)RDF(\s[^<>]*)?/>")
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
)
PROFILE = "Raw profile type "  # of PNG texts, as ImageMagick writes binary metadata: a name, a length, hexadecimal digits
GAMMA = 0.45455  # the usual one
CORNERS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of sRGB: the white point, and red, green and blue
# What an APPn segment begins with that is read here, or is no metadata.
KNOWN_SEGMENTS = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0") + (
    b"JFIF\0", b"JFXX\0", b"Adobe", b"Ducky", b"DAGN\0")  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """A picture's metadata, independent of formats; what it has not is None or empty.

    Attributes:
        exif: begins with ``Exif\\0\\0``.
        xmp: the packet.
        icc_profile: as it is.
        dpi: across and down, finite and positive.
        aspect: the same where no unit is known, if pixels are no squares.
        comments: in the file's order.
        iptc: records of IPTC-IIM.
        text: of a PNG, by keyword.
        gamma: of a PNG.
        chunks: of a PNG, those that say its colours, by name: gAMA, cHRM, sRGB, cICP.
        mark: the digest of a restored picture, to be written; what is read from a file is no part of this.
        lost: names of what was there, but cannot be read or does not fit the restored picture.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    aspect: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    iptc: bytes | None = None
    text: dict[str, str] = field(default_factory=dict)
    gamma: float | None = None
    chunks: dict[str, bytes] = field(default_factory=dict)
    mark: str | None = None
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Image.Image) -> Metadata:
        """The metadata of an opened image whose pixels have been decoded (a PNG's text may follow them). Never raises."""
        found, lost = {}, ["metadata"] if getattr(image, "bare", False) else []
        for name, read in READERS.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    value = read(image)
            except Exception:  # whatever a parser stumbles over
                lost.append(NAMES[name])
            else:
                if value:
                    found[name] = value
        if image.mode == "CMYK" and found.pop("icc_profile", None):
            lost.append(OTHER_PROFILE)
        return cls(**found, lost=(*lost, *_unread(image)))

    def upright(self) -> Metadata:
        """That of the same picture once its pixels are turned upright."""
        exif, xmp = self.exif and _turned(self.exif), self.xmp and ORIENTATION_IN_XMP.sub(rb"\g<1>1", self.xmp)
        return replace(self, exif=exif, xmp=xmp)

    def info(self) -> dict[str | tuple[int, int], Any]:
        """Entries of ``PIL.Image.Image.info``, by the names that Pillow gives them; a PNG's text is left out."""
        named = {name: getattr(self, name) for name in ("exif", "xmp", "icc_profile", "dpi", "aspect", "gamma")}
        named |= {"comment": b"\n".join(self.comments), "photoshop": self.iptc and {IPTC_RESOURCE: self.iptc}}
        return {name: value for name, value in named.items() if value}

    def settings(self, format: str, mode: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """(options for Pillow's ``save`` of a picture of this mode as PNG, JPEG, TIFF, WEBP or BMP, names of what is lost).

        Each part is tried on a picture of one pixel first, since writers refuse some: tags of a wrong type, or too long ones.
        """
        accepted: dict[str, Any] = {}
        lost = list(self.lost)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is lost is named
            for name, ways in _ways(self, format, mode):
                for number, way in enumerate(ways):
                    try:
                        wanted = _joined(accepted, way())
                        Image.new(mode, (1, 1)).save(io.BytesIO(), format, **_options(wanted))
                    except Exception:
                        continue
                    accepted = wanted
                    if number:
                        lost.append(f"part of {name}")
                    break
                else:
                    lost.append(name)
            return _options(accepted), tuple(dict.fromkeys(lost))


def orientation(image: Image.Image) -> int:
    """1..8, as EXIF, a PNG's profile or XMP say; 1 is upright, and taken where they make no sense. Never raises.

    Decoders of TIFF and HEIC turn the pixels themselves: theirs are upright.
    """
    if image.format in ("TIFF", "HEIF"):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return int(found) if found in range(2, 9) else 1


def digest(rgb: np.ndarray) -> str:
    """Of (H, W, 3) uint8 pixels, for a mark: hexadecimal digits."""
    found = hashlib.sha256(repr(rgb.shape).encode())
    found.update(np.ascontiguousarray(rgb).data)
    return found.hexdigest()[:32]


def is_marked(image: Image.Image, rgb: np.ndarray) -> bool:
    """Whether an opened image says that dagn-pre restored it, and its pixels, (H, W, 3) uint8 as stored, are still those."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode("utf-8", "replace") if isinstance(packet, str) else packet
    mark = MARK.search(packet) if isinstance(packet, bytes) else None
    return mark is not None and mark[1].decode() == digest(rgb)


# -- reading --------------------------------------------------------------------------------------------------------------


def _exif(image: Image.Image) -> bytes | None:
    data = image.info.get("exif") or _profile(image, "exif") or _profile(image, "APP1")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _descriptive(image.getexif())
    if not data or data.startswith(b"http"):  # APP1 may hold XMP
        return None
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    Image.Exif().load(data)  # raises where no reader could make anything of it
    return b"Exif\0\0" + data


def _xmp(image: Image.Image) -> bytes | None:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or _profile(image, "xmp")
    found = MARK.sub(b"", found.encode() if isinstance(found, str) else found or b"")
    return found if found != PACKET else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    if isinstance(image, JpegImageFile):  # where nothing says it, Pillow says 72, or of a TIFF 1
        scale = {1: 1, 2: 2.54}.get(image.info.get("jfif_unit", 0))
        found = tuple(scale * density for density in image.info["jfif_density"]) if scale else None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = found if {ACROSS, DOWN} <= set(image.tag_v2) else None
    elif found is None and image.info.get("exif"):
        found = _resolution(image.getexif())
    across, down = map(float, found) if found else (0, 0)
    return (across, down) if all(0 < value < math.inf for value in (across, down)) else None


def _resolution(exif: Image.Exif) -> tuple[float, float] | None:
    """In dots per inch, as EXIF says it."""
    scale = {2: 1, 3: 2.54}.get(exif.get(UNIT, 2))
    try:
        return (float(exif[ACROSS]) * scale, float(exif[DOWN]) * scale) if scale else None
    except (KeyError, TypeError, ValueError):  # there is none, or no number
        return None


def _comments(image: Image.Image) -> tuple[bytes, ...]:
    several = [data for name, data in getattr(image, "applist", ()) if name == "COM"]
    found = several or [image.info.get("comment") or getattr(image, "text", {}).get("Comment")]
    return tuple(one.encode() if isinstance(one, str) else one for one in found if one)


def _iptc(image: Image.Image) -> bytes | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(IPTC) or _resources(image).get(IPTC_RESOURCE)
        # Often written as 32-bit numbers, of which Pillow gives the first.
        return found if found is None or isinstance(found, bytes) else image.tag_v2._tagdata[IPTC]
    if isinstance(image, JpegImageFile):
        return image.info.get("photoshop", {}).get(IPTC_RESOURCE)
    data = _profile(image, "iptc")
    if data is None:
        return None
    block = re.match(rb"(?:Photoshop 3\.0\0)?8BIM\x04\x04\0\0(....)", data, re.DOTALL)
    return data[block.end() : block.end() + int.from_bytes(block[1], "big")] if block else data


def _resources(image: TiffImagePlugin.TiffImageFile) -> dict[int, bytes]:
    """Photoshop's of a TIFF, by number; what is damaged is left out."""
    data = image.tag_v2.get(PHOTOSHOP)
    data, found, position = data if isinstance(data, bytes) else b"", {}, 0
    while data[position : position + 4] == b"8BIM" and position + 12 <= len(data):
        number, name = struct.unpack_from(">HB", data, position + 4)
        start = position + 7 + name + (name + 1) % 2 + 4
        length = int.from_bytes(data[start - 4 : start], "big")
        found[number] = data[start : start + length]
        position = start + length + length % 2
    return found


def _text(image: Image.Image) -> dict[str, str]:
    read_elsewhere = {"Comment", "XML:com.adobe.xmp", *(PROFILE + kind for kind in ("exif", "APP1", "xmp", "iptc"))}
    return {key: value for key, value in getattr(image, "text", {}).items() if key not in read_elsewhere}


def _colour_chunks(image: Image.Image) -> dict[str, bytes]:
    gamma, corners, intent = (image.info.get(name) for name in ("gamma", "chromaticity", "srgb"))
    found = {"gAMA": struct.pack(">L", round(gamma * 100_000))} if gamma else {}
    if corners:
        found["cHRM"] = struct.pack(">8L", *(round(corner * 100_000) for corner in corners))
    if intent is not None:
        found["sRGB"] = bytes([intent])
    if signalled := dict(_chunks(image)).get(b"cICP"):
        found["cICP"] = signalled[8:-4]
    return found


def _encoded(image: Image.Image) -> bytes:
    """The file's bytes, where they are at hand and nothing was taken out of them."""
    return b"" if getattr(image, "bare", False) else getattr(image, "encoded", b"")


def _chunks(image: Image.Image) -> list[tuple[bytes, bytes]]:
    """Those of a PNG whose bytes are at hand."""
    data = _encoded(image)
    return list({"PNG": chunks.of_png, "WEBP": chunks.of_webp}[image.format](data)) if image.format in ("PNG", "WEBP") else []


def _profile(image: Image.Image, kind: str) -> bytes | None:
    """What a PNG's text holds in hexadecimal digits."""
    found = getattr(image, "text", {}).get(PROFILE + kind)
    return bytes.fromhex("".join(found.split("\n")[3:])) if found else None


def _aspect(image: Image.Image) -> tuple[float, float] | None:
    """Where there is no unit, what stands for the resolution."""
    info = image.info
    densities = [info.get("aspect"), info.get("jfif_density") if info.get("jfif_unit") == 0 else None]
    densities += [info.get("resolution") if isinstance(image, TiffImagePlugin.TiffImageFile) else None]
    across, down = map(float, next(filter(None, densities), (1, 1)))
    return (across, down) if across != down and all(0 < value < math.inf for value in (across, down)) else None


READERS: dict[str, Callable[[Image.Image], Any]] = {
    "exif": _exif,
    "xmp": _xmp,
    "icc_profile": lambda image: image.info.get("icc_profile"),
    "dpi": _dpi,
    "aspect": _aspect,
    "comments": _comments,
    "iptc": _iptc,
    "text": _text,
    "gamma": lambda image: image.info.get("gamma"),
    "chunks": _colour_chunks,
}
NAMES = {"exif": "EXIF", "xmp": "XMP", "icc_profile": "ICC profile", "dpi": "resolution", "comments": "comments"}
NAMES |= {"aspect": "aspect of pixels", "iptc": "IPTC", "text": "text", "gamma": "gamma", "chunks": "colours"}


# Of PNG and WebP: the picture, and what is read above; the time of the last change and Apple's hint for decoders are void.
READ_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"tEXt", b"zTXt", b"iTXt", b"eXIf"}
READ_CHUNKS |= {b"iCCP", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tIME", b"iDOT"}
READ_CHUNKS |= {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Of TIFF: how the bytes lie, and what is read above.
READ_TAGS = {*range(254, 267), *range(273, 285), *range(290, 294), 296, 297, 317, *range(320, 344), 347, *range(512, 522)}
READ_TAGS |= {*range(529, 533), *DESCRIPTIVE, XMP, IPTC, PHOTOSHOP, PROFILE_TAG, EXIF_IFD, GPS_IFD, ORIENTATION}
UUIDS = {  # of boxes in JPEG 2000
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03"): "GeoTIFF tags",
}
AFTER = "data behind the picture"  # such as a phone's short film
OTHER_SPACES = {b"XYZ ", b"Lab ", b"Luv ", b"YCbr", b"Yxy ", b"GRAY", b"HSV ", b"HLS ", b"CMYK", b"CMY "}  # of ICC profiles
OTHER_PROFILE = "ICC profile of other colours"


def read_more(image: Image.Image, data: bytes) -> None:
    """Add what Pillow leaves unread to an image that was opened from these bytes: to its ``info``, by Pillow's names.

    PNG, JPEG and TIFF keep their bytes as ``encoded``, since what they lack costs time to find.
    """
    image.encoded = data  # type: ignore[attr-defined]  # an image of Pillow takes any attribute
    if image.format == "GIF":
        _, _, packet = data.partition(b"!\xff\x0bXMP DataXMP")
        if packet:
            image.info["xmp"] = packet.partition(b"\x01\xff\xfe\xfd")[0]
    if image.format == "JPEG2000":
        for kind, content in chunks.boxes(data):
            name = UUIDS.get(content[:16]) if kind == b"uuid" else None
            if name in ("xmp", "exif"):
                image.info[name] = content[16:]
            for inner, profile in chunks.boxes(content) if kind == b"jp2h" else ():
                if inner == b"colr" and profile[:1] in (b"\2", b"\3"):
                    image.info["icc_profile"] = profile[3:]


def _unread(image: Image.Image) -> Iterator[str]:
    """Names of a file's parts that no format takes from here."""
    data = _encoded(image)
    if image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
        yield "further pictures"
    elif image.format in ("JPEG", "MPO") and (end := codec.end(data)) and data[end:].strip(b"\0\xff"):
        yield AFTER
    photoshop = image.info.get("photoshop")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        photoshop = _resources(image)
        if set(image.tag_v2) - READ_TAGS:
            yield "further tags of TIFF"
        if XMP in image.tag_v2 and not image.info.get("xmp"):  # of another type
            yield NAMES["xmp"]
        if image.tag_v2.get(SAMPLES, 1) > len(image.getbands()) and image.mode != "P":
            yield "extra channels"
    if isinstance(photoshop, dict) and set(photoshop) - {IPTC_RESOURCE}:
        yield "Photoshop's own data"
    segments = getattr(image, "applist", ())
    for name, content in segments:
        if name != "COM" and not content.startswith(KNOWN_SEGMENTS):
            yield f"{name} data"
    found = _chunks(image)
    yield from (f"{name.decode('latin-1')} data" for name in dict(found) if name not in READ_CHUNKS)
    head = chunks.PNG_HEAD if image.format == "PNG" else chunks.RIFF_HEAD
    if found and data[head + sum(len(whole) for _, whole in found) :].strip(b"\0"):
        yield AFTER
    if found and sum(name in TEXTS for name, _ in found) > len(getattr(image, "text", ())):
        yield "part of text"  # a name comes twice, or it cannot be read
    profiles = [content for _, content in segments if content.startswith(b"ICC_PROFILE\0")]
    if (b"iCCP" in dict(found) or profiles) and not image.info.get("icc_profile"):
        yield NAMES["icc_profile"]
    if image.format == "JPEG2000" and any(kind == b"uuid" and UUIDS.get(box[:16]) is None for kind, box in chunks.boxes(data)):
        yield "boxes of JPEG 2000"


# -- writing --------------------------------------------------------------------------------------------------------------

Way = Callable[[], dict[str, Any]]


def _ways(metadata: Metadata, format: str, mode: str) -> Iterator[tuple[str, list[Way]]]:
    """Each part that there is, with the ways to write it, the best first; none where the format has no place for it."""
    exif, xmp, iptc, comments = metadata.exif, metadata.xmp, metadata.iptc, metadata.comments
    if exif and format == "TIFF":
        yield "EXIF", [lambda: {"exif": _descriptive(_loaded(exif))}]
    elif exif:
        whole, small = lambda: {"exif": exif}, lambda: {"exif": _descriptive(_loaded(exif), LARGE, keep_orientation=True)}
        yield "EXIF", [whole, small] if format != "BMP" else []
    if xmp or (metadata.mark and format != "BMP"):
        packet_places: dict[str, Callable[[bytes], dict[str, Any]]] = {
            "PNG": lambda packet: {"chunks": _text_chunk("XML:com.adobe.xmp", packet.decode(), international=True)},
            "JPEG": lambda packet: {"extra": _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)},
            "TIFF": lambda packet: {"tags": {XMP: packet}},
            "WEBP": lambda packet: {"xmp": packet},
        }
        place, mark = packet_places.get(format), metadata.mark
        packets = [xmp or PACKET, PACKET] if mark else [xmp or PACKET]
        yield "XMP", [functools.partial(_placed, place, packet, mark) for packet in packets] if place else []
    grey = mode in ("L", "LA") and format != "WEBP"  # which is written in colour
    if metadata.icc_profile and metadata.icc_profile[16:20] in OTHER_SPACES - ({b"GRAY"} if grey else set()):
        yield OTHER_PROFILE, []
    elif metadata.icc_profile:
        yield "ICC profile", [lambda: {"icc_profile": metadata.icc_profile}] if format != "BMP" else []
    if metadata.dpi and not (format == "WEBP" and exif and _resolution(_loaded(exif))):
        yield "resolution", [lambda: {"dpi": metadata.dpi}] if format != "WEBP" else []
    if metadata.aspect and not metadata.dpi:
        across, down = metadata.aspect
        yield "aspect of pixels", [lambda: {"tags": {ACROSS: across, DOWN: down, UNIT: 1}}] if format == "TIFF" else []
    if comments:
        comment_places: dict[str, Way] = {
            "PNG": lambda: {"chunks": _text_chunk("Comment", "\n".join(map(_decoded, comments)))},
            "JPEG": lambda: {"extra": b"".join(_segment(codec.COM, comment) for comment in comments)},
            "TIFF": lambda: {"tags": {DESCRIPTION: "\n".join(map(_decoded, comments))}},
        }
        described = format == "TIFF" and exif and DESCRIPTION in _loaded(exif)
        yield "comments", [comment_places[format]] if format in comment_places and not described else []
    if iptc:
        resource = b"8BIM" + struct.pack(">HHL", IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        resource_places: dict[str, Way] = {
            "PNG": lambda: {"chunks": _text_chunk(PROFILE + "iptc", f"\niptc\n{len(resource):8}\n{resource.hex()}\n")},
            "JPEG": lambda: {"extra": _segment(0xED, b"Photoshop 3.0\0" + resource)},
            "TIFF": lambda: {"tags": {IPTC: iptc}},
        }
        yield "IPTC", [resource_places[format]] if format in resource_places else []
    for key, value in metadata.text.items():
        yield f"text ({key})", [functools.partial(_text_part, key, value)] if format == "PNG" else []
    for key, data in metadata.chunks.items():
        name = "gamma" if key == "gAMA" else "colours"
        if format == "PNG":
            yield name, [functools.partial(dict, chunks=[(key.encode(), data)])]
        elif not _usual(key, data):
            yield name, []


def _usual(key: str, data: bytes) -> bool:
    """Whether a PNG's chunk says of the colours what readers take for granted."""
    if key == "gAMA":
        return abs(int.from_bytes(data, "big") / 100_000 - GAMMA) < 1e-4
    if key == "cHRM":
        return bool(np.allclose(struct.unpack(">8L", data), np.array(CORNERS) * 100_000, atol=500))
    return key == "sRGB" or data[:2] == b"\1\r"  # cICP: the corners and the curve of sRGB


def _placed(place: Callable[[bytes], dict[str, Any]], packet: bytes, mark: str | None) -> dict[str, Any]:
    return place(_marked(packet, mark) if mark else packet)


def _marked(packet: bytes, mark: str) -> bytes:
    """XMP with the mark, in UTF-8; raises ValueError for what is none that can be marked."""
    if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
        packet = packet.decode("utf-16").encode()
    packet = EMPTY_RDF.sub(rb"<\1RDF\2></\1RDF>", packet)
    *_, end = [None, *RDF_END.finditer(packet)]
    if end is None:
        raise ValueError("XMP without RDF")
    prefix = end[1].decode()
    about = f"{prefix}about" if prefix else "about"
    description = f'<{prefix}Description {about}="" xmlns:dagn="urn:dagn-pre" dagn:restored="{mark}"/>'
    return packet[: end.start()] + description.encode() + packet[end.start() :]


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both, where lists of chunks, bytes of segments and tags add up."""
    joined = {**first, **second}
    for key in ("chunks", "extra"):
        if key in first and key in second:
            joined[key] = first[key] + second[key]
    if "tags" in joined:
        joined["tags"] = {**first.get("tags", {}), **second.get("tags", {})}
    return joined


def _options(parts: dict[str, Any]) -> dict[str, Any]:
    """The same as Pillow's ``save`` takes it."""
    options = dict(parts)
    if chunks := options.pop("chunks", None):
        options["pnginfo"] = PngInfo()
        for chunk in chunks:
            options["pnginfo"].add(*chunk)
    if tags := options.pop("tags", None):
        exif = _loaded(options.get("exif", b""))
        for tag, value in tags.items():
            exif[tag] = value
        options["exif"] = exif
    return options


def _text_chunk(key: str, value: str, international: bool = False) -> list[tuple[bytes, bytes]]:
    info = PngInfo()
    if international:
        info.add_itxt(key, value)
    else:
        info.add_text(key, value, zip=len(value) > 1024)
    return [chunk[:2] for chunk in info.chunks]


def _text_part(key: str, value: str) -> dict[str, Any]:
    return {"chunks": _text_chunk(key, value)}


def _segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG; raises OverflowError for more than one holds."""
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2, "big") + data


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _loaded(exif: bytes) -> Image.Exif:
    loaded = Image.Exif()
    loaded.load(exif)
    return loaded


def _turned(exif: bytes) -> bytes:
    """EXIF whose orientation, where it has one, is 1, and otherwise the same bytes."""
    data, start = bytearray(exif), 6
    order = "<" if data[start : start + 2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}L", data, start + 4)
        (count,) = struct.unpack_from(f"{order}H", data, start + directory)
        for entry in range(start + directory + 2, start + directory + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", data, entry) == (ORIENTATION,):
                struct.pack_into(f"{order}HHLHH", data, entry, ORIENTATION, 3, 1, 1, 0)
    except struct.error:  # cut short; what no one can read turns nothing
        pass
    return bytes(data)


def _descriptive(exif: Image.Exif, largest: int | None = None, keep_orientation: bool = False) -> bytes | None:
    """EXIF written anew with those tags that may go into another file and can be written; None if there are none.

    ``largest``: of a tag, in bytes.
    """
    kept = Image.Exif()
    wanted = DESCRIPTIVE | ({ORIENTATION} if keep_orientation else set())
    kept.update({tag: exif[tag] for tag in wanted & set(exif) if _fits({tag: exif[tag]}, largest)})
    for directory in (EXIF_IFD, GPS_IFD):
        tags = {tag: value for tag, value in exif.get_ifd(directory).items() if tag != INTEROPERABILITY}
        fitting = {tag: value for tag, value in tags.items() if _fits({directory: {tag: value}}, largest)}
        if fitting:
            kept[directory] = fitting
    return kept.tobytes() if len(kept) else None


def _fits(tags: dict[int, Any], largest: int | None) -> bool:
    """Whether Pillow can write these tags, and in so many bytes."""
    alone = Image.Exif()
    try:
        alone.update(tags)
        size = len(alone.tobytes())
    except Exception:
        return False
    return largest is None or size <= largest
