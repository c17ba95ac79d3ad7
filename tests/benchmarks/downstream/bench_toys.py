"""A world whose scores are known: noisy images with a red rectangle each, and a model that finds what is red, in both tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from PIL import Image

SHAPE = (40, 56)  # height and width


@MODELS.register_module()
class RedThing(BaseModel):
    """Finds the red pixels of an image: as a mask, and as the one box around them."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.threshold = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, inputs, data_samples, mode="predict"):
        for bgr, sample in zip(inputs, data_samples, strict=True):
            red = bgr[2].float() - bgr[:2].float().mean(0) > self.threshold
            red &= not self.training  # as others, it is worth nothing then
            sample.pred_sem_seg = PixelData(data=red.long()[None])
            y, x = torch.nonzero(red, as_tuple=True)
            boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(y) else np.zeros((0, 4))
            found = InstanceData(bboxes=torch.as_tensor(boxes, dtype=torch.float32))
            found.scores, found.labels = torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.long)
            sample.pred_instances = found
        return data_samples


COMMON = """
default_scope = '{scope}'
checkpoint = 'red.pth'
benchmark = dict(model='{model}', dataset='toy')
data_root = '{root}/'
model = dict(type='RedThing')
test_cfg = dict()
"""
DETECTION = (
    COMMON
    + """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
test_dataloader = dict(
    batch_size=3, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', metainfo=dict(classes=('thing',)), data_root=data_root, ann_file='truth.json',
        data_prefix=dict(img='images/'), test_mode=True, pipeline=pipeline))
test_evaluator = dict(type='CocoMetric', ann_file=data_root + 'truth.json', metric='bbox')
custom_hooks = [dict(type='EMAHook')]
"""
)
SEGMENTATION = (
    COMMON
    + """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset', metainfo=dict(classes=('ground', 'thing')), data_root=data_root,
        data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.png', test_mode=True,
        pipeline=pipeline))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
"""
)


def toy_images(count: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy (H, W, 3) uint8 RGB images with a red rectangle each, and its masks; found exactly, until JPEG blurs it."""
    rng = np.random.default_rng(0)
    images = []
    for index in range(count):
        image = rng.integers(60, 110, (*SHAPE, 1)).repeat(3, 2)
        mask = np.zeros(SHAPE, np.uint8)
        step = index % 4
        mask[5 + step : 24 + 2 * step, 7 + 3 * step : 30 + 4 * step] = 1
        image[mask == 1] += (90, -20, -20)
        images.append((image.astype(np.uint8), mask))
    return images


def red(image: np.ndarray) -> np.ndarray:
    """RedThing on RGB uint8, once more."""
    return image[..., 0].astype(float) - image[..., 1:].astype(float).mean(-1) > 30


def make(folder: Path, images: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write detect.py, segment.py, red.pth and data/ into a folder, and return it."""
    root = folder / "data"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for index, (image, mask) in enumerate(images):
        Image.fromarray(image).save(root / "images" / f"{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
        y, x = np.nonzero(mask)
        box = [int(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]
        truth["images"].append({"id": 10 + index, "file_name": f"{index}.png", "height": SHAPE[0], "width": SHAPE[1]})
        note = {"id": index + 1, "image_id": 10 + index, "category_id": 1, "bbox": box, "iscrowd": 0}
        truth["annotations"].append({**note, "area": box[2] * box[3]})
    (root / "truth.json").write_text(json.dumps(truth))
    (folder / "detect.py").write_text(DETECTION.format(scope="mmdet", root=root, model="Toy detector"))
    (folder / "segment.py").write_text(SEGMENTATION.format(scope="mmseg", root=root, model="Toy segmenter"))
    torch.save({"threshold": torch.tensor(30.0)}, folder / "red.pth")
    return folder
