"""The parts that files are made of: chunks of PNG and WebP, boxes of JPEG 2000. Damage is no error: parts are cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator

PNG_HEAD, RIFF_HEAD = 8, 12  # bytes before the first chunk


def of_png(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, all of its bytes) of each chunk, up to the last."""
    for name, whole in _chunks(data, PNG_HEAD, lambda head: (head[4:], 12 + int.from_bytes(head[:4], "big"))):
        yield name, whole
        if name == b"IEND":
            return


def of_webp(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, all of its bytes) of each chunk."""
    data = data[: 8 + int.from_bytes(data[4:8], "little")]
    return _chunks(data, RIFF_HEAD, lambda head: (head[:4], 8 + (int.from_bytes(head[4:], "little") + 1) // 2 * 2))


def _chunks(data: bytes, position: int, head: Callable[[bytes], tuple[bytes, int]]) -> Iterator[tuple[bytes, bytes]]:
    """``head`` tells the name and the length of all of a chunk from its first eight bytes."""
    while position + 8 <= len(data):
        name, length = head(data[position : position + 8])
        yield name, data[position : position + length]
        position += length


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each box; those in another are found in its content."""
    position = 0
    while position + 8 <= len(data):
        length, head = int.from_bytes(data[position : position + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        stop = position + length if length >= head else len(data)
        yield data[position + 4 : position + 8], data[position + head : stop]
        position = stop
