"""The mark of a restored picture in its XMP: a digest of its pixels."""

from __future__ import annotations

import hashlib
import re

import numpy as np
from PIL import Image

MARK = re.compile(
    rb"""<(?:[\w.-]+:)?Description [^<>]*xmlns:dagn=["']urn:dagn-pre["'][^<>]*dagn:restored=["']([0-9a-f]+)["'][^<>]*/>"""
)
RDF_END, EMPTY_RDF = re.compile(rb"</((?:[\w.-]+:)?)RDF\s*>"), re.compile(rb"<((?:[\w.-]+:)?)RDF(\s[^<>]*)?/>")
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
)


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


def marked(packet: bytes, mark: str) -> bytes:
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
