"""Tiny images with both kinds of annotation, tiny weights, and the hosts' own configs made tiny."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from openmmlab_toys import FASTER_RCNN, NOTED, PSPNET, SIZE, picture
from PIL import Image

from dagn_pre import codec, restorer
from dagn_pre.integrations.openmmlab.insert import find, insert
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.weights import save


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Four images: JPEGs of QF 10, 40 and 95, and a PNG; boxes as COCO json, masks as VOC keeps them."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = {"q10.jpg": 10, "q40.jpg": 40, "q95.jpg": 95, "lossless.png": None}
    images, boxes = [], []
    for index, (name, quality) in enumerate(names.items()):
        path, stem = root / "JPEGImages" / name, Path(name).stem
        if quality:
            path.write_bytes(codec.encode(picture(index), quality))
        else:
            Image.fromarray(picture(index)).save(path)
        mask = np.zeros(SIZE, np.uint8)
        images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for left, top, category in ((8, 8, 1), (56, 24, 2)):
            mask[top : top + 24, left : left + 24] = category
            box = {"id": len(boxes), "image_id": index, "category_id": category, "bbox": [left, top, 24, 24]}
            boxes.append({**box, "area": 576, "iscrowd": 0})
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{stem}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("q10\nq40\nq95\n")
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    (root / "coco.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """Weights of a DAGN that changes every image, and has no blind estimate that might spare one."""
    torch.manual_seed(0)
    shape = dict(widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1), guided_blocks=(1, 1, 1), guider_widths=(8, 8))
    network = DAGN(DAGNConfig(**shape, encoder_depth=18, encoder_width=4, sensitive=False)).eval()
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, network)
    return str(path)


@pytest.fixture(autouse=True)
def fresh():
    """Each test starts without a shared restorer and without the scope that the last one's host set."""
    restorer.restorer_of.cache_clear()
    DefaultScope._instance_dict.clear()
    torch.manual_seed(0)
    yield
    restorer.restorer_of.cache_clear()
    DefaultScope._instance_dict.clear()


def tested_only(config: Config, work_dir: Path) -> Config:
    """Leave training and validation out, write into ``work_dir``, and let the notes of our steps reach the results."""
    for part in ("train", "val"):
        config[f"{part}_dataloader"] = config[f"{part}_cfg"] = None
    config.optim_wrapper = config.param_scheduler = config.val_evaluator = None
    config.work_dir, config.log_level, config.randomness = str(work_dir), "WARNING", dict(seed=0)
    dump = dict(type="DumpResults", out_file_path=str(work_dir / "results.pkl"))
    config.test_evaluator = [config.test_evaluator, dump]
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    return config


@pytest.fixture
def faster_rcnn(data, weights, tmp_path) -> Config:
    """mmdet's Faster R-CNN R50-FPN on COCO: ResNet-18 with 8 channels, the tiny images, DAGNRestore inserted."""
    config = Config.fromfile(find(FASTER_RCNN))
    widths = [8, 16, 32, 64]
    config.model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    config.model.neck.update(in_channels=widths, out_channels=16)
    config.model.rpn_head.update(in_channels=16, feat_channels=16)
    config.model.roi_head.bbox_roi_extractor.out_channels = 16
    config.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=2)
    config.model.test_cfg.rpn.update(nms_pre=40, max_per_img=20)
    config.model.test_cfg.rcnn.score_thr = 0.0
    config.test_dataloader.dataset.update(
        data_root=str(data), ann_file="coco.json", data_prefix=dict(img="JPEGImages/"),
        metainfo=dict(classes=("person", "bicycle")),
    )  # fmt: skip
    config.test_evaluator.ann_file = str(data / "coco.json")
    for pipeline in (config.test_pipeline, config.test_dataloader.dataset.pipeline):
        pipeline[1].scale = (SIZE[1], SIZE[0])
        pipeline[-1].meta_keys = (*pipeline[-1].meta_keys, *NOTED)
    return insert(tested_only(config, tmp_path), model=weights, restore_lossless="always")


@pytest.fixture
def pspnet(data, weights, tmp_path) -> Config:
    """mmseg's PSPNet R50-D8 on VOC: ResNet-18 with 8 channels, the tiny images, DAGNRestore inserted."""
    config = Config.fromfile(find(PSPNET))
    norm = dict(type="BN", requires_grad=True)
    config.model.update(pretrained=None)
    config.model.data_preprocessor.update(size=None, test_cfg=dict(size_divisor=8))
    config.model.backbone.update(depth=18, base_channels=8, norm_cfg=norm)
    config.model.backbone.stem_channels = 8
    config.model.decode_head.update(in_channels=64, channels=8, norm_cfg=norm)
    config.model.auxiliary_head.update(in_channels=32, channels=8, norm_cfg=norm)
    config.test_dataloader.dataset.data_root = str(data)
    meta_keys = ("img_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction", *NOTED)
    for pipeline in (config.test_pipeline, config.test_dataloader.dataset.pipeline):
        pipeline[1].scale = (SIZE[1], SIZE[0])
        pipeline[-1].meta_keys = meta_keys
    config.tta_pipeline[1].transforms[0] = [dict(type="Resize", scale_factor=r, keep_ratio=True) for r in (0.5, 1.0)]
    config.tta_pipeline[1].transforms[-1][0].meta_keys = meta_keys
    return insert(tested_only(config, tmp_path), model=weights, restore_lossless="always")
