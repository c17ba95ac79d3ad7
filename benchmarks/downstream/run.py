"""The benchmark: what JPEG costs a host's model, and what restoring in front of it wins back.

:func:`run` measures cells (a config, an input, a QF) with the host's own evaluation and keeps each in ``results.json``
as soon as it is complete, with what its score is made of in ``cells/``; comparisons, advice and pictures follow from those, and
:mod:`dagn_pre.benchmarks.report` draws everything else. All inputs of one QF see the same JPEG bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from tqdm import tqdm

from dagn_pre import models
from dagn_pre.benchmarks import demo, environment
from dagn_pre.benchmarks.downstream import advice, panels, pictures, report, sampling, scores
from dagn_pre.benchmarks.downstream.hosts import configs, data_checks, processes
from dagn_pre.benchmarks.downstream.hosts.configs import set_data_root
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner, Measured
from dagn_pre.benchmarks.downstream.inputs import Restoring
from dagn_pre.benchmarks.results import SETTINGS, Results
from dagn_pre.codec import check_quality
from dagn_pre.errors import UsageError
from dagn_pre.integrations.openmmlab import checkpoints
from dagn_pre.integrations.openmmlab.insert import insert
from dagn_pre.restorer import check_options
from dagn_pre.side_information import SideInformationEncoder

__all__ = ["DEMO", "INPUTS", "QUALITIES", "run", "set_data_root"]

DEMO = ("demo_faster_rcnn", "demo_faster_rcnn_jpeg", "demo_pspnet", "demo_pspnet_jpeg")
INPUTS = ("original", "jpeg", "dagn-s")
QUALITIES = (10, 20, 30, 40, 75, 90)  # of the paper's Table IV, and two where restoring has little to win: does it harm?
TABLES = ("rows", "comparisons", "equal_size", "halves", "advice", "files", "gallery")
SHOWN = 40  # beside the lowest QF, the one whose images the report shows


@dataclass(frozen=True)
class Subject:
    """A config made ready: what is tested, on what (``subset`` as of ``sampling.subset``; None: all), with which weights."""

    cfg: Config
    checkpoint: Path
    task: str
    metric: str
    model: str
    dataset: str
    settings: dict
    subset: dict[int, str] | None

    @property
    def title(self) -> str:
        return f"{self.model}, {self.dataset}"


def run(
    configs: Sequence[str],
    work_dir: str | Path,
    checkpoint: str | None = None,
    data_root: str | Path | None = None,
    qualities: Sequence[int] = QUALITIES,
    inputs: Sequence[str] = INPUTS,
    limit: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    resamples: int = scores.RESAMPLES,
    cache_dir: str | Path | None = "cache",
    device: str = "auto",
    dtype: str = "auto",
    max_quality: int = 90,
    overwrite: bool = False,
    launcher: str = "none",
) -> dict:
    """Measure every cell that ``work_dir`` does not hold yet; write results.json and the report there.

    Args:
        configs: see ``configs.load``; or "demo" for the project's own data and models.
        checkpoint: weights (file or URL) instead of the config's ``checkpoint``; for one config.
        data_root: instead of the config's ``data_root``.
        qualities: QFs, 1..100.
        inputs: "original", "jpeg" (compressed), and restorers' names or checkpoint files (compressed, then restored); with
            "+side" behind them, the JPEGs carry side information, for which weights have to be shipped; with "@0.5" behind
            that, they correct by half.
        limit: the first images only, in the data and in the ground truth.
        subset, seed: so many images, chosen by their classes (:mod:`dagn_pre.benchmarks.sampling`), instead of all; seed >= 0.
        resamples: bootstrap samples that intervals are read from, at least 100. Those of cells that were there are renewed.
        cache_dir: keeps compressed and restored images (relative to ``work_dir``); None keeps none, as one does for timing.
        device: "cpu", "cuda" or "auto", for the host's model and the restorer.
        dtype, max_quality: of :class:`dagn_pre.Restorer`. 101 restores at every QF, to see where it begins to harm.
        overwrite: throw away results of other settings.
        launcher: "none", or who started several processes that share each cell: "pytorch" (torchrun) or "slurm". All of
            them return the same, the first one writes.

    Returns:
        What results.json holds, ``TABLES`` and "environment"; keys: docs/benchmark.md.

    Raises:
        UsageError: a value outside its range; or the folder holds results of other settings.
        ConfigError: data, checkpoint, test pipeline or evaluator of a config are missing.
        WeightsError: a checkpoint or restorer cannot be loaded safely, or does not fit.
        DagnPreError: the host failed on the way.
    """
    processes.join_processes(launcher)
    work_dir = Path(work_dir)
    qualities = sorted({check_quality(quality) for quality in qualities})
    restorers = check_inputs(inputs)
    device = check_device(device)
    restoring = {"dtype": dtype, "max_quality": max_quality}
    check_options(**restoring)
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1 image, not {limit}")
    if subset is not None and subset < 1:
        raise UsageError(f"subset must be at least 1 image, not {subset}")
    if subset is not None and limit is not None:
        raise UsageError("limit and subset both choose images: give one of them")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, not {seed}")
    if resamples < 100:
        raise UsageError(f"resamples must be at least 100, for the ends of an interval, not {resamples}")
    if checkpoint is not None and (len(configs) > 1 or "demo" in configs):
        raise UsageError("--checkpoint is for one config: run them one by one")
    subjects = [prepare(*one, checkpoint, subset, seed) for one in expand(configs, data_root, work_dir)]
    titles = [subject.title for subject in subjects]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"two of the configs are both called {title}: name them apart in their `benchmark`")

    surroundings = environment.describe(device)
    if all(subject.subset is None for subject in subjects):
        subset = None  # all images are tested
    surroundings |= {"limit": limit, "subset": subset, "seed": None if subset is None else seed, "resamples": resamples}
    surroundings |= restoring
    surroundings["models"] = dict(zip(titles, (subject.settings for subject in subjects), strict=True))
    surroundings["restorers"] = {label: fingerprint(restorer) for label, restorer in restorers.items()}
    settings = (*SETTINGS, "subset", "seed", "dtype", "max_quality")
    results = Results(
        work_dir / "results.json", surroundings, settings, ("models", "restorers"), tables=TABLES, overwrite=overwrite
    )
    same_files: dict[str, str] = {}
    for title, known in surroundings["models"].items():
        if same_files.setdefault(known["config"], title) != title:
            raise UsageError(
                f"{same_files[known['config']]} and {title} are both of a config file called {known['config']}, which names "
                "their files: rename one of them, or choose another folder"
            )
    weights: dict[str, str] = {}
    for label, known in surroundings["restorers"].items():
        name, own = Restoring.parse(label).model, known.partition("+")[0]
        if weights.setdefault(name, own) != own:
            raise UsageError(f"{label} is of other weights than {name} in this folder: choose another, or add --overwrite")
    if not processes.is_main_process():
        results.path = None  # has been read; the first process writes
    cells = list(plan(inputs, restorers, qualities))
    for subject in subjects:
        pending = processes.of_main([cell for cell in cells if not complete(subject, cell, results, work_dir)])
        host = None
        if pending:
            host = host_of(subject, limit, device, work_dir, cache_dir, restoring)
            measure(subject, host, pending, restorers, results, work_dir, resamples)
        wanted = []
        if processes.is_main_process():
            add_files(restorers, results, work_dir)
            add_advice(subject, results, add_comparisons(subject, results, work_dir, resamples), work_dir, resamples)
            shown = sorted({min(qualities), SHOWN} & set(qualities))
            pairs = [(label, quality) for quality in shown for label in restorers]
            wanted = [one for pair in pairs for one in to_show(subject, *pair, results, work_dir)]
        if processes.of_main(bool(wanted)) and host is None:
            host = host_of(subject, limit, device, work_dir, cache_dir, restoring)
        if wanted:
            found = [picture(subject, host, work_dir, restorers, one) for one in wanted]
            results.add(gallery=found)
    results.content = processes.of_main(results.content)
    if processes.is_main_process():
        report.write(work_dir)
    return results.content


def complete(subject: Subject, cell: tuple, results: Results, work_dir: Path) -> bool:
    """Whether a cell is there: its row, and the file that comparisons are made of."""
    return results.holds(**key(subject, *cell)) and cell_path(subject, *cell, work_dir).is_file()


def host_of(
    subject: Subject, limit: int | None, device: str, work_dir: Path, cache_dir, restoring: dict | None = None
) -> HostRunner:
    """The model's runner on the images that :func:`run` was asked for."""
    images = limit if subject.subset is None else list(subject.subset)
    cache = None if cache_dir is None else work_dir / cache_dir
    return HostRunner(configs.for_testing(subject.cfg, images), subject.checkpoint, device, work_dir, cache, restoring)


