"""PSNR, SSIM and PSNR-B of JPEG and restored images over a folder of originals (Table I of Ma et al., TIP 2024).

    python -m dagn_pre.benchmarks.restoration "$DAGN_PRE_DATA/LIVE1" --model dagn-s --qf 10 20 30 40 --json table.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dagn_pre import codec, metrics
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.files import write_atomic
from dagn_pre.images import find_images
from dagn_pre.restorer import Restorer

METRICS = {"psnr": metrics.psnr, "ssim": metrics.ssim, "psnrb": metrics.psnr_b}


def evaluate(folder: Path, model: str, qualities: list[int], device: str = "auto") -> list[dict]:
    """One row per QF and method ("jpeg" and ``model``), each metric the mean over the images of ``folder``.

    Blind: the restorer gets pixels, not headers, and restores whatever it estimates.

    Returns:
        rows {"dataset", "qf", "method", "psnr", "ssim", "psnrb", "n_images", "blind_qf_error"}; the last is the mean
        absolute error of P_qf's estimate, None for "jpeg".

    Raises:
        UsageError: a folder without images.
    """
    paths = find_images(folder)
    if not paths:
        raise UsageError(f"{folder}: no images in it")
    restorer = Restorer(model, device, max_quality=101)
    rows = []
    with tqdm(total=len(paths) * len(qualities), unit="image") as progress:
        for quality in qualities:
            scores: dict[str, list] = {"jpeg": [], restorer.options.model: []}
            errors = []
            for path in paths:
                original = codec.decode(path.read_bytes())
                compressed = codec.compress(original, quality)
                errors.append(abs(restorer.quality(compressed).value - quality))
                for method, image in zip(scores, (compressed, restorer(compressed))):
                    scores[method].append([metric(image, original) for metric in METRICS.values()])
                progress.update()
            for method, values in scores.items():
                row = {"dataset": folder.name, "qf": quality, "method": method}
                row |= dict(zip(METRICS, np.mean(values, axis=0).round(6).tolist()))
                error = None if method == "jpeg" else round(float(np.mean(errors)), 2)
                rows.append({**row, "n_images": len(paths), "blind_qf_error": error})
    return rows


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    lines = ["| data | QF | method | PSNR (dB) | SSIM | PSNR-B (dB) | images | error of the blind QF |", "|" + "---|" * 8]
    for row in rows:
        error = "" if row["blind_qf_error"] is None else f"{row['blind_qf_error']:.1f}"
        values = f"{row['psnr']:.2f} | {row['ssim']:.3f} | {row['psnrb']:.2f} | {row['n_images']} | {error}"
        lines.append(f"| {row['dataset']} | {row['qf']} | {row['method']} | {values} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dagn_pre.benchmarks.restoration", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="original images")
    parser.add_argument("--model", default="dagn-s")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 20, 30, 40])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    options = parser.parse_args(arguments)
    rows = evaluate(options.folder, options.model, [codec.check_quality(quality) for quality in options.qf], options.device)
    if options.json:
        write_atomic(options.json, json.dumps(rows, indent=1).encode())
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DagnPreError as error:
        print(f"restoration: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
