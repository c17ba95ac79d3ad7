"""PSNR, SSIM and PSNR-B of JPEG and restored images over folders of originals: Tables I and II of Ma et al., TIP 2024.

:func:`evaluate` measures cells (a data set, a QF, a method) and keeps each in ``results.json`` as soon as it is complete;
:mod:`dagn_pre.benchmarks.restoration.report` draws everything else from that file, but for the crop sheets, which need the
images. Restoring is blind: the network gets pixels, not headers, and restores whatever it estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dagn_pre import codec, metrics, models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.restoration import datasets, report
from dagn_pre.benchmarks.restoration.datasets import Dataset
from dagn_pre.benchmarks.results import SETTINGS, Results
from dagn_pre.defaults import MODEL
from dagn_pre.errors import UsageError
from dagn_pre.progress import bar
from dagn_pre.restorer import Restorer

METRICS = {"psnr": metrics.psnr, "ssim": metrics.ssim, "psnrb": metrics.psnr_b}
QUALITIES = (10, 20, 30, 40)
SWEEP = range(5, 100, 5)  # of the blind quality
CEILING = 100.0  # dB that stand for two equal images, whose PSNR is infinite
PACKAGES = ("dagn_pre", "torch", "numpy")  # what the numbers depend on, beside Pillow
TABLES = ("rows", "images", "blind")


def evaluate(
    folders: Sequence[str | Path],
    chosen: Sequence[str | Path] = (MODEL,),
    qualities: Sequence[int] = QUALITIES,
    output: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "torch",
    limit: int | None = None,
    crops: int = 3,
    blind_sweep: bool = False,
    overwrite: bool = False,
) -> tuple[dict, list[str]]:
    """Measure every cell that ``output`` does not hold yet, and write the report there.

    Args:
        folders: originals; see :func:`dagn_pre.benchmarks.restoration.datasets.locate` for the releases it knows.
        chosen: models' names or checkpoint files.
        qualities: QFs, 1..100, of JPEG 4:2:0 through Pillow.
        output: folder for results.json, results.csv, results.md and pictures; None writes nothing.
        device, dtype, engine: as of :class:`dagn_pre.restorer.Restorer`.
        limit: the first images of each folder only.
        crops: images on a crop sheet, spread from the worst to the best by the first model's gain at the lowest QF.
        blind_sweep: also the error of the blind QF over QF 5, 10, ..., 95.
        overwrite: throw away results of other settings.

    Returns:
        (content, failures). Content is what results.json holds:
        ``rows``: {"dataset", "qf", "method", "psnr" (dB), "ssim", "psnrb" (dB), "n_images", "blind_qf_error"}, means over
        images; method is "jpeg" or a model's name, the error is the mean absolute one of P_qf's estimate, None for "jpeg";
        ``images``: the same per image, with "image", "bpp" (bits per pixel of the JPEG file) and "blind_qf";
        ``blind``: {"dataset", "method", "qf" (None: all), "error", "mean", "std", "n_images"} of the predicted QF;
        ``environment``. Failures name the files that could not be measured, with the reason.

    Raises:
        UsageError: a value outside its range, an unknown model, a missing or empty folder; results of other settings.
        ImageError: a folder of which no image can be measured.
        WeightsError: weights that are missing or damaged.
    """
    qualities = sorted({codec.check_quality(quality) for quality in qualities})
    if crops < 0:
        raise UsageError(f"crops must be at least 0 images, not {crops}")
    restorers = load(chosen, device, dtype, engine)
    found = datasets.scan_all(folders, limit)
    settings = describe(chosen, restorers)
    settings["limit"] = limit
    settings["data"] = {
        data.name: {"images": len(data.paths), "jpeg_originals": data.jpegs, "sha256": data.digest[:16]} for data in found
    }
    path = None if output is None else Path(output) / "results.json"
    results = Results(path, settings, (*SETTINGS, "dtype", "engine"), ("models", "data"), TABLES, overwrite)
    measure(results, found, qualities, restorers)
    if blind_sweep:
        sweep(results, found, restorers)
    if output is not None:
        report.write(output)
        for data in found if crops else ():
            rows = sheet(results.content["images"], data, qualities[0], restorers, crops)
            report.save(report.draw_sheet(rows), Path(output) / f"crops-{data.name}.png")
    return results.content, [failure for data in found for failure in data.failures]


def load(chosen: Sequence[str | Path], device: str, dtype: str, engine: str = "torch") -> dict[str, Restorer]:
    """A restorer that skips nothing for each model, by the name it has in the results.

    Raises:
        UsageError: unknown models, or two of one name.
        WeightsError: weights that are missing or damaged.
    """
    names = [models.get(model).name for model in chosen]
    for name in names:
        if name == "jpeg" or names.count(name) > 1:
            raise UsageError(f"two restorers are both called {name}: name each model once, or rename one of the files")
    return {name: Restorer(model, device, max_quality=None, dtype=dtype, engine=engine) for name, model in zip(names, chosen)}


def describe(chosen: Sequence[str | Path], restorers: dict[str, Restorer]) -> dict:
    """Where this is measured, and with which weights."""
    first = next(iter(restorers.values()))
    settings = environment.describe(first.device.type, PACKAGES)
    settings |= {"dtype": str(first.dtype).removeprefix("torch."), "engine": first.engine}
    settings["models"] = {name: models.fingerprint(model)[:16] for name, model in zip(restorers, chosen)}
    return settings


def measure(results: Results, found: list[Dataset], qualities: list[int], restorers: dict[str, Restorer]) -> None:
    """Add every cell that ``results`` lacks."""
    cells = [(data, qf, method) for data in found for qf in qualities for method in ("jpeg", *restorers)]
    pending = [(data, qf, method) for data, qf, method in cells if not results.holds(dataset=data.name, qf=qf, method=method)]
    with bar(total=sum(len(data.paths) for data, _, _ in pending), unit="image", disable=not pending) as progress:
        for data, qf, method in pending:
            progress.set_description(f"{data.name} QF {qf} {method}")
            cell = {"dataset": data.name, "qf": qf, "method": method}
            images = []
            for path in data.paths:
                images.append({**cell, "image": data.label(path), **score(path, qf, restorers.get(method))})
                progress.update()
            results.add(rows=[{**cell, **mean(images)}], images=images)


def score(path: Path, qf: int, restorer: Restorer | None) -> dict:
    """One image at one QF: {"psnr", "ssim", "psnrb", "bpp", "blind_qf"}; compressed alone where there is no restorer."""
    original = datasets.read(path)
    data = codec.encode(original, qf)
    image, blind = codec.decode(data), None
    if restorer is not None:
        blind = restorer.estimate_quality(image).value if restorer.model.blind else None
        image = restorer(data)  # the file: some methods ask for its tables, or decode it themselves
    values = {name: round(min(metric(image, original), CEILING), 6) for name, metric in METRICS.items()}
    return {**values, "bpp": round(8 * len(data) / original[..., 0].size, 6), "blind_qf": blind}


def mean(images: list[dict]) -> dict:
    """What a row holds of its images."""
    row = {name: round(float(np.mean([image[name] for image in images])), 6) for name in METRICS}
    errors = [abs(image["blind_qf"] - image["qf"]) for image in images if image["blind_qf"] is not None]
    return {**row, "n_images": len(images), "blind_qf_error": round(float(np.mean(errors)), 3) if errors else None}


def sweep(results: Results, found: list[Dataset], restorers: dict[str, Restorer]) -> None:
    """Add the blind quality of each data set and model over :data:`SWEEP`, unless ``results`` holds it."""
    for data in found:
        for method, restorer in restorers.items():
            if not restorer.model.blind or results.holds("blind", dataset=data.name, method=method, qf=None):
                continue
            predicted = np.empty((len(data.paths), len(SWEEP)))
            for index, path in enumerate(bar(data.paths, desc=f"{data.name} blind quality {method}", unit="image")):
                original = datasets.read(path)
                predicted[index] = [restorer.estimate_quality(codec.compress(original, qf)).value for qf in SWEEP]
            cell = {"dataset": data.name, "method": method}
            columns = [(qf, predicted[:, i], abs(predicted[:, i] - qf)) for i, qf in enumerate(SWEEP)]
            rows = [
                {**cell, "qf": qf, "error": error.mean(), "mean": values.mean(), "std": values.std()}
                for qf, values, error in columns
            ]
            rows.append({**cell, "qf": None, "error": abs(predicted - np.array(SWEEP)).mean(), "mean": None, "std": None})
            results.add(blind=[rounded(row) | {"n_images": len(data.paths)} for row in rows])


def rounded(row: dict) -> dict:
    return {key: round(float(value), 3) if isinstance(value, float) else value for key, value in row.items()}


def sheet(
    images: list[dict], data: Dataset, qf: int, restorers: dict[str, Restorer], count: int
) -> list[list[tuple[str, np.ndarray]]]:
    """Rows of a crop sheet, worst image first: (caption, (h, w, 3) uint8 crop) of original, JPEG and each model.

    The crop of an image is where JPEG did the most harm.
    """
    mine = {"dataset": data.name, "qf": qf}
    psnr = {(image["method"], image["image"]): image["psnr"] for image in images if mine.items() <= image.items()}
    first = next(iter(restorers))

    def gain(path: Path) -> float:
        return psnr[first, data.label(path)] - psnr["jpeg", data.label(path)]

    ranked = sorted(data.paths, key=gain)
    places = np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))
    rows = []
    for path in (ranked[place] for place in places):
        label, original = data.label(path), datasets.read(path)
        jpeg = codec.encode(original, qf)
        compressed = codec.decode(jpeg)
        harm = abs(compressed.astype(float) - original).mean(2)
        cut = report.busiest(harm)
        row = [(f"{label}, gain {gain(path):+.2f} dB", original[cut])]
        row.append((f"JPEG QF {qf}, {psnr['jpeg', label]:.2f} dB", compressed[cut]))
        row += [(f"{name}, {psnr[name, label]:.2f} dB", restorer(jpeg)[cut]) for name, restorer in restorers.items()]
        rows.append(row)
    return rows
