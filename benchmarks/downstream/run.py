"""``dagn-pre bench run``: what JPEG costs a host's model, and what restoring in front of it wins back.

:func:`run` measures the cells (:mod:`~dagn_pre.benchmarks.downstream.cells`) of each case with the host's own evaluation and
keeps each in ``results.json`` as soon as it is complete; comparisons, advice and pictures follow from those, and
:mod:`~dagn_pre.benchmarks.downstream.report` draws everything else. All inputs of one QF see the same JPEG bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dagn_pre import models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.downstream import bootstrap, cases, cells, derived, pictures, report
from dagn_pre.benchmarks.downstream.cases import Case
from dagn_pre.benchmarks.downstream.hosts import ahead, configs, processes
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner
from dagn_pre.benchmarks.downstream.inputs import RestoredInput, restored_inputs
from dagn_pre.benchmarks.results import SETTINGS, Results
from dagn_pre.codec import check_quality
from dagn_pre.defaults import MAX_QUALITY, MODEL
from dagn_pre.errors import UsageError
from dagn_pre.options import check_options
from dagn_pre.progress import bar

INPUTS = ("original", "jpeg", MODEL)
QUALITIES = (10, 20, 30, 40, 75, 90)  # of the paper's Table IV, and two where restoring has little to win: does it harm?
TABLES = ("rows", "comparisons", "equal_size", "halves", "advice", "files", "gallery")


def run(
    sources: Sequence[str],
    work_dir: str | Path,
    checkpoint: str | None = None,
    data_root: str | Path | None = None,
    qualities: Sequence[int] = QUALITIES,
    inputs: Sequence[str] = INPUTS,
    limit: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    resamples: int = bootstrap.RESAMPLES,
    cache_dir: str | Path | None = "cache",
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "torch",
    max_quality: int | None = MAX_QUALITY,
    workers: int = 1,
    overwrite: bool = False,
    launcher: str = "none",
) -> dict:
    """Measure every cell that ``work_dir`` does not hold yet; write results.json and the report there.

    Args:
        sources: configs, see ``configs.load``; or "demo" for the project's own data and models.
        checkpoint: weights (file or URL) instead of the config's ``checkpoint``; for one config.
        data_root: instead of the config's ``data_root``.
        qualities: QFs, 1..100.
        inputs: "original", "jpeg" (compressed), and restorers' names or checkpoint files (compressed, then restored); with
            "+side" behind them, the JPEGs carry side information, for which weights have to be shipped; with "@0.5" behind
            that, they correct by half.
        limit: the first images only, in the data and in the ground truth.
        subset, seed: so many images, chosen by their classes (:mod:`dagn_pre.benchmarks.downstream.sampling`), instead of
            all; seed >= 0.
        resamples: bootstrap samples that intervals are read from, at least 100. Those of cells that were there are renewed.
        cache_dir: keeps compressed and restored images (relative to ``work_dir``); None keeps none, as one does for timing.
        device: "cpu", "cuda" or "auto", for the host's model and the restorer.
        dtype, engine, max_quality: of :class:`dagn_pre.Restorer`. None restores at every QF, to see where it begins to harm.
        workers: processes that restore on the CPU, ahead of the model, into the cache: faster on many cores, but without times
            of restoring. 1: the model's own process restores.
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
    restored = restored_inputs(inputs)
    device = check_device(device)
    options = {"dtype": dtype, "engine": engine, "max_quality": max_quality}
    check_options(**options)
    check_numbers(limit, subset, seed, resamples)
    if workers > 1 and (cache_dir is None or launcher != "none"):
        raise UsageError("several workers need a cache, and no launcher: they restore into the one for a model in one process")
    prepared = cases.prepare_all(sources, work_dir, checkpoint, data_root, subset, seed)
    chosen = {"limit": limit, "subset": None, "seed": None, "resamples": resamples}
    if any(case.subset is not None for case in prepared):  # else all images are tested
        chosen |= {"subset": subset, "seed": seed}
    surroundings = {**environment.describe(device), **chosen, **options}
    results = open_results(work_dir, surroundings, prepared, restored, overwrite)
    wanted = list(cells.plan(inputs, restored, qualities))
    with ahead.ahead(workers, device) as restoring:
        for case in prepared:
            host = LazyHost(case, limit, device, work_dir, cache_dir, options, restoring)
            pending = processes.of_main([cell for cell in wanted if not cells.complete(case, cell, results, work_dir)])
            if pending:
                measure(case, host.get(), pending, restored, results, work_dir, resamples)
            shown: list[pictures.Shown] = []
            if processes.is_main_process():
                add_files(restored, results, work_dir)
                derived.update(case, results, work_dir, resamples)
                shown = list(pictures.missing(case, restored, qualities, results, work_dir))
            if processes.of_main(bool(shown)):
                host.get()  # in all processes
            if shown:
                results.add(gallery=[pictures.entry(case, host.get(), work_dir, restored, one) for one in shown])
    results.content = processes.of_main(results.content)
    if processes.is_main_process():
        report.write(work_dir)
    return results.content


