"""What the benchmark reads from a host's config, and the little it changes in one.

A config may hold three things of ours at its top level: ``data_root``; ``checkpoint``, the default weights (a URL, or a
path that may start with the data root); and ``benchmark = dict(model=..., dataset=...)``, the names in the table, where
``scored`` may name the classes that the score is the mean of (default: all).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from dagn_pre.errors import ConfigError, UsageError, quiet
from dagn_pre.integrations.openmmlab import checkpoints
from dagn_pre.integrations.openmmlab.insert import find, mmseg_under_any_name

# Beside the keys of training, validation and TTA; Runners of one process would share a visualizer that a config names.
UNUSED = ("optim_wrapper", "param_scheduler", "custom_hooks", "visualizer")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WEIGHTS = CONFIGS.with_name("weights")  # README.md there says what each is
# Test evaluator -> its argument for what it measures, and what we need there; task and metric in the results.
TASKS = {
    "CocoMetric": ("metric", "bbox", ("object detection", "bbox_mAP")),
    "IoUMetric": ("iou_metrics", "mIoU", ("semantic segmentation", "mIoU")),
}


def load(source: str) -> Config:
    """Read a config: a path, the name of one in ``benchmarks/configs``, or ``mmdet::...`` / ``mmseg::...``.

    Raises:
        UsageError: no such config.
        ConfigError: it cannot be read.
    """
    own = {path.stem: path for path in sorted(CONFIGS.glob("*.py"))}
    try:
        path = own.get(source) or find(source)
    except UsageError as error:
        raise UsageError(f"{error}; those of the benchmark are demo, {', '.join(own)}") from error
    try:
        with quiet(), mmseg_under_any_name():
            return Config.fromfile(path)
    except Exception as error:  # a config is a program: anything can go wrong in it
        raise ConfigError(f"cannot read config {source}: {type(error).__name__}: {error}") from error


def name(cfg: Config) -> str:
    """The config's file name without its suffix."""
    return Path(cfg.filename).stem


def datasets(node: dict) -> Iterator[dict]:
    """The innermost data sets' configs in a dataset's config, out of whatever wraps them."""
    inner = node.get("datasets") or ([node["dataset"]] if "dataset" in node else [])
    for child in inner:
        yield from datasets(child)
    if not inner:
        yield node


def kind(node: dict) -> str:
    """The class name that ``type`` stands for, in text and in pure-Python configs."""
    value = node.get("type", "")
    return (value if isinstance(value, str) else value.__name__).rpartition(".")[2]


def task(cfg: Config) -> tuple[str, str]:
    """Task and metric of a config's test evaluator, such as ("object detection", "bbox_mAP").

    Raises:
        ConfigError: no test pipeline or evaluator, or one that measures something else or nothing.
    """
    dataset = (cfg.get("test_dataloader") or {}).get("dataset")
    if not dataset or not all(leaf.get("pipeline") for leaf in datasets(dataset)):
        raise ConfigError(f"config {name(cfg)} has no test pipeline: set test_dataloader.dataset.pipeline")
    for evaluator in evaluators(cfg):
        argument, wanted, found = TASKS.get(kind(evaluator), ("", "", None))
        if found and wanted in evaluator.get(argument, wanted) and not evaluator.get("format_only"):
            return found
    known = " or ".join(f"{metric} with {argument} {wanted}" for metric, (argument, wanted, _) in TASKS.items())
    raise ConfigError(f"config {name(cfg)} has no test_evaluator that scores: set {known}, and no format_only")


def scored(cfg: Config, classes: Sequence[str]) -> list[str]:
    """The classes that a config's score is the mean of: those that its ``benchmark`` names, or all.

    Raises:
        ConfigError: it names others than the data set has.
    """
    chosen = (cfg.get("benchmark") or {}).get("scored", classes)
    if unknown := [name for name in chosen if name not in classes]:
        raise ConfigError(f"benchmark.scored of config {name(cfg)} names no classes of its data set: {', '.join(unknown)}")
    return [name for name in classes if name in chosen]


def evaluators(cfg: Config) -> list[dict]:
    """The configs of the test evaluators, one or many."""
    found = cfg.get("test_evaluator") or []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def data_root(cfg: Config) -> str:
    """The data root that a config's test data lie in."""
    roots = {leaf.get("data_root") for leaf in datasets(cfg.test_dataloader.dataset)}
    root = roots.pop() if len(roots) == 1 else None
    if not root:
        raise ConfigError(f"config {name(cfg)} has no single data_root in test_dataloader: set it")
    return root


def set_data_root(cfg: Config, root: str | Path) -> None:
    """Move test data, annotations and default checkpoint to ``root``, where they lie in the config's data root."""
    old = data_root(cfg)
    for key in ("test_dataloader", "test_evaluator", "checkpoint"):
        if key in cfg:
            cfg[key] = moved(cfg[key], old, str(root))


