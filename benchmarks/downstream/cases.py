"""Test cases: a config made ready, with all that its test needs looked for before anything is built."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream import sampling
from dagn_pre.benchmarks.downstream.hosts import configs, data_checks, processes
from dagn_pre.errors import UsageError
from dagn_pre.integrations.openmmlab import checkpoints
from dagn_pre.integrations.openmmlab.insert import insert

DEMO = ("demo_faster_rcnn", "demo_faster_rcnn_jpeg", "demo_pspnet", "demo_pspnet_jpeg")


@dataclass(frozen=True)
class Case:
    """What is tested, on what (``subset`` as of ``sampling.subset``; None: all), with which weights."""

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

    @property
    def identity(self) -> dict:
        """What all rows of a case share in results.json."""
        return {"task": self.task, "model": self.model, "dataset": self.dataset}

    def key(self, label: str, quality: int | None) -> dict:
        """What tells a row of results.json from the others."""
        return {**self.identity, "input": label, "qf": quality}


def prepare_all(
    sources: Sequence[str],
    work_dir: Path,
    checkpoint: str | None = None,
    data_root: str | Path | None = None,
    subset: int | None = None,
    seed: int = 0,
) -> list[Case]:
    """All cases of a run; see ``run.run`` for the arguments.

    Raises:
        UsageError: no such config, a checkpoint for several, or two of one name or file name.
        ConfigError: see :func:`prepare`.
    """
    if checkpoint is not None and (len(sources) > 1 or "demo" in sources):
        raise UsageError("--checkpoint is for one config: run them one by one")
    cases = [prepare(*one, checkpoint, subset, seed) for one in expand(sources, data_root, work_dir)]
    titles = [case.title for case in cases]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"two of the configs are both called {title}: name them apart in their `benchmark`")
    return cases


def expand(sources: Sequence[str], data_root: str | Path | None, work_dir: Path) -> Iterator[tuple[str, str | Path | None]]:
    """Each config with its data root; "demo" becomes its own, and its data are rendered."""
    for source in sources:
        if source != "demo":
            yield source, data_root
            continue
        for config in DEMO:
            configs.checkpoint(configs.load(config))  # an installation may not have it: said before the data are rendered
        root = Path(data_root or work_dir / "data")
        with processes.main_first():
            demo.prepare(root)
        yield from ((config, root) for config in DEMO)


def prepare(source: str, root: str | Path | None, checkpoint: str | None, subset: int | None = None, seed: int = 0) -> Case:
    """Read a config, move it to its data, and find all that its test needs.

    Raises:
        UsageError: no such config.
        ConfigError: data, checkpoint, test pipeline or evaluator are missing.
    """
    cfg = configs.load(source)
    task, metric = configs.task(cfg)
    if root is not None:
        configs.set_data_root(cfg, os.path.abspath(root))
    insert(cfg, compress=50, restore=False, splits=("test",))  # says now if the pipeline is one that it cannot change
    annotations = configs.check_data(cfg)
    for remark in data_checks.check(cfg):
        if source not in DEMO:  # its two splits lie in one folder
            note(remark)
    path = configs.checkpoint(cfg, checkpoint)
    chosen = None if subset is None else sampling.subset(cfg, subset, seed)
    if subset is not None and chosen is None:
        note(f"config {configs.name(cfg)} tests no more than {subset} images: the subset is all of them")
    names = cfg.get("benchmark") or {}
    return Case(
        cfg,
        path,
        task,
        metric,
        names.get("model", configs.name(cfg)),
        names.get("dataset", configs.kind(next(configs.datasets(cfg.test_dataloader.dataset)))),
        {
            **{key: names[key] for key in ("variant_of", "scored") if key in names},
            "config": configs.name(cfg),
            "config_sha256": configs.digest(cfg),
            "checkpoint": path.name,
            "checkpoint_sha256": checkpoints.digest(path),
            "annotations_sha256": [checkpoints.digest(file) for file in annotations],
            **({} if chosen is None else {"images": list(chosen.values())}),
        },
        chosen,
    )


def note(remark: str) -> None:
    """Tell the user, once however many processes there are."""
    if processes.is_main_process():
        print(f"note: {remark}", file=sys.stderr)
