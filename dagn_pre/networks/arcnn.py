"""ARCNN (Dong, Deng, Loy and Tang, ICCV 2015): four convolutions, the first network for JPEG artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.initialisation import start_at_zero
from dagn_pre.protocol import RestorationModel


@dataclass(frozen=True)
class ARCNNConfig(NetworkConfig):
    """Shape of an ARCNN; the defaults are the paper's (Sec. 3.3: 9-7-1-5 and 64-32-16), on RGB instead of luma.

    Attributes:
        kernels, widths: of the four convolutions, and channels of the first three.
        residual: add the input to the output; off in the paper, where the last layer has to paint the whole image.
    """

    architecture = "arcnn"
    kernels: tuple[int, int, int, int] = (9, 7, 1, 5)
    widths: tuple[int, int, int] = (64, 32, 16)
    residual: bool = False


class ARCNN(RestorationModel):
    """Feature extraction, enhancement, mapping, reconstruction (Fig. 4), ReLU between them.

    Shape:
        (B, 3, H, W) float, RGB in [0, 1] -> the same, not clipped; any size.
    """

    stride = 1

    def __init__(self, config: ARCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ARCNNConfig()
        widths = (3, *config.widths, 3)
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in zip(widths, widths[1:], config.kernels):
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        self.receptive_radius = sum(kernel // 2 for kernel in config.kernels)
        if config.residual:
            self.start_high_pass()

    def start_high_pass(self) -> None:
        """He's initialisation, but with first filters of zero mean, and close to the identity.

        Artifacts are a fiftieth of the content's amplitude: behind filters that pass the content's mean, the layers after them
        die within a few hundred steps (measured: the loss stays that of the JPEG).
        """
        convolutions = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        for convolution in convolutions:
            start_at_zero(convolution)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        with torch.no_grad():
            first = convolutions[0].weight
            first.sub_(first.mean((2, 3), keepdim=True))
        nn.init.normal_(convolutions[-1].weight, std=1e-3)

    def restore(self, x: Tensor, guidance: Sequence | None) -> Tensor:
        output = self.layers(x)
        return output + x if self.config.residual else output
