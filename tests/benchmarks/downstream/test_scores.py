"""Scores as functions of image weights, against pycocotools on images that are really there twice, and against numpy."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dagn_pre.benchmarks.downstream import bootstrap, pictures, scores
from dagn_pre.benchmarks.downstream.cells import read, write
from dagn_pre.errors import ConfigError

IMAGES, CLASSES = 30, 5


def world(folder, found: bool = True) -> tuple[COCO, str]:
    """Annotations with crowds, and detections: near misses, false ones, some images with neither."""
    rng = np.random.default_rng(0)

    def box() -> list[float]:
        return [float(value) for value in (*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2))]

    images = [{"id": 7 * index + 3, "file_name": f"{index}.jpg", "width": 100, "height": 100} for index in range(IMAGES)]
    truth, detected = [], []
    for image in images[2:]:
        for _ in range(rng.integers(0, 8)):
            category, corners = int(rng.integers(1, CLASSES)), box()  # the last class never occurs
            note = {"id": len(truth) + 1, "image_id": image["id"], "category_id": category, "bbox": corners}
            truth.append({**note, "area": corners[2] * corners[3], "iscrowd": int(rng.random() < 0.1)})
            if rng.random() < 0.8:
                near = [value + float(rng.normal(0, 2)) for value in corners]
                detected.append({"image_id": image["id"], "category_id": category, "bbox": near, "score": rng.random()})
        for _ in range(6):
            false = {"image_id": image["id"], "category_id": int(rng.integers(1, CLASSES + 1)), "bbox": box()}
            detected.append({**false, "score": 0.7 * rng.random()})
    coco = COCO()
    categories = [{"id": index + 1, "name": f"class {index}"} for index in range(CLASSES)]
    coco.dataset = {"info": {}, "images": images, "annotations": truth, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    path = folder / "found.json"
    path.write_text(json.dumps(detected if found else []))
    return coco, str(path)


def matched(folder, found: bool = True) -> tuple[scores.Detections, COCO, str]:
    truth, path = world(folder, found)
    images = {image["id"]: image["file_name"] for image in reversed(truth.dataset["images"])}  # another order than COCO's
    classes = {category["id"]: category["name"] for category in truth.dataset["categories"]}
    with contextlib.redirect_stdout(io.StringIO()):
        return scores.detections(truth, path, images, classes, COCOeval(iouType="bbox").params.iouThrs), truth, path


def coco_precision(truth: COCO, path: str, repeated: list[int] | None = None, only: list[int] | None = None) -> np.ndarray:
    """pycocotools' precision, (thresholds, recalls, classes), of all images, of some, or of images that come again."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(path), "bbox")
        if only is not None:
            evaluation.params.imgIds = only
        evaluation.evaluate()
        if repeated is not None:
            ids = evaluation.params.imgIds
            areas, entries = len(evaluation.params.areaRng), evaluation.evalImgs
            starts = range(0, len(entries), len(ids))
            evaluation.evalImgs = [entries[start + ids.index(one)] for start in starts for one in sorted(repeated)]
            assert len(evaluation.evalImgs) == CLASSES * areas * len(repeated)
            evaluation.params.imgIds = list(range(len(repeated)))
            evaluation._paramsEval = copy.deepcopy(evaluation.params)
        evaluation.accumulate()
        return evaluation.eval["precision"][:, :, :, 0, -1]


def mean(precision: np.ndarray) -> float:
    return 100 * precision[precision > -1].mean()


def test_map_is_pycocotools(tmp_path):
    found, truth, path = matched(tmp_path)
    precision = coco_precision(truth, path)
    assert found.value() == pytest.approx(mean(precision), abs=1e-9) and 5 < found.value() < 95
    by_class = found.per_class()
    assert list(by_class) == [f"class {index}" for index in range(CLASSES)] and by_class["class 4"] is None
    for index in range(CLASSES - 1):
        assert by_class[f"class {index}"] == pytest.approx(mean(precision[:, :, index]), abs=1e-9)


