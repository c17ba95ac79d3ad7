"""Restoring what was not compressed once and as a whole (``dagn-pre bench recompressed``): twice, with two grids of blocks,
with other subsamplings, and made smaller or larger after it.

Mean RGB PSNR over the images, of what a restorer is given ("input") and of what it makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre import codec, metrics
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration import datasets
from dagn_pre.benchmarks.restoration.evaluation import CEILING, load
from dagn_pre.progress import bar

SHIFT = 4  # of the second grid against the first, pixels down and across: as far as it can be
SCALES = (0.5, 0.75, 1.5)


@dataclass(frozen=True)
class Chain:
    """What happens to an original.

    Attributes:
        first: QF of the first compression.
        last: QF of the second one, None for none.
        shifted: the second grid lies :data:`SHIFT` pixels off the first.
        scale: by which the compressed picture is resized (bicubic) between both, or at the end.
        subsampling: of each compression.
    """

    first: int
    last: int | None = None
    shifted: bool = False
    scale: float | None = None
    subsampling: str = "4:2:0"

    def __str__(self) -> str:
        steps = [f"QF {self.first}"]
        steps += [] if self.scale is None else [f"x{self.scale:g}"]
        steps += [] if self.last is None else [f"QF {self.last}" + (", shifted" if self.shifted else "")]
        return " > ".join(steps) + ("" if self.subsampling == "4:2:0" else f", {self.subsampling}")

    def __call__(self, original: np.ndarray) -> tuple[bytes | np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB -> (the file, or pixels that were resized at the end, what it should have been)."""
        file = codec.encode(original, self.first, self.subsampling)
        if self.last is None and self.scale is None:
            return file, original
        pixels = codec.decode(file)
        if self.scale is not None:
            pixels, original = (resized(image, self.scale) for image in (pixels, original))
        if self.last is None:
            return pixels, original
        if self.shifted:
            pixels, original = (np.ascontiguousarray(image[SHIFT:, SHIFT:]) for image in (pixels, original))
        return codec.encode(pixels, self.last, self.subsampling), original


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def chains(qualities: Sequence[int]) -> Iterator[Chain]:
    """Every QF alone; every two in a row, aligned and shifted; the middle QF with other subsamplings and resized."""
    yield from (Chain(quality) for quality in qualities)
    for shifted in (False, True):
        yield from (Chain(first, last, shifted) for first in qualities for last in qualities)
    middle = sorted(qualities)[len(qualities) // 2]
    yield from (Chain(middle, subsampling=subsampling) for subsampling in ("4:2:2", "4:4:4"))
    yield from (Chain(middle, scale=scale) for scale in SCALES)
    yield from (Chain(middle, middle, scale=scale) for scale in SCALES)


def measure(
    folder: str | Path,
    chosen: Sequence[str | Path],
    qualities: Sequence[int] = (10, 30, 50),
    device: str = "auto",
    dtype: str = "auto",
    limit: int | None = None,
) -> list[dict]:
    """Rows {"method" ("input" or a model's name), "chain", "psnr" (dB, mean over images), "n_images"}.

    Files are restored as files; what was resized at the end comes as pixels, which a restorer leaves as they are where it finds
    no trace of JPEG in them.

    Raises:
        UsageError: a QF outside 1..100, an unknown model, a missing or empty folder.
        ImageError: no image can be measured.
        WeightsError: weights that are missing or damaged.
    """
    qualities = [codec.check_quality(quality) for quality in qualities]
    restorers = load(chosen, device, dtype)
    data = datasets.scan_all([folder], limit)[0]
    values: dict[tuple[str, str], list[float]] = {}
    for path in bar(data.paths, unit="image"):
        image = datasets.read(path)
        for chain in chains(qualities):
            given, original = chain(image)
            pixels = codec.decode(given) if isinstance(given, bytes) else given
            outputs = {"input": pixels, **{name: restorer(given) for name, restorer in restorers.items()}}
            for name, output in outputs.items():
                values.setdefault((name, str(chain)), []).append(min(metrics.psnr(output, original), CEILING))
    return [
        {"method": name, "chain": chain, "psnr": round(float(np.mean(found)), 4), "n_images": len(found)}
        for (name, chain), found in values.items()
    ]


def markdown(rows: list[dict]) -> str:
    """A line per chain, a column per method."""
    methods, known = ([*dict.fromkeys(row[key] for row in rows)] for key in ("method", "chain"))
    psnr = {(row["method"], row["chain"]): f"{row['psnr']:.2f}" for row in rows}
    lines = [["PSNR (dB)", *methods], *([chain, *(psnr[method, chain] for method in methods)] for chain in known)]
    return "\n".join(aligned(lines, numbers_from=1))
