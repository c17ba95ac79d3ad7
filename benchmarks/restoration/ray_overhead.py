"""What Ray costs per image: blocks of images that need nothing, on a cluster of this machine with one worker, against the same
calls in one process.

The images are small JPEGs of QF 95, which are read, looked at and written as they are, so that little but the overhead is
measured. Starting the cluster and the worker is left out: the time counts from the end of the first block to that of the last.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dagn_pre.integrations.ray.blocks import BlockActor, Summary, Task
from dagn_pre.integrations.ray.cluster import connected, run_blocks
from dagn_pre.layouts import SAME, Part, Tree
from dagn_pre.manifest import Header
from dagn_pre.storage import Store

BLOCKS = (1, 16, 64)  # images
COUNT = 32  # blocks of each size
OPTIONS = {"model": "dagn-xs", "device": "cpu", "dtype": "float32"}


@dataclass(frozen=True)
class Overhead:
    """Milliseconds per image.

    Attributes:
        block: images a block.
        cluster: on the cluster.
        alone: the same calls in this process.
    """

    block: int
    cluster: float
    alone: float


class _Alone(BlockActor):
    """In this process: nobody keeps a ledger."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        return 1 if method == "begin" else None


def ray_overhead(cluster: str = "local", blocks: Sequence[int] = BLOCKS, count: int = COUNT) -> list[Overhead]:
    """Measure each block size, with ``count`` blocks of it.

    Args:
        cluster: as :func:`dagn_pre.integrations.ray.restore_dataset` has it.

    Raises:
        DagnPreError: Ray is not installed; no cluster there.
    """
    buffer = io.BytesIO()
    Image.effect_noise((48, 32), 40).convert("RGB").save(buffer, "JPEG", quality=95)
    found = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        source = Path(folder, "source")
        source.mkdir()
        for i in range(count * max(blocks)):
            (source / f"{i}.jpg").write_bytes(buffer.getvalue())
        stack.enter_context(connected(cluster))
        for size in blocks:
            parts = [part for parts in Tree(Store(source), Store(folder), SAME).folders() for part in parts][: size * count]
            divided = [(number, parts[number * size : (number + 1) * size]) for number in range(count)]
            alone = _seconds_per_block(divided, Path(folder, f"alone-{size}"), source, None)
            there = _seconds_per_block(divided, Path(folder, f"cluster-{size}"), source, 1)
            found.append(Overhead(size, 1000 * there / size, 1000 * alone / size))
    return found


def _seconds_per_block(divided: list[tuple[int, list[Part]]], target: Path, source: Path, workers: int | None) -> float:
    task = Task(Tree(Store(source), Store(target), SAME), dict(OPTIONS), Header.now({}), "overhead")
    ends: list[float] = []

    def told(one: Summary) -> None:
        assert one.states["untouched"] == sum(one.states.values())
        ends.append(time.perf_counter())

    if workers is None:
        actor = _Alone(task, None)
        for number, parts in divided:
            told(actor.block(number, parts))
    else:
        run_blocks(divided, task, workers, 1, 0, told)
    return (ends[-1] - ends[0]) / (len(ends) - 1)
