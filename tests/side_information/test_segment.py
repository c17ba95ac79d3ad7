"""Side information in JPEG files, byte by byte, as docs/side-information.md says."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.side_information import segment
from tests.support import photograph

JPEG = codec.encode(photograph(50, 70), 30, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")


def message(size: int = 40) -> segment.Message:
    return segment.Message(b"\1\2\3\4", 4, 5, np.random.default_rng(0).bytes(size))


@pytest.mark.parametrize("size, parts", [(0, 1), (40, 1), (65513, 1), (65514, 2), (200_000, 4)])
def test_round_trip_and_other_decoders_see_the_same(size, parts):
    carrier = segment.embed(JPEG, message(size))
    layout = segment.Layout.of(carrier)
    assert layout.message() == message(size) and layout.version == 1
    assert len(layout.parts) == parts and layout.size == len(carrier) - len(JPEG) == size + 12 + 12 * parts
    assert (layout.width, layout.height) == (70, 50)
    assert segment.strip(carrier) == JPEG and segment.embed(carrier, message(size)) == carrier
    assert (codec.decode(carrier) == codec.decode(JPEG)).all()
    seen = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (carrier, JPEG)]
    assert (seen[0] == seen[1]).all()
    assert Image.open(io.BytesIO(carrier)).info["exif"] == Image.open(io.BytesIO(JPEG)).info["exif"]


def test_every_byte_is_where_the_specification_says():
    coded = b"coded"
    picture = JPEG[JPEG.index(b"\xff\xdb") :]  # from the first table on: no metadata follows it in this file
    body = b"\1\2\3\4" + b"\0\4" + b"\0\5" + coded
    check = zlib.crc32(body, zlib.crc32(picture)).to_bytes(4, "big")
    expected = b"\xff\xef" + (2 + 5 + 3 + len(body) + 4).to_bytes(2, "big") + b"DAGN\0" + b"\1\0\1" + body + check
    carrier = segment.embed(JPEG, segment.Message(b"\1\2\3\4", 4, 5, coded))
    assert carrier == JPEG.replace(b"\xff\xdb", expected + b"\xff\xdb", 1)


KINDS = [{"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_blocks": 2}, {"comment": b"c"}]


@pytest.mark.parametrize("options", KINDS)
def test_kinds_of_jpeg(options):
    jpeg = codec.encode(photograph(50, 70), 30, **options)
    assert segment.Layout.of(segment.embed(jpeg, message())).message() == message()
    grey = codec.encode(photograph(50, 70)[..., 0], 30)
    assert segment.strip(segment.embed(grey, message())) == grey


def test_it_belongs_to_its_picture():
    """Metadata may change; another picture, or the same one encoded again, may not have it."""
    parts = segment.embed(JPEG, message())
    start, stop = parts.index(b"\xff\xef"), parts.index(b"\xff\xdb")
    other = codec.encode(photograph(50, 70, seed=1), 30)
    moved = other.replace(b"\xff\xdb", parts[start:stop] + b"\xff\xdb", 1)
    with pytest.raises(segment.SegmentError, match="damaged, or of another picture"):
        segment.Layout.of(moved).message()
    noted = parts[:2] + b"\xff\xfe\0\6note" + parts[2:]
    assert segment.Layout.of(noted).message() == message()


def altered(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


def test_what_cannot_be_used_says_why():
    carrier = segment.embed(JPEG, message(70_000))
    first = carrier.index(b"DAGN\0") + 5
    second = carrier.index(b"DAGN\0", first) + 5
    with pytest.raises(segment.SegmentError, match="version 7, and this release knows 1"):
        segment.Layout.of(altered(carrier, first, 7)).message()
    for damaged in (altered(carrier, second + 1, 0), altered(carrier, second + 2, 3), altered(carrier, second, 2)):
        with pytest.raises(segment.SegmentError, match="incomplete or out of order"):
            segment.Layout.of(damaged).message()
    without = segment.embed(JPEG, message(70_000))
    length = int.from_bytes(without[second - 7 : second - 5], "big")
    with pytest.raises(segment.SegmentError, match="incomplete"):
        segment.Layout.of(without[: second - 9] + without[second - 7 + length :]).message()
    with pytest.raises(segment.SegmentError, match="damaged, or of another picture"):
        segment.Layout.of(altered(carrier, first + 30, carrier[first + 30] ^ 1)).message()
    assert segment.Layout.of(JPEG).message() is None and segment.Layout.of(JPEG).version is None


NO_JPEG = [b"", b"\xff\xd8", b"\x89PNG", b"\xff\xd8\xff\xe0\0\1", b"\xff\xd8\xff\xe0\xff\xff..", JPEG[:300]]


@pytest.mark.parametrize("data", NO_JPEG)
def test_what_is_no_jpeg_is_refused(data):
    with pytest.raises(segment.SegmentError, match="is no JPEG|damaged"):
        segment.Layout.of(data)


def test_more_than_255_segments_are_refused():
    with pytest.raises(segment.SegmentError, match="is the most"):
        segment.embed(JPEG, segment.Message(b"abcd", 1, 1, bytes(segment.MAX_MESSAGE)))
