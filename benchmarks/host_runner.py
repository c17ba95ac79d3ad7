"""One host model, built once, tested over and over on differently treated images, by the host's own loop and metric."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools.cocoeval import COCOeval

from dagn_pre.benchmarks import checkpoints, processes
from dagn_pre.benchmarks.hosts import quiet
from dagn_pre.errors import ConfigError, DagnPreError
from dagn_pre.integrations.openmmlab import DAGNRestore
from dagn_pre.integrations.openmmlab.insert import insert


@dataclass(frozen=True)
class Measured:
    """What one pass over the images gave: the score in percent, and milliseconds per image (0 where none restores)."""

    value: float
    n_images: int
    restore_ms: float
    model_ms: float


class Stopwatch:
    """Calls through and keeps how long each call took; ``size`` tells from the output how many images it was for."""

    def __init__(self, call: Callable, size: Callable = lambda output: 1):
        self.call, self.size, self.laps = call, size, []

    def __call__(self, *args, **kwargs):
        synchronize()
        start = time.perf_counter()
        output = self.call(*args, **kwargs)
        synchronize()
        self.laps.append((time.perf_counter() - start, self.size(output)))
        return output

    def milliseconds(self) -> float:
        """Per image, over all processes, without the first call of each (loading, warming up) unless it is the only one."""
        laps = processes.gathered(self.laps[1:] or self.laps)
        return 1000 * sum(seconds for seconds, _ in laps) / sum(images for _, images in laps)


def synchronize() -> None:
    """Wait for the GPU, if one is in use, so that times are of the work and not of its queueing."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def host_errors(what: str, remedy: str = "its log is in the work dir") -> Iterator[None]:
    """Turn the host's own errors, which come in any class, into a DagnPreError; ours pass through."""
    try:
        yield
    except DagnPreError:
        raise
    except Exception as error:
        raise DagnPreError(f"{what} ({type(error).__name__}: {error}); {remedy}") from error


class Progress(Hook):
    """Calls ``advance`` with the number of images after each tested batch, ``total`` in all."""

    def __init__(self, advance: Callable[[int], object], total: int):
        self.advance, self.left = advance, total

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done = min(len(outputs) * get_world_size(), self.left)  # other processes are as far, and may repeat the last
        self.left -= done
        self.advance(done)