def test_an_image_drawn_twice_counts_twice(tmp_path):
    found, truth, path = matched(tmp_path)
    ids = [image["id"] for image in reversed(truth.dataset["images"])]
    rng = np.random.default_rng(1)
    weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=5)
    for row, value in zip(weights, found.weighted(weights)):
        repeated = [one for one, times in zip(ids, row) for _ in range(times)]
        assert value == pytest.approx(mean(coco_precision(truth, path, repeated)), abs=1e-9)


def test_an_image_alone(tmp_path):
    found, truth, path = matched(tmp_path)
    own = found.per_image()
    for name, value in zip(found.images, own):
        image = 7 * int(name.removesuffix(".jpg")) + 3
        precision = coco_precision(truth, path, only=[image])
        expected = mean(precision) if (precision > -1).any() else np.nan
        assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert np.isnan(own).sum() >= 2


def test_some_images_alone(tmp_path):
    found, truth, path = matched(tmp_path)
    chosen = np.array([0, 3, 4, 7, 11, 12, 20, 29])
    part = found.part(chosen)
    assert part.images == [found.images[index] for index in chosen]
    ids = [7 * int(name.removesuffix(".jpg")) + 3 for name in part.images]
    assert part.value() == pytest.approx(mean(coco_precision(truth, path, only=ids)), abs=1e-9)
    assert part.per_image() == pytest.approx(found.per_image()[chosen], nan_ok=True)
    weights = np.zeros((1, IMAGES))
    weights[:, chosen] = np.arange(8)
    assert part.weighted(weights[:, chosen]) == pytest.approx(found.weighted(weights))
    masks = areas().part(np.array([1, 5]))
    both = areas().intersection[[1, 5]].sum(0)[:3] / areas().union[[1, 5]].sum(0)[:3]
    assert masks.images == ["1.png", "5.png"] and masks.value() == pytest.approx(100 * both.mean())


def test_nothing_found_is_zero(tmp_path):
    found, *_ = matched(tmp_path, found=False)
    assert found.value() == 0.0 and found.per_class()["class 0"] == 0.0
    assert bootstrap.interval(bootstrap.resampled(found, 50)) == (0.0, 0.0)


def test_resampling_is_not_biased(tmp_path):
    """Without the shift it is: classes with few objects are easier when they come twice, and gone when they do not come."""
    found, *_ = matched(tmp_path)
    weights = np.random.default_rng(0).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=500)
    assert found.weighted(weights).mean() > found.value() + 0.3
    samples = bootstrap.resampled(found, 500)
    assert samples.mean() == pytest.approx(found.value()) and samples.std() == pytest.approx(found.weighted(weights).std())


def areas() -> scores.Areas:
    rng = np.random.default_rng(2)
    union = rng.integers(0, 50, (12, 4)) * (rng.random((12, 4)) < 0.7)
    union[:, 3] = 0
    return scores.Areas([f"{i}.png" for i in range(12)], list("abcd"), union * rng.random((12, 4)), union)


def test_miou_with_images_that_come_again():
    found = areas()
    drawn = np.random.default_rng(3).integers(0, 12, (4, 12))
    weights = np.stack([np.bincount(row, minlength=12) for row in drawn])
    for row, value in zip(drawn, found.weighted(weights)):
        with np.errstate(invalid="ignore"):
            expected = 100 * np.nanmean(found.intersection[row].sum(0) / found.union[row].sum(0))
        assert value == pytest.approx(expected)
    assert found.per_class()["d"] is None
    one = found.per_image()[5]
    seen = found.union[5] > 0
    assert one == pytest.approx(100 * (found.intersection[5][seen] / found.union[5][seen]).mean())


def test_miou_over_some_of_the_classes():
    found = areas()
    some = scores.Areas(found.images, found.classes, found.intersection, found.union, ["b", "c"])
    apart = [scores.Areas(found.images, found.classes, found.intersection, found.union, [name]).value() for name in "bc"]
    assert some.value() == pytest.approx(np.mean(apart)) != found.value()
    assert some.per_class() == found.per_class() and some.part(np.arange(5)).scored == ["b", "c"]


