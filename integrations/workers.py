"""What every restoring step of a pipeline has: the options of a restorer, and what to mind inside DataLoader workers."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from dagn_pre.errors import UsageError
from dagn_pre.options import check_options
from dagn_pre.restorer import Restorer, restorer_on

# The one default that is not the restorer's: each worker would take memory of the GPU that the host's model is on, and forked
# ones cannot use it.
DEVICE = "cpu"


class RestoringStep:
    """The options of a :class:`dagn_pre.Restorer` in an object that travels to workers, where the restorer is made.

    Attributes:
        options: those given, by name, with ``model`` and ``device``.
        checked: all of them, as :class:`dagn_pre.options.Options`.
    """

    def set_options(self, model: str | Path, options: dict) -> None:
        """Keep and check the options, as :func:`dagn_pre.options.check_options` does."""
        self.options = {"model": model, "device": DEVICE, **options}
        self.checked = check_options(**self.options)

    def restorer(self) -> Restorer:
        """The one of this process, made at the first call; raises UsageError for CUDA in a forked worker."""
        return restorer_on(usable_device(self.checked.device), self.checked)


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