class HostRunner:
    """A host's Runner for one config, its weights loaded, that measures any treatment of the test images.

    Args:
        cfg: a config as ``hosts.for_testing`` makes it.
        checkpoint: the file with the model's weights.
        device: "cpu" or "cuda", for the model and the restorer.
        work_dir: takes the host's logs (``logs/``) and the detections (``detections/``).

    Raises:
        WeightsError: see ``checkpoints.load``.
    """

    def __init__(self, cfg: Config, checkpoint: Path, device: str, work_dir: Path):
        self.cfg, self.device, self.work_dir = cfg, device, work_dir
        built = cfg.copy()
        built.work_dir = str(work_dir / "logs")
        # The host's loggers are kept by experiment name and second; two runs within one second must not share one.
        built.experiment_name = f"{Path(cfg.filename).stem}-{uuid.uuid4().hex[:8]}"
        with quiet(), host_errors(f"the Runner of config {Path(cfg.filename).stem} cannot be built"):
            self.runner = Runner.from_cfg(built)
            for handler in list(self.runner.logger.handlers):
                if not hasattr(handler, "baseFilename"):  # the console's; the log file keeps everything
                    self.runner.logger.removeHandler(handler)
            model = self.runner.model.to(device)
            self.loop = self.runner.test_loop
            checkpoints.load(model, checkpoint, self.loop.dataloader.dataset.metainfo.get("classes"))
        for metric in self.loop.evaluator.metrics:  # gather through torch.distributed, not by files in the current folder
            metric.collect_device, metric.collect_dir = "gpu", None
        self.n_images = len(self.loop.dataloader.dataset)
        if not self.n_images:
            raise ConfigError(f"the test data of config {Path(cfg.filename).stem} hold no images: check --data-root")
        if "indices" in cfg.test_dataloader.dataset:
            self.limit_truth()

    def limit_truth(self) -> None:
        """Keep COCO's metric from counting the images beyond the limit as missed."""
        dataset = self.loop.dataloader.dataset
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "img_ids"):
                metric.img_ids = [dataset.get_data_info(index)["img_id"] for index in range(len(dataset))]

    def measure(
        self, name: str, quality: int | None, restorer: str | None, advance: Callable[[int], object]
    ) -> Measured:
        """Test on the images compressed at ``quality`` (None: as they are) and restored by ``restorer`` (None: not).

        ``name`` is for the file that keeps the detections; ``advance`` hears of the images that are done.

        Raises:
            ConfigError: the config has no loading step; or the images hold no ground truth.
            DagnPreError: the host failed, on an image that cannot be read, say.
        """
        cfg = self.cfg
        if quality is not None or restorer is not None:
            options = {"model": restorer, "device": self.device} if restorer else {}
            cfg = insert(cfg, compress=quality, restore=restorer is not None, splits=("test",), **options)
        model = self.runner.model
        bar = Progress(advance, self.n_images)
        after = "finished cells are kept: after the repair, the same command goes on"
        with quiet(), host_errors(f"{name} failed", after):
            self.loop.dataloader = self.runner.build_dataloader(cfg.test_dataloader, seed=0)
            restoring = watch_restorers(self.loop.dataloader.dataset)
            testing = model.test_step = Stopwatch(model.test_step, size=len)
            self.runner.register_hook(bar)
            self.keep_detections(name)
            try:
                metrics = self.runner.test()
            finally:
                del model.test_step  # the stopwatch stood before the class's own
                self.runner.hooks.remove(bar)
            value = processes.of_main(self.score(metrics) if processes.is_main_process() else None)
        if math.isnan(value):
            raise ConfigError(f"{name} cannot be scored: its {self.n_images} images hold no ground truth")
        milliseconds = sum((watch.milliseconds() for watch in restoring), 0.0)
        return Measured(value, self.n_images, milliseconds, testing.milliseconds())

    def keep_detections(self, name: str) -> None:
        """Let COCO's metric write what it scores."""
        folder = self.work_dir / "detections"
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "outfile_prefix"):
                folder.mkdir(parents=True, exist_ok=True)
                metric.outfile_prefix = str(folder / name)

    def score(self, metrics: dict[str, float]) -> float:
        """The metric in percent out of what the host's evaluation returned; NaN without ground truth."""
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "outfile_prefix"):
                return 100 * mean_average_precision(metric)
        return next(float(value) for key, value in metrics.items() if key.rpartition("/")[2] == "mIoU")


def mean_average_precision(metric) -> float:
    """Box mAP of what a CocoMetric has just scored, 0..1: its own figure, which it rounds to 0.1 %, with all digits.

    ``metric`` still holds ground truth, categories and images, and wrote the detections to its ``outfile_prefix``. NaN
    when there is no ground truth; 0 when nothing was detected at all, where the host returns no figure.
    """
    truth, path = metric._coco_api, Path(f"{metric.outfile_prefix}.bbox.json")
    if not truth.getAnnIds(imgIds=metric.img_ids, catIds=metric.cat_ids, iscrowd=False):
        return math.nan
    if path.read_bytes().strip() == b"[]":
        return 0.0
    evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
    evaluation.params.catIds, evaluation.params.imgIds = metric.cat_ids, metric.img_ids
    evaluation.params.maxDets, evaluation.params.iouThrs = list(metric.proposal_nums), metric.iou_thrs
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def watch_restorers(dataset) -> list[Stopwatch]:
    """Put a stopwatch around each DAGNRestore in a built data set, or in those it wraps."""
    watches = []
    for leaf in plain(dataset):
        steps = leaf.pipeline.transforms
        for index, step in enumerate(steps):
            if isinstance(step, DAGNRestore):
                steps[index] = Stopwatch(step)
                watches.append(steps[index])
    return watches


def plain(dataset) -> Iterator:
    """The plain data sets in a built one, out of whatever wraps them."""
    inner = getattr(dataset, "datasets", None) or ([dataset.dataset] if hasattr(dataset, "dataset") else [])
    for child in inner:
        yield from plain(child)
    if not inner:
        yield dataset
