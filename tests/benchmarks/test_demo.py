"""The demo's data set and its two trained models."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from pycocotools.coco import COCO

from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.demo import render
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.downstream.hosts.train import ready, relocated
from dagn_pre.errors import DagnPreError, UsageError

COUNTS = {"train": 6, "val": 12}
TASKS = ("faster_rcnn", "faster_rcnn_jpeg", "pspnet", "pspnet_jpeg")


def digests(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    demo.prepare(folder, counts=COUNTS)
    return folder


def config(task: str, root: Path, work_dir: Path) -> Config:
    cfg = relocated(configs.load(f"demo_{task}"), root)
    cfg.work_dir = str(work_dir)
    cfg.load_from = str(configs.WEIGHTS / cfg.checkpoint)
    return cfg


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    demo.prepare(tmp_path / "again", counts=COUNTS)
    assert digests(tmp_path / "again") == digests(root)
    # 18 images, 18 masks, two COCO files, two lists, the marker
    assert len(digests(root)) == 41


def test_another_seed_gives_other_images(root, tmp_path):
    demo.prepare(tmp_path / "other", seed=1, counts=COUNTS)
    images = {h for name, h in digests(root).items() if name.startswith("images")}
    others = {h for name, h in digests(tmp_path / "other").items() if name.startswith("images")}
    assert len(images) == len(others) == 18 and not images & others


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    demo.prepare(tmp_path / "few", counts={"train": 1, "val": 2})
    few, many = digests(tmp_path / "few"), digests(root)
    assert all(many[name] == h for name, h in few.items() if name.endswith(".png")) and len(few) == 11


def test_a_complete_folder_is_left_alone_and_another_seed_replaces_it(tmp_path):
    target, counts = tmp_path / "data", {"train": 0, "val": 1}
    demo.prepare(target, counts=counts)
    image = target / "images" / "val_0000.png"
    first, stamp = image.read_bytes(), image.stat().st_mtime_ns
    demo.prepare(target, counts=counts)
    assert image.stat().st_mtime_ns == stamp
    demo.prepare(target, seed=1, counts=counts)
    assert image.read_bytes() != first


def test_an_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "annotation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.prepare(tmp_path / "data", counts=COUNTS)
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not the demo's data"):
        demo.prepare(tmp_path, counts=COUNTS)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.png"]


def test_train_and_val_share_no_photograph():
    assert not set(render.PHOTOGRAPHS["train"]) & set(render.PHOTOGRAPHS["val"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_boxes_and_voc_masks_agree(root, split):
    coco = COCO(str(root / "annotations" / f"{split}.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(demo.CLASSES)
    names = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
    assert [f"{name}.png" for name in names] == [image["file_name"] for image in coco.loadImgs(coco.getImgIds())]
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = np.asarray(Image.open(root / "images" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3) and pixels.dtype == np.uint8
        mask = np.asarray(Image.open(root / "SegmentationClass" / image["file_name"]))
        expected = np.zeros_like(mask)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert annotations
        for annotation in annotations:
            own = coco.annToMask(annotation).astype(bool)
            assert not expected[own].any()  # every pixel has one owner
            expected[own] = annotation["category_id"]
            x, y, w, h = annotation["bbox"]
            inside = own[y : y + h, x : x + w]
            assert own.sum() == inside.sum() == annotation["area"]
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("name", render.CLASSES[:5])
def test_textures_are_fine_and_alike_in_strength(name):
    """What tells the classes apart lies where JPEG's tables are coarse: wavelengths of 3 to 8 pixels."""
    pattern = render.texture(np.random.default_rng(0), name, (96, 96))
    assert pattern.std() == pytest.approx(1, abs=0.05) and pattern.mean() == pytest.approx(0, abs=0.05)
    power = np.abs(np.fft.fft2(pattern * np.outer(np.hanning(96), np.hanning(96)))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    fine = (frequency > 1 / 8) & (frequency < 1 / 2)
    assert power[fine].sum() > 0.95 * power.sum()


def test_the_checkpoints_are_small_and_need_no_unpickling():
    files = [configs.WEIGHTS / f"demo_{task}.pth" for task in TASKS]
    assert sum(f.stat().st_size for f in files) < 10e6
    for file in files:
        content = torch.load(file, map_location="cpu", weights_only=True)
        assert set(content) == {"meta", "state_dict"}
        assert tuple(content["meta"]["dataset_meta"]["classes"])[-8:] == demo.CLASSES


@pytest.mark.parametrize("task", TASKS)
def test_the_models_build_from_their_configs_and_load_strictly(task, root, tmp_path):
    cfg = config(task, root, tmp_path)
    init_default_scope(cfg.default_scope)
    assert cfg.default_scope == ("mmdet" if task.startswith("faster_rcnn") else "mmseg")
    assert cfg.test_pipeline[0]["type"] == "LoadImageFromFile"
    model = MODELS.build(cfg.model)
    state = torch.load(cfg.load_from, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(state, strict=True)


@pytest.mark.parametrize(("task", "metric", "least"), [("faster_rcnn", "coco/bbox_mAP", 0.4), ("pspnet", "mIoU", 60)])
def test_the_models_know_their_classes(task, metric, least, root, tmp_path):
    """On 12 validation images; how much JPEG costs them is the benchmark's business."""
    scores = Runner.from_cfg(config(task, root, tmp_path)).test()
    assert scores[metric] > least


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(render, "version", missing)
    with pytest.raises(DagnPreError, match=r"dagn-pre\[benchmarks\]"):
        demo.prepare(tmp_path / "data")


def test_a_training_starts_from_what_an_earlier_one_left_else_from_what_ships(root, tmp_path):
    assert ready("demo_pspnet", tmp_path, root).load_from == str(configs.WEIGHTS / "demo_faster_rcnn.pth")
    (tmp_path / "demo_faster_rcnn.pth").touch()
    cfg = ready("demo_pspnet", tmp_path, root)
    assert cfg.load_from == str(tmp_path / "demo_faster_rcnn.pth")
    assert cfg.train_dataloader.dataset.data_root.rstrip("/") == str(root) and cfg.work_dir == str(tmp_path / "demo_pspnet")


def test_the_variants_train_on_jpegs_and_test_on_the_same_images(root, tmp_path):
    for task in ("faster_rcnn", "pspnet"):
        plain, variant = (configs.load(f"demo_{name}") for name in (task, f"{task}_jpeg"))
        steps = variant.train_dataloader.dataset.pipeline
        assert [step.type for step in steps][:2] == ["LoadImageFromFile", "JPEGCompress"]
        assert [step for step in steps if step.type != "JPEGCompress"] == plain.train_dataloader.dataset.pipeline
        assert variant.test_dataloader == plain.test_dataloader and variant.model == plain.model
        assert variant.benchmark.variant_of == plain.benchmark.model
