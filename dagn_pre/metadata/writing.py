"""Writing: the ways in which each part of a :class:`dagn_pre.metadata.Metadata` goes into a format."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.PngImagePlugin import PngInfo

from dagn_pre import codec
from dagn_pre.metadata.exif import ACROSS, DESCRIPTION, DOWN, IPTC, LARGE, UNIT, XMP, descriptive, loaded, resolution
from dagn_pre.metadata.marks import PACKET, marked
from dagn_pre.metadata.reading import IPTC_RESOURCE, OTHER_PROFILE, OTHER_SPACES, PROFILE

if TYPE_CHECKING:
    from dagn_pre.metadata import Metadata

GAMMA = 0.45455  # the usual one
CORNERS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # of sRGB: the white point, and red, green and blue

Way = Callable[[], dict[str, Any]]


def ways_of(metadata: Metadata, format: str, mode: str) -> Iterator[tuple[str, list[Way]]]:
    """Each part that there is, with the ways to write it, the best first; none where the format has no place for it."""
    exif, xmp, iptc, comments = metadata.exif, metadata.xmp, metadata.iptc, metadata.comments
    if exif and format == "TIFF":
        yield "EXIF", [lambda: {"exif": descriptive(loaded(exif))}]
    elif exif:
        whole, small = lambda: {"exif": exif}, lambda: {"exif": descriptive(loaded(exif), LARGE, keep_orientation=True)}
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
    if metadata.dpi and not (format == "WEBP" and exif and resolution(loaded(exif))):
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
        exif = loaded(options.get("exif", b""))
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
