"""The benchmark itself, on a toy world whose scores are known, and once on the demo's own models."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import metrics as mmdet_metrics
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dagn_pre import codec, models, weights
from dagn_pre.benchmarks import demo, results
from dagn_pre.benchmarks.downstream import run
from dagn_pre.benchmarks.downstream.cases import DEMO
from dagn_pre.benchmarks.downstream.cells import read
from dagn_pre.benchmarks.downstream.hosts import configs, observers, runner
from dagn_pre.cli import main as cli
from dagn_pre.errors import ConfigError, DagnPreError, UsageError, WeightsError
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.side_information import SideInformationEncoder
from tests.benchmarks.downstream import bench_toys
from tests.benchmarks.downstream.bench_toys import SHAPE, RedThing, red, toy_images

KEYS = ["task", "model", "dataset", "input", "qf", "metric", "value", "low", "high", "n_images"]
KEYS += ["bytes_per_image", "restore_ms_per_image", "model_ms_per_image", "per_class"]
TABLES = ["rows", "comparisons", "equal_size", "halves", "advice", "files", "gallery"]
COUNT = 4  # images of the toy world


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with detect.py, segment.py, red.pth, tiny.safetensors and data/."""
    folder = bench_toys.make(tmp_path_factory.mktemp("toy"), toy_images())
    torch.manual_seed(0)
    shape = dict(widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1), guided_blocks=(1, 1, 1), guider_widths=(8, 8), residual=True)
    network = DAGN(DAGNConfig(**shape, encoder_depth=18, encoder_width=4, sensitive=False)).eval()
    weights.save(folder / "tiny.safetensors", network)
    return folder


