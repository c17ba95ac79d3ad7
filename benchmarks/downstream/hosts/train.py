"""Train the host models that the benchmark measures: ``dagn-pre bench train CONFIG... --work-dir D``.

Trains configs of ``benchmarks/configs`` through mmengine's Runner as they say (on the CPU or whatever device the host finds),
one after the other, and writes slim checkpoints, ``D/<checkpoint of the config>``: tensors in float16 and plain Python types,
so that ``weights_only=True`` loads them. A config's ``load_from`` may name a checkpoint that an earlier one left in ``D``, or
one that ships with the benchmark. The data of ``demo_*`` are rendered into ``D/data`` unless a data root is given.
A training that was cut off goes on from its last checkpoint with ``--resume``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream.hosts import configs, data_checks
from dagn_pre.errors import ConfigError
from dagn_pre.files import atomic_path


def relocated(cfg: Config, root: Path) -> Config:
    """A copy of a config whose data, of all splits, lie in ``root``."""
    return Config(configs.moved(cfg.to_dict(), configs.data_root(cfg), str(root)), filename=cfg.filename)


def slim(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict on the CPU with its floating point tensors in fp16."""
    return {k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in state.items()}


def ready(source: str, work_dir: Path, data_root: str | Path | None = None, resume: bool = False) -> Config:
    """A config ready to be trained: its data in place (rendered, for the demo's), ``load_from`` found, logs in ``work_dir``.

    ``resume`` goes on from the last checkpoint in ``work_dir``, where there is one.

    Raises:
        UsageError, ConfigError: no such config, data root or checkpoint to start from; none of the images exist.
    """
    cfg = configs.load(source)
    if source.startswith("demo_") and data_root is None:
        data_root = work_dir / "data"
        demo.prepare(data_root)
    if data_root is not None:
        cfg = relocated(cfg, Path(data_root).absolute())
    if cfg.get("load_from"):
        cfg.load_from = str(configs.find_checkpoint(cfg.load_from, work_dir))
    folder = work_dir / configs.name(cfg)
    cfg.work_dir = str(folder)
    if resume and (folder / "last_checkpoint").is_file():
        cfg.update(resume=True, load_from=None)
    leave_out_missing(cfg)
    return cfg


def leave_out_missing(cfg: Config) -> None:
    """Train on the images that are there: a public copy of a data set may lack some. How many are left out is told.

    Raises:
        ConfigError: all are missing.
    """
    leaf = cfg.train_dataloader.dataset
    if leaf.get("backend_args") or list(configs.datasets(leaf)) != [leaf]:  # elsewhere, or wrapped
        return
    dataset = data_checks.build(cfg, leaf, "training")
    entries = dataset.filter_data()  # which indices count in
    files = [[entry[key] for key in ("img_path", "seg_map_path") if entry.get(key)] for entry in entries]
    kept = [index for index, paths in enumerate(files) if all(Path(path).is_file() for path in paths)]
    if not kept:
        place = Path(files[0][0]).parent if files else configs.data_root(cfg)
        raise ConfigError(f"{place} holds no images to train {configs.name(cfg)} on: put them there, or give --data-root")
    if len(kept) < len(entries):
        leaf.indices = kept
        missing = f"{len(entries) - len(kept)} of {len(entries)} images (or their masks) are missing"
        print(f"note: {configs.name(cfg)} is trained without some: {missing}", file=sys.stderr)


def train(source: str, work_dir: Path, data_root: str | Path | None = None, resume: bool = False) -> Path:
    """Train one config and write its slim checkpoint, whose path is returned; see :func:`ready` for what is raised."""
    cfg = ready(source, work_dir, data_root, resume)
    runner = Runner.from_cfg(cfg)
    runner.train()
    known = runner.train_dataloader.dataset.metainfo
    meta = {key: as_lists(known[key]) for key in ("classes", "palette") if key in known}
    path = work_dir / Path(cfg.checkpoint).name
    with atomic_path(path) as temporary:
        torch.save({"meta": {"dataset_meta": meta}, "state_dict": slim(runner.model.state_dict())}, temporary)
    return path


def as_lists(value):
    """Nested tuples as lists, which any reader of weights takes."""
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
