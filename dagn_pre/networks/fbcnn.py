"""FBCNN (Jiang, Zhang and Timofte, ICCV 2021): ``spandrel``'s network, with the QF that it predicts and takes.

``spandrel`` (the peers extra) is imported when a network is built: a weights file's configuration is read without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dagn_pre.errors import DagnPreError
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.protocol import ImageInformation, RestorationModel

if TYPE_CHECKING:
    from spandrel.architectures.FBCNN import FBCNN as Network

WHOLE = 2048 * 2048  # pixels up to which the image is restored along with its guidance


@dataclass(frozen=True)
class FBCNNConfig(NetworkConfig):
    """Shape of an FBCNN; the defaults are the paper's.

    Attributes:
        widths: channels at full, 1/2, 1/4 and 1/8 of the resolution.
        blocks: residual blocks per scale, twice at the lowest, and attention blocks per scale of the decoder.
    """

    architecture = "fbcnn"
    quality_override = True
    blind = True
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    blocks: int = 4


@dataclass
class Known:
    """(B, 1) the QF to restore by, as FBCNN writes it (1 - QF / 100); the whole image restored by it, where it was small."""

    quality: Tensor
    output: Tensor | None


class FBCNN(RestorationModel):
    """Predicts a QF from the whole image and restores by it, or by one set by hand.

    For images above 4 megapixels the QF is predicted from their centre.

    Shape:
        (B, 3, H, W) float, RGB in [0, 1] -> the same, not clipped; multiples of 8.
    """

    blind = True
    quality_override = True

    def __init__(self, config: FBCNNConfig | None = None, network: nn.Module | None = None) -> None:
        """``network``: spandrel's, weights loaded; None builds one of the configuration's shape, random weights."""
        super().__init__()
        self.config = config or FBCNNConfig()
        self.network = built(self.config) if network is None else network
        blocks = self.config.blocks
        self.receptive_radius = 2 + 4 * blocks * (1 + 2 + 4) + 4 * blocks * 8 + 14

    @classmethod
    def around(cls, network: Network) -> FBCNN:
        """The restorer with spandrel's network, as its loader gives it."""
        return cls(FBCNNConfig(tuple(network.nc), network.nb), network)

    def predict(self, x: Tensor, quality: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) and, to set it, (B, 1) -> (restored, (B, 1) predicted quality as in :class:`Known`)."""
        return self.network(x, quality)

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Known:
        small = x.shape[-2] * x.shape[-1] <= WHOLE
        assumed = [one.assumed for one in information if one.assumed is not None]
        if len(assumed) == len(information):
            return Known(torch.tensor([[1 - value / 100] for value in assumed], device=x.device), None)
        top, left = (max(0, side // 2 - 512) // 8 * 8 for side in x.shape[-2:])
        output, quality = self.predict(x if small else x[..., top : top + 1024, left : left + 1024])
        return Known(quality, output if small else None)

    def restore(self, x: Tensor, guidance: Known) -> Tensor:
        if guidance.output is not None and guidance.output.shape == x.shape:
            return guidance.output
        return self.predict(x, guidance.quality.to(x.dtype))[0]

    def blind_quality(self, guidance: Known) -> Tensor:
        return (100 * (1 - guidance.quality[:, 0].float())).round().clamp(1, 100)


def built(config: FBCNNConfig) -> nn.Module:
    """spandrel's network of that shape; raises DagnPreError where the peers extra is missing."""
    try:
        from spandrel.architectures.FBCNN import FBCNN as Network
    except ImportError as error:
        raise DagnPreError(f'FBCNN needs the peers extra ({error}): pip install "dagn-pre[peers]"') from error
    network = Network(nc=list(config.widths), nb=config.blocks)
    head = network.qf_pred  # spandrel's expects the paper's 512 channels
    for index, module in enumerate(head):
        if isinstance(module, nn.Linear):
            head[index] = nn.Linear(config.widths[-1], module.out_features)
            break
    return network
