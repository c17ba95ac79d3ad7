"""Training pairs: a crop of a photograph and its JPEG, drawn anew from a seed for every index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from dagn_pre import codec
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.folders import find_images

BLOCK = 8  # JPEG's block; crops of patch + 8 let the grid fall anywhere
SCALES = 0.5, 1.5  # of pictures that were resized after compression
Quality = Callable[[np.random.Generator], int]
Patch = int | Sequence[tuple[float, int]]


def read_photographs(paths: Iterable[Path], patch: int) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Each path with its (H, W, 3) RGB uint8 array, or with why it was left out: not readable, or too small for a patch."""
    for path in paths:
        try:
            image = codec.decode(path.read_bytes())
        except (ImageError, OSError) as error:
            yield path, str(error)
            continue
        small = min(image.shape[:2]) < patch + BLOCK
        yield path, f"{image.shape[1]}x{image.shape[0]}, smaller than {patch + BLOCK} pixels" if small else image


def load_photographs(folders: Sequence[str | Path], patch: int) -> tuple[list[np.ndarray], list[str]]:
    """Read all images below ``folders`` into memory: ((H, W, 3) RGB uint8 arrays, a line for each that was left out).

    Raises:
        UsageError: a folder that is missing, unreadable or without images, or no image is left.
    """
    photographs, skipped = [], []
    for folder in map(Path, folders):
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}; name folders with --data or set DAGN_PRE_DATA") from error
        paths = find_images(folder)
        if not paths:
            raise UsageError(f"{folder}: no images in it")
        for path, found in read_photographs(paths, patch):
            if isinstance(found, str):
                skipped.append(f"{path}: {found}")
            else:
                photographs.append(found)
    if not photographs:
        reasons = f"; the first of {len(skipped)} left out: {skipped[0]}" if skipped else ""
        raise UsageError(f"no usable image in {', '.join(map(str, folders))}{reasons}")
    return photographs, skipped


def restoration_quality(rng: np.random.Generator) -> int:
    """FBCNN's published mix: uniform 8..96 one time in four, else one of 10, 20, ..., 60."""
    return int(rng.integers(8, 97)) if rng.random() < 0.25 else int(rng.integers(1, 7)) * 10


def uniform_quality(rng: np.random.Generator) -> int:
    """Uniform 3..99, for the quality predictor; QF 100 is the class of originals."""
    return int(rng.integers(3, 100))


def one_of(rng: np.random.Generator, qualities: Sequence[int]) -> int:
    return int(rng.choice(qualities))


