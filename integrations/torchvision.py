"""``DAGNRestore`` for torchvision: :class:`dagn_pre.Restorer` as a ``torchvision.transforms.v2`` transform.

    transforms = v2.Compose([DAGNRestore(), v2.Resize(640), v2.ToDtype(torch.float32, scale=True)])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from dagn_pre.errors import ImageError
from dagn_pre.integrations.workers import RestoringStep
from dagn_pre.options import Options


def _is_plain_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


class DAGNRestore(RestoringStep, v2.Transform):
    """Restore the images of a sample; boxes, masks, labels and whatever else it holds pass unchanged.

    Put it first, before anything that moves or scales pixels: JPEG's 8x8 blocks lie where the decoder put them.

    An image is a PIL image (gives a PIL image), a ``tv_tensors.Image`` or, as everywhere in v2, the first plain tensor
    of a sample without either. Tensors are (..., 3, H, W) uint8, 0..255, RGB, on any device; they come back with the
    same type, shape and device. A mask must be a ``tv_tensors.Mask``, which torchvision's
    ``wrap_dataset_for_transforms_v2`` sees to: to v2, every PIL image is an image.

    The quality is read from a PIL image that still is an opened JPEG (before ``convert``), else estimated from the
    pixels. The weights are loaded when the first image comes, once per process; the transform itself pickles to a few
    hundred bytes. In DataLoader workers torch keeps to one thread.

    Args:
        model, and all others: see :class:`dagn_pre.options.Options`, which defines them; ``device`` is "cpu" unless given.
            Forked DataLoader workers cannot use CUDA: there "auto" means "cpu", and asking for CUDA is an error.

    Raises:
        UsageError: an option outside its range or of another name, or an unknown model (at construction); CUDA in a forked
            worker.
        ImageError: a tensor of another shape or dtype; an image of a kind that is refused (:mod:`dagn_pre.images`).
    """

    _transformed_types = (PIL.Image.Image, tv_tensors.Image, _is_plain_tensor)

    def __init__(self, model: str | Path = Options.model, **options) -> None:
        super().__init__()
        self.set_options(model, options)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Restore one image leaf of a sample; v2 calls this."""
        restorer = self.restorer()
        if isinstance(inpt, PIL.Image.Image):
            return restorer(inpt)
        if inpt.dtype != torch.uint8 or inpt.ndim < 3 or inpt.shape[-3] != 3:
            raise ImageError(
                f"DAGNRestore needs (..., 3, H, W) uint8 RGB tensors, not {inpt.dtype} of shape {tuple(inpt.shape)}; "
                "put it before ToDtype and Normalize"
            )
        batch = inpt.detach().cpu().reshape(inpt.shape[:-3].numel(), *inpt.shape[-3:])
        arrays = list(batch.permute(0, 2, 3, 1).contiguous().numpy())
        restored = restorer(arrays)
        if all(after is before for after, before in zip(restored, arrays, strict=True)):
            return inpt
        tensor = torch.stack([torch.from_numpy(array) for array in restored]).permute(0, 3, 1, 2)
        tensor = tensor.reshape(inpt.shape).to(inpt.device)
        return tensor if _is_plain_tensor(inpt) else tv_tensors.wrap(tensor, like=inpt)

    _transform = transform  # its name before torchvision 0.21

    def extra_repr(self) -> str:
        """The options, for ``repr``."""
        return ", ".join(f"{key}={value!r}" for key, value in self.options.items())