def test_the_interval_covers_the_spread_of_the_images():
    rng = np.random.default_rng(4)
    hits = rng.random((400, 1)) < 0.3  # one class, one pixel an image: mIoU is the share of hits
    found = scores.Areas([str(i) for i in range(400)], ["a"], hits, np.ones((400, 1)))
    low, high = bootstrap.interval(bootstrap.resampled(found, 2000))
    error = 1.96 * 100 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert low == pytest.approx(found.value() - error, abs=0.6) and high == pytest.approx(found.value() + error, abs=0.6)


def test_a_comparison_is_paired():
    jpeg = areas()
    better = scores.Areas(jpeg.images, jpeg.classes, jpeg.intersection + 0.5 * (jpeg.union - jpeg.intersection), jpeg.union)
    whole = scores.Areas(jpeg.images, jpeg.classes, jpeg.union, jpeg.union)
    cells = [(one, bootstrap.resampled(one, 300)) for one in (jpeg, better, whole)]
    found = bootstrap.comparison(*cells)
    assert found["share"] == found["share_low"] == found["share_high"] == pytest.approx(50)
    spread = np.ptp(bootstrap.interval(cells[1][1])) + np.ptp(bootstrap.interval(cells[0][1]))
    assert 0 < found["low"] < found["difference"] < found["high"] and found["high"] - found["low"] < spread / 2
    assert found["images_better"] == 12 - np.isnan(jpeg.per_image()).sum() and found["images_worse"] == 0
    costless = bootstrap.comparison(cells[2], cells[1], cells[0])  # JPEG better than the original: no loss to share
    assert costless["share"] is None and costless["high"] < 0
    assert bootstrap.comparison(cells[0], cells[1], None)["share"] is None


def test_a_single_image_gives_no_interval():
    one = scores.Areas(["0"], ["a"], np.array([[1.0]]), np.array([[2.0]]))
    other = scores.Areas(["0"], ["a"], np.array([[2.0]]), np.array([[2.0]]))
    cells = [(found, bootstrap.resampled(found)) for found in (one, other, other)]
    assert bootstrap.interval(cells[0][1]) == (None, None)
    found = bootstrap.comparison(*cells)
    assert found["difference"] == 50 and found["share"] == 100 and found["images_better"] == 1
    assert {found[key] for key in ("low", "high", "share_low", "share_high")} == {None}


def test_scores_between_two_sizes():
    samples = [[28.0, 32.0], [8.0, 12.0], [20.0, 20.0]]
    curve = list(zip((4000, 1000, 2000), (30.0, 10.0, 20.0), map(np.array, samples)))
    value, samples = bootstrap.at_size(curve, 2000 * 2**0.5)
    assert value == pytest.approx(25) and samples == pytest.approx([24, 26])
    assert bootstrap.at_size(curve, 1000)[0] == 10 and bootstrap.at_size(curve, 4000)[0] == 30
    assert bootstrap.at_size(curve, 999) is None and bootstrap.at_size(curve, 4001) is None and bootstrap.at_size([], 1) is None
    assert bootstrap.at_size([curve[0], curve[0]], 4000)[0] == 30


def test_the_largest_gains_and_harms_are_chosen():
    before, after = np.array([50.0, 50, 50, 50, np.nan, 50]), np.array([60.0, 45, 50, 90, 10, 20])
    assert list(pictures.chosen(before, after, 2)) == [("gain", 3), ("gain", 0), ("harm", 5), ("harm", 1)]
    assert list(pictures.chosen(before, before)) == []


def test_cells_are_kept_whole(tmp_path):
    for number, found in enumerate((areas(), matched(tmp_path)[0])):
        path = tmp_path / "cells" / f"{number}.npz"
        samples = bootstrap.resampled(found, 20)
        write(path, found, samples)
        again, kept = read(path)
        assert again.value() == found.value() and (kept == samples).all() and again.images == found.images
        assert (bootstrap.resampled(again, 20) == samples).all() and again.per_class() == found.per_class()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"1\.npz cannot be read .*remove it"):
        read(path)
