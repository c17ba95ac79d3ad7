"""EXIF, and the tags that it shares with TIFF."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image

from dagn_pre import codec

DESCRIPTION, ORIENTATION, XMP, IPTC, EXIF_IFD, GPS_IFD = 0x010E, 0x0112, 700, 33723, 0x8769, 0x8825  # tags of TIFF and EXIF
SAMPLES, ACROSS, DOWN, UNIT, PHOTOSHOP, PROFILE_TAG = 0x0115, 0x011A, 0x011B, 0x0128, 34377, 34675
# Those that describe the picture, and not how a TIFF's bytes lie: maker, model, software, date, artist, rights, ratings, ...
DESCRIPTIVE = {DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0)}
LARGE = 4096  # bytes of a tag; such ones go where all of EXIF is too long for a JPEG: maker's notes, previews
INTEROPERABILITY = 0xA005  # an offset, which points elsewhere once EXIF is written anew


def loaded(exif: bytes) -> Image.Exif:
    """Parsed; raises what Pillow raises."""
    loaded = Image.Exif()
    loaded.load(exif)
    return loaded


class Text(str):
    """Of an ASCII tag, as Pillow reads it: each character is a byte of the file, often of UTF-8. It is written as those bytes,
    where Pillow would have question marks."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1")

    @classmethod
    def of(cls, value: Any) -> Any:
        """A tag's value, with its text so."""
        if isinstance(value, tuple):
            return tuple(map(cls.of, value))
        return cls(value) if isinstance(value, str) else value


def orientation(exif: bytes) -> int | None:
    """1..8, whatever type it is written as; None where EXIF says nothing that makes sense. Never raises."""
    try:
        with codec.hushed():
            found = loaded(exif).get(ORIENTATION)
    except Exception:  # whatever a parser stumbles over
        return None
    if isinstance(found, (bytes, str)) and len(found) == 1:
        found = int(found) if isinstance(found, str) and found.isdecimal() else found[0]
    return int(found) if found is not None and found in range(1, 9) else None


def turned(exif: bytes) -> bytes:
    """EXIF whose orientation, where :func:`orientation` finds one, is 1, and otherwise the same bytes."""
    if orientation(exif) is None:
        return exif
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


def descriptive(exif: Image.Exif, largest: int | None = None, keep_orientation: bool = False) -> dict[int, Any]:
    """Those tags that may go into another file and can be written, the directories of EXIF and GPS as dictionaries.

    ``largest``: of a tag, in bytes.
    """
    wanted = DESCRIPTIVE | ({ORIENTATION} if keep_orientation else set())
    kept = {tag: Text.of(exif[tag]) for tag in wanted & set(exif) if _fits({tag: exif[tag]}, largest)}
    for directory in (EXIF_IFD, GPS_IFD):
        tags = {tag: value for tag, value in exif.get_ifd(directory).items() if tag != INTEROPERABILITY}
        fitting = {tag: Text.of(value) for tag, value in tags.items() if _fits({directory: {tag: value}}, largest)}
        if fitting:
            kept[directory] = fitting
    return kept


def packed(tags: dict[int, Any]) -> bytes | None:
    """EXIF of these tags; None if there are none."""
    made = Image.Exif()
    made.update(tags)
    return made.tobytes() if tags else None


def _fits(tags: dict[int, Any], largest: int | None) -> bool:
    """Whether Pillow can write these tags, and in so many bytes."""
    alone = Image.Exif()
    try:
        alone.update(tags)
        size = len(alone.tobytes())
    except Exception:
        return False
    return largest is None or size <= largest


def resolution(exif: Image.Exif) -> tuple[float, float] | None:
    """In dots per inch, as EXIF says it."""
    scale = {2: 1, 3: 2.54}.get(exif.get(UNIT, 2))
    try:
        return (float(exif[ACROSS]) * scale, float(exif[DOWN]) * scale) if scale else None
    except (KeyError, TypeError, ValueError):  # there is none, or no number
        return None
