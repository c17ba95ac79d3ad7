"""The sender's side: JPEG files that carry what the restorer could not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from dagn_pre import codec, models
from dagn_pre.errors import UsageError
from dagn_pre.forks import mind_fork
from dagn_pre.networks.side_information import CELL
from dagn_pre.side_information import adapter, segment

TILE = 1024  # pixels a side that are described at once: memory stays bounded
HALO = 3 * CELL  # the extractor looks 31 pixels beyond a cell


class SideInformationEncoder:
    """Writes ordinary JPEG files that this package restores better than others.

    Args:
        model: the restorer that the receiver uses, a name or a weights file.
        lambda_rate: of the shipped weights for it, those trained with the nearest lambda: a higher one makes smaller files.
            For dagn-s-psnr it is the share of the JPEG's MSE that a bit of every symbol had to win. None: the middle one.
        weights: a file of side information's weights instead.

    Raises:
        UsageError: no side information for that model; a lambda that is not positive, or beside ``weights``.
        WeightsError: ``weights`` that are missing, damaged, or of another model.

    Source: Ma, Liu et al., 2020; the network is :class:`dagn_pre.networks.side_information.SideInformation`.
    """

    def __init__(
        self, model: str | Path = adapter.TRUNK, lambda_rate: float | None = None, weights: str | Path | None = None
    ) -> None:
        if weights is not None and lambda_rate is not None:
            raise UsageError("lambda chooses among the shipped weights of side information, and weights are given")
        trunk = models.fingerprint(model)
        if weights is not None:
            self.adapter = adapter.own(weights, trunk, str(model))
        else:
            self.adapter = adapter.nearest(trunk, str(model), lambda_rate)

    def symbols(self, original: np.ndarray, compressed: np.ndarray, tile: int = TILE) -> np.ndarray:
        """What a JPEG lost, as symbols.

        Args:
            original, compressed: (H, W, 3) uint8 RGB, the second as decoded from the file.
            tile: pixels a side that are looked at together, a multiple of 16.

        Returns:
            (ceil(H / 16), ceil(W / 16)) uint8 of 0..15.
        """
        height, width = original.shape[:2]
        found = np.empty((-(-height // CELL), -(-width // CELL)), np.uint8)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                y, x = max(top - HALO, 0), max(left - HALO, 0)
                crop = np.s_[y : top + tile + HALO, x : left + tile + HALO]
                symbols = self._described(original[crop], compressed[crop])[(top - y) // CELL :, (left - x) // CELL :]
                place = np.s_[top // CELL : (top + tile) // CELL, left // CELL : (left + tile) // CELL]
                rows, columns = found[place].shape
                found[place] = symbols[:rows, :columns]
        return found

    @torch.inference_mode()
    def _described(self, *pair: np.ndarray) -> np.ndarray:
        mind_fork()
        height, width = pair[0].shape[:2]
        edges = (0, -width % CELL, 0, -height % CELL)
        tensors = [torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255 for image in pair]
        with torch.autocast("cpu", enabled=False):
            padded = (F.pad(tensor, edges, mode="replicate") for tensor in tensors)
            return self.adapter.network.describe(*padded)[0].to(torch.uint8).numpy()

    def add(self, original: np.ndarray, jpeg: bytes) -> bytes:
        """A JPEG of ``original``, (H, W, 3) or (H, W) uint8, with its side information in it; the picture is the same.

        Raises:
            ImageError: bytes that are no JPEG, or of another size.
        """
        decoded = codec.decode(jpeg)
        rgb = np.repeat(original[..., None], 3, 2) if original.ndim == 2 else original
        if decoded.shape != rgb.shape:
            raise segment.SegmentError(f"a JPEG of {decoded.shape} pixels is not of an original of {rgb.shape}")
        return segment.embed(jpeg, self.adapter.message(self.symbols(rgb, decoded)))

    def encode(self, image: np.ndarray, quality: int, subsampling: str = "4:2:0", **options) -> bytes:
        """Compress (H, W, 3) RGB or (H, W) gray uint8 to a JPEG with side information; as :func:`dagn_pre.codec.encode`."""
        return self.add(image, codec.encode(image, quality, subsampling, **options))
