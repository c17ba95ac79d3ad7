"""What every adapter must mind inside DataLoader workers: threads, and CUDA after a fork."""

from __future__ import annotations

import multiprocessing

import torch
from torch.utils.data import get_worker_info

from dagn_pre.errors import UsageError


def usable_device(device: str) -> str:
    """``device`` as this process can use it; inside DataLoader workers also keeps torch to one thread.

    In a forked worker "auto" means "cpu".

    Raises:
        UsageError: CUDA is asked for in a forked worker, where it cannot be initialised.
    """
    if get_worker_info() is None:
        return device
    torch.set_num_threads(1)  # the workers share the cores, and OpenMP's threads do not survive a fork
    process = multiprocessing.current_process()
    method = getattr(process, "_start_method", None) or multiprocessing.get_start_method()
    if method != "fork":
        return device
    if device == "auto" or torch.device(device).type == "cpu":
        return "cpu"
    raise UsageError(
        f"DAGNRestore(device={device!r}) runs in a forked DataLoader worker, where CUDA does not work: start the "
        'workers by spawn (mmengine: env_cfg.mp_cfg.mp_start_method="spawn"; DataLoader: multiprocessing_context="spawn"), '
        'or set num_workers=0, or DAGNRestore(device="cpu")'
    )
