"""``dagn-pre bench scale``: how ``dagn-pre restore`` grows with processes and with images.

Each arrangement is the command itself, in a process of its own, watched from outside by its manifest and its processes'
memory. They take turns, several rounds of them, and the median counts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from dagn_pre import codec, folders, pool
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration import ray_overhead
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.manifest import FOLDER, NAME

MIB = 2**20
LOOKS = 0.05  # seconds between two looks at a run
TINY = 16  # side of the images that memory is measured with, in pixels
IN_ONE_FOLDER = 1000


@dataclass(frozen=True)
class Arrangement:
    """One way to call the command: what is done to pixels, by how many processes of how many threads."""

    restoring: bool
    workers: int
    threads: int

    def __str__(self) -> str:
        what = "restoring" if self.restoring else "reading and writing alone"
        return f"{what}, {self.workers} x {self.threads} threads" if self.threads > 1 else f"{what}, {self.workers} x 1 thread"

    def arguments(self) -> list[str]:
        return ["--workers", str(self.workers), *([] if self.restoring else ["--strength", "0"])]


@dataclass
class Watched:
    """What was seen of one run: images done, seconds to the first rows, images per second from there to the last, and the
    largest memory in bytes of the process that was called, of one of its workers, and of all together (pages that they share
    counted once; where the system does not tell, as often as they are shared)."""

    images: int = 0
    start: float = 0.0
    rate: float = 0.0
    parent: int = 0
    worker: int = 0
    together: int = 0


def measure(
    folder: Path,
    model: str,
    device: str,
    workers: Sequence[int],
    rounds: int,
    counts: Sequence[int],
    blocks: Sequence[int] = (),
    log=lambda text: None,
) -> dict:
    """Measure throughput on the images of a folder, memory on so many tiny images, and what Ray costs per image.

    Args:
        folder: of images.
        model, device: as of the command.
        workers: numbers of processes, beside the one process that has all threads.
        rounds: of which the medians count.
        counts: of tiny images; none for no measurement of memory.
        blocks: of so many images, through Ray (:mod:`dagn_pre.benchmarks.restoration.ray_overhead`); none for none.
        log: told of each run.

    Returns:
        {"model", "images", "environment", "throughput": rows {"arrangement", "restoring", "workers", "threads", "start_s",
        "images_per_s"}, "memory": rows {"images", "workers", "parent_bytes", "worker_bytes", "together_bytes"}, "ray": rows
        {"block", "cluster", "alone"}, milliseconds per image}.

    Raises:
        UsageError: a folder without images, a number below 1.
        DagnPreError: a run that failed; Ray is asked for and not installed.
    """
    if rounds < 1 or any(number < 1 for number in (*workers, *counts, *blocks)):
        raise UsageError("numbers of workers, images and rounds must be 1 or more")
    found = folders.find_images(folder)
    if not found:
        raise UsageError(f"{folder}: no images in it")
    cores = pool.cores()
    ways = dict.fromkeys(
        Arrangement(restoring, number, threads)
        for restoring in (True, False)
        for number, threads in [(1, cores), *((number, max(1, cores // number)) for number in workers), (1, 1)]
    )
    options = ["--model", model, "--device", device]
    with tempfile.TemporaryDirectory() as place:
        seen: dict[Arrangement, list[Watched]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways:
                log(f"round {number + 1}: {way}")
                out = Path(place, f"{number}-{len(seen[way])}-{hash(way)}")
                seen[way].append(watch([str(folder), str(out), *options, *way.arguments()], out, way.threads))
        memory = []
        for count in counts:
            log(f"memory: {count} images")
            source, out = Path(place, f"in-{count}"), Path(place, f"out-{count}")
            write_tiny(source, count)
            one = watch([str(source), str(out), *options, "--workers", str(max(workers))], out, max(1, cores // max(workers)))
            memory.append(
                {"images": one.images, "workers": max(workers), "parent_bytes": one.parent, "worker_bytes": one.worker,
                 "together_bytes": one.together}
            )  # fmt: skip
    throughput = [
        {
            "arrangement": str(way),
            "restoring": way.restoring,
            "workers": way.workers,
            "threads": way.threads,
            "start_s": statistics.median(one.start for one in runs),
            "images_per_s": statistics.median(one.rate for one in runs),
        }
        for way, runs in seen.items()
    ]
    described = environment.describe("cpu", ("dagn_pre", "torch", "numpy")) | {"threads": cores}
    ray = []
    if blocks:
        log("Ray")
        ray = [asdict(one) for one in ray_overhead.ray_overhead(blocks=blocks)]
    return {
        "model": model,
        "images": len(found),
        "environment": described,
        "throughput": throughput,
        "memory": memory,
        "ray": ray,
    }


def watch(words: Sequence[str], out: Path, threads: int) -> Watched:
    """Run ``dagn-pre restore`` and look at it until it ends.

    Raises:
        DagnPreError: it failed.
    """
    command = [sys.executable, "-m", "dagn_pre.cli.main", "restore", *words]
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    seen, begun = Watched(), time.perf_counter()
    changes: list[tuple[float, int]] = []  # seconds, rows
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=surroundings)
        family = psutil.Process(process.pid)
        try:
            for rows in _rows(out / FOLDER / f"{NAME}.jsonl", process):
                if rows > (changes[-1][1] if changes else 0):
                    changes.append((time.perf_counter() - begun, rows))
                _look(family, seen)
        finally:
            process.kill()
            status = process.wait()
        if status or not changes:
            errors.seek(0)
            raise DagnPreError(f"dagn-pre restore ended with status {status}: {errors.read().decode(errors='replace').strip()}")
    (seen.start, first), (end, seen.images) = changes[0], changes[-1]
    if end == seen.start:
        raise UsageError(f"{seen.images} images are too few to tell how many are done in a second")
    seen.rate = (seen.images - first) / (end - seen.start)
    return seen


def _rows(path: Path, process: subprocess.Popen) -> Iterator[int]:
    """How many rows a manifest has, time and again, and once more when the process has ended."""
    rows, position, over = 0, 0, False
    while not over:
        over = process.poll() is not None
        if path.exists():
            with open(path, "rb") as file:
                file.seek(position)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    position += len(line)
                    rows += line.startswith(b'{"source"')
        yield rows
        time.sleep(0 if over else LOOKS)


def _look(parent: psutil.Process, seen: Watched) -> None:
    with suppress(psutil.Error):  # it has just ended
        family = parent.children(recursive=True)
        seen.parent = max(seen.parent, parent.memory_info().rss)
        for one in family:
            with suppress(psutil.Error):
                seen.worker = max(seen.worker, one.memory_info().rss)
        together = 0
        for one in (parent, *family):
            with suppress(psutil.Error):
                found = one.memory_full_info()
                together += getattr(found, "pss", found.rss)
        seen.together = max(seen.together, together)


def write_tiny(folder: Path, count: int) -> None:
    """So many JPEGs of 16x16 pixels, a thousand in each sub-folder."""
    rng = np.random.default_rng(0)
    data = [codec.encode(rng.integers(0, 256, (TINY, TINY, 3), np.uint8), 20) for _ in range(16)]
    for number in range(count):
        path = folder / f"{number // IN_ONE_FOLDER:05}" / f"{number:08}.jpg"
        if number % IN_ONE_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(data[number % len(data)])


def markdown(found: dict) -> str:
    """The tables."""
    lines = [["arrangement", "images/s", "start, s"]]
    lines += [[row["arrangement"], f"{row['images_per_s']:.2f}", f"{row['start_s']:.1f}"] for row in found["throughput"]]
    parts = [f"{found['model']}, {found['images']} images:", "", *aligned(lines, 1)]
    if found["memory"]:
        lines = [["images of 16x16", "parent, MiB", "worker, MiB", "together, MiB"]]
        for row in found["memory"]:
            sizes = (row[f"{name}_bytes"] / MIB for name in ("parent", "worker", "together"))
            lines.append([str(row["images"]), *(f"{size:.0f}" for size in sizes)])
        parts += ["", f"Memory with {found['memory'][0]['workers']} processes, the largest seen:", "", *aligned(lines, 0)]
    if found["ray"]:
        lines = [["images a block", "ms on a cluster", "ms in one process", "Ray, ms per image"]]
        for row in found["ray"]:
            times = row["cluster"], row["alone"], row["cluster"] - row["alone"]
            lines.append([str(row["block"]), *(f"{time:.2f}" for time in times)])
        parts += ["", "Small images that need nothing, one worker:", "", *aligned(lines, 0)]
    return "\n".join(parts)
