"""The orientation in an XMP packet: as an attribute or an element, in either quotes, in UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import re

ORIENTATION = re.compile(r"""(tiff:Orientation\s*=\s*["']\s*|<tiff:Orientation(?:\s[^<>]*)?>\s*)([1-8])(?=\s*["'<])""")
UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}


def orientation(packet: bytes) -> int | None:
    """1..8; None where the packet says nothing that makes sense."""
    found = ORIENTATION.search(packet.decode(_encoding(packet)))
    return int(found[2]) if found else None


def turned(packet: bytes) -> bytes:
    """The packet with orientation 1 wherever it has one of 1..8, and otherwise the same bytes."""
    text, count = ORIENTATION.subn(r"\g<1>1", packet.decode(_encoding(packet)))
    return text.encode(_encoding(packet)) if count else packet


def _encoding(packet: bytes) -> str:
    """UTF-16, or else Latin-1, in which each byte of UTF-8 stands for itself."""
    encoding = UTF_16.get(packet[:2], "latin-1")
    try:
        packet.decode(encoding)
    except UnicodeDecodeError:  # damaged
        return "latin-1"
    return encoding
