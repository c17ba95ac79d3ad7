"""Starting and ending torch.distributed."""

from __future__ import annotations

import atexit
import os

import torch
from mmengine.dist import init_dist, is_distributed

from dagn_pre.errors import UsageError


def join_processes(launcher: str) -> None:
    """Start torch.distributed as torchrun or slurm set it up: nccl on GPUs, gloo on CPUs.

    Raises:
        UsageError: the launcher has not set its variables, or slurm without GPUs.
    """
    if launcher == "none" or is_distributed():
        return
    needed = {"pytorch": "LOCAL_RANK", "slurm": "SLURM_PROCID"}[launcher]
    if needed not in os.environ:
        raise UsageError(f"--launcher {launcher} needs {needed} in the environment; start with torchrun or srun")
    if torch.cuda.is_available():
        init_dist(launcher, backend="nccl")
    elif launcher == "slurm":
        raise UsageError("--launcher slurm needs GPUs; on CPUs start torchrun and --launcher pytorch")
    else:
        torch.distributed.init_process_group("gloo")
    atexit.register(leave_processes)


def leave_processes() -> None:
    """End torch.distributed where it runs: gloo's threads abort an exit that they outlive."""
    if is_distributed():
        torch.distributed.destroy_process_group()