def measure(
    subject: Subject, host: HostRunner, pending: list, restorers: dict, results: Results, work_dir: Path, resamples: int
) -> None:
    """Measure cells and keep each as soon as it is complete."""
    total = len(pending) * host.n_images
    with tqdm(total=total, desc=subject.model, unit="img", dynamic_ncols=True, disable=not processes.is_main_process()) as bar:
        for label, quality in pending:
            bar.set_postfix_str(cell_name(label, quality))
            measured = host.measure(file_name(subject, label, quality), quality, restorers.get(label), bar.update)
            if processes.is_main_process():
                samples = scores.resampled(measured.scores, resamples)
                scores.write(cell_path(subject, label, quality, work_dir), measured.scores, samples)
                found = row(subject, label, quality, measured, samples)
                results.replace("rows", [found], **key(subject, label, quality))  # of a cell whose file was lost, anew


def add_comparisons(subject: Subject, results: Results, work_dir: Path, resamples: int) -> dict:
    """Compare each restorer with JPEG at each QF that both are measured at; replaces what was there of the subject.

    Cells that were measured with another number of ``resamples`` are resampled anew.

    Returns:
        (scores, samples) by input and QF.
    """
    cells = {}
    for row in results.content["rows"]:
        if results.same(row, **identity(subject)):
            path = cell_path(subject, row["input"], row["qf"], work_dir)
            found, samples = scores.read(path)
            if len(samples) not in (0, resamples):
                samples = scores.resampled(found, resamples)
                scores.write(path, found, samples)
            row |= bounds(samples)
            cells[row["input"], row["qf"]] = found, samples
    found = [
        {
            **key(subject, label, quality),
            "against": "jpeg",
            **scores.comparison(cells["jpeg", quality], cell, cells.get(("original", None))),
        }
        for (label, quality), cell in cells.items()
        if label not in ("original", "jpeg") and ("jpeg", quality) in cells
    ]
    results.replace("comparisons", found, **identity(subject))
    results.replace("equal_size", list(equal_size(subject, results, cells)), **identity(subject))
    return cells


