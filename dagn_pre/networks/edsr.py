"""EDSR-baseline* (Ma, Liu et al., 2020): EDSR's baseline (Lim et al., CVPRW 2017) without its upsampler, as a restorer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.initialisation import start_at_zero
from dagn_pre.networks.side_information import conditioned, window
from dagn_pre.protocol import Maps, RestorationModel


@dataclass(frozen=True)
class EDSRConfig(NetworkConfig):
    """Shape of an EDSR-baseline*; the defaults are EDSR-baseline's: 16 residual blocks of 64 channels."""

    architecture = "edsr"
    width: int = 64
    blocks: int = 16


class Block(nn.Module):
    """x + conv3x3(ReLU(conv3x3(x))), of an input that side information multiplies by the mapped features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, last = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.branch = nn.Sequential(first, nn.ReLU(inplace=True), last)
        with torch.no_grad():
            last.weight.mul_(0.1)

    def forward(self, x: Tensor, pair: tuple[Tensor, Tensor | None] | None) -> Tensor:
        x = conditioned(x, pair)
        return x + self.branch(x)


class EDSR(RestorationModel):
    """Head, residual blocks with a skip around all of them, tail; added to its input, and starting as the identity.

    Every block can be conditioned by side information (its "conditional residual block"). Guidance is those maps, or None.

    Shape:
        (B, 3, H, W) float, RGB in [0, 1] -> the same, not clipped; sides multiples of 16 when conditioned.
    """

    stride = 16

    def __init__(self, config: EDSRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EDSRConfig()
        self.head = nn.Conv2d(3, config.width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.blocks))
        self.bottom = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.tail = nn.Conv2d(config.width, 3, 3, padding=1)
        start_at_zero(self.tail)
        self.receptive_radius = 2 * config.blocks + 3
        self.conditioned_channels = (config.width,) * config.blocks

    def condition(self, guidance: Maps | None, maps: Maps) -> Maps:
        return maps

    def window(self, guidance: Maps | None, top: int, left: int, height: int, width: int) -> Maps | None:
        return guidance if guidance is None else window(guidance, top, left, height, width)

    def restore(self, x: Tensor, guidance: Maps | None) -> Tensor:
        first = features = self.head(x)
        for index, block in enumerate(self.blocks):
            features = block(features, None if guidance is None else guidance[index])
        return x + self.tail(first + self.bottom(features))
