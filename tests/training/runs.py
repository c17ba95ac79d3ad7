"""Short runs on a tiny network, for the tests of the trainer."""

from __future__ import annotations

import json
from pathlib import Path

from dagn_pre.training import checkpoint
from dagn_pre.training.configuration import load_stages
from dagn_pre.training.sequence import train_stage
from tests.support import TINY

SMALL = {
    "batch": 2,
    "patch": 32,
    "workers": 0,
    "warmup": 1,
    "steps": 4,
    "save_every": 2,
    "log_every": 1,
    "validation_images": 0,
    "settle_steps": 10,
    "tensorboard": False,
    "amp": None,
}


def config(name: str, photos: Path, **options):
    """A shipped stage's config at the size of a test."""
    network = {f"network.{key}": value for key, value in TINY.to_dict().items()}
    options = network | SMALL | {"data": [str(photos)], "validation": str(photos)} | options
    return next(iter(load_stages(f"dagn-s/{name}", options).values()))


def command(config: str, photos: Path, work_dir: Path, *more: str, **options) -> list[str]:
    """Arguments of ``dagn-pre`` for a run at the size of a test."""
    values = {**SMALL, **{f"network.{k}": v for k, v in TINY.to_dict().items()}, **options}
    pairs = [f"{key}={value}" for key, value in values.items()]
    return ["train", config, "--data", str(photos), "--validation", str(photos), "--work-dir", str(work_dir), *more,
            "--cfg-options", *pairs]  # fmt: skip


def train(name: str, photos: Path, work_dir: Path, resume: bool = False, **options) -> Path:
    return train_stage(config(name, photos, **options), work_dir, resume)


def whole_and_resumed(settings, folder: Path) -> list[dict]:
    """State dicts at the end of a run of four steps, and of one that was continued from its checkpoint of step 2."""
    name = "step_0000002.pth"
    train_stage(settings, folder / "whole")
    (folder / "half").mkdir()
    (folder / "half" / name).write_bytes((folder / "whole" / name).read_bytes())
    train_stage(settings, folder / "half", resume=True)
    return [checkpoint.read(folder / run)["state_dict"] for run in ("whole", "half")]


def curve(work_dir: Path, name: str) -> list[float]:
    """A logged figure, step by step; all runs in a folder, in their order."""
    values = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if name in row and "loss" in row:
                values[row["step"]] = row[name]
    return [values[step] for step in sorted(values)]
