"""Training pairs: a crop of a photograph and its JPEG, drawn anew from a seed for every index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dagn_pre import codec
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.images import find_images

BLOCK = 8  # JPEG's block; crops of patch + 8 let the grid fall anywhere


def load_photographs(folders: list[Path], patch: int) -> tuple[list[np.ndarray], list[str]]:
    """Read all images below ``folders`` into memory: ((H, W, 3) RGB uint8 arrays, a line for each that was left out).

    Raises:
        UsageError: no image is left.
    """
    photographs, skipped = [], []
    for path in (path for folder in folders for path in find_images(folder)):
        try:
            image = codec.decode(path.read_bytes())
        except ImageError as error:
            skipped.append(f"{path}: {error}")
            continue
        if min(image.shape[:2]) < patch + BLOCK:
            skipped.append(f"{path}: smaller than {patch + BLOCK} pixels")
            continue
        photographs.append(image)
    if not photographs:
        raise UsageError(f"no usable training image in {', '.join(map(str, folders))}")
    return photographs, skipped


def restoration_quality(rng: np.random.Generator) -> int:
    """FBCNN's published mix: uniform 8..96 one time in four, else one of 10, 20, ..., 60."""
    return int(rng.integers(8, 97)) if rng.random() < 0.25 else int(rng.integers(1, 7)) * 10


def uniform_quality(rng: np.random.Generator) -> int:
    """Uniform 3..99, for the quality predictor; QF 100 is the class of originals."""
    return int(rng.integers(3, 100))


class JPEGPairs(Dataset):
    """Index -> (compressed, original, QF): two (3, patch, patch) uint8 RGB tensors and an int.

    The sample depends on the seed and the index alone, so a resumed run continues the same sequence by its index, with any
    number of workers. The crop is compressed at patch + 8 and then cut: at the corner half of the time (the grid of blocks
    aligned with the patch), anywhere else otherwise. Flips and quarter turns come before compression.
    """

    def __init__(
        self,
        photographs: list[np.ndarray],
        patch: int,
        length: int,
        quality: Callable[[np.random.Generator], int] = restoration_quality,
        seed: int = 0,
    ) -> None:
        self.photographs, self.patch, self.length, self.quality, self.seed = photographs, patch, length, quality, seed
        areas = np.array([image.shape[0] * image.shape[1] for image in photographs], dtype=np.float64)
        self.cumulative_area = np.cumsum(areas / areas.sum())

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        rng = np.random.default_rng((self.seed, index))
        chosen = min(int(np.searchsorted(self.cumulative_area, rng.random())), len(self.photographs) - 1)
        image = self.photographs[chosen]
        size = self.patch + BLOCK
        top, left = (int(rng.integers(0, side - size + 1)) for side in image.shape[:2])
        crop = np.rot90(image[top : top + size, left : left + size], int(rng.integers(4)))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        crop = np.ascontiguousarray(crop)
        quality = self.quality(rng)
        compressed = codec.compress(crop, quality)
        y, x = (0, 0) if rng.random() < 0.5 else rng.integers(0, BLOCK, 2)
        window = np.s_[y : y + self.patch, x : x + self.patch]
        pair = (torch.from_numpy(array[window].transpose(2, 0, 1).copy()) for array in (compressed, crop))
        return *pair, quality


def loader(pairs: JPEGPairs, batch: int, first_step: int, steps: int, workers: int) -> DataLoader:
    """Batches of steps ``first_step`` .. ``steps`` - 1; JPEG coding happens in the worker processes."""
    return DataLoader(
        pairs,
        batch_size=batch,
        sampler=range(first_step * batch, steps * batch),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        drop_last=True,
    )
