"""What our pipeline steps read from ``results``, and what they ask of it.

They stand right after the loading step: ``results["img"]`` is the decoded image, (H, W, 3) uint8 in BGR order, and its 8x8
blocks are where the encoder put them.
"""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from dagn_pre import codec
from dagn_pre.errors import ConfigError, ImageError

# What Resize, Pad and RandomFlip of mmcv, mmdet and mmseg leave in ``results``, also when they changed no pixel.
TRACES = ("scale", "scale_factor", "pad_shape", "flip")


def source_file(results: dict, backend_args: dict | None) -> bytes | None:
    """The file that the pixels are from: what JPEGCompress wrote, else the one at img_path, read through mmengine.fileio with
    ``backend_args``. None where none is named (arrays come with img_path=None) or it cannot be read: the loader then got its
    pixels elsewhere."""
    data, path = results.get("jpeg_data"), results.get("img_path")
    if data is not None or not path:
        return data
    try:
        return bytes(fileio.get(path, backend_args=backend_args))
    except OSError:
        return None


def noted_quality(results: dict) -> codec.Quality | None:
    """The quality that JPEGCompress noted."""
    noted = results.get("jpeg_quality")
    return None if noted is None else codec.given_quality(noted, results.get("jpeg_subsampling"))


def check_place(step: BaseTransform, results: dict) -> None:
    """Raise ConfigError if an earlier step has moved the 8x8 blocks or made the pixels something other than uint8."""
    image, step_name = results["img"], type(step).__name__
    traces = [key for key in TRACES if key in results]
    loaded = results.get("ori_shape", image.shape[:2])
    if traces or tuple(loaded[:2]) != image.shape[:2]:
        found = f"results hold {', '.join(map(repr, traces))}" if traces else f"{loaded} became {image.shape[:2]}"
        raise ConfigError(
            f"{step_name} must come right after the step that loads the image, before any Resize, Pad, crop or flip "
            f"({found}): JPEG's 8x8 blocks lie where the decoder put them, and only there can they be restored"
        )
    if image.dtype != np.uint8:
        raise ConfigError(
            f"{step_name} needs uint8 pixels, not {image.dtype}: set to_float32=False in the step that loads the "
            "image, and put Normalize after it"
        )


def check_channels(image: np.ndarray) -> None:
    """Raise ImageError unless ``image`` is (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f'the image must be (H, W, 3) BGR, not {image.shape}; load it with color_type="color"')


def named(results: dict) -> str:
    """The image's path, or words for an image that came as an array."""
    return str(results.get("img_path") or "an image given as an array")
