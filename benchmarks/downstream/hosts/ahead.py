"""Restoring on all cores: test images are made in processes of their own, into the cache that the model's pass then reads."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.utils import import_modules_from_strings

from dagn_pre.errors import UsageError, quiet
from dagn_pre.pool import cores

BLOCK = 8  # images a task


class Ahead:
    """Fills the cache with what a treated config's test data set loads, in ``workers`` processes that share the cores."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def fill(self, cfg: Config, images: int, advance: Callable[[int], object]) -> None:
        """Load the first ``images`` of the test data of ``cfg``; ``advance`` hears how many are done.

        Raises:
            Exception: what the first image that failed met.
        """
        data = cfg.test_dataloader.dataset.to_dict()
        imports = tuple(cfg.get("custom_imports", {}).get("imports", ()))
        described = pickle.dumps((cfg.get("default_scope"), imports, data))
        blocks = [range(start, min(start + BLOCK, images)) for start in range(0, images, BLOCK)]
        pending = [self.pool.submit(load, described, block) for block in blocks]
        try:
            for done in as_completed(pending):
                advance(done.result())
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def ahead(workers: int, device: str) -> Iterator[Ahead | None]:
    """An :class:`Ahead` of so many processes, started with the first image; None for one, the process of the model itself.

    Raises:
        UsageError: fewer than one, or several for a GPU.
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    if workers > 1 and device != "cpu":
        raise UsageError("several workers restore on the CPU: use --device cpu, or one worker for the GPU")
    if workers == 1:
        yield None
        return
    threads = max(1, cores() // workers)
    spawn = multiprocessing.get_context("spawn")  # OpenMP's threads do not survive a fork
    with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (threads,)) as pool:
        yield Ahead(pool)


def load(described: bytes, block: range) -> int:
    """In a worker: load images of a data set, which leaves them in the cache; returns how many."""
    loaded = dataset(described)
    with quiet():
        for index in block:
            loaded[index]
    return len(block)


@lru_cache(maxsize=1)
def dataset(described: bytes):
    """The data set that :meth:`Ahead.fill` describes to all blocks in the same way."""
    import dagn_pre.integrations.openmmlab  # noqa: F401  # registers the steps

    scope, imports, data = pickle.loads(described)
    import_modules_from_strings(list(imports))
    with quiet(), DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(data)
