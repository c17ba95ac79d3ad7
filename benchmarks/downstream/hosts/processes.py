"""The processes that a launcher such as torchrun has started, where several share a cell: each tests some of the images.

mmengine's loop does most of it as soon as torch.distributed runs: its samplers deal the images out in turns, and its metrics
gather in the first process, in the data set's order, what all have found. An error ends the process that meets it, and
torchrun then ends the others; none waits for them by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_gather_object, barrier, broadcast_object_list, is_distributed, is_main_process

from dagn_pre.training.processes import join_processes, leave_processes

__all__ = ["gathered", "is_main_process", "join_processes", "leave", "main_first", "of_main", "tells"]


@contextmanager
def main_first() -> Iterator[None]:
    """Run the body in the first process while the others wait, then in those."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def of_main(value):
    """What ``value`` is in the first process, in all of them; it is pickled on the way."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def gathered(items: list) -> list:
    """The items of all processes, one after the other."""
    return [item for part in all_gather_object(items) for item in part]


def tells() -> bool:
    """Whether this process is the first that asks, and so the one to print the error that ends them all."""
    if not is_distributed():
        return True
    return torch.distributed.distributed_c10d._get_default_store().add("dagn-pre/told", 1) == 1


def leave() -> None:
    """End torch.distributed when all processes have come this far; nothing where it does not run."""
    if is_distributed():
        barrier()
        leave_processes()
