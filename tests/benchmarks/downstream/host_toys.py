"""Three tiny pictures in the layouts of COCO and of segmenters' data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SHAPE, COUNT = (64, 96), 3  # height and width, and how many there are
CLASSES = ("person", "bicycle")


def picture(seed: int) -> np.ndarray:
    """A (64, 96, 3) uint8 RGB picture: noise that JPEG changes, and two boxes."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 140, (*SHAPE, 3)).astype(np.uint8)
    for top, left in ((8, 8), (30, 56)):
        image[top : top + 24, left : left + 24] = rng.integers(0, 256, 3)
    return image


def labels() -> np.ndarray:
    """The (64, 96) uint8 mask of every picture: patches of 19 labels, so that random weights hit some."""
    return np.random.default_rng(0).integers(0, 19, (8, 12)).astype(np.uint8).repeat(8, 0).repeat(8, 1)


def save(image: np.ndarray, path: Path) -> None:
    """Lossless, whatever the suffix says: the hosts go by the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def coco(root: Path, treat=lambda image: image, classes: Sequence[str] = CLASSES) -> Path:
    """COCO's layout, with polygons of the first two classes; the pictures are treated."""
    boxes = []
    for index in range(COUNT):
        save(treat(picture(index)), root / "val2017" / f"{index}.jpg")
        for category, (y, x) in enumerate(((8, 8), (30, 56)), 1):
            polygon = [x, y, x + 24, y, x + 24, y + 24, x, y + 24]
            box = {"image_id": index, "category_id": category, "bbox": [x, y, 24, 24], "segmentation": [polygon]}
            boxes.append({"id": len(boxes) + 1, **box, "area": 576, "iscrowd": 0})
    height, width = SHAPE
    images = [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in range(COUNT)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    (root / "annotations").mkdir()
    content = {"images": images, "annotations": boxes, "categories": categories}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    return root


def masks(root: Path, places: tuple[str, str], treat=lambda image: image) -> Path:
    """The layout of a segmenter's data set, with a list of names where VOC has one; the pictures are treated."""
    for index in range(COUNT):
        save(treat(picture(index)), root / places[0].format(index))
        save(labels(), root / places[1].format(index))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"{index}\n" for index in range(COUNT)))
    return root