def moved(node, old: str, new: str):
    """A copy of nested containers in which each path at or below ``old`` is the same path below ``new``."""
    if isinstance(node, dict):
        return type(node)({key: moved(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(moved(value, old, new) for value in node)
    if isinstance(node, str) and f"{node}/".startswith(f"{old.rstrip('/')}/"):
        return new + node[len(old.rstrip("/")) :].rstrip("/")
    return node


def checkpoint(cfg: Config, given: str | None = None) -> Path:
    """The file of a model's weights: ``given``, a path or URL, or what the config names, beside it or among ours.

    Raises:
        ConfigError: neither, or no such file.
    """
    wanted = given or cfg.get("checkpoint")
    if not wanted:
        raise ConfigError(f"config {name(cfg)} names no checkpoint: give one with --checkpoint")
    return checkpoints.find(wanted) if given else find_checkpoint(wanted, Path(cfg.filename).parent)


def find_checkpoint(source: str, folder: Path) -> Path:
    """The file that a config's ``checkpoint`` or ``load_from`` names: a URL, a path, in ``folder``, or one of ours.

    Raises:
        ConfigError: no such file; one of ours in an installation, which comes without them.
    """
    try:
        return checkpoints.find(source, (folder, WEIGHTS))
    except ConfigError as error:
        if CONFIGS.joinpath(source).with_suffix(".py").is_file():  # ours are named after the configs
            if any(WEIGHTS.glob("*.pth")):
                raise ConfigError(
                    f"checkpoint {source} is not kept in the repository: dagn-pre bench train {Path(source).stem} --work-dir D "
                    f"makes it, and --checkpoint D/{source} takes it"
                ) from error
            raise ConfigError(
                f"checkpoint {source} is not part of an installed dagn-pre: work in a checkout of its repository, or copy "
                f"benchmarks/weights/{source} from there to {WEIGHTS}"
            ) from error
        raise


def check_data(cfg: Config) -> list[Path]:
    """The annotation files of a config's test data, after a look that they and the image folders are there.

    Raises:
        ConfigError: the data root, an annotation file or a folder is missing.
    """
    root = Path(data_root(cfg))
    if not root.is_dir():
        raise ConfigError(f"data root {root} of config {name(cfg)} does not exist: give it with --data-root")
    files, found = [], []
    for leaf in datasets(cfg.test_dataloader.dataset):
        files += [root / leaf["ann_file"]] if leaf.get("ann_file") else []
        found += [root / folder for folder in (leaf.get("data_prefix") or {}).values() if folder]
    found += [Path(evaluator["ann_file"]) for evaluator in evaluators(cfg) if evaluator.get("ann_file")]
    for path in (*files, *found):
        if not path.exists():
            raise ConfigError(f"{path} of config {name(cfg)} does not exist: complete the data in --data-root {root}")
    return [file for file in files if file.is_file()]


def digest(cfg: Config) -> str:
    """Which evaluation it is, wherever the data lie: the start of a SHA-256 over model, test data and evaluator."""
    parts = {"model": cfg.model, "data": cfg.test_dataloader.dataset, "evaluator": cfg.test_evaluator}
    text = json.dumps(moved(parts, data_root(cfg), "<data root>"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def for_testing(cfg: Config, images: int | list[int] | None) -> Config:
    """A copy that only tests: no training parts, no custom hooks, loading in this process; on so many first ``images``, on
    those with these indices, or on all (None).

    Custom hooks go because they serve training; EMAHook would even exchange the loaded weights for its own. Loading
    happens in this process, so that a restorer can be timed there and may run on CUDA. Each image is a batch of its own,
    never padded to the size of others: its score is the same in any number of processes.

    Raises:
        ConfigError: not all images, of a wrapped data set.
    """
    cfg = copy.deepcopy(cfg)
    for key in list(cfg):
        if key.startswith(("train_", "val_", "tta_")) or key in UNUSED:
            cfg.pop(key)
    cfg.update(load_from=None, resume=False, launcher="none")
    cfg.test_cfg = cfg.get("test_cfg") or {}
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=1)
    cfg.test_dataloader.sampler = dict(type="DefaultSampler", shuffle=False)
    cfg.test_dataloader.pop("batch_sampler", None)
    cfg.test_dataloader.pop("prefetch_factor", None)
    if images is not None:
        if "dataset" in cfg.test_dataloader.dataset or "datasets" in cfg.test_dataloader.dataset:
            raise ConfigError(f"config {name(cfg)} tests on a wrapped data set: --limit needs a plain one")
        cfg.test_dataloader.dataset.indices = images
    return cfg
