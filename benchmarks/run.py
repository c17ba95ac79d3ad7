"""The benchmark: what JPEG costs a host's model, and what restoring in front of it wins back.

:func:`run` measures cells (a config, an input, a QF) with the host's own evaluation and keeps each in ``results.json``
as soon as it is complete; :mod:`dagn_pre.benchmarks.report` draws everything else from that file. All inputs of one QF
see the same JPEG: it is made anew from the same decoded image, and the encoder is deterministic.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from tqdm import tqdm

from dagn_pre import models
from dagn_pre.benchmarks import checkpoints, data_checks, demo, environment, hosts, processes, report
from dagn_pre.benchmarks.host_runner import HostRunner, Measured
from dagn_pre.benchmarks.hosts import set_data_root
from dagn_pre.benchmarks.results import Results
from dagn_pre.codec import check_quality
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.integrations.openmmlab.insert import insert

__all__ = ["DEMO", "INPUTS", "QUALITIES", "run", "set_data_root"]

DEMO = ("demo_faster_rcnn", "demo_pspnet")
INPUTS = ("original", "jpeg", "dagn-s")
QUALITIES = (10, 20, 30, 40)  # of the paper's Table IV


@dataclass(frozen=True)
class Subject:
    """A config made ready: what is tested, on what, with which weights."""

    cfg: Config
    checkpoint: Path
    task: str
    metric: str
    model: str
    dataset: str
    settings: dict

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
    device: str = "auto",
    overwrite: bool = False,
    launcher: str = "none",
) -> dict:
    """Measure every cell that ``work_dir`` does not hold yet; write results.json, results.md and results.png there.

    Args:
        configs: see ``hosts.load``; or "demo" for the project's own data and models.
        checkpoint: weights (file or URL) instead of the config's ``checkpoint``; for one config.
        data_root: instead of the config's ``data_root``.
        qualities: QFs, 1..100.
        inputs: "original", "jpeg" (compressed), and restorers' names or .safetensors files (compressed, then restored).
        limit: the first images only, in the data and in the ground truth.
        device: "cpu", "cuda" or "auto", for the host's model and the restorer.
        overwrite: throw away results of other settings.
        launcher: "none", or who started several processes that share each cell: "pytorch" (torchrun) or "slurm". All of
            them return the same, the first one writes.

    Returns:
        What results.json holds: {"rows": [...], "environment": {...}}.

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
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1 image, not {limit}")
    if checkpoint is not None and (len(configs) > 1 or "demo" in configs):
        raise UsageError("--checkpoint is for one config: run them one by one")
    subjects = [prepare(*one, checkpoint) for one in expand(configs, data_root, work_dir)]
    titles = [subject.title for subject in subjects]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"two of the configs are both called {title}: name them apart in their `benchmark`")

    surroundings = environment.describe(device)
    surroundings["limit"] = limit
    surroundings["models"] = dict(zip(titles, (subject.settings for subject in subjects), strict=True))
    surroundings["restorers"] = {label: models.fingerprint(model)[:16] for label, model in restorers.items()}
    results = Results(work_dir / "results.json", surroundings, parts=("models", "restorers"), overwrite=overwrite)
    if not processes.is_main_process():
        results.path = None  # has been read; the first process writes
    cells = list(plan(inputs, restorers, qualities))
    for subject in subjects:
        pending = [cell for cell in cells if not results.holds(**key(subject, *cell))]
        if not pending:
            continue
        host = HostRunner(hosts.for_testing(subject.cfg, limit), subject.checkpoint, device, work_dir)
        shown = {"desc": subject.model, "unit": "img", "dynamic_ncols": True, "disable": not processes.is_main_process()}
        with tqdm(total=len(pending) * host.n_images, **shown) as bar:
            for label, quality in pending:
                cell = label if quality is None else f"{label}-qf{quality}"
                bar.set_postfix_str(cell)
                name = f"{hosts.name(subject.cfg)}-{cell}"
                measured = host.measure(name, quality, restorers.get(label), bar.update)
                results.add(rows=[row(subject, label, quality, measured)])
    if processes.is_main_process():
        report.write(work_dir)
    return results.content


def expand(configs: Sequence[str], data_root: str | Path | None, work_dir: Path) -> Iterator[tuple]:
    """Each config with its data root; "demo" becomes its two, and its data are rendered."""
    for source in configs:
        if source != "demo":
            yield source, data_root
            continue
        root = Path(data_root or work_dir / "data")
        with processes.main_first():
            demo.prepare(root)
        yield from ((config, root) for config in DEMO)


def prepare(source: str, root: str | Path | None, checkpoint: str | None) -> Subject:
    """Read a config, move it to its data, and find all that its test needs before anything is built."""
    cfg = hosts.load(source)
    task, metric = hosts.task(cfg)
    if root is not None:
        set_data_root(cfg, os.path.abspath(root))
    insert(cfg, compress=50, restore=False, splits=("test",))  # says now if the pipeline is one that it cannot change
    annotations = hosts.check_data(cfg)
    for remark in data_checks.check(cfg):
        if processes.is_main_process():
            print(f"note: {remark}", file=sys.stderr)
    wanted = checkpoint or cfg.get("checkpoint")
    if not wanted:
        raise ConfigError(f"config {hosts.name(cfg)} names no checkpoint: give one with --checkpoint")
    path = checkpoints.find(wanted, () if checkpoint else (Path(cfg.filename).parent, demo.CHECKPOINTS))
    names = cfg.get("benchmark") or {}
    return Subject(
        cfg,
        path,
        task,
        metric,
        names.get("model", hosts.name(cfg)),
        names.get("dataset", hosts.kind(next(hosts.datasets(cfg.test_dataloader.dataset)))),
        {
            "config": hosts.name(cfg),
            "config_sha256": hosts.digest(cfg),
            "checkpoint": path.name,
            "checkpoint_sha256": checkpoints.digest(path),
            "annotations_sha256": [checkpoints.digest(file) for file in annotations],
        },
    )


def check_inputs(inputs: Sequence[str]) -> dict[str, str]:
    """The restorers among the inputs: name in the results -> model name or weights file."""
    restorers: dict[str, str] = {}
    for label in inputs:
        if label in ("original", "jpeg"):
            continue
        if label.endswith(".safetensors"):
            label, model = Path(label).stem, label
        elif label in models.names():
            model = label
        else:
            known = ", ".join(("original", "jpeg", *models.names()))
            raise UsageError(f"unknown input {label}: give one of {known}, or a .safetensors file")
        if restorers.setdefault(label, model) != model:
            raise UsageError(f"two inputs are both called {label}: rename one of the files")
    return restorers


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


def key(subject: Subject, label: str, quality: int | None) -> dict:
    """What tells a row of results.json from the others."""
    return {"task": subject.task, "model": subject.model, "dataset": subject.dataset, "input": label, "qf": quality}


def row(subject: Subject, label: str, quality: int | None, measured: Measured) -> dict:
    """A row of results.json."""
    return {
        **key(subject, label, quality),
        "metric": subject.metric,
        "value": round(measured.value, 3),
        "n_images": measured.n_images,
        "restore_ms_per_image": round(measured.restore_ms, 3),
        "model_ms_per_image": round(measured.model_ms, 3),
    }
