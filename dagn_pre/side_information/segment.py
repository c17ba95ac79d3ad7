"""Side information inside a JPEG file: APP15 segments that other decoders skip. ``docs/side-information.md`` has every byte."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dagn_pre.codec import APP15, FRAMES, Segment, segments
from dagn_pre.errors import ImageError

MARKER = APP15
IDENTIFIER = b"DAGN\0"
VERSION = 1
CHUNK = 65533 - len(IDENTIFIER) - 3  # bytes of the message that one segment holds
MAX_MESSAGE = 255 * CHUNK
FIXED = 12  # bytes of a message beside the coded symbols
OVERHEAD = FIXED + 4 + len(IDENTIFIER) + 3  # bytes in a file beside the coded symbols, in one segment


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


def _segments(jpeg: bytes) -> Iterator[Segment]:
    """:func:`dagn_pre.codec.segments`; raises SegmentError."""
    try:
        yield from segments(jpeg)
    except ImageError as error:
        raise SegmentError(str(error)) from error


def _ours(segment: Segment) -> bool:
    return segment.marker == MARKER and segment.data.startswith(IDENTIFIER)


@dataclass(frozen=True)
class Layout:
    """A JPEG file taken apart as far as side information needs it.

    Attributes:
        width, height: pixels as stored.
        picture: CRC-32 of everything but SOI and the metadata (APPn, COM): tables, frame header, and all from the first scan.
        parts: data of our segments, after the identifier, in the file's order.
        size: of our segments in bytes, markers included.
        insertion: where new ones go: before the first segment that is no metadata.
    """

    width: int
    height: int
    picture: int
    parts: tuple[bytes, ...]
    size: int
    insertion: int

    @classmethod
    def of(cls, jpeg: bytes) -> Layout:
        """Raises SegmentError for what is no JPEG, or has a damaged header."""
        width = height = picture = count = 0
        insertion: int | None = None
        parts: list[bytes] = []
        end = 2
        for segment in _segments(jpeg):
            end = segment.stop
            if _ours(segment):
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
        if _ours(segment):
            kept.append(jpeg[position : segment.start])
            position = segment.stop
    return b"".join([*kept, jpeg[position:]])
