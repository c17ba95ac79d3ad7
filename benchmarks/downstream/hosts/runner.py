"""One host model, built once, tested over and over on differently treated images, by the host's own loop and metric."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dagn_pre.benchmarks.downstream import scores
from dagn_pre.benchmarks.downstream.hosts import configs, processes
from dagn_pre.benchmarks.downstream.hosts.configs import quiet
from dagn_pre.benchmarks.downstream.inputs import Restoring
from dagn_pre.errors import ConfigError, DagnPreError
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress, checkpoints
from dagn_pre.integrations.openmmlab.insert import insert
from dagn_pre.restorer import Restorer


@dataclass(frozen=True)
class Measured:
    """What one pass over the images gave: what its score is made of (None but in the first process), milliseconds per
    image (``restore_ms`` 0 where none restores, None where all came from the cache), and the mean size of the JPEG files
    (None where none was made)."""

    scores: scores.Scores | None
    n_images: int
    restore_ms: float | None
    model_ms: float
    file_bytes: float | None


@dataclass(frozen=True)
class Seen:
    """One test image as the model saw it, and what it found.

    Attributes:
        name: the file's.
        image: (H, W, 3) uint8 RGB, treated, at its original size.
        boxes: of a detector: {"box": [x1, y1, x2, y2] in pixels, "label", "score"}.
        mask: of a segmenter: (H, W) labels; None of a detector.
        truth: boxes without a score, or a mask.
    """

    name: str
    image: np.ndarray
    boxes: list[dict]
    mask: np.ndarray | None
    truth: list[dict] | np.ndarray


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

    def milliseconds(self) -> float | None:
        """Per image, over all processes, without the first call of each (loading, warming up) unless it is the only one; None
        without images."""
        laps = [lap for lap in self.laps if lap[1]]
        laps = processes.gathered(laps[1:] or laps)
        return 1000 * sum(seconds for seconds, _ in laps) / sum(images for _, images in laps) if laps else None


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


class HostRunner:
    """A host's Runner for one config, its weights loaded, that measures any treatment of the test images.

    Args:
        cfg: a config as ``configs.for_testing`` makes it.
        checkpoint: the file with the model's weights.
        device: "cpu" or "cuda", for the model and the restorer.
        cache_dir: keeps compressed and restored images; None keeps none.
        restoring: DAGNRestore's further options.
        work_dir: takes the host's logs (``logs/``) and the detections (``detections/``).

    Raises:
        WeightsError: see ``checkpoints.load``.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: Path,
        device: str,
        work_dir: Path,
        cache_dir: Path | None = None,
        restoring: Mapping[str, object] | None = None,
    ):
        self.cfg, self.device, self.work_dir, self.cache_dir = cfg, device, work_dir, cache_dir
        self.restoring = dict(restoring or {})
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
        dataset = self.loop.dataloader.dataset
        self.n_images = len(dataset)
        if not self.n_images:
            raise ConfigError(f"the test data of config {Path(cfg.filename).stem} hold no images: check --data-root")
        self.classes, self.palette = list(dataset.metainfo["classes"]), dataset.metainfo.get("palette")
        infos = [dataset.get_data_info(index) for index in range(self.n_images)]
        self.names = [Path(info["img_path"]).name for info in infos]
        self.image_ids = [info.get("img_id") for info in infos]
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "img_ids"):  # of a subset, COCO's metric would count the other images as missed
                metric.img_ids = self.image_ids

    def treated(self, quality: int | None, restorer: Restoring | None) -> Config:
        """The config with its test images compressed at ``quality`` (None: as they are) and restored (None: not)."""
        if quality is None and restorer is None:
            return self.cfg
        options = {}
        if restorer:
            options = {"model": restorer.model, "strength": restorer.strength, "device": self.device, **self.restoring}
        cfg = insert(self.cfg, compress=quality, restore=restorer is not None, splits=("test",), **options)
        for leaf in configs.datasets(cfg.test_dataloader.dataset):
            for step in leaf.pipeline:
                if configs.kind(step) in ("JPEGCompress", "DAGNRestore") and self.cache_dir is not None:
                    step.cache_dir = str(self.cache_dir)
                if configs.kind(step) == "JPEGCompress" and restorer is not None and restorer.side_information:
                    step.update(side_info=True, side_model=restorer.model)
        return cfg

    def measure(
        self, name: str, quality: int | None, restorer: Restoring | None, advance: Callable[[int], object]
    ) -> Measured:
        """Test on the images compressed at ``quality`` (None: as they are) and restored by ``restorer`` (None: not).

        ``name`` is for the file that keeps the detections; ``advance`` hears of the images that are done.

        Raises:
            ConfigError: the config has no loading step; or the images hold no ground truth.
            DagnPreError: the host failed, on an image that cannot be read, say.
        """
        cfg = self.treated(quality, restorer)
        model = self.runner.model
        bar, sizes = Progress(advance, self.n_images), FileSizes()
        after = "finished cells are kept: after the repair, the same command goes on"
        with quiet(), host_errors(f"{name} failed", after):
            self.loop.dataloader = self.runner.build_dataloader(cfg.test_dataloader, seed=0)
            if quality is not None:
                for leaf in plain(self.loop.dataloader.dataset):
                    leaf.pipeline.transforms[-1] = SizedPack(leaf.pipeline.transforms[-1])
            testing = model.test_step = Stopwatch(model.test_step, size=len)
            for hook in (bar, sizes):
                self.runner.register_hook(hook)
            self.keep_detections(name)
            try:
                with kept_areas(self.loop.evaluator.metrics) as areas, watched_restorers() as restoring:
                    self.runner.test()
            finally:
                del model.test_step  # the stopwatch stood before the class's own
                for hook in (bar, sizes):
                    self.runner.hooks.remove(hook)
            found = self.score(areas) if processes.is_main_process() else None
        if processes.of_main(found is not None and math.isnan(found.value())):
            raise ConfigError(f"{name} cannot be scored: its {self.n_images} images hold no ground truth")
        restore_ms = restoring.milliseconds() if restorer else 0.0
        return Measured(found, self.n_images, restore_ms, testing.milliseconds(), sizes.mean())

    def keep_detections(self, name: str) -> None:
        """Let COCO's metric write what it scores."""
        folder = self.work_dir / "detections"
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "outfile_prefix"):
                folder.mkdir(parents=True, exist_ok=True)
                metric.outfile_prefix = str(folder / name)

    def score(self, areas: list[tuple]) -> scores.Scores:
        """What the score of the test that has just ended is made of; ``areas`` are those of :func:`kept_areas`."""
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "outfile_prefix"):
                images = dict(zip(self.image_ids, self.names))
                classes = dict(zip(metric.cat_ids, self.classes))
                return scores.detections(
                    metric._coco_api, f"{metric.outfile_prefix}.bbox.json", images, classes, metric.iou_thrs
                )
        intersection, union = (np.stack([one[part].numpy() for one in areas]) for part in (0, 1))
        return scores.Areas(self.names, self.classes, intersection, union)

    def look(self, index: int, quality: int | None, restorer: Restoring | None) -> Seen:
        """Run the model on one test image, treated as :meth:`measure` treats it."""
        with quiet(), host_errors(f"{self.names[index]} at QF {quality} cannot be shown"), torch.no_grad():
            dataset = self.runner.build_dataloader(self.treated(quality, restorer).test_dataloader, seed=0).dataset
            keep = KeepImage()
            for leaf in plain(dataset):
                leaf.pipeline.transforms.insert(first_free(leaf.pipeline.transforms), keep)
            info = dataset.get_data_info(index)
            self.runner.model.eval()  # where all cells were there already, no test has done so
            sample = self.runner.model.test_step(pseudo_collate([dataset[index]]))[0].cpu()
            if not any(hasattr(metric, "outfile_prefix") for metric in self.loop.evaluator.metrics):  # scored by masks
                mask, truth = (sample.get(key).data.squeeze(0).numpy() for key in ("pred_sem_seg", "gt_sem_seg"))
                return Seen(self.names[index], keep.image, [], mask, truth)
            found = sample.pred_instances
            boxes = zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist())
            return Seen(
                self.names[index],
                keep.image,
                [self.box(box, label) | {"score": round(score, 3)} for box, label, score in boxes],
                None,
                [self.box(one["bbox"], one["bbox_label"]) for one in info["instances"] if not one.get("ignore_flag")],
            )

    def box(self, corners: list[float], label: int) -> dict:
        """A box for the report."""
        return {"box": [round(float(value), 1) for value in corners], "label": self.classes[label]}


