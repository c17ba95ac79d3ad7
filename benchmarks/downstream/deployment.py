"""``dagn-pre bench deployment``: where to restore, by timing the ways to run a host's test.

Each arrangement (no restoring; the transform with and without workers, with an empty and with a filled cache; the preprocessor)
runs in a process of its own over the same images, compressed at one QF, and says milliseconds per image, how much of them
restoring and the model took, and the peak memory of its processes. They take turns, several rounds of them, and the median
counts: machines are noisy, so read the ratios.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from mmengine.hooks import Hook

from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.downstream.cases import Case, expand, prepare
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.downstream.hosts.observers import Stopwatch
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner
from dagn_pre.benchmarks.downstream.run import check_device
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.defaults import MODEL
from dagn_pre.errors import UsageError, quiet
from dagn_pre.files import write_atomic
from dagn_pre.integrations.openmmlab.insert import insert
from dagn_pre.timing import observed, timed

MIB = 2**20


@dataclass(frozen=True)
class Arrangement:
    """One way to run the test: where restoring happens (None: nowhere), workers of the data loader, and the cache's state."""

    where: str | None
    workers: int = 0
    cache: str | None = None  # "cold" (empty before) or "warm" (filled by the run before)

    @property
    def label(self) -> str:
        restoring = self.where or "no restoring"
        return ", ".join(filter(None, (restoring, f"{self.workers} workers", self.cache and f"{self.cache} cache")))


ARRANGEMENTS = (
    Arrangement(None),
    Arrangement("transform"),
    Arrangement("transform", workers=2),
    Arrangement("preprocessor"),
    Arrangement("transform", cache="cold"),
    Arrangement("transform", cache="warm"),
    Arrangement("transform", workers=2, cache="warm"),
)


class Clock(Hook):
    """When each image was done."""

    def __init__(self) -> None:
        self.done: list[float] = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.done += [time.perf_counter()] * len(outputs)


class PeakMemory(threading.Thread):
    """Samples how much memory this process and its workers hold together, shared pages counted once (PSS; RSS where the system
    does not tell)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.stopped = 0, threading.Event()

    def run(self) -> None:
        self.look()
        while not self.stopped.wait(0.5):  # looking slows them down
            self.look()

    def look(self) -> None:
        self.peak = max(self.peak, sum(map(held, family())))

    def stop(self) -> int:
        """The largest sum seen, in bytes."""
        self.stopped.set()
        self.join()
        return self.peak


def family() -> list[psutil.Process]:
    """This process and all below it."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def held(process: psutil.Process) -> int:
    """Bytes that a process holds; 0 for one that has just ended."""
    try:
        found = process.memory_full_info()
        return getattr(found, "pss", found.rss)
    except psutil.Error:
        return 0