def add_files(restorers: dict[str, Restoring], results: Results, work_dir: Path) -> None:
    """Where the weights of inputs that are files lie, for who follows the advice; seen from ``work_dir``."""
    for restorer in restorers.values():
        if Path(restorer.model).suffix in models.FOREIGN:
            name = Path(restorer.model).stem
            results.replace("files", [{"input": name, "file": os.path.relpath(restorer.model, work_dir)}], input=name)


def add_advice(subject: Subject, results: Results, cells: dict, work_dir: Path, resamples: int) -> None:
    """What to put in front of the model, and the figures on each half of the images that say so; replaces what was there of the
    subject. ``cells`` are those of :func:`add_comparisons`."""

    def halves(cell: tuple[str, int]) -> tuple:
        (known, samples), path = cells[cell], cell_path(subject, *cell, work_dir)
        kept = scores.read_halves(path)
        first, second = advice.on_halves(known, resamples, kept)
        if kept is None and len(first.samples) == len(second.samples):
            scores.write(path, known, samples, np.stack([first.samples, second.samples]))
        return first, second

    found = advice.gains(cells, halves)
    results.replace("halves", [identity(subject) | row for row in advice.rows(found)], **identity(subject))
    rows = []
    if found:
        images = next(known.images for known, _ in cells.values())
        row = advice.decide(found, tuple(len(half) for half in advice.split(images))).row()
        chosen = list(zip(row["inputs"], row["qualities"]))
        panel = next(one for one in panels.sort(results.content) if results.same(vars(one), **identity(subject)))
        costs = panel.cost(chosen), panels.mean(panel.cells[cell]["model_ms_per_image"] for cell in chosen)
        row |= dict(zip(("restore_ms_per_image", "model_ms_per_image"), map(scores.rounded, costs)))
        rows = [identity(subject) | row]
    results.replace("advice", rows, **identity(subject))


