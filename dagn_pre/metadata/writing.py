"""Writing: the ways in which each part of a :class:`dagn_pre.metadata.Metadata` goes into a format."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dagn_pre import codec
from dagn_pre.metadata.exif import (
    ACROSS,
    DESCRIPTION,
    DOWN,
    IPTC,
    LARGE,
    ORIENTATION,
    UNIT,
    XMP,
    Text,
    descriptive,
    loaded,
    packed,
    resolution,
)
from dagn_pre.metadata.marks import PACKET, marked
from dagn_pre.metadata.reading import IPTC_RESOURCE, OTHER_PROFILE, PROFILE

if TYPE_CHECKING:
    from dagn_pre.metadata import Metadata

GAMMA = 0.45455  # the usual one
CORNERS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of sRGB: the white point, and red, green and blue

LESS = {"EXIF": "part of EXIF", "XMP": "XMP"}  # what the second way of writing it loses
# How small the steps of a resolution are, in dots per inch, and how many there may be.
RESOLUTIONS = {"JPEG": (1, 0xFFFF), "PNG": (0.0254, 2**31 - 1), "BMP": (0.0254, 2**31 - 1), "TIFF": (2**-31, 2**62)}

Way = Callable[[], dict[str, Any]]


def ways_of(metadata: Metadata, format: str, mode: str) -> Iterator[tuple[str, list[Way]]]:
    """Each part that there is, with the ways to write it, the best first; none where the format has no place for it."""
    exif, xmp, iptc, comments = metadata.exif, metadata.xmp, metadata.iptc, metadata.comments
    if exif and format == "TIFF":
        yield "EXIF", [functools.partial(_as_tags, exif)]
    elif exif:
        whole, small = lambda: {"exif": exif}, lambda: {"exif": packed(descriptive(loaded(exif), LARGE, keep_orientation=True))}
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
    profile = metadata.icc_profile or b""
    space = b"GRAY" if mode in ("L", "LA") and format != "WEBP" else b"RGB "  # WebP is written in colour
    if profile[36:40] == b"acsp" and profile[16:20] != space:
        yield OTHER_PROFILE, []
    elif profile:
        yield "ICC profile", [lambda: {"icc_profile": profile}] if format != "BMP" else []
    if metadata.dpi:
        holds = _holds(format, metadata.dpi)
        if holds or not (format in ("JPEG", "WEBP") and exif and resolution(loaded(exif))):
            yield "resolution", [lambda: {"dpi": metadata.dpi}] if holds else []
    if metadata.aspect and not metadata.dpi:
        across, down = metadata.aspect
        yield "aspect of pixels", [lambda: {"tags": {ACROSS: across, DOWN: down, UNIT: 1}}] if format == "TIFF" else []
    if comments:
        comment_places: dict[str, Way] = {
            "PNG": lambda: {"chunks": _text_chunk("Comment", "\n".join(map(_decoded, comments)))},
            "JPEG": lambda: {"extra": b"".join(_segment(codec.COM, comment) for comment in comments)},
            "TIFF": lambda: {"tags": {DESCRIPTION: Text("\n".join(map(_decoded, comments)).encode().decode("latin-1"))}},
        }
        described = format == "TIFF" and exif and DESCRIPTION in loaded(exif)
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


def _as_tags(exif: bytes) -> dict[str, Any]:
    """EXIF in a TIFF; raises ValueError where it has no tag that one takes, but some that say something."""
    found = loaded(exif)
    tags = descriptive(found)
    if not tags and (set(found) - {ORIENTATION, ACROSS, DOWN, UNIT} or found.get(ORIENTATION, 1) != 1):
        raise ValueError("EXIF without tags for a TIFF")
    return {"tags": tags}


def _holds(format: str, dpi: tuple[float, float]) -> bool:
    """Whether a format has a place for a resolution, and numbers as large and as small."""
    step, largest = RESOLUTIONS.get(format, (1, 0))
    return all(1 <= round(one / step) <= largest for one in dpi)


def _usual(key: str, data: bytes) -> bool:
    """Whether a PNG's chunk says of the colours what readers take for granted."""
    if key == "gAMA":
        return abs(int.from_bytes(data, "big") / 100_000 - GAMMA) < 1e-4
    if key == "cHRM":
        return bool(np.allclose(struct.unpack(">8L", data), np.array(CORNERS) * 100_000, atol=500))
    return key == "sRGB" or data[:2] == b"\1\r"  # cICP: the corners and the curve of sRGB


def _placed(place: Callable[[bytes], dict[str, Any]], packet: bytes, mark: str | None) -> dict[str, Any]:
    return place(marked(packet, mark) if mark else packet)


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both, where lists of chunks, bytes of segments and tags add up."""
    joined = {**first, **second}
    for key in ("chunks", "extra"):
        if key in first and key in second:
            joined[key] = first[key] + second[key]
    if "tags" in joined:
        joined["tags"] = {**first.get("tags", {}), **second.get("tags", {})}
    return joined


def save_options(parts: dict[str, Any]) -> dict[str, Any]:
    """The same as Pillow's ``save`` takes it."""
    options = dict(parts)
    if chunks := options.pop("chunks", None):
        options["pnginfo"] = PngInfo()
        for chunk in chunks:
            options["pnginfo"].add(*chunk)
    if tags := options.pop("tags", None):
        options["tiffinfo"] = ImageFileDirectory_v2()
        options["tiffinfo"].update(tags)
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
