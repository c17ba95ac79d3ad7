"""The sender's side: JPEG files that carry what the restorer could not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from dagn_pre import codec, models
from dagn_pre.networks.side_information import CELL
from dagn_pre.side_information import adapter as adapters
from dagn_pre.side_information import segment


class SideInformationEncoder:
    """Writes ordinary JPEG files that this package restores better than others.

    Args:
        model: the restorer that the receiver uses, a name or a weights file.
        lambda_rate: of the shipped weights for it, those trained with the nearest lambda, in squared levels of 0..255 per
            bit and symbol: a higher one makes smaller files. None: the middle one.
        weights: a file of side information's weights instead.

    Raises:
        UsageError: no side information for that model; a lambda that is not positive.
        WeightsError: ``weights`` that are missing, damaged, or of another model.

    Source: Ma, Liu et al., 2020; the network is :class:`dagn_pre.networks.side_information.SideInformation`.
    """

    def __init__(
        self, model: str | Path = "dagn-s", lambda_rate: float | None = None, weights: str | Path | None = None
    ) -> None:
        trunk = models.fingerprint(model)
        self.adapter = adapters.matching(trunk, str(model), weights, lambda_rate)

    def symbols(self, original: np.ndarray, compressed: np.ndarray) -> np.ndarray:
        """What a JPEG lost, as symbols.

        Args:
            original, compressed: (H, W, 3) uint8 RGB, the second as decoded from the file.

        Returns:
            (ceil(H / 16), ceil(W / 16)) uint8 of 0..15.
        """
        height, width = original.shape[:2]
        edges = (0, -width % CELL, 0, -height % CELL)
        pair = [
            F.pad(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255, edges, mode="replicate")
            for image in (original, compressed)
        ]
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return self.adapter.network.symbols(*pair)[0].to(torch.uint8).numpy()

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
