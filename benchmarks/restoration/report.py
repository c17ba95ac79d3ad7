"""results.md, results.csv and the pictures of ``dagn-pre evaluate``, drawn from what results.json holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dagn_pre.benchmarks.markdown import aligned, facts
from dagn_pre.errors import ConfigError
from dagn_pre.files import atomic_path, write_atomic

METRICS = {"psnr": ("PSNR", 2), "ssim": ("SSIM", 3), "psnrb": ("PSNR-B", 2)}  # key -> heading, decimals
CSV_COLUMNS = ("dataset", "image", "qf", "method", "psnr", "ssim", "psnrb", "psnr_gain", "bpp", "blind_qf")
CROP = 96  # pixels a side

# What Tables I and II of the paper print: (data set, QF) -> PSNR, SSIM, PSNR-B of each method.
PUBLISHED_METHODS = ("ARCNN*", "FBCNN*", "DAGN*")
PUBLISHED = {
    ("LIVE1", 10): ((26.43, 0.770, 26.32), (27.77, 0.803, 27.51), (27.95, 0.807, 27.70)),
    ("LIVE1", 20): ((28.86, 0.843, 28.61), (30.11, 0.868, 29.70), (30.27, 0.873, 29.87)),
    ("LIVE1", 30): ((29.96, 0.879, 28.79), (31.43, 0.897, 30.92), (31.60, 0.900, 31.10)),
    ("LIVE1", 40): ((30.78, 0.896, 29.97), (32.34, 0.913, 31.80), (32.50, 0.916, 31.94)),
    ("BSD500", 10): ((26.42, 0.777, 25.74), (27.85, 0.799, 27.52), (28.07, 0.799, 27.74)),
    ("BSD500", 20): ((28.84, 0.856, 26.48), (30.14, 0.867, 29.56), (30.36, 0.868, 29.77)),
    ("BSD500", 30): ((30.12, 0.888, 28.20), (31.45, 0.897, 30.72), (31.68, 0.898, 30.91)),
    ("BSD500", 40): ((30.96, 0.905, 29.35), (32.36, 0.913, 31.52), (32.58, 0.914, 31.69)),
    ("LIU4K", 10): ((30.84, 0.841, 30.54), (32.16, 0.865, 32.05), (32.44, 0.867, 32.32)),
    ("LIU4K", 20): ((33.20, 0.881, 32.97), (34.73, 0.899, 34.54), (34.94, 0.901, 34.69)),
    ("LIU4K", 30): ((34.26, 0.901, 34.07), (36.00, 0.917, 35.75), (36.16, 0.919, 35.85)),
    ("LIU4K", 40): ((34.94, 0.913, 34.76), (36.83, 0.928, 36.51), (36.96, 0.929, 36.56)),
}


def write(folder: str | Path) -> None:
    """Write results.md, results.csv, rate.png and blind.png beside the results.json in ``folder``.

    Raises:
        ConfigError: results.json is missing or not one of ours.
    """
    folder = Path(folder)
    path = folder / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        text, table = markdown(content), csv_text(content)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"cannot read results from {path} ({error}): run dagn-pre evaluate first") from error
    write_atomic(folder / "results.md", text.encode())
    write_atomic(folder / "results.csv", table.encode())
    save(draw_rate(content), folder / "rate.png")
    save(draw_blind(content), folder / "blind.png")


def save(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def names(content: dict, key: str) -> list:
    """The values of ``key`` in the rows, in the order they were measured."""
    return list(dict.fromkeys(row[key] for row in content["rows"]))


def restorers(content: dict) -> list[str]:
    return [method for method in names(content, "method") if method != "jpeg"]


def markdown(content: dict) -> str:
    """The text of results.md."""
    parts = ["# Restoring JPEGs", "\n".join(score_table(content))]
    parts += ["\n".join(f"- {remark}" for remark in remarks(content))]
    parts += ["## Blind quality factor", "\n".join(blind_table(content))]
    return "\n\n".join([*parts, "## Measured with", "\n".join(facts(content))]) + "\n"


def score_table(content: dict) -> Iterator[str]:
    """Laid out like the paper's Tables I and II; what they print is quoted beside where the data set is theirs."""
    methods = ["jpeg", *restorers(content)]
    rows = {(row["dataset"], row["qf"], row["method"]): row for row in content["rows"]}
    keys = list(dict.fromkeys(key[:2] for key in rows))
    published, quoted = (PUBLISHED, PUBLISHED_METHODS) if comparable(content) else ({}, ())
    lines = [["Data", "QF", "Metric", "JPEG", *methods[1:], *quoted]]
    for dataset, qf in sorted(keys, key=lambda key: (names(content, "dataset").index(key[0]), key[1])):
        for index, (metric, (heading, decimals)) in enumerate(METRICS.items()):
            values = [rows[dataset, qf, m][metric] if (dataset, qf, m) in rows else None for m in methods]
            values += [row[index] for row in published.get((dataset, qf), [(None,) * len(METRICS)] * len(quoted))]
            cells = ["-" if value is None else f"{value:.{decimals}f}" for value in values]
            lines.append([*(("", "") if index else (dataset, str(qf))), heading, *cells])
    yield from aligned(lines, numbers_from=3)


def comparable(content: dict) -> bool:
    """Whether the paper prints figures for some of what was measured, on all of its images."""
    return not content["environment"]["limit"] and any((row["dataset"], row["qf"]) in PUBLISHED for row in content["rows"])


