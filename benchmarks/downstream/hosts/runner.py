"""One host model, built once, tested over and over on differently treated images, by the host's own loop and metric."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner

from dagn_pre.benchmarks.downstream import scores
from dagn_pre.benchmarks.downstream.hosts import configs, processes
from dagn_pre.benchmarks.downstream.hosts.ahead import Ahead
from dagn_pre.benchmarks.downstream.hosts.observers import FileSizes, KeepImage, Progress, SizedPack, Stopwatch, kept_areas
from dagn_pre.benchmarks.downstream.inputs import RestoredInput
from dagn_pre.errors import ConfigError, DagnPreError, quiet
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress, checkpoints
from dagn_pre.integrations.openmmlab.insert import insert
from dagn_pre.timing import observed, timed


@dataclass(frozen=True)
class Measured:
    """What one pass over the images gave: what its score is made of (None but in the first process), milliseconds per
    image (``restore_ms`` 0 where none restores, None where all came from the cache), and the mean size of the JPEG files
    (None where none was made)."""

    scores: scores.Scores | None
    n_images: int
    restore_ms: float | None
    model_ms: float | None
    file_bytes: float | None


@dataclass(frozen=True)
class Prediction:
    """One test image as the model was fed it, and what it found.

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


@contextmanager
def host_errors(what: str, remedy: str = "its log is in the work dir") -> Iterator[None]:
    """Turn the host's own errors, which come in any class, into a DagnPreError; ours pass through."""
    try:
        yield
    except DagnPreError:
        raise
    except Exception as error:
        raise DagnPreError(f"{what} ({type(error).__name__}: {error}); {remedy}") from error


