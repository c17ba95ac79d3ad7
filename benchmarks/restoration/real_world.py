"""Pictures without originals, compressed and resized nobody knows how often (Fig. 12 of Ma et al., TIP 2024)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration import report
from dagn_pre.benchmarks.restoration.evaluation import load
from dagn_pre.defaults import MODEL
from dagn_pre.errors import ImageError, UsageError, printable
from dagn_pre.files import write_atomic
from dagn_pre.folders import search, told_with_examples
from dagn_pre.images import Pixels, header, open_image
from dagn_pre.progress import bar, report_failure

SHEET = 8  # pictures on the crop sheet
FIRST, SCALE, SECOND = (10, 40), (0.6, 0.9), (70, 90)


def multiply_compressed(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """Make a picture as the web passes them on: compress hard, resize, compress again at a quality that sounds good.

    The first JPEG's blocks end up on no grid of eight, and the header tells the second quality alone.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: draws QF 10..40, scale 0.6..0.9 (bicubic), QF 70..90.

    Returns:
        the bytes of a JPEG file, 4:2:0, at least 1 pixel a side.
    """
    damaged = Image.fromarray(codec.compress(image, int(rng.integers(FIRST[0], FIRST[1] + 1))))
    scale = rng.uniform(*SCALE)
    size = [max(1, round(side * scale)) for side in damaged.size]
    resized = np.asarray(damaged.resize(size, Image.Resampling.BICUBIC))
    return codec.encode(resized, int(rng.integers(SECOND[0], SECOND[1] + 1)))


def examine(
    folder: str | Path,
    chosen: Sequence[str | Path] = (MODEL,),
    output: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "torch",
    limit: int | None = None,
) -> tuple[list[dict], list[str]]:
    """Blind and header quality of every picture below ``folder``; with ``output``, real-world.md and a crop sheet.

    The sheet (real-world.png) shows the first pictures before and after, where the first model changes them most.

    Returns:
        (rows, failures): {"image", "width", "height", "header_qf" (None unless it is a JPEG), "method", "blind_qf" (None
        for a model without P_qf), "change" (mean absolute difference between picture and restored, in gray levels)}, and
        the files that could not be read, with the reason.

    Raises:
        UsageError: no such folder, none of its files an image, a value outside its range, an unknown model.
        ImageError: none of the images can be read.
        WeightsError: weights that are missing or damaged.
    """
    folder = Path(folder)
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1 image, not {limit}")
    inside = search(folder)
    paths = inside.paths[:limit]
    if not paths:
        raise UsageError(f"{folder}: {'no images in it' if folder.is_dir() else 'no such folder'}")
    if inside.left_out:
        print(printable(told_with_examples(f"{folder}: left out", inside.left_out)), file=sys.stderr)
    restorers = load(chosen, device, dtype, engine)
    rows: list[dict] = []
    crops: list[list[tuple[str, np.ndarray]]] = []
    failures: list[str] = []
    for path in bar(paths, desc=folder.name, unit="image"):
        try:
            picture, info = Pixels.of(open_image(path), str(path)).rgb, header(path)
            restored = {method: restorer(picture) for method, restorer in restorers.items()}
        except Exception as error:  # whatever a decoder runs into
            failures.append(report_failure(path, error))
            continue
        label = printable(path.relative_to(folder).as_posix())
        told = info.quality.value if info.quality else None
        about = {"image": label, "width": info.width, "height": info.height, "header_qf": told}
        for method, restorer in restorers.items():
            blind = restorer.estimate_quality(picture).value if restorer.model.blind else None
            change = difference(picture, restored[method]).mean()
            rows.append({**about, "method": method, "blind_qf": blind, "change": round(float(change), 3)})
        if output is not None and len(crops) < SHEET:
            cut = report.busiest(difference(picture, next(iter(restored.values()))))
            before = f"{label}, header QF {told}" if told else label
            blinds = [row["blind_qf"] for row in rows[-len(restorers) :]]
            after = [f"{method}, blind QF {blind}" for method, blind in zip(restored, blinds)]
            crops.append([(before, picture[cut]), *((text, image[cut]) for text, image in zip(after, restored.values()))])
    if not rows:
        raise ImageError(f"{folder}: none of its {len(paths)} images can be read")
    if output is not None:
        report.save(report.draw_sheet(crops), Path(output) / "real-world.png")
        write_atomic(Path(output) / "real-world.md", (markdown(rows) + "\n").encode())
    return rows, failures


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean absolute difference over the channels: (H, W) float, in gray levels."""
    return abs(first.astype(float) - second).mean(2)


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    lines = [["Picture", "size", "model", "header QF", "blind QF", "mean change"]]
    for row in rows:
        values = ["-" if row[key] is None else str(row[key]) for key in ("header_qf", "blind_qf")]
        lines.append([row["image"], f"{row['width']}x{row['height']}", row["method"], *values, f"{row['change']:.2f}"])
    return "\n".join(aligned(lines, numbers_from=3))
