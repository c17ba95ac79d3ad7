"""A cell's score as a function of how often each image counts: over all images, per class and per image.

The hosts' metrics pool all images before they score, so neither mAP nor mIoU is a mean over images. Both can be computed again
for any weights of the images, though, from what their metrics know of each image: a resample that draws an image twice is a
weight of two. :class:`Detections` (COCO's mAP) and :class:`Areas` (mIoU) do so for many resamples at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BLOCK = 4_000_000  # numbers held at once while resampling


class Scores:
    """What a cell's score is made of.

    Attributes:
        images: names of the images, in the order of the data set.
        classes: names of the classes.
        scored: those that the score is the mean of; the others have too few images, say.
    """

    kind: str
    images: list[str]
    classes: list[str]
    scored: list[str]

    @property
    def columns(self) -> list[int]:
        """Places of the scored classes among all."""
        return [index for index, name in enumerate(self.classes) if name in self.scored]

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """The score in percent for each row of ``weights``, (B, images) float or int >= 0; (B,) float64, NaN without truth."""
        raise NotImplementedError

    def per_class(self) -> dict[str, float | None]:
        """The score of each class in percent over all images, None where none has ground truth."""
        raise NotImplementedError

    def per_image(self) -> np.ndarray:
        """The score of each image alone in percent, (images,) float64; NaN without truth."""
        raise NotImplementedError

    def part(self, chosen: np.ndarray) -> Scores:
        """The same of some images alone, by their indices, int ascending."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """All there is, as arrays that ``cells.read`` takes."""
        raise NotImplementedError

    def value(self) -> float:
        """The score over all images, each counted once."""
        return float(self.weighted(np.ones((1, len(self.images))))[0])


class Areas(Scores):
    """mIoU: intersection and union of each class in each image, (images, classes) in pixels.

    The score is the mean over the scored classes that occur of sum(intersection) / sum(union), as mmseg's IoUMetric has it.
    """

    kind = "areas"

    def __init__(self, images: list[str], classes: list[str], intersection, union, scored: list[str] | None = None):
        self.images, self.classes, self.scored = images, classes, list(classes if scored is None else scored)
        self.intersection, self.union = np.asarray(intersection, np.float64), np.asarray(union, np.float64)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        chosen = self.columns
        return mean_of_present(weights @ self.intersection[:, chosen], weights @ self.union[:, chosen])

    def per_class(self) -> dict[str, float | None]:
        union = self.union.sum(0)
        share = 100 * self.intersection.sum(0) / np.where(union, union, 1)
        return {name: float(value) if seen else None for name, value, seen in zip(self.classes, share, union)}

    def per_image(self) -> np.ndarray:
        chosen = self.columns
        return mean_of_present(self.intersection[:, chosen], self.union[:, chosen])

    def part(self, chosen: np.ndarray) -> Areas:
        names = [self.images[index] for index in chosen]
        return Areas(names, self.classes, self.intersection[chosen], self.union[chosen], self.scored)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"intersection": self.intersection, "union": self.union}


def mean_of_present(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Mean IoU in percent of each row, over the classes whose union is not empty; NaN where all are."""
    seen = union > 0
    shares = np.where(seen, intersection / np.where(seen, union, 1), 0).sum(1)
    counts = seen.sum(1)
    return np.where(counts, 100 * shares / np.maximum(counts, 1), np.nan)


