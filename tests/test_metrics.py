from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dagn_pre import codec, metrics
from dagn_pre.errors import ImageError
from tests.support import photograph


@pytest.mark.parametrize("seed", range(3))
def test_psnr_and_ssim_agree_with_scikit_image(seed):
    original = photograph(70, 90, seed)
    compressed = codec.compress(original, 15)
    assert metrics.psnr(compressed, original) == pytest.approx(peak_signal_noise_ratio(original, compressed), abs=1e-9)
    reference, full = structural_similarity(
        original, compressed, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert metrics.ssim(compressed, original) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)
    assert metrics.ssim(compressed, original) == pytest.approx(reference, abs=1e-5)


def test_blocking_effect_is_that_of_a_worked_example():
    plane = np.zeros((16, 16))
    plane[:, 8:] = 10  # one border of 16 columns; all other differences are zero
    border_pairs = 2 * 16 * (16 / 8 - 1)
    expected = math.log2(8) / math.log2(16) * (16 * 100 / border_pairs)
    assert metrics.blocking_effect(plane) == pytest.approx(expected)
    assert metrics.blocking_effect(np.roll(plane, 3, axis=1)) == 0  # steps off the grid are no blocking


def test_psnr_b_is_psnr_without_blocking_and_less_with():
    original = photograph(64, 64)
    noisy = (original.astype(int) + np.random.default_rng(0).integers(-3, 4, original.shape)).clip(0, 255).astype(np.uint8)
    assert metrics.psnr_b(noisy, original) <= metrics.psnr(noisy, original)
    blocky = codec.compress(original, 5)
    assert metrics.psnr_b(blocky, original) < metrics.psnr(blocky, original)


def test_equal_images():
    image = np.full((32, 32, 3), 90, np.uint8)
    assert metrics.psnr(image, image) == metrics.psnr_b(image, image) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.psnr_b])
def test_unequal_shapes_are_refused(metric):
    with pytest.raises(ImageError):
        metric(photograph(32, 32), photograph(32, 40))


def test_ssim_needs_its_window():
    with pytest.raises(ImageError, match="11"):
        metrics.ssim(photograph(8, 40), photograph(8, 40))
