"""One model on one device, tensors in and out: padding, half precision, tiles; and the networks that restorers share."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dagn_pre import engines, models
from dagn_pre.codec import Quality
from dagn_pre.options import STRIDE
from dagn_pre.protocol import ImageInformation
from dagn_pre.sources import copied

AUTO_TILE = 1024
AUTO_TILE_PIXELS = 2048 * 2048  # untiled up to here


class Inference:
    """Runs a :class:`dagn_pre.protocol.RestorationModel` on images of any size.

    Args:
        loaded: the model, on ``device``, and its card.
        engine: what runs it.
        device, dtype: where, and in which precision where the model allows it.
        tile, overlap: as of :class:`dagn_pre.options.Options`.
    """

    def __init__(
        self,
        loaded: models.Loaded,
        engine: engines.Engine,
        device: torch.device,
        dtype: torch.dtype,
        tile: int | None,
        overlap: int | None,
    ) -> None:
        self.loaded, self.engine = loaded, engine  # held, since the caches behind them are weak
        self.model, self.device, self.dtype, self.tile = loaded.model, device, dtype, tile
        radius = self.model.receptive_radius if overlap is None else overlap
        self.overlap = -(-radius // STRIDE) * STRIDE

    def tensor(self, rgbs: Sequence[np.ndarray | Tensor]) -> Tensor:
        """(H, W, 3) uint8 arrays or (3, H, W) uint8 tensors, of one padded size -> (B, 3, H', W') float32 in [0, 1] on the
        device."""
        given = (rgb.permute(1, 2, 0) if isinstance(rgb, Tensor) else torch.from_numpy(copied(rgb)) for rgb in rgbs)
        images = [self._padded(rgb) for rgb in given]
        return (images[0] if len(images) == 1 else torch.cat(images)).contiguous(memory_format=torch.channels_last)

    def _padded(self, rgb: Tensor) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, H', W') float32 on the device. No step is taken that would only copy: they add up."""
        # The first axis comes before the others change places: torch knows channels_last by its stride, too.
        image = rgb.to(self.device)[None].permute(0, 3, 1, 2).float().div_(255)
        return self.model.pad(image) if any(side % self.model.stride for side in image.shape[-2:]) else image

    @torch.inference_mode()
    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> object:
        """The model's guidance for a padded batch, (B, 3, H, W) float32 in [0, 1]."""
        with self._autocast():
            return self.engine.guide(x, information)

    def blind_quality(self, guidance: object) -> list[Quality]:
        """The QF of each image as the model reads it from the pixels; only of a model that is ``blind``."""
        found = self.model.blind_quality(guidance)
        return [] if found is None else [Quality(int(value), "blind") for value in found.tolist()]

    def tiled(self, x: Tensor, guidance: object) -> Tensor:
        """The model's ``restore`` on the whole padded batch or tile by tile, with ``overlap`` pixels of context.

        Shape:
            (B, 3, H, W) float32 in [0, 1] -> the same size, float32 or the half precision, not clipped.
        """
        height, width = x.shape[-2:]
        tile = self.tile
        if not self.model.tiles:
            tile = 0
        if tile is None:
            tile = AUTO_TILE if height * width > AUTO_TILE_PIXELS else 0
        with self._autocast():
            if not tile or (height <= tile and width <= tile):
                return self.engine.restore(x, guidance)
            output = torch.empty_like(x)
            for top in range(0, height, tile):
                for left in range(0, width, tile):
                    bottom, right = min(top + tile, height), min(left + tile, width)
                    y, x0 = max(top - self.overlap, 0), max(left - self.overlap, 0)
                    crop = x[..., y : min(bottom + self.overlap, height), x0 : min(right + self.overlap, width)]
                    here = self.model.window(guidance, y, x0, *crop.shape[-2:])
                    restored = self.engine.restore(crop.contiguous(memory_format=torch.channels_last), here)
                    output[..., top:bottom, left:right] = restored[..., top - y : bottom - y, left - x0 : right - x0]
        return output

    def _autocast(self) -> contextlib.AbstractContextManager:
        # Switched off also where the caller's own autocast is on, as in training with AMP.
        full = self.dtype in (torch.float32, torch.int8)  # an engine's int8 starts from float32
        if full or not self.model.autocast or (self.dtype == torch.float16 and not self.model.float16):
            return torch.autocast(self.device.type, enabled=False)
        return torch.autocast(self.device.type, self.dtype)


_engines: weakref.WeakValueDictionary[tuple, engines.Compiled] = weakref.WeakValueDictionary()
_networks: weakref.WeakValueDictionary[tuple[str, torch.device], models.Loaded] = weakref.WeakValueDictionary()


def load(model: str | Path, fingerprint: str, device: torch.device) -> models.Loaded:
    """A model's networks on ``device``: one copy per content of the weights file, freed with the last restorer that uses it.

    Raises:
        UsageError, WeightsError, DagnPreError: as :func:`dagn_pre.models.load`.
    """
    key = fingerprint, device
    loaded = _networks.get(key)
    if loaded is None:
        loaded = models.load(model)
        loaded.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        _networks[key] = loaded
    return loaded


def engine(
    name: str, loaded: models.Loaded, model: str, fingerprint: str, device: torch.device, dtype: torch.dtype, strict: bool
) -> engines.Engine:
    """What runs a model: by the engine's resolved name, one per process, content of the weights file and precision.

    Raises:
        UsageError: as :func:`dagn_pre.engines.make`.
    """
    key = name, fingerprint, device, dtype, os.getpid(), torch.get_num_threads()
    found: engines.Engine | None = _engines.get(key)
    if found is None:
        found = engines.make(name, loaded.model, model, fingerprint, dtype, strict)
        if isinstance(found, engines.Compiled):
            _engines[key] = found
    return found
