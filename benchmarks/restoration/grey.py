"""Restoring grey images as most papers before colour measure it: on Y alone, mean PSNR over the images
(``dagn-pre bench grey``).

Y is MATLAB's (ITU-R BT.601, 16..235), so JPEG's own PSNR is that of the papers: 27.77 dB on LIVE1 at QF 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from dagn_pre import codec
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration import datasets
from dagn_pre.benchmarks.restoration.evaluation import load
from dagn_pre.progress import bar

WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255


def luma(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W) uint8, 16..235."""
    return (16 + rgb @ WEIGHTS).round().astype(np.uint8)


def measure(
    folder: str | Path,
    chosen: Sequence[str | Path],
    qualities: Sequence[int] = (10, 20, 30, 40),
    device: str = "auto",
    dtype: str = "auto",
    limit: int | None = None,
) -> list[dict]:
    """Rows {"method" ("jpeg" or a model's name), "qf", "psnr" (dB, mean over images), "n_images"}.

    Raises:
        UsageError: a QF outside 1..100, an unknown model, a missing or empty folder.
        ImageError: no image can be measured.
        WeightsError: weights that are missing or damaged.
    """
    restorers = load(chosen, device, dtype)
    data = datasets.scan_all([folder], limit)[0]
    values: dict[tuple[str, int], list[float]] = {}
    for path in bar(data.paths, unit="image"):
        original = luma(datasets.read(path))
        for quality in qualities:
            jpeg = codec.encode(original, quality)
            outputs = {"jpeg": codec.decode(jpeg), **{name: restorer(jpeg) for name, restorer in restorers.items()}}
            for name, output in outputs.items():
                psnr = peak_signal_noise_ratio(original, output.mean(2).round().astype(np.uint8))
                values.setdefault((name, quality), []).append(psnr)
    return [
        {"method": name, "qf": quality, "psnr": round(float(np.mean(found)), 4), "n_images": len(found)}
        for (name, quality), found in values.items()
    ]


def markdown(rows: list[dict]) -> str:
    qualities, methods = ([*dict.fromkeys(row[key] for row in rows)] for key in ("qf", "method"))
    psnr = {(row["method"], row["qf"]): f"{row['psnr']:.2f}" for row in rows}
    lines = [["Grey PSNR (dB)", *(f"QF {quality}" for quality in qualities)]]
    lines += [[method, *(psnr[method, quality] for quality in qualities)] for method in methods]
    return "\n".join(aligned(lines, numbers_from=1))