@pytest.fixture(autouse=True)
def fresh():
    """No scope of an earlier test's host."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


def bench(toy: Path, work_dir: Path, **options) -> dict:
    """Run the toy detector on original and JPEG at QF 5, unless told otherwise."""
    defaults = {"inputs": ("original", "jpeg"), "qualities": (5,), "device": "cpu"}
    return run.run([str(toy / "detect.py")], work_dir, **{**defaults, **options})


def values(results: dict) -> dict:
    return {(row["input"], row["qf"]): row["value"] for row in results["rows"]}


def test_results_hold_what_the_issue_says(toy, tmp_path):
    inputs = ("original", "jpeg", str(toy / "tiny.safetensors"))
    results = bench(toy, tmp_path, inputs=inputs, qualities=(40, 5))
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text) == results and list(results) == [*TABLES, "environment"]
    assert all(list(row) == KEYS and row["n_images"] == COUNT for row in results["rows"])
    cells = [("original", None), ("jpeg", 5), ("tiny", 5), ("jpeg", 40), ("tiny", 40)]
    assert [(row["input"], row["qf"]) for row in results["rows"]] == cells
    names = {(row["task"], row["model"], row["dataset"], row["metric"]) for row in results["rows"]}
    assert names == {("object detection", "Toy detector", "toy", "bbox_mAP")}
    assert [row["restore_ms_per_image"] > 0 for row in results["rows"]] == [False, False, True, False, True]
    assert all(row["model_ms_per_image"] > 0 for row in results["rows"])
    sizes = {quality: np.mean([len(codec.encode(image, quality)) for image, _ in toy_images()]) for quality in (5, 40)}
    assert results["rows"][0]["bytes_per_image"] is None
    kept = [row["bytes_per_image"] for row in results["rows"][1:]]
    assert kept == pytest.approx([sizes[5], sizes[5], sizes[40], sizes[40]], abs=0.051)  # to one decimal
    environment = results["environment"]
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"mmengine", "mmcv", "mmdet", "mmseg", "pycocotools"} <= environment["versions"].keys()
    assert "libjpeg" in environment["decoder"]["pillow"] and environment["threads"] == torch.get_num_threads()
    assert environment["models"]["Toy detector, toy"]["checkpoint"] == "red.pth"
    assert environment["restorers"] == {"tiny": models.fingerprint(toy / "tiny.safetensors")[:16]}
    assert str(toy) not in text and str(tmp_path) not in text
    assert (tmp_path / "results.png").stat().st_size and "| Toy detector " in (tmp_path / "results.md").read_text()


def test_workers_restore_ahead_of_the_model(toy, tmp_path, capfd):
    inputs = ("original", "jpeg", str(toy / "tiny.safetensors"))
    alone = bench(toy, tmp_path / "alone", inputs=inputs)
    together = bench(toy, tmp_path / "together", inputs=inputs, workers=2)
    assert values(together) == values(alone)
    times = {row["input"]: row["restore_ms_per_image"] for row in together["rows"]}
    assert times == {"original": 0, "jpeg": 0, "tiny": None}  # all were in the cache
    assert "(3 of 3, more than 1 min left) 100% 8/8" in capfd.readouterr().err  # four made ahead, four tested
    with pytest.raises(UsageError, match="several workers need a cache"):
        bench(toy, tmp_path / "none", inputs=inputs, workers=2, cache_dir=None)
    with pytest.raises(UsageError, match="at least 1"):
        bench(toy, tmp_path / "zero", workers=0)


def test_what_a_worker_meets_ends_the_run_with_its_name(toy, tmp_path):
    broken = tmp_path / "toy"
    shutil.copytree(toy, broken)
    source = broken / "detect.py"
    source.write_text(source.read_text().replace(str(toy), str(broken)))
    (broken / "data" / "images" / "2.png").write_bytes(b"no picture")
    inputs = (str(toy / "tiny.safetensors"),)
    with pytest.raises(DagnPreError, match="detect-tiny-qf5 failed .*2.png"):
        run.run([str(source)], tmp_path / "out", inputs=inputs, qualities=(5,), device="cpu", workers=2)


def test_the_score_is_of_the_classes_that_the_config_names(toy, tmp_path):
    source = tmp_path / "some.py"
    text = (toy / "segment.py").read_text().replace("dataset='toy')", "dataset='toy', scored=('thing',))")
    source.write_text(text.replace("checkpoint = 'red.pth'", f"checkpoint = {str(toy / 'red.pth')!r}"))
    everything = run.run([str(toy / "segment.py")], tmp_path / "all", inputs=("jpeg",), qualities=(5,), device="cpu")
    some = run.run([str(source)], tmp_path / "some", inputs=("jpeg",), qualities=(5,), device="cpu")
    (row,) = some["rows"]
    assert row["scored"] == ["thing"] and len(row["per_class"]) == 2 and "scored" not in everything["rows"][0]
    assert row["value"] == pytest.approx(row["per_class"]["thing"]) != everything["rows"][0]["value"]
    assert row["per_class"] == everything["rows"][0]["per_class"]
    kept, _ = read(tmp_path / "some" / "cells" / "some-jpeg-qf5.npz")
    assert kept.scored == ["thing"]
    again = run.run([str(source)], tmp_path / "some", inputs=("jpeg",), qualities=(5, 10), device="cpu")  # no other setting
    assert [one["qf"] for one in again["rows"]] == [5, 10] and again["rows"][0] == row
    written = (tmp_path / "some" / "results.md").read_text()
    assert "the score is the mean over 1 of 2 classes (thing)" in written
    assert "too few images, not in the score" not in written
    source.write_text(source.read_text().replace("('thing',)", "('dog',)"))
    with pytest.raises(ConfigError, match="scored of config some names no classes of its data set: dog"):
        run.run([str(source)], tmp_path / "other", inputs=("jpeg",), qualities=(5,), device="cpu")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({}, ""), ({"jpeg": 1.0}, ", more than 1 min left"), ({"jpeg": 1.0, "dagn-s": 100.0}, ", about 3 min left")],
)
def test_the_time_left_counts_what_is_known(seconds, expected):
    assert run.left([("dagn-s", 10), ("jpeg", 20), ("dagn-s", 20)], seconds) == expected


def test_detection_is_scored_as_pycocotools_does(toy, tmp_path):
    found = values(bench(toy, tmp_path))
    assert found["original", None] == 100.0
    boxes = []
    for index, (image, _) in enumerate(toy_images()):
        y, x = np.nonzero(red(codec.compress(image, 5)))
        box = [float(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]
        boxes.append({"image_id": 10 + index, "category_id": 1, "bbox": box, "score": 1.0})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(toy / "data" / "truth.json")
        evaluation = COCOeval(truth, truth.loadRes(boxes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0 < found["jpeg", 5] < 100
    assert found["jpeg", 5] == pytest.approx(100 * evaluation.stats[0], abs=5e-4)
    kept = json.loads((tmp_path / "detections" / "detect-jpeg-qf5.bbox.json").read_text())
    assert [one["bbox"] for one in kept] == [one["bbox"] for one in boxes]


def test_all_digits_are_of_the_figure_that_the_host_rounds(toy, tmp_path, monkeypatch):
    pairs, score = [], runner.HostRunner.score

    def spied(self, areas):
        pairs.append(score(self, areas))
        return pairs[-1]

    log, rounded = mmdet_metrics.CocoMetric.compute_metrics, []
    monkeypatch.setattr(runner.HostRunner, "score", spied)
    monkeypatch.setattr(
        mmdet_metrics.CocoMetric, "compute_metrics", lambda *args: rounded.append(log(*args)) or rounded[-1]
    )
    bench(toy, tmp_path, qualities=(5, 10, 15, 20))
    assert len(pairs) == 5
    assert [round(exact.value() / 100, 3) for exact in pairs] == pytest.approx([one["bbox_mAP"] for one in rounded])


def test_segmentation_is_scored_as_numpy_does(toy, tmp_path):
    results = run.run([str(toy / "segment.py")], tmp_path, inputs=("original", "jpeg"), qualities=(5,), device="cpu")
    assert {(row["task"], row["metric"]) for row in results["rows"]} == {("semantic segmentation", "mIoU")}
    found = values(results)
    assert found["original", None] == 100.0
    guesses = np.stack([red(codec.compress(image, 5)) for image, _ in toy_images()])
    truths = np.stack([mask == 1 for _, mask in toy_images()])
    shares = [
        (guess & truth).sum() / (guess | truth).sum() for guess, truth in ((guesses, truths), (~guesses, ~truths))
    ]
    assert found["jpeg", 5] == pytest.approx(100 * np.mean(shares), abs=0.006) and found["jpeg", 5] < 99


def test_another_metric_may_stand_beside(toy, tmp_path):
    text = (toy / "segment.py").read_text()
    alone = "dict(type='IoUMetric', iou_metrics=['mIoU'])"
    assert alone in text
    beside = f"[dict(type='DumpResults', out_file_path='{tmp_path}/all.pkl'), {alone}]"
    (tmp_path / "segment.py").write_text(text.replace(alone, beside))
    (tmp_path / "red.pth").write_bytes((toy / "red.pth").read_bytes())
    results = run.run([str(tmp_path / "segment.py")], tmp_path / "out", inputs=("original",), device="cpu")
    assert values(results) == {("original", None): 100.0}


def test_a_limit_holds_for_the_data_and_for_the_truth(toy, tmp_path):
    results = bench(toy, tmp_path, limit=2)
    assert [row["n_images"] for row in results["rows"]] == [2, 2]
    assert values(results)["original", None] == 100.0  # 50 if the others' boxes counted as missed
    assert results["environment"]["limit"] == 2
    both = run.run([str(toy / "segment.py")], tmp_path / "s", inputs=("original",), limit=3, device="cpu")
    assert both["rows"][0]["n_images"] == 3


def test_restorers_get_the_same_jpeg(toy, tmp_path, monkeypatch):
    files, encode = [], codec.encode
    monkeypatch.setattr(codec, "encode", lambda *args, **kwargs: files.append(encode(*args, **kwargs)) or files[-1])
    inputs = ("jpeg", str(toy / "tiny.safetensors"))
    bench(toy, tmp_path / "without", inputs=inputs, cache_dir=None)
    assert len(files) == 2 * COUNT and files[:COUNT] == files[COUNT:]
    bench(toy, tmp_path / "with", inputs=inputs)
    assert len(files) == 3 * COUNT and files[:COUNT] == files[2 * COUNT :]  # and kept for the restorer


def test_intervals_comparisons_and_pictures_follow_from_the_cells(toy, tmp_path):
    inputs = ("original", "jpeg", "dagn-s")  # tiny gives images as they came: nothing to show

    def measured(config: str) -> dict:
        return run.run([str(toy / f"{config}.py")], tmp_path / config, inputs=inputs, qualities=(5,), device="cpu")

    for config in ("detect", "segment"):
        folder, results = tmp_path / config, measured(config)
        rows = {row["input"]: row for row in results["rows"]}
        assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())
        assert rows["original"]["per_class"]["thing"] == 100 and rows["jpeg"]["low"] < rows["jpeg"]["high"]
        (compared,) = results["comparisons"]
        difference = rows["dagn-s"]["value"] - rows["jpeg"]["value"]
        assert compared["difference"] == pytest.approx(difference, abs=2e-3) and compared["against"] == "jpeg"
        assert compared["low"] <= compared["difference"] <= compared["high"]
        assert compared["share"] == pytest.approx(100 * difference / (100 - rows["jpeg"]["value"]), abs=0.1)
        cells = {name: folder / "cells" / f"{config}-{name}-qf5.npz" for name in ("jpeg", "dagn-s")}
        own = {name: read(path)[0].per_image() for name, path in cells.items()}
        assert compared["images_better"] == (own["dagn-s"] > own["jpeg"]).sum()
        assert compared["images_worse"] == (own["dagn-s"] < own["jpeg"]).sum()
        assert 0 < len(results["gallery"]) == min(3, compared["images_better"]) + min(3, compared["images_worse"])
        for entry in results["gallery"]:
            index = int(Path(entry["image"]).stem)
            assert (entry["scores"]["restored"] > entry["scores"]["jpeg"]) == (entry["kind"] == "gain")
            assert entry["scores"]["jpeg"] == pytest.approx(own["jpeg"][index], abs=1e-3) and entry["size"] == list(SHAPE)
            image = toy_images()[index][0]
            files = {view: folder / file for view, file in entry["files"].items()}
            assert files["jpeg"].read_bytes() == codec.encode(image, 5)
            original, restored = (np.asarray(Image.open(files[view])) for view in ("original", "restored"))
            assert (original == image).all() and (restored != codec.compress(image, 5)).any()
            y, x = np.nonzero(red(codec.compress(image, 5)))
            if config == "detect":
                box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                assert entry["predictions"]["jpeg"] == [{"box": box, "label": "thing", "score": 1.0}]
                assert [one["label"] for one in entry["truth"]] == ["thing"]
            else:
                mask = np.asarray(Image.open(folder / entry["predictions"]["jpeg"]))
                assert ((mask == 1) == red(codec.compress(image, 5))).all() and list(entry["classes"]) == ["ground", "thing"]
                truth = np.asarray(Image.open(folder / entry["truth"]))
                assert (truth == toy_images()[index][1]).all()
    for kept in (results, {**results, "gallery": []}):  # as it was, and as if stopped before the pictures
        (folder / "results.json").write_text(json.dumps(kept))
        again = measured("segment")
        assert {table: again[table] for table in run.TABLES} == {table: results[table] for table in run.TABLES}


@pytest.mark.parametrize("cache_dir", ["cache", None])
@pytest.mark.parametrize("config", ["detect", "segment"])  # with workers, and without
def test_side_information_is_weighed_at_equal_file_size(config, cache_dir, toy, tmp_path):
    inputs = ("jpeg", "dagn-s-psnr", "dagn-s-psnr+side")
    options = {"inputs": inputs, "qualities": (5, 90), "device": "cpu", "cache_dir": cache_dir}
    results = run.run([str(toy / f"{config}.py")], tmp_path, **options)
    encoder = SideInformationEncoder()
    sizes = {q: np.mean([len(encoder.encode(image, q)) for image, _ in toy_images()]) for q in (5, 90)}
    rows = {(row["input"], row["qf"]): row for row in results["rows"]}
    assert {q: rows["dagn-s-psnr+side", q]["bytes_per_image"] for q in sizes} == pytest.approx(sizes, abs=0.051)
    plain, dense = (rows["dagn-s-psnr", quality]["bytes_per_image"] for quality in (5, 90))
    assert plain == rows["jpeg", 5]["bytes_per_image"] < sizes[5] < dense < sizes[90]
    compared = [(row["qf"], row["against"]) for row in results["equal_size"]]
    assert compared == [(5, "jpeg"), (5, "dagn-s-psnr")]  # none has 90's bytes
    share = np.log(sizes[5] / plain) / np.log(dense / plain)
    for row in results["equal_size"]:
        low, high = (rows[row["against"], quality]["value"] for quality in (5, 90))
        assert row["against_value"] == pytest.approx(low + share * (high - low), abs=0.01)
        assert row["difference"] == pytest.approx(row["value"] - row["against_value"], abs=0.002)
        assert row["low"] <= row["difference"] <= row["high"]
    assert results["environment"]["restorers"]["dagn-s-psnr+side"].endswith("+" + encoder.adapter.identity.hex())
    text = (tmp_path / "results.md").read_text().split("## At equal file size")[1].split("##")[0]
    assert text.count("| dagn-s-psnr+side |") == 2
    old = {table: results[table] for table in results if table != "equal_size"}  # of a version that did not weigh
    old["rows"] = [{name: row[name] for name in row if name != "bytes_per_image"} for row in old["rows"]]
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert run.run([str(toy / f"{config}.py")], tmp_path, **options)["equal_size"] == []


def test_pictures_of_images_whose_names_are_of_other_letters(toy, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for index in range(COUNT):
            named = tmp_path / "data" / kind / f"{chr(0x4E00 + index)}.png"
            named.write_bytes((toy / "data" / kind / f"{index}.png").read_bytes())
    inputs = ("original", "jpeg", "dagn-s")  # tiny gives images as they came: nothing to show
    options = {"inputs": inputs, "qualities": (5,), "device": "cpu", "data_root": tmp_path / "data"}
    entries = run.run([str(toy / "segment.py")], tmp_path / "out", **options)["gallery"]
    assert len(entries) > 1
    for entry in entries:
        shown = np.asarray(Image.open(tmp_path / "out" / entry["files"]["original"]))
        assert (shown == toy_images()[ord(Path(entry["image"]).stem) - 0x4E00][0]).all()


def test_a_warm_cache_gives_the_same_scores_and_no_time(toy, tmp_path, tiny_weights):
    options = {"inputs": ("jpeg", str(tiny_weights)), "cache_dir": tmp_path / "cache"}
    cold, warm = (bench(toy, tmp_path / name, **options) for name in ("cold", "warm"))
    assert values(cold) == values(warm) and len(set(values(cold).values())) == 2
    assert cold["rows"][1]["restore_ms_per_image"] > 0 and warm["rows"][1]["restore_ms_per_image"] is None


def test_a_subset_is_scored_alone_and_always_the_same(toy, tmp_path):
    results = bench(toy, tmp_path, subset=2, seed=1)
    assert [row["n_images"] for row in results["rows"]] == [2, 2] and values(results)["original", None] == 100.0
    assert results["environment"]["subset"] == 2 and results["environment"]["seed"] == 1
    chosen = read(tmp_path / "cells" / "detect-original.npz")[0].images
    assert results["environment"]["models"]["Toy detector, toy"]["images"] == chosen
    assert chosen == read(tmp_path / "cells" / "detect-jpeg-qf5.npz")[0].images and len(set(chosen)) == 2
    with pytest.raises(UsageError, match="other settings .*seed 1, now 2"):
        bench(toy, tmp_path, subset=2, seed=2)
    found = run.run([str(toy / "segment.py")], tmp_path / "s", inputs=("original",), subset=3, device="cpu")
    assert found["rows"][0]["n_images"] == 3


def test_a_subset_as_large_as_the_data_is_all_of_them(toy, tmp_path, capsys):
    environment = bench(toy, tmp_path, inputs=("original",), subset=COUNT)["environment"]
    assert environment["subset"] is None and environment["seed"] is None
    assert f"detect tests no more than {COUNT} images: the subset is all" in capsys.readouterr().err
    assert "stratified" not in (tmp_path / "results.md").read_text()
    assert bench(toy, tmp_path, inputs=("original",))["rows"][0]["n_images"] == COUNT  # the same settings


def test_a_subset_of_data_that_changed_is_another(toy, tmp_path):
    options = {"inputs": ("original",), "qualities": (5,), "device": "cpu", "subset": 2, "data_root": tmp_path / "data"}
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for index in range(COUNT):
            named = tmp_path / "data" / kind / f"{index}.png"
            named.write_bytes((toy / "data" / kind / f"{index}.png").read_bytes())
    run.run([str(toy / "segment.py")], tmp_path / "out", **options)
    for path in (tmp_path / "data").rglob("*.png"):
        path.rename(path.with_stem(f"new-{path.stem}"))
    with pytest.raises(UsageError, match=r"toy images \['\d.png', .*, now \['new-"):
        run.run([str(toy / "segment.py")], tmp_path / "out", **options)
    assert results.different([*"abcdef"], [*"abcdxy"]) == "2 of 6 are others"
    assert results.different([*"abcdef"], None) == "6 of them, now None"


class Stopped(Exception):
    pass


def counted(monkeypatch, stop_at: int | None = None) -> list[str]:
    """Names of the cells that are measured from now on; the one at ``stop_at`` raises in the middle."""
    names, measure = [], runner.HostRunner.measure

    def spied(self, name, *args):
        names.append(name)
        if len(names) - 1 == stop_at:
            raise Stopped
        return measure(self, name, *args)

    monkeypatch.setattr(runner.HostRunner, "measure", spied)
    return names


def test_a_stopped_run_goes_on(toy, tmp_path, monkeypatch):
    whole = values(bench(toy, tmp_path / "whole", qualities=(5, 10)))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        counted(patch, stop_at=1)
        bench(toy, tmp_path / "parts", qualities=(5, 10))
    assert len(json.loads((tmp_path / "parts" / "results.json").read_text())["rows"]) == 1
    names = counted(monkeypatch)
    assert values(bench(toy, tmp_path / "parts", qualities=(5, 10))) == whole
    assert names == ["detect-jpeg-qf5", "detect-jpeg-qf10"]
    bench(toy, tmp_path / "parts", qualities=(10, 20))
    assert names[2:] == ["detect-jpeg-qf20"]
    assert not [path for path in (tmp_path / "parts").iterdir() if path.name.startswith(".")]


def test_control_c_in_a_cell_keeps_what_is_finished(toy, tmp_path, monkeypatch, capsys):
    words = ["bench", "run", str(toy / "detect.py"), "--inputs", "original", "jpeg", "--qf", "5", "--device", "cpu"]
    words += ["--work-dir", str(tmp_path)]
    images, forward = [], RedThing.forward

    def pressed(self, *args, **kwargs):
        images.append(args)
        if len(images) == COUNT + 2:
            raise KeyboardInterrupt
        return forward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RedThing, "forward", pressed)
        assert cli.main(words) == 130 and "finished is kept" in capsys.readouterr().err
    assert [row["input"] for row in json.loads((tmp_path / "results.json").read_text())["rows"]] == ["original"]
    names = counted(monkeypatch)
    assert cli.main(words) == 0 and names == ["detect-jpeg-qf5"]


def test_a_cell_whose_file_is_lost_is_measured_again(toy, tmp_path, monkeypatch):
    whole = values(bench(toy, tmp_path))
    (tmp_path / "cells" / "detect-jpeg-qf5.npz").unlink()
    names = counted(monkeypatch)
    again = bench(toy, tmp_path)
    assert names == ["detect-jpeg-qf5"] and values(again) == whole and len(again["rows"]) == len(whole)


def test_other_resamples_measure_nothing(toy, tmp_path, monkeypatch, tiny_weights):
    inputs = ("original", "jpeg", str(tiny_weights))
    few, names = bench(toy, tmp_path, inputs=inputs, resamples=100), counted(monkeypatch)
    many = bench(toy, tmp_path, inputs=inputs, resamples=700)
    fresh = bench(toy, tmp_path / "fresh", inputs=inputs, resamples=700)
    assert names[:1] == ["detect-original"] and len(names) == 3  # those of the fresh folder alone
    ends = [[(row["low"], row["high"]) for row in one["rows"] + one["comparisons"]] for one in (few, many, fresh)]
    assert ends[0] != ends[1] == ends[2] and many["environment"]["resamples"] == 700


def test_a_full_disk_keeps_what_is_finished(toy, tmp_path, monkeypatch, capsys):
    words = ["bench", "run", str(toy / "detect.py"), "--inputs", "original", "jpeg", "--qf", "5", "--device", "cpu"]
    words += ["--work-dir", str(tmp_path)]
    write_bytes = Path.write_bytes

    def full(path, data):
        if "jpeg-qf5" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert cli.main(words) == 1
    assert f"No space left on device: '{tmp_path / 'cells' / 'detect-jpeg-qf5.npz'}'" in capsys.readouterr().err
    assert [row["input"] for row in json.loads((tmp_path / "results.json").read_text())["rows"]] == ["original"]
    names = counted(monkeypatch)
    assert cli.main(words) == 0 and names == ["detect-jpeg-qf5"]


def test_results_of_other_settings_are_not_mixed(toy, tmp_path):
    bench(toy, tmp_path, inputs=("original",), limit=2)
    with pytest.raises(UsageError, match=r"other settings \(limit 2, now 3\).*--overwrite"):
        bench(toy, tmp_path, inputs=("original",), limit=3)
    torch.save({"threshold": torch.tensor(31.0)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"Toy detector, toy checkpoint red\.pth, now other\.pth, checkpoint_sha256"):
        bench(toy, tmp_path, inputs=("original",), limit=2, checkpoint=str(tmp_path / "other.pth"))
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["n_images"] == 2
    results = bench(toy, tmp_path, inputs=("original",), limit=3, overwrite=True)
    assert [row["n_images"] for row in results["rows"]] == [3]
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"results\.json cannot be read.*--overwrite"):
        bench(toy, tmp_path)


def test_a_data_root_moves_data_truth_and_checkpoint():
    cfg = configs.load("yolox_nano_coco_sample")
    before = configs.digest(cfg)
    configs.set_data_root(cfg, "/elsewhere")
    assert cfg.test_dataloader.dataset.data_root == "/elsewhere"
    assert cfg.test_dataloader.dataset.ann_file == "COCO/annotations/val.json"
    assert cfg.test_evaluator.ann_file == "/elsewhere/COCO/annotations/val.json"
    assert cfg.checkpoint == "/elsewhere/weights/yolox_nano_coco_mmdet3.pth"
    assert configs.digest(cfg) == before


@pytest.mark.parametrize(
    ("config", "task", "index", "name"),
    [
        ("faster_rcnn_r50_fpn_coco", "object detection", "mmdet", "faster_rcnn/metafile.yml"),
        ("pspnet_r50_d8_voc", "semantic segmentation", "mmseg", "pspnet/metafile.yaml"),
    ],
)
def test_the_papers_models_with_their_official_weights(config, task, index, name):
    cfg = configs.load(config)
    assert configs.task(cfg)[0] == task and cfg.default_scope == index
    package = __import__(index)
    known = (Path(package.__path__[0]) / ".mim" / "configs" / name).read_text()
    assert cfg.checkpoint.startswith("https://download.openmmlab.com/") and Path(cfg.checkpoint).name in known
    assert configs.for_testing(cfg, 2).test_dataloader.dataset.indices == 2


def edited(toy: Path, tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    """detect.py with some text replaced, and the checkpoint beside it."""
    text = (toy / "detect.py").read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "edited.py").write_text(text)
    (tmp_path / "red.pth").write_bytes((toy / "red.pth").read_bytes())
    return tmp_path / "edited.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ("jpeg", "weights/jpeg.safetensors")}, "weights/jpeg.safetensors would be called jpeg .*rename the file"),
        ({"inputs": ("original", "nobody")}, "unknown input nobody: give one of original, jpeg, dagn-s"),
        ({"inputs": ("jpeg+side",)}, "unknown input jpeg"),
        ({"inputs": ("arcnn+side",)}, "arcnn"),
        ({"qualities": (10, 0)}, "quality must be an integer from 1 to 100, not 0"),
        ({"qualities": (101,)}, "quality must be an integer from 1 to 100, not 101"),
        ({"limit": 0}, "limit must be at least 1 image, not 0"),
        ({"subset": 0}, "subset must be at least 1 image, not 0"),
        ({"subset": 2, "seed": -1}, "seed must be 0 or more, not -1"),
        ({"resamples": 1}, "resamples must be at least 100"),
        ({"subset": 2, "limit": 2}, "limit and subset both choose images"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, not tpu"),
        ({"dtype": "float8"}, "dtype must be auto, float32"),
        ({"max_quality": 0}, "max_quality must be an integer from 1 to 100"),
    ],
)
def test_bad_options(toy, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        bench(toy, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_bad_configs_by_name(toy, tmp_path):
    detect = str(toy / "detect.py")
    with pytest.raises(UsageError, match="those of the benchmark are demo, .*pspnet_r50_d8_voc"):
        run.run(["yolo9000"], tmp_path)
    with pytest.raises(UsageError, match="--checkpoint is for one config"):
        run.run([detect, str(toy / "segment.py")], tmp_path, checkpoint="red.pth")
    with pytest.raises(UsageError, match="both called Toy detector, toy"):
        run.run([detect, detect], tmp_path)
    other = edited(toy, tmp_path, ("Toy detector", "Other")).rename(tmp_path / "detect.py")
    with pytest.raises(UsageError, match="Toy detector, toy and Other, toy are both of a config file called detect"):
        run.run([detect, str(other)], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pipeline=pipeline", "", "config edited has no test pipeline: set test_dataloader.dataset.pipeline"),
        ("dict(type='CocoMetric'", "dict(type='LVISMetric'", "config edited has no test_evaluator that scores"),
        ("metric='bbox'", "metric='proposal'", "config edited has no test_evaluator that scores"),
        ("metric='bbox'", "format_only=True, outfile_prefix='x'", "no test_evaluator that scores"),
        ("dict(type='LoadImageFromFile'),", "", "no step that loads an image"),
        ("checkpoint = 'red.pth'", "", "config edited names no checkpoint: give one with --checkpoint"),
        ("'red.pth'", "'blue.pth'", r"checkpoint blue\.pth does not exist"),
        ("ann_file='truth.json'", "ann_file='none.json'", r"none\.json of config edited does not exist"),
        ("'images/'", "'pictures/'", "pictures of config edited does not exist"),
        (
            "data_root = '",
            "data_root = '/nowhere",
            "data root /nowhere.* of config edited does not exist: .*--data-root",
        ),
        ("data_root=data_root, ", "", "config edited has no single data_root"),
        ("test_cfg = dict()", "1 / 0", "cannot read config .*edited.py: ZeroDivisionError"),
    ],
)
def test_configs_that_lack_something(toy, tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message):
        run.run([str(edited(toy, tmp_path, (old, new)))], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_wrapped_data_set_has_no_limit(toy, tmp_path):
    wrapped = ("dataset=dict(\n", "dataset=dict(type='RepeatDataset', times=1, dataset=dict(\n")
    config = edited(toy, tmp_path, wrapped, ("pipeline=pipeline)", "pipeline=pipeline))"))
    with pytest.raises(ConfigError, match="wrapped data set: --limit needs a plain one"):
        run.run([str(config)], tmp_path / "out", limit=1, device="cpu")
    inputs = ("original", str(toy / "tiny.safetensors"))
    rows = run.run([str(config)], tmp_path / "out", inputs=inputs, qualities=(5,), device="cpu")["rows"]
    assert rows[0]["value"] == 100.0 and rows[1]["restore_ms_per_image"] > 0


def test_images_that_are_restored_behind_a_wrapper_are_timed(toy, tmp_path, monkeypatch):
    """Each of two data sets has a DAGNRestore of its own; the first finds all of its images in the cache."""
    half = "        type='BaseSegDataset', metainfo"
    text = (toy / "segment.py").read_text()
    one = text[text.index("dataset=dict(") + len("dataset=") : text.index("pipeline=pipeline)") + len("pipeline=pipeline)")]
    assert half in text
    two = ", ".join(one.replace("dict(", f"dict(indices={indices}, ", 1) for indices in ([0, 1], [2, 3]))
    config = tmp_path / "both.py"
    config.write_text(text.replace(one, f"dict(type='ConcatDataset', datasets=[{two}])"))
    (tmp_path / "red.pth").write_bytes((toy / "red.pth").read_bytes())

    inputs = ("original", str(toy / "tiny.safetensors"))
    options = {"inputs": inputs, "qualities": (5,), "device": "cpu", "cache_dir": tmp_path / "cache"}
    run.run([str(toy / "segment.py")], tmp_path / "first", limit=2, **options)
    laps = []
    monkeypatch.setattr(observers.Stopwatch, "milliseconds", lambda self: laps.append(self.laps) or 7.0)
    rows = run.run([str(config)], tmp_path / "out", **options)["rows"]
    assert rows[0]["n_images"] == 4 and [row["restore_ms_per_image"] for row in rows] == [0, 7]
    assert [sum(images for _, images in found) for found in laps] == [4, 2, 4]  # the model, two restored, the model


def test_images_without_truth_cannot_be_scored(toy, tmp_path):
    truth = json.loads((toy / "data" / "truth.json").read_text())
    (tmp_path / "empty.json").write_text(json.dumps({**truth, "annotations": []}))
    empty = str(tmp_path / "empty.json")
    config = edited(toy, tmp_path, ("'truth.json', metric", "'', metric"), ("'truth.json'", f"'{empty}'"))
    config.write_text(config.read_text().replace("ann_file=data_root + ''", f"ann_file='{empty}'"))
    with pytest.raises(ConfigError, match="edited-original cannot be scored: its 4 images hold no ground truth"):
        run.run([str(config)], tmp_path / "out", device="cpu")


def test_nothing_found_is_a_score_of_zero(toy, tmp_path):
    torch.save({"threshold": torch.tensor(300.0)}, tmp_path / "blind.pth")
    results = bench(toy, tmp_path, inputs=("original",), checkpoint=str(tmp_path / "blind.pth"))
    assert results["rows"][0]["value"] == 0.0


def test_an_image_that_cannot_be_read_stops_the_cell(toy, tmp_path):
    truth = json.loads((toy / "data" / "truth.json").read_text())
    truth["images"][2]["file_name"] = str(tmp_path / "torn.png")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    (tmp_path / "torn.json").write_text(json.dumps(truth))
    config = edited(toy, tmp_path, ("ann_file='truth.json'", f"ann_file='{tmp_path / 'torn.json'}'"))
    with pytest.raises(DagnPreError, match=r"edited-original failed \(.*torn\.png"):
        run.run([str(config)], tmp_path / "out", device="cpu")


def test_a_host_that_cannot_be_built_is_one_clear_error(toy, tmp_path):
    config = edited(toy, tmp_path, ("RedThing", "BlueThing"))
    with pytest.raises(DagnPreError, match="the Runner of config edited cannot be built .*BlueThing"):
        run.run([str(config)], tmp_path / "out", device="cpu")


def test_a_checkpoint_of_another_model(toy, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not fit RedThing"):
        bench(toy, tmp_path, checkpoint=str(tmp_path / "other.pth"))


def test_the_command_line(toy, tmp_path, capsys):
    config, out = str(toy / "detect.py"), str(tmp_path / "out")
    words = ["bench", "run", config, "--inputs", "original", "jpeg", "--qf", "5", "--work-dir", out, "--device", "cpu"]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "| Object detection | bbox mAP |  5 | 100.00 " in printed.out
    assert str(tmp_path / "out" / "results.json") in printed.out
    assert "Toy detector" in printed.err and "INFO" not in printed.out + printed.err
    assert cli.main([*words, "--limit", "1"]) == 2
    assert "other settings" in capsys.readouterr().err
    assert cli.main([*words, "--checkpoint", str(tmp_path / "none.pth")]) == 1
    assert "none.pth does not exist" in capsys.readouterr().err


def test_the_demos_models(toy, tmp_path):
    demo.prepare(tmp_path / "data", counts={"train": 2, "val": 6})
    inputs = ("original", "jpeg", str(toy / "tiny.safetensors"))
    results = run.run(
        list(DEMO),
        tmp_path / "out",
        data_root=tmp_path / "data",
        inputs=inputs,
        qualities=(10,),
        limit=4,
        device="cpu",
    )
    assert [(row["metric"], row["input"], row["n_images"]) for row in results["rows"]] == [
        (metric, label, 4) for metric in ("bbox_mAP", "mIoU") for _ in range(2) for label in ("original", "jpeg", "tiny")
    ]
    found = {(row["model"], row["input"]): row["value"] for row in results["rows"]}
    for settings in results["environment"]["models"].values():
        if plain := settings.get("variant_of"):  # trained on JPEGs, it loses less to them
            assert found[plain, "jpeg"] < found[f"{plain}, JPEG-augmented", "jpeg"] <= 100
            assert found[plain, "jpeg"] < found[plain, "original"] <= 100
    assert results["environment"]["models"].keys() == {f"{row['model']}, {row['dataset']}" for row in results["rows"]}


def test_real_photographs(real_data, tmp_path):
    """YOLOX-nano on the first 8 of COCO/val; all 200 give 30.75 and 21.84, as the data's README says they should."""
    options = {"inputs": ("original", "jpeg"), "qualities": (10,), "limit": 8, "device": "cpu"}
    found = values(run.run(["yolox_nano_coco_sample"], tmp_path, data_root=real_data, **options))
    assert found["original", None] == pytest.approx(35.12, abs=0.2)
    assert found["jpeg", 10] == pytest.approx(27.62, abs=0.5)  # versions of libjpeg-turbo may differ a little
