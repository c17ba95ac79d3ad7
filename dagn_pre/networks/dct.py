"""JPEG's own arithmetic on tensors: YCbCr, chroma at half resolution, the 8x8 DCT, quantisation.

Source: ITU-T T.81 (DCT, A.3.3; quantisation, A.3.4) and T.871 (JFIF's YCbCr). All functions are differentiable but
:func:`dequantised`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8
LEVEL = 128 / 255  # what JPEG subtracts from luma before its DCT


def full_precision(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run in float32 under any autocast: half precision is coarser than a pixel value."""

    @functools.wraps(function)
    def run(x: Tensor) -> Tensor:
        if x.is_meta:  # only shapes count, and autocast does not know the device
            return function(x.float())
        with torch.autocast(x.device.type, enabled=False):
            return function(x.float())

    return run


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # else what is first made while restoring could not be trained with
def _colour(device: torch.device) -> Tensor:
    """(3, 3): rows give Y, Cb, Cr of an RGB triple, centred chroma."""
    rows = [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
    return torch.tensor(rows, device="cpu").to(device)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # else what is first made while restoring could not be trained with
def _inverse_colour(device: torch.device) -> Tensor:
    return torch.linalg.inv(_colour(torch.device("cpu")).double()).float().to(device)


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # else what is first made while restoring could not be trained with
def _basis(device: torch.device) -> Tensor:
    """(8, 8) orthonormal DCT-II: row u is the u-th cosine."""
    eight = torch.arange(8.0, device="cpu")
    u, x = torch.meshgrid(eight, eight, indexing="ij")
    basis = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis.to(device)


@full_precision
def to_ycbcr(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> Y, Cb, Cr, level-shifted as JPEG does before its DCT: each in about [-0.5, 0.5]."""
    ycbcr = torch.einsum("ij,bjhw->bihw", _colour(rgb.device), rgb)
    return torch.cat([ycbcr[:, :1] - LEVEL, ycbcr[:, 1:]], 1)


@full_precision
def to_rgb(ycbcr: Tensor) -> Tensor:
    """Inverse of :func:`to_ycbcr`."""
    ycbcr = torch.cat([ycbcr[:, :1] + LEVEL, ycbcr[:, 1:]], 1)
    return torch.einsum("ij,bjhw->bihw", _inverse_colour(ycbcr.device), ycbcr)


@full_precision
def dct(planes: Tensor) -> Tensor:
    """8x8 DCT of every block: (B, C, H, W) float, H and W multiples of 8 -> the same shape; the coefficient (u, v) of the
    block at (8i, 8j) is at (8i + u, 8j + v). Orthonormal, so a step of a quantisation table is that step / 255 here."""
    return _blockwise(planes, _basis(planes.device))


@full_precision
def idct(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`dct`."""
    return _blockwise(coefficients, _basis(coefficients.device).T)


def _blockwise(planes: Tensor, matrix: Tensor) -> Tensor:
    blocks = planes.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))  # (B, C, i, y, j, x)
    return torch.einsum("uy,bciyjx,vx->bciujv", matrix, blocks, matrix).flatten(4, 5).flatten(2, 3)


def steps(table: Tensor, like: Tensor) -> Tensor:
    """A table of each image, (B, 64), tiled over its planes: (B, 1, H, W), in units of :func:`dct`'s coefficients."""
    tile = table.view(-1, 1, BLOCK, BLOCK) / 255
    return tile.repeat(1, 1, like.shape[-2] // BLOCK, like.shape[-1] // BLOCK)


def dequantised(coefficients: Tensor, table: Tensor) -> Tensor:
    """The coefficients that the file holds: those of decoded pixels, (B, C, H, W), moved to the nearest multiples of the
    steps, (B, 64). Decoding rounds to whole pixel values, which moves luma's coefficients by less than half of a step of 2."""
    step = steps(table, coefficients)
    return torch.round(coefficients / step) * step


def halved(chroma: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 2, W / 2): means of 2x2, as an encoder subsamples chroma for 4:2:0."""
    return F.avg_pool2d(chroma, 2)