def low_more_often(rng: np.random.Generator, low: int, high: int) -> int:
    """``low``..``high``, uniform in the logarithm: from 10 to 20 as often as from 40 to 80, as JPEG's damage goes."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


RECIPES: dict[str, Quality] = {"restoration": restoration_quality, "uniform": uniform_quality}


def quality_recipe(value: str | Sequence[int]) -> Quality:
    """The draw of a pair's QF: a name in RECIPES, "10..90" for :func:`low_more_often`, or a list to choose from evenly.

    Raises:
        UsageError: neither.
    """
    if isinstance(value, str):
        if ends := re.fullmatch(r"(\d+)\.\.(\d+)", value):
            low, high = (codec.check_quality(int(end)) for end in ends.groups())
            if low > high:
                raise UsageError(f"qualities must rise, from the lowest QF to the highest, not {value}")
            return partial(low_more_often, low=low, high=high)
        if value not in RECIPES:
            raise UsageError(f"qualities must be one of {', '.join(RECIPES)}, LOW..HIGH or a list of QFs, not {value!r}")
        return RECIPES[value]
    return partial(one_of, qualities=[codec.check_quality(quality) for quality in value])


def patch_schedule(patch: Patch) -> list[tuple[float, int]]:
    """[(fraction of the run from which on, side in pixels), ...]; one number holds for the whole run.

    Raises:
        UsageError: no start at 0, fractions that do not rise, or a side that is not a multiple of 16.
    """
    schedule = [(0.0, patch)] if isinstance(patch, int) else [(float(start), int(side)) for start, side in patch]
    starts = [start for start, _ in schedule]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)) or any(side < 16 or side % 16 for _, side in schedule):
        raise UsageError(f"patch must be a multiple of 16, or [(0.0, side), (fraction, side), ...], not {patch!r}")
    return schedule


class Pairs(Dataset):
    metainfo: dict = {}  # mmengine's loops ask for it


class JPEGPairs(Pairs):
    """Index -> (compressed, original, QF): two (3, patch, patch) uint8 RGB tensors and an int.

    The sample depends on the seed and the index alone, so a resumed run continues the same sequence by its index, with any
    number of workers. The crop is compressed at patch + 8 and then cut: at the corner half of the time (the grid of blocks
    aligned with the patch), anywhere else otherwise. Flips and quarter turns come before compression.

    Args:
        patch: side in pixels, or a schedule as :func:`patch_schedule` takes it, over the fraction of ``length``.
        length: samples of the whole run.
        group: samples that share a side (those of one step over all processes).
        p_444, p_422: how often chroma is not subsampled, or across alone (else 4:2:0).
        p_second: how often the crop has been a JPEG before, of another QF and with another grid; the QF returned is the last.
        p_resized: how often the compressed crop was resized by 0.5 to 1.5 (bicubic, uniform), the original with it; so often
            as p_second says, it is compressed again after that.
        aligned: cut at the corner always, for networks that work on the file's blocks.
        turns: by quarters; without, crops are only mirrored.
    """

    def __init__(
        self,
        photographs: list[np.ndarray],
        patch: Patch,
        length: int,
        quality: Quality = restoration_quality,
        seed: int = 0,
        group: int = 1,
        p_444: float = 0.0,
        p_second: float = 0.0,
        aligned: bool = False,
        turns: bool = True,
        p_422: float = 0.0,
        p_resized: float = 0.0,
    ) -> None:
        self.aligned, self.turns, self.p_422, self.p_resized = aligned, turns, p_422, p_resized
        self.photographs, self.length, self.quality, self.seed, self.group = photographs, length, quality, seed, group
        self.schedule, self.p_444, self.p_second = patch_schedule(patch), p_444, p_second
        areas = np.array([image.shape[0] * image.shape[1] for image in photographs], dtype=np.float64)
        self.cumulative_area = np.cumsum(areas / areas.sum())

    def __len__(self) -> int:
        return self.length

    def patch(self, index: int) -> int:
        fraction = index // self.group * self.group / self.length
        return [side for start, side in self.schedule if start <= fraction][-1]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        rng = np.random.default_rng((self.seed, index))
        patch = self.patch(index)
        chosen = min(int(np.searchsorted(self.cumulative_area, rng.random())), len(self.photographs) - 1)
        image = self.photographs[chosen]
        size = patch + BLOCK
        scale = self.scale(rng, min(image.shape[:2]) / size)
        source = round(size / scale)
        top, left = (int(rng.integers(0, side - source + 1)) for side in image.shape[:2])
        turn = int(rng.integers(4))  # drawn in any case: what follows is the same
        crop = np.rot90(image[top : top + source, left : left + source], turn if self.turns else 0)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        crop = np.ascontiguousarray(crop)
        quality = self.quality(rng)
        corner = rng.random() < 0.5 or self.aligned
        y, x = (0, 0) if corner else rng.integers(0, BLOCK, 2)
        window = np.s_[y : y + patch, x : x + patch]
        subsampling = self.subsampling(rng)
        second = rng.random() < self.p_second
        if scale != 1:
            compressed, crop = (resized(one, size) for one in (codec.compress(crop, quality, subsampling), crop))
            if second:
                quality = self.quality(rng)
                compressed = codec.compress(compressed, quality, subsampling)
            compressed = compressed[window]
        elif second:  # the first grid starts at (-y, -x), the last at the corner
            before = codec.compress(crop, self.quality(rng), subsampling)
            compressed = codec.compress(np.ascontiguousarray(before[window]), quality, subsampling)
        else:
            compressed = codec.compress(crop, quality, subsampling)[window]
        return channels_first(compressed), channels_first(crop[window]), quality

    def scale(self, rng: np.random.Generator, room: float) -> float:
        """By how much a crop is resized, 1 for not at all; ``room``: how often the crop fits into its photograph's side."""
        if not self.p_resized or rng.random() >= self.p_resized:  # nothing is drawn without it: older runs stay as they were
            return 1.0
        low, high = SCALES
        return float(rng.uniform(max(low, 1 / room), high))

    def subsampling(self, rng: np.random.Generator) -> str:
        drawn = rng.random()
        if drawn < self.p_444:
            return "4:4:4"
        return "4:2:2" if drawn < self.p_444 + self.p_422 else "4:2:0"


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """A square uint8 image at another size."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def channels_first(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) -> (3, H, W), a copy."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


class StepBatches(Sampler):
    """Indices of a process's batches: sample i of process r at a step is ``(step * processes + r) * batch + i``.

    So the samples of a step depend on ``processes * batch`` alone, and a resumed run starts at ``first_step`` at no cost.
    """

    def __init__(self, steps: int, batch: int, rank: int = 0, processes: int = 1) -> None:
        self.steps, self.batch, self.rank, self.processes, self.first_step = steps, batch, rank, processes, 0

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            start = (step * self.processes + self.rank) * self.batch
            yield list(range(start, start + self.batch))

    def __len__(self) -> int:
        return self.steps - self.first_step


def loader(pairs: Dataset, batches: StepBatches, workers: int) -> DataLoader:
    """JPEG coding happens in the ``workers`` processes (0: in this one)."""
    return DataLoader(
        pairs,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else starting it would draw from the run's random numbers, also on resuming
    )


class ValidationPairs(Pairs):
    """Every photograph's top left ``side`` pixels at every QF, 4:2:0: items as those of :class:`JPEGPairs`."""

    def __init__(self, photographs: list[np.ndarray], qualities: Sequence[int], side: int) -> None:
        crops = [np.ascontiguousarray(image[:side, :side]) for image in photographs]
        self.items = [(codec.compress(crop, quality), crop, quality) for crop in crops for quality in qualities]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        compressed, original, quality = self.items[index]
        return channels_first(compressed), channels_first(original), quality
