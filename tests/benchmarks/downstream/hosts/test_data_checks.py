"""Annotations, images and classes that do not belong together are told before anything is run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from dagn_pre.benchmarks.downstream import run
from dagn_pre.benchmarks.downstream.hosts import configs, data_checks
from dagn_pre.errors import ConfigError
from tests.benchmarks.downstream.host_toys import coco, masks, picture, save

DETECTION = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
data_root = '{root}'
test_dataloader = dict(dataset=dict(data_root=data_root, metainfo=dict(classes={classes})))
test_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
checkpoint = 'none.pth'
"""
SEGMENTATION = """
default_scope = 'mmseg'
test_dataloader = dict(dataset=dict(
    type='{kind}', data_root='{root}', ann_file='{names}', metainfo=dict(classes={classes}),
    data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=[dict(type='LoadImageFromFile')]))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index={ignored})
"""
TRUTH = "annotations/instances_val2017.json"


@pytest.fixture(autouse=True)
def fresh():
    """No scope of an earlier test's host."""
    DefaultScope._instance_dict.clear()


def detection(root: Path, classes=("person", "bicycle")) -> list[str]:
    """The remarks on a COCO folder."""
    (root / "config.py").write_text(DETECTION.format(root=root, classes=classes))
    return data_checks.check(configs.load(str(root / "config.py")))


def segmentation(root: Path, labels: int = 19, ignored: int = 255, names: str = "", kind: str = "BaseSegDataset") -> list[str]:
    """The remarks on a folder of images and masks."""
    options = dict(root=root, classes=[f"class {i}" for i in range(labels)], ignored=ignored, names=names, kind=kind)
    (root / "config.py").write_text(SEGMENTATION.format(**options))
    return data_checks.check(configs.load(str(root / "config.py")))


def change(root: Path, **tables) -> None:
    """Exchange parts of the annotation file."""
    content = json.loads((root / TRUTH).read_text())
    (root / TRUTH).write_text(json.dumps({**content, **tables}))


@pytest.fixture
def photos(tmp_path) -> Path:
    return coco(tmp_path)


@pytest.fixture
def scenes(tmp_path) -> Path:
    return masks(tmp_path, ("images/{}.jpg", "masks/{}.png"))


def test_data_that_belong_together_need_no_remark(photos, tmp_path):
    assert detection(photos) == []
    assert segmentation(masks(tmp_path / "scenes", ("images/{}.jpg", "masks/{}.png"))) == []


def test_images_that_do_not_exist_are_counted_before_anything_is_run(photos, tmp_path):
    for name in ("0.jpg", "2.jpg"):
        (photos / "val2017" / name).unlink()
    with pytest.raises(ConfigError, match=r"2 of 3 images that .*val2017\.json names do not exist \(first: 0\.jpg, 2\.jpg in "):
        detection(photos)
    with pytest.raises(ConfigError, match="2 of 3 images"):
        run.run([str(photos / "config.py")], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_images_of_another_data_set(photos):
    change(photos, images=[{"id": i, "file_name": f"a{i}.jpg", "height": 64, "width": 96} for i in range(3)])
    held = r"first: a0\.jpg, a1\.jpg, a2\.jpg\) is in .*val2017, which holds 3 others \(first: 0\.jpg, 1\.jpg, 2\.jpg\)"
    with pytest.raises(ConfigError, match=rf"none of the 3 images that .* names \({held}: .*--data-root"):
        detection(photos)


def test_images_that_no_annotation_names_are_a_remark(photos, tmp_path, capsys):
    save(picture(7), photos / "val2017" / "extra.jpg")
    (photos / "val2017" / "notes.txt").touch()
    (remark,) = detection(photos)
    assert remark == f"1 of 4 images in {photos}/val2017 are not named by {photos / TRUTH} and not tested (extra.jpg)"
    with pytest.raises(ConfigError, match=r"none\.pth does not exist"):  # the remark has not stopped it
        run.run([str(photos / "config.py")], tmp_path / "out", device="cpu")
    assert f"note: {remark}" in capsys.readouterr().err


def test_an_evaluator_with_the_truth_of_other_images(photos):
    detection(photos)
    content = json.loads((photos / TRUTH).read_text())
    (photos / "part.json").write_text(json.dumps({**content, "images": content["images"][:2]}))
    config = photos / "config.py"
    config.write_text(config.read_text() + f"test_evaluator.update(ann_file='{photos / 'part.json'}')\n")
    with pytest.raises(ConfigError, match=r"1 of 3 images of .*val2017\.json are not in .*part\.json, .*evaluator.*2\.jpg"):
        data_checks.check(configs.load(str(config)))


def test_no_images(photos):
    change(photos, images=[], annotations=[])
    with pytest.raises(ConfigError, match=r"val2017\.json of config config holds no images: .*--data-root"):
        detection(photos)


@pytest.mark.parametrize("content", ["no json", "[]", '{"images": [{"id": 1}], "categories": []}'])
def test_annotations_that_cannot_be_read(content, photos):
    (photos / TRUTH).write_text(content)
    with pytest.raises(ConfigError, match=r"test data of config config cannot be read \(.*repair .*val2017\.json"):
        detection(photos)


def test_classes_that_the_annotations_do_not_have(photos):
    """mmdet would number the rest anew, and score every label as another."""
    with pytest.raises(ConfigError, match=r"1 of 3 classes of config config are no categories of .*\(dog\): set metainfo"):
        detection(photos, ("person", "dog", "bicycle"))
    with pytest.raises(ConfigError, match=r"2 of 2 .* \(first: cat, dog; the file's other categories: first: bicycle, person"):
        detection(photos, ("cat", "dog"))


def test_classes_in_another_order(photos):
    with pytest.raises(ConfigError, match=r"stand in another order .*\(number 1 is person, in the config bicycle\)"):
        detection(photos, ("bicycle", "person"))


def test_a_split_whose_truth_is_not_known(photos):
    content = json.loads((photos / TRUTH).read_text())
    del content["annotations"]
    (photos / TRUTH).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"val2017\.json holds images without annotations: give a split"):
        detection(photos)


