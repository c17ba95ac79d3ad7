"""``DAGNDefer``: a pipeline step whose pixels are done later, after restoring, where the model runs.

JPEG's 8x8 blocks can only be restored where the decoder put them. For the model's preprocessor to restore, the pipeline
must hand over the image at original resolution and unflipped, and yet do everything else that its Resize, Pad and
RandomFlip do: draw, scale boxes, masks and maps, fill the metainfo. ``DAGNDefer`` wraps such a step, lets it work on a
stand-in of the same size, notes what it did to the pixels, and leaves the image alone; :func:`replay` does that on a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from torch import Tensor

from dagn_pre.codec import Quality
from dagn_pre.errors import ConfigError, ImageError
from dagn_pre.integrations.openmmlab.resize import resize
from dagn_pre.integrations.openmmlab.results import check_channels, check_place, named, noted_quality, source_file
from dagn_pre.sources import told_by

KEY = "dagn_deferred"  # in results, then in the metainfo of data_samples
RESIZES = ("Resize", "FixScaleResize", "ResizeShortestEdge", "ResizeToMultiple", "RandomResize", "RandomChoiceResize")
DEFERRABLE = (*RESIZES, "Pad", "RandomFlip")


@dataclass(frozen=True)
class Deferred:
    """What an image that is handed over still needs.

    ``steps`` are ("resize", height, width), ("pad", height, width, value) with a number or one per channel, and ("flip",
    "horizontal", "vertical" or "diagonal"); ``size`` is (height, width) after them; ``quality`` is what is known of the
    image's QF, None if nothing is, :data:`dagn_pre.codec.RESTORED` where dagn-pre has restored it before.
    """

    quality: Quality | None
    size: tuple[int, int]
    steps: tuple[tuple, ...] = ()


@TRANSFORMS.register_module()
class DAGNDefer(BaseTransform):
    """Do what ``transform`` does, but for the pixels, which DAGNDetDataPreprocessor or DAGNSegDataPreProcessor do later.

    Wrap each Resize, Pad and RandomFlip, and the Pack step at the end, inside TestTimeAug too. Required keys: img, (H, W, 3)
    uint8 BGR, and what ``transform`` requires. The first one in a pipeline reads the image's quality as DAGNRestore would;
    around a Pack step it puts the notes into the metainfo of data_samples as ``dagn_deferred``. Modified: whatever
    ``transform`` modifies, except img.

    Args:
        transform: the config of the step: one of the host's Resize, FixScaleResize, ResizeShortestEdge, ResizeToMultiple,
            RandomResize, RandomChoiceResize (bilinear, by OpenCV), Pad (constant), RandomFlip, or Pack....
        backend_args: how mmengine.fileio reads img_path; the same as the loading step's.

    Raises:
        ConfigError: a step of another kind (at construction); an earlier step moved or scaled the pixels.
        ImageError: an image that is not (H, W, 3).
    """

    def __init__(self, transform: dict, backend_args: dict | None = None) -> None:
        reason = why_not(transform)
        if reason:
            raise ConfigError(f"DAGNDefer cannot put off {reason}; restore in the pipeline instead, with DAGNRestore")
        self.kind = type_name(transform)
        self.step = TRANSFORMS.build(transform)
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Do the step but for the pixels; see the class for the keys."""
        deferred = results.get(KEY) or self.begun(results)
        if self.kind.startswith("Pack"):
            packed = self.step({key: value for key, value in results.items() if key != KEY})
            packed["data_samples"].set_metainfo({KEY: deferred})
            return packed
        pixels = results["img"]
        results["img"] = np.zeros((*deferred.size, 3), np.uint8)
        results = self.step(results)
        size, results["img"] = results["img"].shape[:2], pixels
        results[KEY] = replace(deferred, size=size, steps=(*deferred.steps, *self.done(results, size)))
        return results

    def begun(self, results: dict) -> Deferred:
        """The notes on an image as it was loaded."""
        check_place(self, results)
        try:
            check_channels(results["img"])
        except ImageError as error:
            raise ImageError(f"cannot restore {named(results)}: {error}") from error
        image, data, known = results["img"], source_file(results, self.backend_args), noted_quality(results)
        if known is None and data is not None:
            known = told_by(data, image[..., ::-1])
        return Deferred(known, image.shape[:2])

    def done(self, results: dict, size: tuple[int, int]) -> list[tuple]:
        """What the wrapped step has just done to the pixels."""
        if self.kind == "RandomFlip":
            return [("flip", results["flip_direction"])] if results["flip"] else []
        if self.kind == "Pad":
            return [("pad", *size, self.step.pad_val.get("img", 0))]
        return [("resize", *size)]

    def __repr__(self) -> str:
        return f"DAGNDefer(transform={self.step!r}, backend_args={self.backend_args})"


def why_not(step: dict) -> str:
    """Why the pixels of a pipeline step (its config) cannot be done later, in words that name it; "" where they can."""
    name = type_name(step)
    if name.startswith("Pack"):
        return ""
    if name not in DEFERRABLE:
        return f"{name}, which is none of {', '.join(DEFERRABLE)}"
    if step.get("backend", "cv2") != "cv2" or step.get("interpolation") not in (None, "bilinear"):
        return f"a {name} other than bilinear by cv2"
    if step.get("padding_mode", "constant") != "constant":
        return f"a {name} with padding_mode={step['padding_mode']!r}"
    return ""


def type_name(step: object) -> str:
    """The class name of a step, without its scope or module; "" for what is no step."""
    kind = step.get("type", "") if isinstance(step, dict) else ""
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def replay(image: Tensor, steps: tuple[tuple, ...]) -> Tensor:
    """Do :class:`Deferred`'s steps to ``image``, (3, H, W) uint8 on any device, BGR; gives uint8 on that device."""
    for name, *arguments in steps:
        image = STEPS[name](image, *arguments)
    return image


def pad(image: Tensor, height: int, width: int, value: float | tuple) -> Tensor:
    """Pad at the bottom and on the right."""
    padded = torch.empty((3, height, width), dtype=image.dtype, device=image.device)
    padded[:] = torch.as_tensor(value, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
    padded[:, : image.shape[1], : image.shape[2]] = image
    return padded


def flip(image: Tensor, direction: str) -> Tensor:
    """Mirror; "diagonal" mirrors both ways."""
    return image.flip({"horizontal": (2,), "vertical": (1,), "diagonal": (1, 2)}[direction])


STEPS: dict[str, Callable[..., Tensor]] = {"resize": resize, "pad": pad, "flip": flip}
