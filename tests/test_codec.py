from __future__ import annotations

import io
import os
import threading
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.errors import ImageError, UsageError
from tests.support import odd_files, photograph


@pytest.mark.parametrize("writer", ["pillow", "opencv"])
@pytest.mark.parametrize("channels", ["colour", "gray"])
def test_every_quality_is_read_from_the_header_exactly(writer, channels):
    image = photograph(16, 16)
    image = image if channels == "colour" else image[..., 0]
    for quality in range(1, 101):
        if writer == "pillow":
            data = codec.encode(image, quality)
        else:
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        found = codec.header_quality(Image.open(io.BytesIO(data)))
        # A gray file tells its luminance table alone; QF 1 and 2 still differ there.
        assert (found.value, found.standard, found.source) == (quality, True, "header")


def test_other_tables_give_the_nearest_quality():
    tables = codec.standard_tables()[29].astype(int)
    buffer = io.BytesIO()
    nudged = [(table + (np.arange(64) == 20)).tolist() for table in tables]
    Image.fromarray(photograph()).save(buffer, "JPEG", qtables=nudged)
    found = codec.header_quality(Image.open(buffer))
    assert (found.value, found.standard) == (30, False)


def test_png_has_no_header_quality():
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "PNG")
    image = Image.open(buffer)
    assert codec.header_quality(image) is None
    assert codec.header_subsampling(image) is None


@pytest.mark.parametrize("subsampling", codec.SUBSAMPLINGS)
def test_subsampling_is_written_and_read(subsampling):
    data = codec.encode(photograph(), 50, subsampling)
    assert codec.header_subsampling(Image.open(io.BytesIO(data))) == subsampling