def test_two_categories_of_one_name(photos):
    change(photos, categories=[{"id": i, "name": name} for i, name in enumerate(("person", "bicycle", "bicycle"), 1)])
    with pytest.raises(ConfigError, match=r"names several categories alike \(bicycle\): rename or merge"):
        detection(photos)


def test_categories_without_a_class_are_a_remark(photos):
    (remark,) = detection(photos, ("person",))
    assert remark.startswith("3 annotations in") and remark.endswith("has no class for and are not scored (bicycle)")


def test_masks_that_do_not_exist(scenes):
    (scenes / "masks" / "1.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 3 masks that .* names do not exist \(1\.png in .*masks\)"):
        segmentation(scenes)


def test_masks_without_an_image_are_a_remark_but_not_where_a_list_chooses(scenes):
    save(np.zeros((64, 96), np.uint8), scenes / "masks" / "more.png")
    (remark,) = segmentation(scenes)
    assert "1 of 4 masks in" in remark and remark.endswith("not tested (more.png)")
    assert segmentation(scenes, names="ImageSets/Segmentation/val.txt") == []


def test_labels_beyond_the_classes(scenes):
    with pytest.raises(
        ConfigError, match=r"mask .*0\.png holds labels beyond the 17 classes of config config \(first: 17, 18\)"
    ):
        segmentation(scenes, labels=17)
    assert segmentation(scenes, labels=18, ignored=18) == []
    with pytest.raises(ConfigError, match=r"beyond the 18 classes .* \(18\): "):
        segmentation(scenes, labels=18)


def test_labels_are_looked_at_as_the_data_set_reads_them(scenes):
    """ADE20K's 0 stands for no class: 19 labels are 18 classes."""
    (scenes / "config.py").write_text(
        SEGMENTATION.format(root=scenes, classes="1", ignored=255, names="", kind="ADE20KDataset").replace(
            "metainfo=dict(classes=1),", ""
        )
    )
    assert data_checks.check(configs.load(str(scenes / "config.py"))) == []
    mask = np.full((64, 96), 150, np.uint8)  # class 149, the last
    mask[0], mask[1] = 0, 255
    save(mask, scenes / "masks" / "0.png")
    assert data_checks.check(configs.load(str(scenes / "config.py"))) == []
    mask[2] = 151
    save(mask, scenes / "masks" / "0.png")
    with pytest.raises(ConfigError, match=r"beyond the 150 classes of config config \(150\)"):
        data_checks.check(configs.load(str(scenes / "config.py")))


def test_masks_as_pictures(scenes):
    save(picture(0), scenes / "masks" / "0.png")
    with pytest.raises(ConfigError, match=r"0\.png is a picture of shape \(64, 96, 3\), not a map of labels"):
        segmentation(scenes)


def test_masks_of_another_size_are_named(scenes):
    save(picture(0)[:20, :30], scenes / "images" / "1.jpg")
    with pytest.raises(ConfigError, match=r"1 of 3 images differ from their masks in size \(1.jpg 30x20, its mask"):
        segmentation(scenes)


def test_boxes_beyond_their_images_are_told(photos):
    content = json.loads((photos / TRUTH).read_text())
    width = content["images"][0]["width"]
    notes = content["annotations"]
    notes[0] = {**notes[0], "image_id": content["images"][0]["id"], "bbox": [width - 5, 2, 10, 4]}
    change(photos, annotations=notes)
    (remark,) = detection(photos)
    assert remark.startswith("1 boxes in ") and remark.endswith(f"({content['images'][0]['file_name']})")