def remarks(content: dict) -> Iterator[str]:
    """What a reader must know beside the figures."""
    yield "PSNR and PSNR-B in dB; each is the mean over the images. JPEG 4:2:0; the models see pixels alone."
    environment = content["environment"]
    for name, data in environment["data"].items():
        yield f"{name}: {data['images']} images."
        if data["jpeg_originals"]:
            yield (
                f"{data['jpeg_originals']} of the originals of {name} are JPEG files themselves: JPEG at a QF is a double "
                "compression there, and its scores are not comparable with those on lossless originals."
            )
    if environment["limit"]:
        yield f"Only the first {environment['limit']} images were taken: too few to compare with published scores."
    if comparable(content):
        yield "*: quoted from Tables I and II of Ma et al., TIP 2024, not measured here."


def blind_table(content: dict) -> Iterator[str]:
    """Mean absolute error of the predicted QF: over the sweep where it was measured, else at the table's QFs."""
    lines = [["Data", "Model", "QF", "mean absolute error", "mean prediction", "standard deviation"]]
    for dataset, method, points in blind_points(content):
        for qf, error, average, spread in points:
            lines.append([dataset, method, str(qf), f"{error:.2f}", f"{average:.1f}", f"{spread:.1f}"])
        overall = np.mean([error for _, error, _, _ in points])
        lines.append([dataset, method, "all of these", f"{overall:.2f}", "", ""])
    yield from aligned(lines, numbers_from=3)


def blind_points(content: dict) -> Iterator[tuple[str, str, list[tuple[int, float, float, float]]]]:
    """(data set, model, [(QF, mean absolute error, mean, standard deviation of the predictions), ...])."""
    for dataset in names(content, "dataset"):
        for method in restorers(content):
            mine = {"dataset": dataset, "method": method}
            swept = [row for row in content["blind"] if row["qf"] is not None and mine.items() <= row.items()]
            points = [(row["qf"], row["error"], row["mean"], row["std"]) for row in swept]
            if not points:
                seen = [row for row in content["images"] if mine.items() <= row.items() and row["blind_qf"] is not None]
                for qf in sorted({row["qf"] for row in seen}):
                    values = np.array([row["blind_qf"] for row in seen if row["qf"] == qf], float)
                    points.append((qf, abs(values - qf).mean(), values.mean(), values.std()))
            if points:
                yield dataset, method, points


def csv_text(content: dict) -> str:
    """Per-image values; ``psnr_gain`` is PSNR minus that of the image's JPEG, in dB."""
    before = jpeg_psnr(content)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in content["images"]:
        jpeg = before[row["dataset"], row["qf"], row["image"]]
        writer.writerow({**row, "psnr_gain": round(row["psnr"] - jpeg, 6)})
    return buffer.getvalue()


def jpeg_psnr(content: dict) -> dict[tuple[str, int, str], float]:
    return {(row["dataset"], row["qf"], row["image"]): row["psnr"] for row in content["images"] if row["method"] == "jpeg"}


def draw_rate(content: dict) -> Figure:
    """PSNR gain over JPEG against the JPEG files' mean bits per pixel: a panel per data set, a line per model."""
    found = names(content, "dataset")
    figure, axes = panels(len(found))
    rows = {(row["dataset"], row["qf"], row["method"]): row for row in content["rows"]}
    for axis, dataset in zip(axes, found):
        for method in restorers(content):
            points = []
            for qf in sorted({row["qf"] for row in content["rows"] if (row["dataset"], row["method"]) == (dataset, method)}):
                bits = [i["bpp"] for i in content["images"] if (i["dataset"], i["qf"], i["method"]) == (dataset, qf, "jpeg")]
                gain = rows[dataset, qf, method]["psnr"] - rows[dataset, qf, "jpeg"]["psnr"]
                points.append((np.mean(bits), gain))
                axis.annotate(f"QF {qf}", points[-1], textcoords="offset points", xytext=(4, 4), fontsize=8)
            if points:
                axis.plot(*zip(*points), marker="o", label=method)
        axis.axhline(0, color="0.45", linewidth=1)
        axis.set(title=dataset, xlabel="JPEG, bits per pixel", ylabel="PSNR gain over JPEG, dB")
        axis.legend()
    return figure


def draw_blind(content: dict) -> Figure:
    """Predicted against true QF, mean and standard deviation over images: a panel per data set, a line per model."""
    found = names(content, "dataset")
    figure, axes = panels(len(found))
    for axis, dataset in zip(axes, found):
        axis.plot((0, 100), (0, 100), color="0.45", linewidth=1, linestyle="--")
        for _, method, points in (curve for curve in blind_points(content) if curve[0] == dataset):
            qf, _, average, spread = zip(*points)
            axis.errorbar(qf, average, spread, marker="o", capsize=2, label=method)
        axis.set(title=dataset, xlabel="QF", ylabel="QF predicted from pixels", xlim=(0, 100), ylim=(0, 101))
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    return figure


def panels(count: int) -> tuple[Figure, list]:
    """A figure with ``count`` axes side by side."""
    figure = Figure(figsize=(5.5 * count, 4.2), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def busiest(harm: np.ndarray, side: int = CROP) -> tuple[slice, slice]:
    """The window of ``side`` pixels (less in small images) with the largest sum of ``harm``, (H, W) >= 0."""
    height, width = (min(side, length) for length in harm.shape)
    sums = np.pad(harm, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return slice(top, top + height), slice(left, left + width)


def draw_sheet(rows: list[list[tuple[str, np.ndarray]]]) -> Figure:
    """Crops with their captions, pixels enlarged, not smoothed."""
    figure = Figure(figsize=(2.6 * max(map(len, rows)), 2.9 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axes, row in zip(grid, rows):
        for axis, (caption, crop) in zip(axes, row):
            axis.imshow(crop, interpolation="nearest")
            axis.set_title(caption, fontsize=7)
        for axis in axes:
            axis.axis("off")
    return figure
