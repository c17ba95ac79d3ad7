"""What a picture carries beside its pixels: read from any format, and kept in any other as far as that has a place for it.

============  ============================================================================================================
EXIF          byte for byte but for the orientation, so that maker's notes and odd tags stay; TIFF has tags of its own, which
              take those that describe the picture
ICC profile   unless the colours change kind (CMYK)
resolution    in dots per inch; WebP has it in EXIF alone
XMP           in all formats but BMP
comments      of JPEG, GIF, JPEG 2000 and PNG; PNG, JPEG and TIFF (as its description) hold them
IPTC          JPEG, TIFF and PNG (as the profile that ImageMagick and ExifTool know) hold it
text, gamma   of PNG alone
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

from dagn_pre import codec

DESCRIPTION, ORIENTATION, XMP, IPTC, EXIF_IFD, GPS_IFD = 0x010E, 0x0112, 700, 33723, 0x8769, 0x8825  # tags of TIFF and EXIF
# Those that describe the picture, and not how a TIFF's bytes lie: maker, model, software, date, artist, rights, ratings, ...
DESCRIPTIVE = {DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0)}
LARGE = 4096  # bytes of a tag; such ones go where all of EXIF is too long for a JPEG: maker's notes, previews
INTEROPERABILITY = 0xA005  # an offset, which points elsewhere once EXIF is written anew
IPTC_RESOURCE = 0x0404  # where Photoshop, and everyone since, puts IPTC in a JPEG
ORIENTATION_IN_XMP = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)[0-9]""")
MARK = re.compile(rb"""<rdf:Description [^<>]*xmlns:dagn=["']urn:dagn-pre["'][^<>]*dagn:restored=["']([0-9a-f]+)["'][^<>]*/>""")
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
)
PROFILE = "Raw profile type "  # of PNG texts, as ImageMagick writes binary metadata: a name, a length, hexadecimal digits
GAMMA = 0.45455  # the usual one
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
        comments: in the file's order.
        iptc: records of IPTC-IIM.
        text: of a PNG, by keyword.
        gamma: of a PNG, with the chunks that say it: gAMA, cHRM, sRGB.
        mark: the digest of a restored picture, to be written; what is read from a file is no part of this.
        lost: names of what was there, but cannot be read or does not fit the restored picture.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
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
        if image.mode in ("CMYK", "YCbCr") and found.pop("icc_profile", None):
            lost.append("ICC profile of other colours")
        return cls(**found, lost=(*lost, *_unread(image)))

    def upright(self) -> Metadata:
        """That of the same picture once its pixels are turned upright."""
        exif, xmp = self.exif and _turned(self.exif), self.xmp and ORIENTATION_IN_XMP.sub(rb"\g<1>1", self.xmp)
        return replace(self, exif=exif, xmp=xmp)

    def info(self) -> dict[str | tuple[int, int], Any]:
        """Entries of ``PIL.Image.Image.info``, by the names that Pillow gives them; a PNG's text is left out."""
        named = {name: getattr(self, name) for name in ("exif", "xmp", "icc_profile", "dpi", "gamma")}
        named |= {"comment": b"\n".join(self.comments), "photoshop": self.iptc and {IPTC_RESOURCE: self.iptc}}
        return {name: value for name, value in named.items() if value}

    def settings(self, format: str, mode: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """(options for Pillow's ``save`` of a picture of this mode as PNG, JPEG, TIFF, WEBP or BMP, names of what is lost).

        Each part is tried on a picture of one pixel first, since writers refuse some: tags of a wrong type, or too long ones.
        """
        accepted: dict[str, Any] = {}
        lost = list(self.lost)
        for name, ways in _ways(self, format):
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
    across, down = map(float, found) if found else (0, 0)
    return (across, down) if all(0 < value < math.inf for value in (across, down)) else None


def _comments(image: Image.Image) -> tuple[bytes, ...]:
    several = [data for name, data in getattr(image, "applist", ()) if name == "COM"]
    found = several or [image.info.get("comment") or getattr(image, "text", {}).get("Comment")]
    return tuple(one.encode() if isinstance(one, str) else one for one in found if one)


def _iptc(image: Image.Image) -> bytes | None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(IPTC)
        # Often written as 32-bit numbers, of which Pillow gives the first.
        return found if found is None or isinstance(found, bytes) else image.tag_v2._tagdata[IPTC]
    if isinstance(image, JpegImageFile):
        return image.info.get("photoshop", {}).get(IPTC_RESOURCE)
    data = _profile(image, "iptc")
    if data is None:
        return None
    block = re.match(rb"(?:Photoshop 3\.0\0)?8BIM\x04\x04\0\0(....)", data, re.DOTALL)
    return data[block.end() : block.end() + int.from_bytes(block[1], "big")] if block else data


def _text(image: Image.Image) -> dict[str, str]:
    read_elsewhere = {"Comment", "XML:com.adobe.xmp", *(PROFILE + kind for kind in ("exif", "APP1", "xmp", "iptc"))}
    return {key: value for key, value in getattr(image, "text", {}).items() if key not in read_elsewhere}


def _colour_chunks(image: Image.Image) -> dict[str, bytes]:
    gamma, corners, intent = (image.info.get(name) for name in ("gamma", "chromaticity", "srgb"))
    chunks = {"gAMA": struct.pack(">L", round(gamma * 100_000))} if gamma else {}
    if corners:
        chunks["cHRM"] = struct.pack(">8L", *(round(corner * 100_000) for corner in corners))
    if intent is not None:
        chunks["sRGB"] = bytes([intent])
    return chunks


def _profile(image: Image.Image, kind: str) -> bytes | None:
    """What a PNG's text holds in hexadecimal digits."""
    found = getattr(image, "text", {}).get(PROFILE + kind)
    return bytes.fromhex("".join(found.split("\n")[3:])) if found else None


READERS: dict[str, Callable[[Image.Image], Any]] = {
    "exif": _exif,
    "xmp": _xmp,
    "icc_profile": lambda image: image.info.get("icc_profile"),
    "dpi": _dpi,
    "comments": _comments,
    "iptc": _iptc,
    "text": _text,
    "gamma": lambda image: image.info.get("gamma"),
    "chunks": _colour_chunks,
}
NAMES = {"exif": "EXIF", "xmp": "XMP", "icc_profile": "ICC profile", "dpi": "resolution", "comments": "comments"}
NAMES |= {"iptc": "IPTC", "text": "text", "gamma": "gamma", "chunks": "gamma"}


def _unread(image: Image.Image) -> Iterator[str]:
    """Names of a JPEG's parts that no format takes from here."""
    if image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
        yield "further pictures"
    photoshop = image.info.get("photoshop")
    if isinstance(photoshop, dict) and set(photoshop) - {IPTC_RESOURCE}:
        yield "Photoshop's own data"
    for name, data in getattr(image, "applist", ()):
        if name != "COM" and not data.startswith(KNOWN_SEGMENTS):
            yield f"{name} data"


# -- writing --------------------------------------------------------------------------------------------------------------

Way = Callable[[], dict[str, Any]]


def _ways(metadata: Metadata, format: str) -> Iterator[tuple[str, list[Way]]]:
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
        packets = [xmp or PACKET, PACKET]
        packets = [_marked(packet, metadata.mark) for packet in packets] if metadata.mark else packets[:1]
        place = packet_places.get(format)
        yield "XMP", [functools.partial(place, packet) for packet in packets] if place else []
    if metadata.icc_profile:
        yield "ICC profile", [lambda: {"icc_profile": metadata.icc_profile}] if format != "BMP" else []
    if metadata.dpi and not (format == "WEBP" and exif):  # which says it as well
        yield "resolution", [lambda: {"dpi": metadata.dpi}] if format != "WEBP" else []
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
        usual = key != "gAMA" or abs((metadata.gamma or GAMMA) - GAMMA) < 1e-4
        if format == "PNG":
            yield "gamma", [functools.partial(dict, chunks=[(key.encode(), data)])]
        elif not usual:
            yield "gamma", []


def _marked(packet: bytes, mark: str) -> bytes:
    """XMP with the mark; as it is where it is none that can be marked."""
    end = packet.rfind(b"</rdf:RDF>")
    if end < 0:
        return packet
    description = f'<rdf:Description rdf:about="" xmlns:dagn="urn:dagn-pre" dagn:restored="{mark}"/>'
    return packet[:end] + description.encode() + packet[end:]


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
