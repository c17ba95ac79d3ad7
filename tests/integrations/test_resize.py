"""The resize in torch against OpenCV's own."""

from __future__ import annotations

import platform

import cv2
import numpy as np
import pytest
import torch

from dagn_pre.integrations.openmmlab.resize import resize

SIZES = [  # before, after
    ((64, 96), (75, 113)),
    ((64, 96), (32, 48)),  # half of both sides: OpenCV takes means
    ((64, 96), (32, 96)),
    ((64, 96), (64, 48)),
    ((63, 95), (32, 48)),
    ((64, 96), (128, 192)),
    ((64, 96), (11, 17)),
    ((5, 200), (131, 7)),
    ((1, 9), (40, 1)),
    ((480, 640), (800, 1067)),
]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_pixels_are_opencvs(before, after):
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    expected = cv2.resize(image, after[::-1], interpolation=cv2.INTER_LINEAR)
    resized = resize(torch.from_numpy(image).permute(2, 0, 1), *after)
    assert resized.dtype == torch.uint8 and resized.is_contiguous()
    difference = np.abs(resized.permute(1, 2, 0).numpy().astype(int) - expected)
    # OpenCV's builds for other processors have code of their own, which may round otherwise.
    assert difference.max() <= (0 if platform.machine() == "x86_64" else 1) and (difference > 0).mean() < 0.01


def test_an_image_of_that_size_is_not_touched():
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert resize(image, 4, 5) is image
