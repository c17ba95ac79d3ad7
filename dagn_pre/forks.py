"""What survives a fork, and what does not: OpenMP's threads and CUDA do not."""

from __future__ import annotations

import os

import torch

from dagn_pre.errors import UsageError

_user: int | None = None  # the process in which a network was made or used first, which a forked one inherits


def mind_fork(device: torch.device | None = None) -> None:
    """Keep torch to one thread in a process that was forked from one which has made or used a network: OpenMP's threads do not
    survive a fork, and torch would wait for them for ever.

    Raises:
        UsageError: on CUDA, which does not survive it either.
    """
    global _user
    if _user is None:
        _user = os.getpid()
    elif _user != os.getpid():
        if device is not None and device.type == "cuda":
            raise UsageError('CUDA does not work in a forked process: start it by spawn, or restore with device="cpu"')
        torch.set_num_threads(1)
