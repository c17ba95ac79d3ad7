"""Compression-sensitive vectors of whole crops at every QF: their means stand in for them where a QF is set by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dagn_pre import codec
from dagn_pre.errors import UsageError
from dagn_pre.networks.autoencoder import QUALITY_CLASSES
from dagn_pre.networks.dagn import DAGN

CHUNK = 25  # compressed versions of one crop that share a batch


@torch.no_grad()
def sensitive_vectors(
    encoder: nn.Module,
    photographs: Sequence[np.ndarray],
    qualities: Sequence[int] = range(1, QUALITY_CLASSES + 1),
    seed: int = 0,
    sample: int = 64,
    side: int = 256,
) -> Tensor:
    """The spatial mean of E_cs for ``sample`` photographs at every QF.

    The photographs are drawn by ``seed``; one crop of each is compressed (4:2:0, grid at the corner) at every QF. QF 100
    stands for originals, as in P_qf: its crops are left uncompressed.

    Args:
        encoder: E_cs, (B, 3, H, W) in [0, 1] -> (B, features, H / 16, W / 16); it comes back in the mode it was in.
        photographs: (H, W, 3) uint8 RGB, at least 16 pixels a side; crops are of ``side`` pixels or what there is.

    Returns:
        (photographs, len(qualities), features) float32, on the CPU.

    Raises:
        UsageError: no photographs, or one that is too small.
    """
    if not photographs or min(min(image.shape[:2]) for image in photographs) < DAGN.stride:
        raise UsageError(f"compression-sensitive vectors need photographs of at least {DAGN.stride} pixels a side")
    rng = np.random.default_rng(seed)
    device, training = next(encoder.parameters()).device, encoder.training
    chosen = rng.permutation(len(photographs))[:sample]
    vectors = []
    encoder.eval()
    try:
        for image in (photographs[index] for index in chosen):
            height, width = (min(extent, side) // DAGN.stride * DAGN.stride for extent in image.shape[:2])
            top, left = (int(rng.integers(0, a - b + 1)) for a, b in zip(image.shape, (height, width)))
            crop = np.ascontiguousarray(image[top : top + height, left : left + width])
            versions = [crop if quality == QUALITY_CLASSES else codec.compress(crop, quality) for quality in qualities]
            batches = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).split(CHUNK)
            vectors.append(torch.cat([encoder(batch.to(device).float() / 255).mean((2, 3)).float().cpu() for batch in batches]))
    finally:
        encoder.train(training)
    return torch.stack(vectors)


def mean_vectors(encoder: nn.Module, photographs: Sequence[np.ndarray], *arguments, **options) -> Tensor:
    """The mean over photographs of :func:`sensitive_vectors`, (len(qualities), features): ``QualityPredictor.vectors``.

    The QFs differ in their compression alone, never in their content, so the table needs no smoothing.
    """
    return sensitive_vectors(encoder, photographs, *arguments, **options).mean(0)
