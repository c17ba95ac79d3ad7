"""Reading: each part of a :class:`dagn_pre.metadata.Metadata` from an image that Pillow has opened."""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from dagn_pre import chunks, codec
from dagn_pre.metadata import exif, xmp
from dagn_pre.metadata.exif import (
    ACROSS,
    DESCRIPTIVE,
    DOWN,
    EXIF_IFD,
    GPS_IFD,
    IPTC,
    ORIENTATION,
    PHOTOSHOP,
    PROFILE_TAG,
    SAMPLES,
    XMP,
    descriptive,
    packed,
    resolution,
)
from dagn_pre.metadata.marks import MARK, PACKET

IPTC_RESOURCE = 0x0404  # where Photoshop, and everyone since, puts IPTC in a JPEG
COMMENTS = ("Comment", "comment")  # keys of PNG texts
PROFILE = "Raw profile type "  # of PNG texts, as ImageMagick writes binary metadata: a name, a length, hexadecimal digits
# What an APPn segment begins with that is read here, or is no metadata.
KNOWN_SEGMENTS = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0") + (
    b"JFIF\0", b"JFXX\0", b"Adobe", b"Ducky", b"DAGN\0")  # fmt: skip


def orientation(image: Image.Image) -> int:
    """1..8, as EXIF, a PNG's profile or XMP say, the first of them that makes sense; 1 is upright. Never raises.

    Decoders of TIFF and HEIC turn the pixels themselves: theirs are upright, but for what :func:`left_turned` found.
    """
    if image.format in ("TIFF", "HEIF"):
        return getattr(image, "left_turned", 1)
    for read, of in ((_exif, exif.orientation), (_xmp, xmp.orientation)):
        with contextlib.suppress(Exception), codec.hushed():  # whatever a parser stumbles over
            if (data := read(image)) and (found := of(data)):
                return found
    return 1


def left_turned(image: Image.Image) -> None:
    """Keep the orientation that a TIFF's XMP says in a form which its decoder passes over: once it is decoded, no one can tell
    whether it has been turned."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:
        with contextlib.suppress(Exception), codec.hushed():
            if ORIENTATION not in image.getexif() and (packet := _xmp(image)) and (found := xmp.orientation(packet)):
                image.left_turned = found  # type: ignore[attr-defined]  # an image of Pillow takes any attribute


def _exif(image: Image.Image) -> bytes | None:
    data = image.info.get("exif") or _profile(image, "exif") or _profile(image, "APP1")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return packed(descriptive(image.getexif()))
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
        found = resolution(image.getexif())
    across, down = map(float, found) if found else (0, 0)
    return (across, down) if all(0 < value < math.inf for value in (across, down)) else None


def _comments(image: Image.Image) -> tuple[bytes, ...]:
    found = [data for name, data in getattr(image, "applist", ()) if name == "COM"]
    text = getattr(image, "text", {})
    found = found or [text[key] for key in COMMENTS if key in text] or [image.info.get("comment")]
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
    read_elsewhere = {*COMMENTS, "XML:com.adobe.xmp", *(PROFILE + kind for kind in ("exif", "APP1", "xmp", "iptc"))}
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
    found = image.info.get(PROFILE + kind)  # ``text`` would decode the pixels first
    return bytes.fromhex("".join(found.split("\n")[3:])) if isinstance(found, str) else None


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
OTHER_PROFILE = "ICC profile of other colours"


def read_more(image: Image.Image, data: bytes) -> None:
    """Add what Pillow leaves unread to an image that was opened from these bytes: to its ``info``, by Pillow's names.

    PNG, JPEG and TIFF keep their bytes as ``encoded``, since what they lack costs time to find.
    """
    image.encoded = data  # type: ignore[attr-defined]  # an image of Pillow takes any attribute
    left_turned(image)
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


def unread(image: Image.Image) -> Iterator[str]:
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