class Detections(Scores):
    """COCO's mAP over IoU 0.50 to 0.95: each detection's image and whether it is a hit, sorted by score.

    Args:
        images, classes: names.
        category: (D,) the class of each detection, ascending.
        image: (D,) its image; within a class, detections stand by descending score.
        hit, ignored: (T, D) bool: matched to an object, or not to be counted, at each of T IoU thresholds.
        objects: (classes, images) how many there are to be found.
        recalls: (R,) the recalls that precision is read at (COCO: 0, 0.01, ..., 1).
        scored: names of the classes that the score is the mean of; None: all.
    """

    kind = "detections"

    def __init__(self, images, classes, category, image, hit, ignored, objects, recalls, scored=None):
        self.images, self.classes, self.scored = images, classes, list(classes if scored is None else scored)
        self.category, self.image = np.asarray(category), np.asarray(image)
        self.hit, self.ignored = np.asarray(hit, bool), np.asarray(ignored, bool)
        self.objects, self.recalls = np.asarray(objects, np.float64), np.asarray(recalls)
        self.bounds = np.searchsorted(self.category, np.arange(len(classes) + 1))

    @classmethod
    def of(cls, evaluation: COCOeval, images: dict[int, str], classes: dict[int, str], scored=None) -> Detections:
        """Out of a COCOeval whose ``evaluate`` has been called; ``images`` and ``classes`` map ids to names, in our order."""
        p = evaluation.params
        most, n_areas, n_images = p.maxDets[-1], len(p.areaRng), len(p.imgIds)
        columns = {image: column for column, image in enumerate(images)}
        objects = np.zeros((len(classes), len(images)), np.int32)
        none = np.zeros(0, np.int64)
        parts = {row: (none, none, np.zeros((len(p.iouThrs), 0)), np.zeros((len(p.iouThrs), 0))) for row in range(len(classes))}
        for place, category in enumerate(p.catIds):
            row, found = list(classes).index(category), []
            start = place * n_areas * n_images  # the first area is "all"
            for entry in filter(None, evaluation.evalImgs[start : start + n_images]):
                column = columns[entry["image_id"]]
                objects[row, column] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
                scores = np.asarray(entry["dtScores"][:most])
                hit, ignored = entry["dtMatches"][:, :most] > 0, entry["dtIgnore"][:, :most].astype(bool)
                found.append((scores, np.full(len(scores), column), hit, ignored))
            if found:
                scores, column, hit, ignored = (np.concatenate(part, axis=-1) for part in zip(*found))
                order = np.argsort(-scores, kind="mergesort")  # as COCOeval breaks ties
                parts[row] = np.full(len(order), row), column[order], hit[:, order], ignored[:, order]
        category, column, hit, ignored = (np.concatenate(part, axis=-1) for part in zip(*parts.values()))
        names = list(images.values()), list(classes.values())
        return cls(*names, category, column, hit, ignored, objects, p.recThrs, scored)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for index in self.columns:
            precision = self.average_precision(index, weights)
            present = ~np.isnan(precision)
            total[present] += precision[present]
            count += present
        return np.where(count, total / np.maximum(count, 1), np.nan)

    def per_class(self) -> dict[str, float | None]:
        ones = np.ones((1, len(self.images)))
        values = [self.average_precision(index, ones)[0] for index in range(len(self.classes))]
        return {name: None if np.isnan(value) else float(value) for name, value in zip(self.classes, values)}

    def per_image(self) -> np.ndarray:
        total, count, one = np.zeros(len(self.images)), np.zeros(len(self.images)), np.ones((1, 1))
        for index in self.columns:
            start, stop = self.bounds[index : index + 2]
            place = self.image[start:stop]
            for image in np.flatnonzero(self.objects[index]):
                own = start + np.flatnonzero(place == image)
                objects = self.objects[index, image : image + 1]
                total[image] += self.precision_at_recalls(own, np.zeros(len(own), np.int64), objects, one)[0]
                count[image] += 1
        return np.where(count, total / np.maximum(count, 1), np.nan)

    def average_precision(self, index: int, weights: np.ndarray) -> np.ndarray:
        """AP of one class in percent for each row of weights; NaN where it has no objects."""
        rows = np.arange(self.bounds[index], self.bounds[index + 1])
        size = max(1, BLOCK // max(1, len(rows)))
        blocks = (weights[start : start + size] for start in range(0, len(weights), size))
        return np.concatenate([self.precision_at_recalls(rows, self.image[rows], self.objects[index], w) for w in blocks])

    def precision_at_recalls(self, rows: np.ndarray, image: np.ndarray, objects: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """COCO's AP in percent of the detections ``rows``: precision, made to fall, averaged over recalls and thresholds.

        ``image`` is each detection's column of ``weights``, ``objects`` how many there are in each column. Only at hits does
        recall rise, and the precision read at a recall is the best at or beyond it: so it is enough to look at the hits.
        """
        wanted = weights @ objects
        counted = weights[:, image]
        everything = counted.cumsum(1) if not self.ignored[:, rows].any() else None
        total = np.zeros(len(weights))
        for hit, ignored in zip(self.hit[:, rows], self.ignored[:, rows]):
            hits = np.flatnonzero(hit & ~ignored)
            if not len(hits):
                continue
            true = counted[:, hits].cumsum(1)
            seen = (everything if everything is not None else (counted * ~ignored).cumsum(1))[:, hits]
            precision = true / np.maximum(seen, 1e-9)
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = true / np.maximum(wanted, 1e-9)[:, None]
            reached = np.searchsorted(self.recalls, recall.ravel(), side="right").reshape(recall.shape)
            total += (precision * np.diff(reached, axis=1, prepend=0)).sum(1)
        return np.where(wanted > 0, 100 * total / (len(self.recalls) * len(self.hit)), np.nan)

    def part(self, chosen: np.ndarray) -> Detections:
        columns = np.full(len(self.images), -1)
        columns[chosen] = np.arange(len(chosen))
        kept = columns[self.image] >= 0
        return Detections(
            [self.images[index] for index in chosen],
            self.classes,
            self.category[kept],
            columns[self.image[kept]],
            self.hit[:, kept],
            self.ignored[:, kept],
            self.objects[:, chosen],
            self.recalls,
            self.scored,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        names = ("category", "image", "hit", "ignored", "objects", "recalls")
        return {name: getattr(self, name) for name in names}


def detections(
    truth: COCO, found: str | Path, images: dict[int, str], classes: dict[int, str], iou_thresholds, scored=None
) -> Detections:
    """Match boxes with the truth as COCOeval does, the best 100 of each image.

    Args:
        truth: the annotations.
        found: COCO's results JSON with the boxes.
        images, classes: id -> name of the images and categories that count, in the order of the data set.
        iou_thresholds: COCO's are 0.50, 0.55, ..., 0.95.
        scored: see :class:`Detections`.
    """
    if Path(found).read_bytes().strip() == b"[]":  # loadRes takes no empty list
        results = COCO()
        results.dataset = {**truth.dataset, "annotations": []}
        results.createIndex()
    else:
        results = truth.loadRes(str(found))
    evaluation = COCOeval(truth, results, "bbox")
    evaluation.params.imgIds, evaluation.params.catIds = list(images), list(classes)
    evaluation.params.maxDets, evaluation.params.iouThrs = [100], np.asarray(iou_thresholds)
    evaluation.evaluate()
    return Detections.of(evaluation, images, classes, scored)
