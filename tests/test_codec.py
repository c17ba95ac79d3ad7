from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.errors import ImageError, UsageError
from tests.conftest import photograph


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
