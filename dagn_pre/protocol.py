"""What a restorer has to offer so that :class:`dagn_pre.Restorer` can run it: one small protocol for every method.

The runtime owns files, colour, padding, tiles, batches, device and dtype; a model owns the pixels::

    x             (B, 3, H, W) float in [0, 1], RGB, sides padded by replication to multiples of ``stride``, on the device
    information   one :class:`ImageInformation` per image: what is known of its compression
    guidance    = model.guide(x, information)   once, on the whole image
    output      = model.restore(x, guidance)    on the whole image, or on each tile under model.window(guidance, ...)

Other packages offer models through the entry point group ``dagn_pre.models``; see :mod:`dagn_pre.models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre import codec
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError, UsageError

NEEDS = ("pixels", "tables", "file")

Maps = list[tuple[Tensor, Tensor | None]]
"""Side information for each conditioned layer: a (factor, shift) pair, (B, C, H / 8, W / 8) each; no shift is None."""


@dataclass(frozen=True)
class ImageInformation:
    """What is known of one image besides its pixels.

    Attributes:
        known: its QF, quantisation tables and subsampling, from a header, from the caller or from a blind estimate; or None.
        assumed: the QF set by hand (``Restorer(assume_quality=N)``), which overrides ``known``; or None.
        data: the file's bytes, where there is a file.
        name: for messages.
    """

    known: Quality | None = None
    assumed: int | None = None
    data: bytes | None = None
    name: str = "image"

    @property
    def quality(self) -> int | None:
        """The QF to go by: set by hand, else known, else None."""
        if self.assumed is not None:
            return self.assumed
        return None if self.known is None else self.known.value

    @property
    def tables(self) -> np.ndarray | None:
        """(2, 64) float32, luminance and chrominance, row by row: the file's own, else IJG's for the QF; None without that."""
        if self.assumed is None and self.known is not None and self.known.tables is not None:
            return np.array(self.known.tables, dtype=np.float32)
        return None if self.quality is None else codec.standard_tables()[self.quality - 1].astype(np.float32)

    @property
    def subsampling(self) -> str:
        """Of chroma; "4:2:0", which encoders write unless told otherwise, where nothing is known."""
        return (self.known.subsampling if self.known is not None else None) or "4:2:0"


class RestorationModel(nn.Module):
    """Base of every restorer; a subclass needs :meth:`restore`, the rest has defaults that fit a plain CNN.

    Attributes:
        stride: the image's sides are padded to multiples of it, and tiles start at multiples of it; at most 16.
        receptive_radius: pixels that :meth:`restore` looks beyond a pixel; tiles overlap by as much.
        needs: "pixels" (any image will do), "tables" (quantisation tables: ``ImageInformation.tables`` is never None) or "file"
            (the JPEG's bytes: ``ImageInformation.data`` is never None).
        blind: whether :meth:`blind_quality` tells a QF.
        quality_override: whether a QF set by hand (``ImageInformation.assumed``) changes anything.
        tiles: whether the image may be cut into tiles.
        autocast: whether :meth:`restore` may run in half precision, and float16: whether that will do for it.
        qualities: the QFs that there is a model for, where there is one per QF; None: one model for all.
        pixel_guidance: whether :meth:`guide` goes by the pixels alone, so that engines can compute it.
        conditioned_channels: channels of the layers that side information can condition, as :meth:`condition` takes them;
            () where it cannot. ``stride`` is then 16.
    """

    stride: int = 8
    receptive_radius: int = 64
    needs: str = "pixels"
    blind: bool = False
    quality_override: bool = False
    tiles: bool = True
    autocast: bool = True
    float16: bool = True
    qualities: tuple[int, ...] | None = None
    pixel_guidance: bool = False
    conditioned_channels: tuple[int, ...] = ()

    def pad(self, x: Tensor) -> Tensor:
        """Replicate the bottom and right border up to multiples of ``stride``."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")

    def nearest(self, quality: int) -> int:
        """Of ``qualities``, the one nearest to a QF; the lower of two, since its artifacts include the other's."""
        return min(self.qualities or (quality,), key=lambda known: (abs(known - quality), known))

    def check_quality_override(self, quality: int) -> None:
        """Raise UsageError unless this QF can be set by hand."""
        if not self.quality_override:
            raise UsageError("a quality set by hand has no effect on this model")

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Any:
        """What :meth:`restore` has to know of the whole image; here nothing.

        Args:
            x: (B, 3, H, W) float in [0, 1], padded.
            information: one per image.

        Raises:
            ImageError: an image that this model cannot restore; it is named.
        """
        return None

    def condition(self, guidance: Any, maps: Maps) -> Any:
        """Guidance that also holds side information: a pair of maps for each of ``conditioned_channels``."""
        raise UsageError(f"{type(self).__name__} cannot be conditioned by side information")

    def window(self, guidance: Any, top: int, left: int, height: int, width: int) -> Any:
        """The guidance for a crop, in pixels and multiples of 16; by default the same for all, since few models' is spatial."""
        return guidance

    def restore(self, x: Tensor, guidance: Any) -> Tensor:
        """Restore a padded image, or a crop of one that starts at multiples of 16, under the image's guidance.

        Shape:
            (B, 3, H, W) -> (B, 3, H, W) float, nominally in [0, 1]; values outside are clipped by the caller.
        """
        raise NotImplementedError

    def pack(self, guidance: Any) -> list[Tensor]:
        """A guidance as tensors alone, for graphs (:mod:`dagn_pre.graphs`); raises UsageError where that cannot be."""
        if guidance is None:
            return []
        if isinstance(guidance, Tensor):
            return [guidance]
        raise UsageError(f"{type(self).__name__} with what it knows of an image cannot be made a graph")

    def unpack(self, tensors: Sequence[Tensor]) -> Any:
        """Inverse of :meth:`pack`."""
        return tensors[0] if tensors else None

    def blind_quality(self, guidance: Any) -> Tensor | None:
        """(B,) QF in 1..100 as the model reads it from the pixels; None unless ``blind``."""
        return None

    def forward(self, x: Tensor, information: Sequence[ImageInformation] | None = None) -> Tensor:
        """(B, 3, H, W) of any size -> the same, restored; ``information`` default to QF 50 where the model needs tables."""
        default = ImageInformation(assumed=50) if self.needs == "tables" else ImageInformation()
        information = [default] * len(x) if information is None else information
        height, width = x.shape[-2:]
        padded = self.pad(x)
        return self.restore(padded, self.guide(padded, information))[..., :height, :width]


def stacked_tables(information: Sequence[ImageInformation], like: Tensor) -> Tensor:
    """(B, 2, 64) float32 tables on the device of ``like``.

    Raises:
        ImageError: an image of which no table is known.
    """
    tables = []
    for one in information:
        if (known := one.tables) is None:
            raise ImageError(f"{one.name}: no quantisation tables are known, and this model needs them")
        tables.append(known)
    return torch.from_numpy(np.stack(tables)).to(like.device)