class KeepImage:
    """A pipeline step that keeps a copy of the image, as RGB."""

    def __call__(self, results: dict) -> dict:
        self.image = np.ascontiguousarray(results["img"][..., ::-1])
        return results


def first_free(steps: list) -> int:
    """The place right behind the steps that load, compress and restore the image."""
    ours = [index for index, step in enumerate(steps) if isinstance(step, (JPEGCompress, DAGNRestore))]
    loading = [index for index, step in enumerate(steps) if type(step).__name__.startswith("LoadImage")]
    return (ours or loading)[-1] + 1


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


@contextmanager
def watched_restorers() -> Iterator[Stopwatch]:
    """A stopwatch around every call of a Restorer in this process; in workers nobody looks at it."""
    restore = Restorer.__call__
    watch = Stopwatch(restore, size=lambda done: len(done) if isinstance(done, list) else 1)
    Restorer.__call__ = lambda *args, **kwargs: watch(*args, **kwargs)
    try:
        yield watch
    finally:
        Restorer.__call__ = restore


def plain(dataset) -> Iterator:
    """The plain data sets in a built one, out of whatever wraps them."""
    inner = getattr(dataset, "datasets", None) or ([dataset.dataset] if hasattr(dataset, "dataset") else [])
    for child in inner:
        yield from plain(child)
    if not inner:
        yield dataset
