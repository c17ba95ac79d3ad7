"""Train the demo's models: ``python -m dagn_pre.benchmarks.demo.train {faster_rcnn,pspnet} --work-dir D``.

Renders the data, trains through mmengine's Runner as the config says (on the CPU or whatever device the host finds),
and writes the slim checkpoint: tensors in fp16 and plain Python types, so ``weights_only=True`` loads it. Faster R-CNN
starts from nothing, PSPNet's backbone from the Faster R-CNN in the same work dir, so that one is trained first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from dagn_pre.benchmarks import hosts
from dagn_pre.benchmarks.demo import CLASSES, PALETTE, prepare
from dagn_pre.errors import UsageError
from dagn_pre.files import atomic_path

TASKS = ("faster_rcnn", "pspnet")


def relocated(cfg: Config, root: Path) -> Config:
    """A copy of a demo config whose data, of all splits, lie in ``root``."""
    return Config(hosts.moved(cfg.to_dict(), hosts.data_root(cfg), str(root)))


def slim(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict on the CPU with its floating point tensors in fp16."""
    return {k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in state.items()}


def train(task: str, work_dir: Path) -> None:
    """Render ``work_dir/data``, train a task's model (logs in ``work_dir/TASK``) and write ``work_dir/TASK.pth``.

    Raises:
        UsageError: PSPNet without a trained Faster R-CNN in ``work_dir``.
    """
    prepare(work_dir / "data")
    cfg = relocated(hosts.load(f"demo_{task}"), work_dir / "data")
    cfg.work_dir = str(work_dir / task)
    if task == "pspnet":
        detector = work_dir / "faster_rcnn.pth"
        if not detector.is_file():
            raise UsageError(f"{detector} does not exist: train faster_rcnn in this work dir first")
        cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(detector), prefix="backbone.")
    runner = Runner.from_cfg(cfg)
    runner.train()
    names = CLASSES if task == "faster_rcnn" else ("background", *CLASSES)
    palette = PALETTE if task == "faster_rcnn" else ((0, 0, 0), *PALETTE)
    meta = {"dataset_meta": {"classes": names, "palette": [list(color) for color in palette]}}
    with atomic_path(work_dir / f"{task}.pth") as temporary:
        torch.save({"meta": meta, "state_dict": slim(runner.model.state_dict())}, temporary)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m dagn_pre.benchmarks.demo.train", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--work-dir", type=Path, required=True, help="gets data/, TASK/ (logs) and TASK.pth")
    args = parser.parse_args()
    train(args.task, args.work_dir)


if __name__ == "__main__":
    main()