def measure(arrangement: Arrangement, case: Case, cache_dir: str, settings: dict) -> dict:
    """Run one arrangement in this process.

    Returns:
        a row: {"arrangement", "where", "workers", "cache", "images", "ms_per_image" (the whole test, after the first quarter
        of the images), "restore_ms" (None where nothing is restored, or not in this process), "model_ms" (the model's step
        less what the preprocessor restored), "peak_bytes" (processes together), "cuda_peak_bytes" (None without CUDA)}.
    """
    torch.set_num_threads(settings["threads"])
    device = settings["device"]
    cfg = configs.for_testing(case.cfg, settings["limit"])
    if arrangement.where:
        forked = arrangement.where == "transform" and arrangement.workers  # CUDA is not for them
        options = {"where": arrangement.where, **{name: settings[name] for name in ("model", "dtype", "engine")}}
        options |= {"device": "cpu" if forked else device} if arrangement.where == "transform" else {}
        options |= {"cache_dir": cache_dir} if arrangement.cache else {}
        cfg = insert(cfg, compress=settings["quality"], splits=("test",), **options)
    else:
        cfg = insert(cfg, compress=settings["quality"], restore=False, splits=("test",))
    cfg.test_dataloader.num_workers = arrangement.workers
    testing, restoring = Stopwatch(), Stopwatch()
    with tempfile.TemporaryDirectory() as logs, observed(restoring), quiet():
        runner = HostRunner(cfg, case.checkpoint, device, Path(logs)).runner
        runner.model.test_step = timed(runner.model.test_step, testing, len)
        clock, memory = Clock(), PeakMemory()
        runner.register_hook(clock)
        memory.start()
        runner.test()
        peak = memory.stop()
    settled = len(clock.done) // 4
    restored = restoring.images
    restore_ms = (restoring.milliseconds() or 0) * restored / len(clock.done) if restored else None
    model_ms = (testing.milliseconds() or 0) - (restore_ms or 0 if arrangement.where == "preprocessor" else 0)
    return {
        **asdict(arrangement),
        "arrangement": arrangement.label,
        "images": len(clock.done),
        "ms_per_image": 1000 * (clock.done[-1] - clock.done[settled]) / (len(clock.done) - 1 - settled),
        "restore_ms": restore_ms,
        "model_ms": model_ms,
        "peak_bytes": peak,
        "cuda_peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


def compare(
    config: str,
    output: str | Path,
    data_root: str | Path | None = None,
    checkpoint: str | None = None,
    model: str = MODEL,
    quality: int = 10,
    limit: int = 24,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "torch",
    rounds: int = 3,
    arrangements: Sequence[Arrangement] = ARRANGEMENTS,
) -> dict:
    """Measure arrangements in turns; write ``deployment.json`` and ``deployment.md`` into ``output``.

    Args:
        config, data_root, checkpoint, device: as of ``run.run``; of "demo" the first config is taken.
        model, dtype, engine: the restorer's.
        quality: QF 1..100 that the images are compressed at.
        limit: images; the first quarter of them warms up.
        rounds: how often each arrangement is measured, each time with caches of its own; medians count.

    Returns:
        What deployment.json holds: {"rows": see :func:`measure`, "settings", "environment"}.

    Raises:
        UsageError: fewer than 8 images or 1 round, or a value outside its range.
        ConfigError, WeightsError: as of ``run.run``.
        BrokenProcessPool: an arrangement's process was killed.
    """
    if limit < 8:
        raise UsageError(f"limit must be at least 8 images, not {limit}")
    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, not {rounds}")
    output, device = Path(output), check_device(device)
    settings = {"quality": quality, "limit": limit, "rounds": rounds, "model": model, "device": device, "dtype": dtype}
    settings |= {"engine": engine, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as scratch:
        case = prepare(*next(expand([config], data_root, Path(scratch))), checkpoint)
        measured: dict[Arrangement, list[dict]] = {arrangement: [] for arrangement in arrangements}
        for number, arrangement in itertools.product(range(rounds), arrangements):
            # A process of its own: nothing is loaded yet, and its memory is its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                row = pool.submit(measure, arrangement, case, f"{scratch}/cache-{number}", settings).result()
            measured[arrangement].append(row)
            print(f"{arrangement.label}: {row['ms_per_image']:.0f} ms per image", file=sys.stderr)
    found = {
        "model": case.title,
        "settings": settings,
        "rows": [median(rows) for rows in measured.values()],
        "environment": environment.describe(device),
    }
    write_atomic(output / "deployment.json", (json.dumps(found, indent=2) + "\n").encode())
    write_atomic(output / "deployment.md", markdown(found).encode())
    return found


def median(rows: list[dict]) -> dict:
    """One row of several rounds: medians of the times, the largest memory."""
    times = {key: statistics.median(row[key] for row in rows) for key in ("ms_per_image", "model_ms")}
    if rows[0]["restore_ms"] is not None:
        times["restore_ms"] = statistics.median(row["restore_ms"] for row in rows)
    return {**rows[0], **times, "peak_bytes": max(row["peak_bytes"] for row in rows)}


def markdown(found: dict) -> str:
    """deployment.md: a row per arrangement, times as shares of what the test takes without restoring."""
    rows = found["rows"]
    unrestored = next((row for row in rows if row["where"] is None), None)
    lines = [["Arrangement", "ms per image", "restoring", "model", "restoring / model", "whole / no restoring", "MiB"]]
    for row in rows:
        restoring, whole = row["restore_ms"], row["ms_per_image"]
        lines.append(
            [
                row["arrangement"],
                f"{whole:.1f}",
                "-" if restoring is None else f"{restoring:.1f}",
                f"{row['model_ms']:.1f}",
                "-" if restoring is None else f"{restoring / row['model_ms']:.2f}",
                f"{whole / unrestored['ms_per_image']:.2f}" if unrestored else "-",
                f"{row['peak_bytes'] / MIB:.0f}",
            ]
        )
    settings, surroundings = found["settings"], found["environment"]
    about = (
        f"{found['model']}: {rows[0]['images']} images at QF {settings['quality']}, {settings['model']} in "
        f"{settings['dtype']}, {surroundings['device']}, {settings['threads']} thread(s) per process, median of "
        f"{settings['rounds']} rounds. "
        "ms per image: the whole test after the first quarter of the images. Restoring and the model's step are timed within "
        "it; restoring in workers happens beside the model and is not timed by itself (-). MiB: the largest memory of the "
        "test's processes together, shared pages counted once."
    )
    return "\n\n".join(["# Where to restore", about, "\n".join(aligned(lines, numbers_from=1))]) + "\n"
