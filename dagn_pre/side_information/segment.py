"""Side information inside a JPEG file: APP15 segments that other decoders skip. ``docs/side-information.md`` has every byte."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dagn_pre.errors import ImageError

MARKER = 0xEF  # APP15
IDENTIFIER = b"DAGN\0"
VERSION = 1
CHUNK = 65533 - len(IDENTIFIER) - 3  # bytes of the message that one segment holds
MAX_MESSAGE = 255 * CHUNK
FIXED = 12  # bytes of a message beside the coded symbols
OVERHEAD = FIXED + 4 + len(IDENTIFIER) + 3  # bytes in a file beside the coded symbols, in one segment

SOI, EOI, SOS, APP0, COM, TEM = 0xD8, 0xD9, 0xDA, 0xE0, 0xFE, 0x01
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15; the others there are DHT, JPG and DAC


class SegmentError(ImageError):
    """Side information that cannot be used; the message is a reason, to follow a file's name."""


@dataclass(frozen=True)
class Message:
    """What the segments of one file hold together.

    Attributes:
        model: first four bytes of the SHA-256 of the weights that the symbols are of.
        rows, columns: of the grid of symbols.
        coded: the symbols, as :func:`dagn_pre.side_information.coder.encode` gives them.
    """

    model: bytes
    rows: int
    columns: int
    coded: bytes

    def to_bytes(self, picture: int) -> bytes:
        """The message, closed by a CRC-32 over itself and over ``picture``, the CRC-32 of the file's picture."""
        body = self.model + self.rows.to_bytes(2, "big") + self.columns.to_bytes(2, "big") + self.coded
        return body + _checksum(body, picture)

    @classmethod
    def from_bytes(cls, data: bytes, picture: int) -> Message:
        """Inverse of :meth:`to_bytes`.

        Raises:
            SegmentError: too short, or the checksum is another.
        """
        if len(data) < FIXED or data[-4:] != _checksum(data[:-4], picture):
            raise SegmentError("side information that is damaged, or of another picture")
        return cls(data[:4], int.from_bytes(data[4:6], "big"), int.from_bytes(data[6:8], "big"), data[8:-4])


def _checksum(body: bytes, picture: int) -> bytes:
    return zlib.crc32(body, picture).to_bytes(4, "big")


@dataclass(frozen=True)
class _Segment:
    """One marker segment: where it starts (at its 0xFF) and ends, its marker's second byte, and its data after the length."""

    start: int
    stop: int
    marker: int
    data: bytes

    @property
    def ours(self) -> bool:
        return self.marker == MARKER and self.data.startswith(IDENTIFIER)

    @property
    def metadata(self) -> bool:
        """APPn and COM: no part of the picture."""
        return APP0 <= self.marker <= MARKER or self.marker == COM


def _segments(jpeg: bytes) -> Iterator[_Segment]:
    """The marker segments between SOI and the first scan.

    Raises:
        SegmentError: no JPEG, or a length that leads out of the file.
    """
    if jpeg[:2] != bytes((0xFF, SOI)):
        raise SegmentError("is no JPEG")
    position = 2
    while True:
        start = position
        while jpeg[position : position + 1] == b"\xff":  # fill bytes
            position += 1
        if position == start or position + 3 > len(jpeg):
            raise SegmentError("its JPEG header is damaged")
        marker = jpeg[position]
        position += 1
        if marker == SOS:
            return
        if marker in (SOI, EOI, TEM) or 0xD0 <= marker <= 0xD7:
            raise SegmentError("its JPEG header is damaged")
        length = int.from_bytes(jpeg[position : position + 2], "big")
        if length < 2 or position + length > len(jpeg):
            raise SegmentError("its JPEG header is damaged")
        yield _Segment(start, position + length, marker, jpeg[position + 2 : position + length])
        position += length


@dataclass(frozen=True)
class Layout:
    """A JPEG file taken apart as far as side information needs it.

    Attributes:
        width, height: pixels as stored.
        picture: CRC-32 of everything but SOI and the metadata (APPn, COM): tables, frame header, and all from the first scan.
        parts: data of our segments, after the identifier, in the file's order.
        bytes: of our segments, markers included.
        insertion: where new ones go: before the first segment that is no metadata.
    """

    width: int
    height: int
    picture: int
    parts: tuple[bytes, ...]
    bytes: int
    insertion: int

    @classmethod
    def of(cls, jpeg: bytes) -> Layout:
        """Raises SegmentError for what is no JPEG, or has a damaged header."""
        width = height = picture = count = 0
        insertion, parts, end = None, [], 2
        for segment in _segments(jpeg):
            end = segment.stop
            if segment.ours:
                parts.append(segment.data[len(IDENTIFIER) :])
                count += segment.stop - segment.start
            if not segment.metadata:
                insertion = segment.start if insertion is None else insertion
                picture = zlib.crc32(memoryview(jpeg)[segment.start : segment.stop], picture)
            if segment.marker in FRAMES and len(segment.data) >= 5:
                height, width = (int.from_bytes(segment.data[i : i + 2], "big") for i in (1, 3))
        if insertion is None or not width or not height:
            raise SegmentError("its JPEG header is damaged")
        picture = zlib.crc32(memoryview(jpeg)[end:], picture)
        return cls(width, height, picture, tuple(parts), count, insertion)

    @property
    def version(self) -> int | None:
        """Of the side information; None where there is none."""
        return (self.parts[0][:1] or b"\0")[0] if self.parts else None

    def message(self) -> Message | None:
        """What the file holds; None where there is nothing.

        Raises:
            SegmentError: another version, parts that are missing, doubled or out of order, or a checksum that is another.
        """
        if not self.parts:
            return None
        if self.version != VERSION:
            raise SegmentError(f"side information of version {self.version}, and this release knows {VERSION}")
        for index, part in enumerate(self.parts):
            if len(part) < 3 or part[0] != VERSION or part[1] != index or part[2] != len(self.parts):
                raise SegmentError("side information that is incomplete or out of order")
        return Message.from_bytes(b"".join(part[3:] for part in self.parts), self.picture)


def embed(jpeg: bytes, message: Message) -> bytes:
    """The file with this side information, in place of any that it has.

    Raises:
        SegmentError: no JPEG, or more than 255 segments hold.
    """
    jpeg = strip(jpeg)
    layout = Layout.of(jpeg)
    data = message.to_bytes(layout.picture)
    if len(data) > MAX_MESSAGE:
        raise SegmentError(f"side information of {len(data)} bytes, and {MAX_MESSAGE} is the most")
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    segments = b""
    for index, chunk in enumerate(chunks):
        content = IDENTIFIER + bytes((VERSION, index, len(chunks))) + chunk
        segments += bytes((0xFF, MARKER)) + (len(content) + 2).to_bytes(2, "big") + content
    return jpeg[: layout.insertion] + segments + jpeg[layout.insertion :]


def strip(jpeg: bytes) -> bytes:
    """The file without any of our segments, otherwise the same bytes.

    Raises:
        SegmentError: no JPEG, or a damaged header.
    """
    kept, position = [], 0
    for segment in _segments(jpeg):
        if segment.ours:
            kept.append(jpeg[position : segment.start])
            position = segment.stop
    return b"".join([*kept, jpeg[position:]])