def check_device(device: str) -> str:
    """``device`` with "auto" decided."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu or cuda, not {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device: use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def check_numbers(limit: int | None, subset: int | None, seed: int, resamples: int) -> None:
    """Raise UsageError for one outside its range."""
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


def open_results(
    work_dir: Path, surroundings: dict, prepared: list[Case], restored: dict[str, RestoredInput], overwrite: bool
) -> Results:
    """results.json, which the first process alone writes.

    Raises:
        UsageError: the folder holds results of other settings or weights, or of another config of the same file name.
    """
    surroundings["models"] = {case.title: case.settings for case in prepared}
    surroundings["restorers"] = {label: one.fingerprint() for label, one in restored.items()}
    settings = (*SETTINGS, "subset", "seed", "dtype", "engine", "max_quality")
    path, parts = work_dir / "results.json", ("models", "restorers")
    results = Results(path, surroundings, settings, parts, tables=TABLES, overwrite=overwrite)
    same_files: dict[str, str] = {}
    for title, known in surroundings["models"].items():
        if same_files.setdefault(known["config"], title) != title:
            raise UsageError(
                f"{same_files[known['config']]} and {title} are both of a config file called {known['config']}, which names "
                "their files: rename one of them, or choose another folder"
            )
    weights: dict[str, str] = {}
    for label, known in surroundings["restorers"].items():
        name, own = RestoredInput.parse(label).model, known.partition("+")[0]
        if weights.setdefault(name, own) != own:
            raise UsageError(f"{label} is of other weights than {name} in this folder: choose another, or add --overwrite")
    if not processes.is_main_process():
        results.path = None  # has been read; the first process writes
    return results


@dataclass
class LazyHost:
    """A case's model, built when it is first needed: where all cells are there, it may not be at all.

    Attributes:
        limit: the first images only.
        cache_dir: keeps compressed and restored images; relative to ``work_dir``.
        options: DAGNRestore's further ones.
        restoring: the ``ahead`` of :class:`HostRunner`.
    """

    case: Case
    limit: int | None
    device: str
    work_dir: Path
    cache_dir: str | Path | None = None
    options: dict | None = None
    restoring: ahead.Ahead | None = None
    built: HostRunner | None = None

    def get(self) -> HostRunner:
        """Its runner, on the images that :func:`run` was asked for."""
        if self.built is None:
            images = self.limit if self.case.subset is None else list(self.case.subset)
            cache = None if self.cache_dir is None else self.work_dir / self.cache_dir
            cfg = configs.for_testing(self.case.cfg, images)
            where = self.device, self.work_dir, cache
            self.built = HostRunner(cfg, self.case.checkpoint, *where, self.options, self.restoring)
        return self.built


def measure(
    case: Case,
    host: HostRunner,
    pending: list[cells.Cell],
    restored: dict[str, RestoredInput],
    results: Results,
    work_dir: Path,
    resamples: int,
) -> None:
    """Measure cells and keep each as soon as it is complete; by QF, so that what each input costs is known soon."""
    order = list(dict.fromkeys(label for label, _ in pending))
    pending = sorted(pending, key=lambda cell: (cell[1] or 0, order.index(cell[0])))
    seconds: dict[str, float] = {}
    for index, (label, quality) in enumerate(pending):
        name, start = cells.name(label, quality), time.monotonic()
        about = f"{case.model}, {name} ({index + 1} of {len(pending)}{left(pending[index:], seconds)})"
        total = host.n_images * host.passes(restored.get(label))
        with bar(total=total, desc=about, unit="img", leave=False, disable=not processes.is_main_process()) as shown:
            measured = host.measure(cells.file_name(case, label, quality), quality, restored.get(label), shown.update)
        seconds[label] = time.monotonic() - start
        if measured.scores is not None:  # in the first process
            samples = bootstrap.resampled(measured.scores, resamples)
            cells.write(cells.path(case, label, quality, work_dir), measured.scores, samples)
            row = cells.row(case, label, quality, measured, samples)
            results.replace("rows", [row], **case.key(label, quality))  # of a cell whose file was lost, anew


def left(pending: list[cells.Cell], seconds: dict[str, float]) -> str:
    """How long cells will take, by what the last one of each input took; inputs that have had none yet are not counted."""
    if not seconds:
        return ""
    minutes = sum(seconds.get(label, 0) for label, _ in pending) / 60
    about = "about" if all(label in seconds for label, _ in pending) else "more than"
    return f", {about} {minutes:.0f} min left" if minutes >= 1 else f", {about} 1 min left"


def add_files(restored: dict[str, RestoredInput], results: Results, work_dir: Path) -> None:
    """Where the weights of inputs that are files lie, for who follows the advice; seen from ``work_dir``."""
    for one in restored.values():
        if Path(one.model).suffix in models.CHECKPOINT_SUFFIXES:
            name = Path(one.model).stem
            results.replace("files", [{"input": name, "file": os.path.relpath(one.model, work_dir)}], input=name)
