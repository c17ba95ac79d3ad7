"""What the quality dial turns to: the mean compression-sensitive vector of each QF over the training set."""

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
def mean_vectors(
    encoder: nn.Module,
    photographs: Sequence[np.ndarray],
    qualities: Sequence[int] = range(1, QUALITY_CLASSES + 1),
    seed: int = 0,
    sample: int = 64,
    side: int = 256,
) -> Tensor:
    """The mean over photographs of the spatial mean of E_cs, per QF; goes into ``QualityPredictor.vectors``.

    ``sample`` photographs are drawn by ``seed`` and one crop of each is compressed (4:2:0, grid at the corner) at every QF.
    The QFs thus differ in their compression alone, never in their content, and the table needs no smoothing. QF 100 stands
    for originals, as in P_qf: its crops are left uncompressed.

    Args:
        encoder: E_cs, (B, 3, H, W) in [0, 1] -> (B, features, H / 16, W / 16); it comes back in the mode it was in.
        photographs: (H, W, 3) uint8 RGB, at least 16 pixels a side; crops are of ``side`` pixels or what there is.

    Returns:
        (len(qualities), features) float32, on the CPU.

    Raises:
        UsageError: no photographs, or one that is too small.
    """
    if not photographs or min(min(image.shape[:2]) for image in photographs) < DAGN.stride:
        raise UsageError(f"mean vectors need photographs of at least {DAGN.stride} pixels a side")
    rng = np.random.default_rng(seed)
    device, training = next(encoder.parameters()).device, encoder.training
    chosen = rng.permutation(len(photographs))[:sample]
    total = 0
    encoder.eval()
    try:
        for image in (photographs[index] for index in chosen):
            height, width = (min(extent, side) // DAGN.stride * DAGN.stride for extent in image.shape[:2])
            top, left = (int(rng.integers(0, a - b + 1)) for a, b in zip(image.shape, (height, width)))
            crop = np.ascontiguousarray(image[top : top + height, left : left + width])
            versions = [crop if quality == QUALITY_CLASSES else codec.compress(crop, quality) for quality in qualities]
            batches = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).split(CHUNK)
            means = [encoder(batch.to(device).float() / 255).mean((2, 3)).double().cpu() for batch in batches]
            total = total + torch.cat(means)
    finally:
        encoder.train(training)
    return (total / len(chosen)).float()
