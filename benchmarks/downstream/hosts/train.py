"""Train the host models that the benchmark measures: ``dagn-pre bench train CONFIG... --work-dir D``.

Trains configs of ``benchmarks/configs`` through mmengine's Runner as they say (on the CPU or whatever device the host finds),
one after the other, and writes slim checkpoints, ``D/<checkpoint of the config>``: tensors in float16 and plain Python types,
so that ``weights_only=True`` loads them. A config's ``load_from`` may name a checkpoint that an earlier one left in ``D``, or
one that ships with the benchmark. The data of ``demo_*`` are rendered into ``D/data`` unless a data root is given.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.files import atomic_path


def relocated(cfg: Config, root: Path) -> Config:
    """A copy of a config whose data, of all splits, lie in ``root``."""
    return Config(configs.moved(cfg.to_dict(), configs.data_root(cfg), str(root)))


def slim(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict on the CPU with its floating point tensors in fp16."""
    return {k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in state.items()}


def ready(source: str, work_dir: Path, data_root: str | Path | None = None) -> Config:
    """A config ready to be trained: its data in place (rendered, for the demo's), ``load_from`` found, logs in ``work_dir``.

    Raises:
        UsageError, ConfigError: no such config, data root or checkpoint to start from.
    """
    cfg = configs.load(source)
    if source.startswith("demo_") and data_root is None:
        data_root = work_dir / "data"
        demo.prepare(data_root)
    if data_root is not None:
        cfg = relocated(cfg, Path(data_root).absolute())
    if cfg.get("load_from"):
        cfg.load_from = str(configs.find_checkpoint(cfg.load_from, work_dir))
    cfg.work_dir = str(work_dir / source)
    return cfg


def train(source: str, work_dir: Path, data_root: str | Path | None = None) -> Path:
    """Train one config and write its slim checkpoint, whose path is returned; see :func:`ready` for what is raised."""
    cfg = ready(source, work_dir, data_root)
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
