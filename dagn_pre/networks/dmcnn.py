"""DMCNN: Dual-domain Multi-scale CNN (Zhang, Yang, Hu and Liu, ICIP 2018).

The paper restores luma. On colour, Table III of the DAGN paper counts one network that runs on each of the three channels:
read so, 4,697,376 weights and 3 x 229 G multiply-accumulates at 512x512 are its 4.7 M and 687.1 G. The channels are Y, Cb and
Cr here, since that is where JPEG's blocks are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dagn_pre.networks import dct
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.protocol import ImageInformation, RestorationModel, stacked_tables


@dataclass(frozen=True)
class DMCNNConfig(NetworkConfig):
    """Shape of a DMCNN; the defaults are the paper's.

    Attributes:
        widths: channels of the pixel branch at full, 1/2 and 1/4 of the resolution; its first and last layer have half of the
            first. The DCT branch has the first throughout, and half of it in its outer layers.
        dilations: of the middle layers of both branches (Sec. 2.3).
    """

    architecture = "dmcnn"
    free = ("dilations",)
    quality_override = True
    tables = True
    widths: tuple[int, int, int] = (64, 128, 256)
    dilations: tuple[int, ...] = (2, 4, 8)


def layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation)
    return nn.Sequential(convolution, nn.PReLU(init=0.1))


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the resolution; the average of 2x2 evens out the transposed convolution's checkerboard."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1),
        nn.ReflectionPad2d((1, 0, 1, 0)),
        nn.AvgPool2d(2, stride=1),
        nn.PReLU(init=0.1),
    )


class DCTBranch(nn.Module):
    """Convolutions over the image of DCT coefficients, with a skip, then the DCT rectify unit (Sec. 2.2)."""

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        half = width // 2
        middle = [layer(width, width, dilation=dilation) for dilation in (1, *dilations, 1)]
        self.layers = nn.Sequential(
            layer(1, half), layer(half, width), *middle, layer(width, half), nn.Conv2d(half, 1, 3, padding=1)
        )

    def forward(self, plane: Tensor, slack: Tensor) -> Tensor:
        """A plane (N, 1, H, W) and by how much each coefficient may move (N, 1, H, W) -> the plane restored."""
        coefficients = dct.dct(plane)
        moved = self.layers(coefficients).float()
        return dct.idct(coefficients + torch.maximum(torch.minimum(moved, slack), -slack))


class PixelBranch(nn.Module):
    """An auto-encoder over the plane and the DCT branch's estimate of it, with skips (Sec. 2.1).

    Also gives estimates at 1/4 and 1/2 of the resolution, which the multi-scale loss teaches (Sec. 2.4).
    """

    def __init__(self, widths: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        full, half, quarter = widths
        self.head = nn.Sequential(layer(2, full // 2), layer(full // 2, full))
        self.down = nn.Sequential(layer(full, half, stride=2), layer(half, half))
        self.bottom = nn.Sequential(
            layer(half, quarter, stride=2), *(layer(quarter, quarter, dilation=dilation) for dilation in (1, *dilations, 1))
        )
        self.up_half, self.merge_half = up(quarter, half), layer(2 * half, half)
        self.up_full, self.merge_full = up(half, full), layer(2 * full, full // 2)
        self.tail = nn.Conv2d(full // 2, 1, 5, padding=2)
        self.tail_half, self.tail_quarter = nn.Conv2d(half, 1, 3, padding=1), nn.Conv2d(quarter, 1, 3, padding=1)

    def forward(self, plane: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two (N, 1, H, W) -> what to add to the plane at full, 1/2 and 1/4 of the resolution."""
        full = self.head(torch.cat([plane, estimate], 1))
        half = self.down(full)
        quarter = self.bottom(half)
        half = self.merge_half(torch.cat([self.up_half(quarter), half], 1))
        full = self.merge_full(torch.cat([self.up_full(half), full], 1))
        return self.tail(full), self.tail_half(half), self.tail_quarter(quarter)


class DMCNN(RestorationModel):
    """The DCT branch, then the pixel branch, on Y, Cb and Cr each.

    The DCT rectify unit keeps a coefficient within half a quantisation step of the decoded one, where the original is known
    to lie. It acts on luma, where the file's blocks are the image's, and where tables are known; chroma at half resolution
    has other blocks.

    Shape:
        (B, 3, H, W) float, RGB in [0, 1] -> the same, not clipped; multiples of 8, blocks aligned with the file's.
    """

    quality_override = True
    tables = True
    receptive_radius = 152

    def __init__(self, config: DMCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DMCNNConfig()
        self.dct_branch = DCTBranch(config.widths[0], config.dilations)
        self.pixel_branch = PixelBranch(config.widths, config.dilations)

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Tensor | None:
        """Luminance tables, (B, 64); infinite where none is known."""
        unknown = torch.full((64,), float("inf"), device=x.device)
        known = [unknown if one.tables is None else stacked_tables([one], x)[0, 0] for one in information]
        return torch.stack(known)

    def scales(self, x: Tensor, luminance: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x and luminance tables (B, 64) -> (the DCT branch's estimate, [full, half, quarter]); YCbCr as of
        :func:`dct.to_ycbcr`, (B, 3, h, w) each. All but the first of the list are for the multi-scale loss."""
        batch = len(x)
        ycbcr = dct.to_ycbcr(x)
        slack = torch.full_like(ycbcr, float("inf"))
        slack[:, :1] = dct.steps(luminance, x) / 2
        planes, slack = ycbcr.flatten(0, 1)[:, None], slack.flatten(0, 1)[:, None]
        estimate = self.dct_branch(planes, slack)
        outputs = []
        for scale, added in enumerate(self.pixel_branch(planes, estimate)):
            base = nn.functional.avg_pool2d(planes, 2**scale) if scale else planes
            outputs.append((base + added.float()).view(batch, 3, *added.shape[-2:]))
        return estimate.view_as(x), outputs

    def restore(self, x: Tensor, guidance: Tensor) -> Tensor:
        return dct.to_rgb(self.scales(x, guidance)[1][0])