class HostRunner:
    """A host's Runner for one config, its weights loaded, that measures any treatment of the test images.

    Args:
        cfg: a config as ``configs.for_testing`` makes it.
        checkpoint: the file with the model's weights.
        device: "cpu" or "cuda", for the model and the restorer.
        cache_dir: keeps compressed and restored images; None keeps none.
        options: DAGNRestore's further ones.
        work_dir: takes the host's logs (``logs/``) and the detections (``detections/``).
        ahead: restores in processes of its own into the cache; None restores where the model runs.

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
        options: Mapping[str, object] | None = None,
        ahead: Ahead | None = None,
    ):
        self.ahead = ahead if cache_dir is not None else None
        self.cfg, self.device, self.work_dir, self.cache_dir = cfg, device, work_dir, cache_dir
        self.options = dict(options or {})
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
        self.scored = configs.scored(cfg, self.classes)
        infos = [dataset.get_data_info(index) for index in range(self.n_images)]
        self.names = [Path(info["img_path"]).name for info in infos]
        self.image_ids = [info.get("img_id") for info in infos]
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, "img_ids"):  # of a subset, COCO's metric would count the other images as missed
                metric.img_ids = self.image_ids

    def treated(self, quality: int | None, restorer: RestoredInput | None) -> Config:
        """The config with its test images compressed at ``quality`` (None: as they are) and restored (None: not)."""
        if quality is None and restorer is None:
            return self.cfg
        options: dict[str, Any] = {}
        if restorer:
            options = {"model": restorer.model, "strength": restorer.strength, "device": self.device, **self.options}
        cfg = insert(self.cfg, compress=quality, restore=restorer is not None, splits=("test",), **options)
        for leaf in configs.datasets(cfg.test_dataloader.dataset):
            for step in leaf["pipeline"]:
                if configs.kind(step) in ("JPEGCompress", "DAGNRestore") and self.cache_dir is not None:
                    step.cache_dir = str(self.cache_dir)
                if configs.kind(step) == "JPEGCompress" and restorer is not None and restorer.side_information:
                    step.update(side_information=True, side_model=restorer.model)
        return cfg

    def passes(self, restorer: RestoredInput | None) -> int:
        """How often :meth:`measure` goes through the images."""
        return 2 if self.ahead and restorer else 1

    def measure(
        self, name: str, quality: int | None, restorer: RestoredInput | None, advance: Callable[[int], object]
    ) -> Measured:
        """Test on the images compressed at ``quality`` (None: as they are) and restored by ``restorer`` (None: not).

        ``name`` is for the file that keeps the detections; ``advance`` hears of the images that are done, in each of
        :meth:`passes`.

        Raises:
            ConfigError: the config has no loading step; or the images hold no ground truth.
            DagnPreError: the host failed, on an image that cannot be read, say.
        """
        cfg = self.treated(quality, restorer)
        model = self.runner.model
        bar, sizes = Progress(advance, self.n_images), FileSizes()
        after = "finished cells are kept: after the repair, the same command goes on"
        with quiet(), host_errors(f"{name} failed", after):
            if self.ahead and restorer:
                self.ahead.fill(cfg, self.n_images, advance)
            self.loop.dataloader = self.runner.build_dataloader(cfg.test_dataloader, seed=0)
            if quality is not None:
                for leaf in leaves(self.loop.dataloader.dataset):
                    leaf.pipeline.transforms[-1] = SizedPack(leaf.pipeline.transforms[-1])
            testing, restoring = Stopwatch(), Stopwatch()
            model.test_step = timed(model.test_step, testing, len)
            for hook in (bar, sizes):
                self.runner.register_hook(hook)
            self.keep_detections(name)
            try:
                with kept_areas(self.loop.evaluator.metrics) as areas, observed(restoring):
                    self.runner.test()
            finally:
                del model.test_step  # the timed one stood before the class's own
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
                    metric._coco_api, f"{metric.outfile_prefix}.bbox.json", images, classes, metric.iou_thrs, self.scored
                )
        intersection, union = (np.stack([one[part].numpy() for one in areas]) for part in (0, 1))
        return scores.Areas(self.names, self.classes, intersection, union, self.scored)

    def predict(self, index: int, quality: int | None, restorer: RestoredInput | None) -> Prediction:
        """Run the model on one test image, treated as :meth:`measure` treats it."""
        with quiet(), host_errors(f"{self.names[index]} at QF {quality} cannot be shown"), torch.no_grad():
            dataset = self.runner.build_dataloader(self.treated(quality, restorer).test_dataloader, seed=0).dataset
            keep = KeepImage()
            for leaf in leaves(dataset):
                leaf.pipeline.transforms.insert(first_free(leaf.pipeline.transforms), keep)
            info = dataset.get_data_info(index)
            self.runner.model.eval()  # where all cells were there already, no test has done so
            sample = self.runner.model.test_step(pseudo_collate([dataset[index]]))[0].cpu()
            if not any(hasattr(metric, "outfile_prefix") for metric in self.loop.evaluator.metrics):  # scored by masks
                mask, truth = (sample.get(key).data.squeeze(0).numpy() for key in ("pred_sem_seg", "gt_sem_seg"))
                return Prediction(self.names[index], keep.image, [], mask, truth)
            found = sample.pred_instances
            boxes = zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist())
            return Prediction(
                self.names[index],
                keep.image,
                [self.box(box, label) | {"score": round(score, 3)} for box, label, score in boxes],
                None,
                [self.box(one["bbox"], one["bbox_label"]) for one in info["instances"] if not one.get("ignore_flag")],
            )

    def box(self, corners: list[float], label: int) -> dict:
        """A box for the report."""
        return {"box": [round(float(value), 1) for value in corners], "label": self.classes[label]}


def first_free(steps: list) -> int:
    """The place right behind the steps that load, compress and restore the image."""
    ours = [index for index, step in enumerate(steps) if isinstance(step, (JPEGCompress, DAGNRestore))]
    loading = [index for index, step in enumerate(steps) if type(step).__name__.startswith("LoadImage")]
    return (ours or loading)[-1] + 1


def leaves(dataset) -> Iterator:
    """The innermost data sets of a built one, out of whatever wraps them."""
    inner = getattr(dataset, "datasets", None) or ([dataset.dataset] if hasattr(dataset, "dataset") else [])
    for child in inner:
        yield from leaves(child)
    if not inner:
        yield dataset
