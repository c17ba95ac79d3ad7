"""What the tests of this folder share besides fixtures."""

from __future__ import annotations

import numpy as np

FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
PSPNET = "mmseg::pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py"
SIZE = (64, 96)  # height, width
NOTED = ("dagn_restored", "dagn_reason", "jpeg_quality")


def picture(seed: int) -> np.ndarray:
    """A (64, 96, 3) uint8 RGB picture: a gradient, a grating and two boxes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([x * 2, y * 3, 128 + 60 * np.sin(x / 2 + y / 3)], axis=-1)
    for left, top in ((8, 8), (56, 24)):
        image[top : top + 24, left : left + 24] = rng.integers(0, 256, 3)
    return image.clip(0, 255).astype(np.uint8)