def equal_size(subject: Subject, results: Results, cells: dict) -> Iterator[dict]:
    """What side information is worth: each cell with it against JPEG, and against the restorer without it, of as many bytes.

    Cells without bytes are of an older version, and left out; so are those beyond the largest file of the other input.
    """
    curves: dict[str, dict[int, tuple]] = {}  # by input and QF: bytes, score, its samples
    for row in results.content["rows"]:
        if results.same(row, **identity(subject)) and row.get("bytes_per_image") is not None:
            found, samples = cells[row["input"], row["qf"]]
            curves.setdefault(row["input"], {})[row["qf"]] = row["bytes_per_image"], found.value(), samples
    for label in (label for label in curves if Restoring.parse(label).side_information):
        for quality, (size, value, samples) in curves[label].items():
            for against in ("jpeg", str(replace(Restoring.parse(label), side_information=False))):
                if (there := scores.at_size(curves.get(against, {}).values(), size)) is not None:
                    low, high = scores.interval(samples - there[1])
                    yield {
                        **key(subject, label, quality),
                        "against": against,
                        "bytes": size,
                        "value": scores.rounded(value),
                        "against_value": scores.rounded(there[0]),
                        "difference": scores.rounded(value - there[0]),
                        "low": scores.rounded(low),
                        "high": scores.rounded(high),
                    }


def to_show(subject: Subject, label: str, quality: int, results: Results, work_dir: Path) -> Iterator[tuple]:
    """(label, quality, "gain" or "harm", image, its own scores) of images that belong in the gallery and are not there."""
    inputs = ("original", None), ("jpeg", quality), (label, quality)
    if results.holds("gallery", **key(subject, label, quality)) or not all(
        results.holds(**key(subject, *one)) for one in inputs
    ):
        return
    original, jpeg, restored = (scores.read(cell_path(subject, *one, work_dir))[0] for one in inputs)
    views = {"original": original.per_image(), "jpeg": jpeg.per_image(), "restored": restored.per_image()}
    for kind, index in scores.chosen(views["jpeg"], views["restored"]):
        yield label, quality, kind, index, {view: scores.rounded(values[index]) for view, values in views.items()}


def picture(subject: Subject, host: HostRunner, work_dir: Path, restorers: dict, wanted: tuple) -> dict:
    """The entry of the gallery for one of :func:`to_show`, its files written."""
    label, quality, kind, index, own = wanted
    shown = pictures.show(host, work_dir, index, quality, label, restorers[label])
    return {**key(subject, label, quality), "kind": kind, "scores": own, **shown}


def cell_name(label: str, quality: int | None) -> str:
    return label if quality is None else f"{label}-qf{quality}"


def file_name(subject: Subject, label: str, quality: int | None) -> str:
    """The name of a cell's files."""
    return f"{configs.name(subject.cfg)}-{cell_name(label, quality)}"


def cell_path(subject: Subject, label: str, quality: int | None, work_dir: Path) -> Path:
    return work_dir / "cells" / f"{file_name(subject, label, quality)}.npz"


def expand(configs: Sequence[str], data_root: str | Path | None, work_dir: Path) -> Iterator[tuple]:
    """Each config with its data root; "demo" becomes its own, and its data are rendered."""
    for source in configs:
        if source != "demo":
            yield source, data_root
            continue
        root = Path(data_root or work_dir / "data")
        with processes.main_first():
            demo.prepare(root)
        yield from ((config, root) for config in DEMO)