def test_pillow_and_opencv_decode_alike():
    original = photograph(128, 128)
    ours = codec.compress(original, 10)
    data = cv2.imencode(".jpg", original[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    theirs = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(ours.astype(int) - theirs).mean() < 0.1


def test_compress_keeps_shape_and_loses_more_at_lower_quality():
    original = photograph(50, 70)
    errors = [np.abs(codec.compress(original, q).astype(int) - original).mean() for q in (10, 40, 90)]
    assert errors == sorted(errors, reverse=True)
    assert codec.compress(original[..., 0], 50).shape == (50, 70)


@pytest.mark.parametrize("quality", [0, 101, -5, 10.5, "10", True, None])
def test_quality_outside_its_range_is_refused(quality):
    with pytest.raises(UsageError, match="1 to 100"):
        codec.encode(photograph(), quality)


def test_unknown_subsampling_is_refused():
    with pytest.raises(UsageError, match="4:1:0"):
        codec.encode(photograph(), 50, "4:1:0")


@pytest.mark.parametrize("array", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_image_are_refused(array):
    with pytest.raises(ImageError):
        codec.encode(array, 50)


@pytest.mark.parametrize("data", [b"", b"no image", codec.encode(photograph(), 50)[:200]])
def test_damaged_bytes_are_refused(data):
    with pytest.raises(ImageError, match="cannot decode"):
        codec.decode(data)


# -- tables by the component that uses them --------------------------------------------------------------------------------

ONES = [1] * 64


@pytest.mark.parametrize(
    "change",
    [
        {"unused": [(3, ONES)]},
        {"unused": [(2, ONES), (3, ONES)]},
        {"numbers": {0: 1, 1: 0}},
        {"numbers": {0: 3, 1: 2}, "unused": [(0, ONES), (1, ONES)]},
        {"deep": True},
        {"deep": True, "numbers": {0: 2, 1: 0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("quality", [10, 20, 75])
def test_tables_are_those_that_the_components_use(change, quality):
    data = odd_files.jpeg(quality)
    changed = odd_files.with_tables(data, *change.get("unused", ()), **{key: change[key] for key in change if key != "unused"})
    assert changed != data and np.array_equal(codec.decode(changed), codec.decode(data))
    found = codec.header_quality(Image.open(io.BytesIO(changed)))
    assert (found.value, found.standard, found.distance) == (quality, True, 0)
    assert found.tables == codec.header_quality(Image.open(io.BytesIO(data))).tables


def test_a_gray_files_second_table_is_no_matter():
    data = odd_files.with_tables(codec.encode(photograph()[..., 0], 30), (1, ONES))
    found = codec.header_quality(Image.open(io.BytesIO(data)))
    assert (found.value, found.standard) == (30, True)


@pytest.mark.parametrize("quality", range(1, 101, 3))
def test_tables_beyond_a_byte_are_ijgs(quality):
    """What cjpeg writes without -baseline, by libjpeg's own formula."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = [[int(step) for step in table.split()] for table in (codec.LUMINANCE, codec.CHROMINANCE)]
    tables = [[min(max((step * scale + 50) // 100, 1), 32767) for step in table] for table in base]
    found = codec.quality_from_tables(tables)
    assert (found.value, found.standard) == (quality, True)


def test_how_far_tables_are_is_told():
    tables = codec.standard_tables()[29].astype(int)
    assert codec.quality_from_tables(tables.tolist()).distance == 0
    far = codec.quality_from_tables([(tables[0] * 1.1).round().astype(int).tolist(), tables[1].tolist()])
    assert not far.standard and 0.02 < far.distance < 0.1


def test_a_component_without_its_table_has_no_quality():
    image = Image.open(io.BytesIO(odd_files.jpeg()))
    del image.quantization[1]
    assert codec.header_quality(image) is None


@pytest.mark.parametrize(
    "luminance, chroma, name",
    [
        ((1, 1), (1, 1), "4:4:4"),
        ((2, 1), (1, 1), "4:2:2"),
        ((2, 2), (1, 1), "4:2:0"),
        ((4, 1), (1, 1), "4:1:1"),
        ((1, 2), (1, 1), "4:4:0"),
        ((4, 2), (1, 1), "4:1:0"),
        ((2, 2), (1, 2), "4:2:2"),  # the same, written otherwise
        ((2, 2), (2, 1), "4:4:0"),
        ((4, 2), (2, 1), "4:2:0"),
        ((3, 1), (1, 1), None),
        ((3, 2), (2, 2), None),
    ],
)
def test_subsamplings_have_their_names(luminance, chroma, name):
    image = Image.open(io.BytesIO(odd_files.jpeg()))
    image.layer = [(1, *luminance, 0), (2, *chroma, 1), (3, *chroma, 1)]
    assert codec.header_subsampling(image) == name


@pytest.mark.parametrize("factors, name", [("411", "4:1:1"), ("440", "4:4:0"), ("422", "4:2:2"), ("444", "4:4:4")])
def test_subsamplings_of_opencvs_files(factors, name):
    sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factors}")
    data = cv2.imencode(".jpg", photograph(), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1].tobytes()
    assert codec.header_subsampling(Image.open(io.BytesIO(data))) == name


# -- the end marker --------------------------------------------------------------------------------------------------------

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
    "fine": {"quality": 95},
    "small": {"height": 7, "width": 9},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_decoded(kind, missing):
    data = odd_files.jpeg(**KINDS[kind])
    assert np.array_equal(codec.decode(data[:-missing]), codec.decode(data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_more_is_not(kind):
    data = odd_files.jpeg(**KINDS[kind])
    scan = data.index(b"\xff\xda")
    for stop in (scan, scan + 5, (scan + len(data)) // 2, len(data) - 6, len(data) - 4):
        assert codec.completed(data[:stop]) is None
        with pytest.raises(ImageError, match="cannot decode"):
            codec.decode(data[:stop])


def test_a_progressive_jpeg_that_lacks_whole_scans_is_not():
    data = odd_files.jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4")  # which come before the scan that uses them
    for stop in (last, min(last, tables)):
        assert codec.completed(data[:stop]) is None


def separated() -> tuple[bytes, list[int]]:
    """A sequential JPEG with a scan for each component, and where each scan ends."""
    planes = [codec.encode(photograph()[..., channel], 20) for channel in range(3)]
    data, ends = b"\xff\xd8", []
    for segment in codec.segments(planes[0]):
        content = segment.data
        if segment.marker in codec.FRAMES:
            content = content[:5] + b"\3" + b"".join(bytes((number, 0x11, 0)) for number in (1, 2, 3))
        data += bytes((0xFF, segment.marker)) + (len(content) + 2).to_bytes(2, "big") + content
    for number, plane in enumerate(planes, 1):
        start = plane.index(b"\xff\xda")
        data += plane[start : start + 5] + bytes([number]) + plane[start + 6 : -2]
        ends.append(len(data))
    return data + b"\xff\xd9", ends


def test_a_sequential_jpeg_that_lacks_whole_scans_is_not():
    data, ends = separated()
    assert np.array_equal(codec.decode(data[: ends[2]]), codec.decode(data))
    for stop in ends[:2]:
        assert codec.completed(data[:stop]) is None


RESTARTS = {
    "rows": {"restart_marker_rows": 1},
    "blocks": {"restart_marker_blocks": 5},
    "4:4:4": {"restart_marker_rows": 1, "subsampling": 0},
    "progressive": {"restart_marker_rows": 1, "progressive": True},
    "odd sides": {"restart_marker_blocks": 1, "height": 41, "width": 67},
    "progressive, odd sides": {"restart_marker_blocks": 3, "progressive": True, "height": 41, "width": 67},
}


@pytest.mark.parametrize("kind", RESTARTS)
def test_a_jpeg_that_lacks_restart_intervals_is_not(kind):
    data = odd_files.jpeg(**RESTARTS[kind])
    assert codec.completed(data[:-2]) == data and np.array_equal(codec.decode(data[:-2]), codec.decode(data))
    marks = [found.start() for found in codec.RESTARTS.finditer(data, data.rindex(b"\xff\xda"))]
    assert marks
    for stop in (*marks, *(mark + 1 for mark in marks), *(mark + 2 for mark in marks)):
        assert codec.completed(data[:stop]) is None
        assert codec.completed(data[:stop] + bytes(len(data) - stop)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_in_the_place_of_data_are_none(kind):
    data = odd_files.jpeg(**KINDS[kind])
    scan = data.rindex(b"\xff\xda")
    assert codec.completed(data[:-2] + bytes(4096)) == data
    for stop in (scan + 20, (scan + len(data)) // 2, len(data) - 4):
        assert codec.completed(data[:stop] + bytes(100_000)) is None


def test_data_may_end_with_a_zero():
    """Here eight bits are two flat blocks of chroma."""
    found = [codec.encode(np.full((8, 8 * width, 3), 128, np.uint8), 50, "4:4:4") for width in range(1, 16)]
    ending = [data for data in found if data[-3] == 0]
    assert ending and all(codec.completed(data[:-2]) == data for data in ending)


@pytest.mark.parametrize("behind", [b"", bytes(512), b"<html>"])
def test_whether_a_jpeg_has_an_end_marker(behind):
    data = odd_files.jpeg()
    assert not codec.unended(data + behind) and codec.unended(data[:-2] + behind)
    assert not codec.unended(b"\xff\xd8\xff" + behind)  # a header that cannot be read tells nothing


def test_pillow_is_hushed_in_every_thread_and_only_while_one_reads():
    before, inside, outside = list(warnings.filters), threading.Barrier(2), threading.Barrier(2)

    def read() -> None:
        with codec.reading("a"):
            inside.wait(9)
        outside.wait(9)

    other = threading.Thread(target=read)
    other.start()
    with codec.reading("b"):
        inside.wait(9)
        assert len(warnings.filters) == len(before) + 1
    outside.wait(9)
    other.join()
    assert warnings.filters == before


def test_a_process_forked_while_another_thread_reads_is_hushed_no_longer_than_it_reads():
    before, inside, outside = list(warnings.filters), threading.Barrier(2), threading.Barrier(2)

    def read() -> None:
        with codec.reading("a"):
            inside.wait(9)
            outside.wait(9)

    other = threading.Thread(target=read)
    other.start()
    inside.wait(9)
    child = os.fork()
    if child == 0:
        with codec.reading("b"):
            pass
        os._exit(int(warnings.filters != before))
    outside.wait(9)
    other.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_callers_own_filters_stay_after_reading():
    with warnings.catch_warnings():
        with codec.reading("a"):
            warnings.simplefilter("error", UserWarning)
        assert warnings.filters[0][:3] == ("error", None, UserWarning)
        assert not any("dagn-pre" in str(one) for one in warnings.filters)


def test_sides_beyond_libjpegs_are_refused():
    assert len(codec.encode(np.zeros((1, 65500), np.uint8), 50))
    with pytest.raises(ImageError, match="65500 pixels a side, not 65501x1"):
        codec.encode(np.zeros((1, 65501), np.uint8), 50)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG", b"\xff\xd8\xff\xda", bytes(100)])
def test_what_is_no_jpeg_is_not_completed(data):
    assert codec.completed(data) is None
