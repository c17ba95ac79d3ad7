"""What looks on while a host tests: times, progress, sizes of files, images, and what a metric knows of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from dagn_pre.benchmarks.downstream.hosts import processes


class Stopwatch:
    """Keeps how long calls took, and how many images each was for; an observer of :mod:`dagn_pre.timing`."""

    def __init__(self) -> None:
        self.laps: list[tuple[float, int]] = []

    def __call__(self, seconds: float, images: int) -> None:
        self.laps.append((seconds, images))

    @property
    def images(self) -> int:
        """Those of this process."""
        return sum(images for _, images in self.laps)

    def milliseconds(self) -> float | None:
        """Per image, over all processes, without the first call of each (loading, warming up) unless it is the only one; None
        without images."""
        laps = [lap for lap in self.laps if lap[1]]
        laps = processes.gathered(laps[1:] or laps)
        return 1000 * sum(seconds for seconds, _ in laps) / sum(images for _, images in laps) if laps else None


class Progress(Hook):
    """Calls ``advance`` with the number of images after each tested batch, ``total`` in all."""

    def __init__(self, advance: Callable[[int], object], total: int):
        self.advance, self.left = advance, total

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done = min(len(outputs) * get_world_size(), self.left)  # other processes are as far, and may repeat the last
        self.left -= done
        self.advance(done)


class SizedPack:
    """A Pack step that notes in the data sample's metainfo of which file it is, and how large its JPEG was."""

    def __init__(self, pack: Callable):
        self.pack = pack

    def __call__(self, results: dict) -> dict:
        file = results["img_path"], len(results["jpeg_data"])
        packed = self.pack(results)
        packed["data_samples"].set_metainfo({"jpeg_file": file})
        return packed


class FileSizes(Hook):
    """Keeps what :class:`SizedPack` noted of all images tested in this process, bytes by path."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.bytes |= dict(sample.metainfo["jpeg_file"] for sample in outputs if "jpeg_file" in sample.metainfo)

    def mean(self) -> float | None:
        """Over all processes, which may have tested an image twice; None where no JPEG was made."""
        sizes = dict(processes.gathered(list(self.bytes.items()))).values()
        return sum(sizes) / len(sizes) if sizes else None


class KeepImage:
    """A pipeline step that keeps a copy of the image, as RGB."""

    def __call__(self, results: dict) -> dict:
        self.image = np.ascontiguousarray(results["img"][..., ::-1])
        return results


@contextmanager
def kept_areas(metrics: list) -> Iterator[list[tuple]]:
    """What mmseg's metric knows of each image, (intersection, union, predicted, true) pixels by class, when it scores."""
    kept: list[tuple] = []

    def watch(metric):
        compute = type(metric).compute_metrics

        def compute_metrics(results: list) -> dict:
            kept.extend(results)
            return compute(metric, results)

        return compute_metrics

    watched = [metric for metric in metrics if type(metric).__name__ == "IoUMetric"][:1]  # others may stand beside it
    for metric in watched:
        metric.compute_metrics = watch(metric)
    try:
        yield kept
    finally:
        for metric in watched:
            del metric.compute_metrics
