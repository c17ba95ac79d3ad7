"""PSNR, SSIM and PSNR-B as pure functions, in the protocol that reproduces the paper's JPEG columns.

All take (H, W, 3) uint8 RGB arrays of equal shape and return a float; PSNR and PSNR-B are in dB (infinite where both
images are equal and, for PSNR-B, free of blocking).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dagn_pre.errors import ImageError

PEAK = 255.0


def _pair(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if image.shape != reference.shape or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"metrics need two equal (H, W, 3) images, not {image.shape} and {reference.shape}")
    return image.astype(np.float64), reference.astype(np.float64)


def _decibel(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(PEAK**2 / mse)


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """10 log10(255^2 / MSE) over all pixels and channels.

    Raises:
        ImageError: unequal shapes, or not (H, W, 3).
    """
    image, reference = _pair(image, reference)
    return _decibel(float(((image - reference) ** 2).mean()))


def luma(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB -> (H, W) float64 Y in 16..235 (ITU-R BT.601, studio range), as the deblocking literature uses."""
    return image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def blocking_effect(plane: np.ndarray, block: int = 8) -> float:
    """BEF of Yim and Bovik (IEEE TIP 2011, eq. 10-14): how much block borders differ more than other neighbours.

    With D_B and D_B^C the mean squared differences across and not across borders of ``block`` pixels,
    BEF = eta * (D_B - D_B^C) where D_B > D_B^C, else 0; eta = log2(block) / log2(min(H, W)).
    """
    height, width = plane.shape
    if min(height, width) <= block:
        return 0.0
    columns, rows = np.diff(plane, axis=1) ** 2, np.diff(plane, axis=0) ** 2
    column_border = np.arange(1, width) % block == 0
    row_border = np.arange(1, height) % block == 0
    # The published counts assume whole blocks; kept for other sizes too, since the tables were computed that way.
    border_pairs = height * (width / block - 1) + width * (height / block - 1)
    inside_pairs = height * (width - 1) + width * (height - 1) - border_pairs
    border = (columns[:, column_border].sum() + rows[row_border].sum()) / border_pairs
    inside = (columns[:, ~column_border].sum() + rows[~row_border].sum()) / inside_pairs
    eta = math.log2(block) / math.log2(min(height, width))
    return float(eta * max(border - inside, 0.0))


def psnr_b(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR with the blocking-effect factor of ``image``'s Y channel added to the MSE (Yim and Bovik, IEEE TIP 2011).

    Raises:
        ImageError: unequal shapes, or not (H, W, 3).
    """
    first, second = _pair(image, reference)
    return _decibel(float(((first - second) ** 2).mean()) + blocking_effect(luma(image)))


def _window(size: int = 11, sigma: float = 1.5) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    gauss = torch.exp(-(offsets**2) / (2 * sigma**2))
    return gauss / gauss.sum()


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM (Wang et al., IEEE TIP 2004): Gaussian window 11, sigma 1.5, valid region, per RGB channel, averaged; -1..1.

    Raises:
        ImageError: unequal shapes, not (H, W, 3), or smaller than the window.
    """
    image, reference = _pair(image, reference)
    window = _window()
    if min(image.shape[:2]) < len(window):
        raise ImageError(f"SSIM needs at least {len(window)} pixels a side, not {image.shape[1]}x{image.shape[0]}")
    x, y = (torch.from_numpy(array).float().permute(2, 0, 1)[:, None] for array in (image, reference))
    moments = torch.cat([x, y, x * x, y * y, x * y])
    blurred = F.conv2d(F.conv2d(moments, window[None, None, :, None]), window[None, None, None, :])
    mean_x, mean_y, xx, yy, xy = blurred.split(3)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    covariance = xy - mean_x * mean_y
    variances = xx - mean_x**2 + yy - mean_y**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return float(value.mean())