def prepare(
    source: str, root: str | Path | None, checkpoint: str | None, subset: int | None = None, seed: int = 0
) -> Subject:
    """Read a config, move it to its data, and find all that its test needs before anything is built."""
    cfg = configs.load(source)
    task, metric = configs.task(cfg)
    if root is not None:
        set_data_root(cfg, os.path.abspath(root))
    insert(cfg, compress=50, restore=False, splits=("test",))  # says now if the pipeline is one that it cannot change
    annotations = configs.check_data(cfg)
    for remark in data_checks.check(cfg):
        if processes.is_main_process() and source not in DEMO:  # its two splits lie in one folder
            print(f"note: {remark}", file=sys.stderr)
    path = configs.checkpoint(cfg, checkpoint)
    chosen = None if subset is None else sampling.subset(cfg, subset, seed)
    if subset is not None and chosen is None and processes.is_main_process():
        said = f"config {configs.name(cfg)} tests no more than {subset} images: the subset is all of them"
        print(f"note: {said}", file=sys.stderr)
    names = cfg.get("benchmark") or {}
    return Subject(
        cfg,
        path,
        task,
        metric,
        names.get("model", configs.name(cfg)),
        names.get("dataset", configs.kind(next(configs.datasets(cfg.test_dataloader.dataset)))),
        {
            **({"variant_of": names["variant_of"]} if "variant_of" in names else {}),
            "config": configs.name(cfg),
            "config_sha256": configs.digest(cfg),
            "checkpoint": path.name,
            "checkpoint_sha256": checkpoints.digest(path),
            "annotations_sha256": [checkpoints.digest(file) for file in annotations],
            **({} if chosen is None else {"images": list(chosen.values())}),
        },
        chosen,
    )


def check_inputs(inputs: Sequence[str]) -> dict[str, Restoring]:
    """The restorers among the inputs, by their names in the results."""
    restorers: dict[str, Restoring] = {}
    files: dict[str, str] = {}
    for given in inputs:
        if given in ("original", "jpeg"):
            continue
        restorer = Restoring.parse(given)
        name = restorer.model
        if Path(name).suffix in models.FOREIGN:
            name = Path(name).stem
            if name in ("original", "jpeg") or Restoring.parse(name).model != name:
                raise UsageError(
                    f"{restorer.model} would be called {name} in the results, which is another input: rename the file"
                )
        elif name not in models.names():
            known = ", ".join(("original", "jpeg", *models.names()))
            raise UsageError(f"unknown input {given}: give one of {known}, or a checkpoint file")
        if files.setdefault(name, restorer.model) != restorer.model:
            raise UsageError(f"two inputs are both called {name}: rename one of the files")
        if restorer.side_information:
            SideInformationEncoder(restorer.model)  # says now if there is none for it
        restorers[str(replace(restorer, model=name))] = restorer
    return restorers


def fingerprint(restorer: Restoring) -> str:
    """What tells weights from others: the restorer's, and side information's."""
    found = models.fingerprint(restorer.model)[:16]
    return f"{found}+{SideInformationEncoder(restorer.model).adapter.identity.hex()}" if restorer.side_information else found


def check_device(device: str) -> str:
    """``device`` with "auto" decided."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, not {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device: use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def plan(inputs: Sequence[str], restorers: Iterable[str], qualities: list[int]) -> Iterator[tuple[str, int | None]]:
    """Cells in the order of the table: input and QF, the original once and without."""
    if "original" in inputs:
        yield "original", None
    for label in (*(["jpeg"] if "jpeg" in inputs else []), *restorers):
        yield from ((label, quality) for quality in qualities)


def identity(subject: Subject) -> dict:
    """What all rows of a subject share."""
    return {"task": subject.task, "model": subject.model, "dataset": subject.dataset}


def key(subject: Subject, label: str, quality: int | None) -> dict:
    """What tells a row of results.json from the others."""
    return {**identity(subject), "input": label, "qf": quality}


def row(subject: Subject, label: str, quality: int | None, measured: Measured, samples: np.ndarray) -> dict:
    """A row of results.json."""
    return {
        **key(subject, label, quality),
        "metric": subject.metric,
        "value": scores.rounded(measured.scores.value()),
        **bounds(samples),
        "n_images": measured.n_images,
        "bytes_per_image": scores.rounded(measured.file_bytes, 1),
        "restore_ms_per_image": scores.rounded(measured.restore_ms),
        "model_ms_per_image": scores.rounded(measured.model_ms),
        "per_class": {name: scores.rounded(value) for name, value in measured.scores.per_class().items()},
    }


def bounds(samples: np.ndarray) -> dict[str, float | None]:
    """The interval of a score in its row."""
    return dict(zip(("low", "high"), map(scores.rounded, scores.interval(samples)), strict=True))
