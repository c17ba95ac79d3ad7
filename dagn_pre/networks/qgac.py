"""QGAC: Quantization Guided JPEG Artifact Correction (Ehrlich, Davis, Lim and Shrivastava, ECCV 2020).

One network for every quality, since its first and last filters are functions of the file's quantisation tables. It reads and
writes DCT coefficients: luma first, then chroma, at the resolution the file stores it in, guided by the restored luma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.networks import dct
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.initialisation import start_at_zero
from dagn_pre.protocol import ImageInformation, RestorationModel, stacked_tables

SCALE = 4.0  # coefficients of planes in [-0.5, 0.5] lie in [-4, 4]


@dataclass(frozen=True)
class QGACConfig(NetworkConfig):
    """Shape of a QGAC; the defaults are the paper's.

    Attributes:
        features: channels of the block networks, one position per 8x8 block.
        planes: channels of what passes between the networks at full resolution.
        frequency_features: channels per frequency of the frequency network and of the fusion.
        chroma_features: channels of the chroma network's block representations.
        manifold: hidden channels of the filter manifolds.
        depth: RRDBs in each network.
    """

    architecture = "qgac"
    quality_override = True
    tables = True
    features: int = 256
    planes: int = 64
    frequency_features: int = 4
    chroma_features: int = 32
    manifold: int = 64
    depth: int = 1


class FilterManifold(nn.Module):
    """Convolutional filter manifold (Sec. 3.2): 8x8 filters of stride 8 that are a function of a quantisation table.

    Filters that do not overlap are one matrix per image, applied to every block: ``encode`` takes planes to block features,
    otherwise block features to planes.

    Shape:
        x (B, inputs, H, W) -> (B, outputs, H / 8, W / 8), or the other way round; table (B, 64), in 1..255, or (1, 64).
    """

    def __init__(self, inputs: int, outputs: int, manifold: int, encode: bool, activation: bool = True) -> None:
        super().__init__()
        self.inputs, self.outputs, self.encode = inputs, outputs, encode
        self.embed = nn.Sequential(nn.Linear(64, manifold), nn.PReLU(), nn.Linear(manifold, manifold), nn.PReLU())
        self.weight = nn.Linear(manifold, inputs * outputs * 64)
        self.bias = nn.Linear(manifold, outputs)
        fan_in = inputs * 64 if encode else inputs
        nn.init.normal_(self.weight.weight, std=0.3 * fan_in**-0.5 * manifold**-0.5)
        nn.init.normal_(self.weight.bias, std=fan_in**-0.5)
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.bias.bias)
        self.activation = nn.PReLU() if activation else nn.Identity()

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        hidden = self.embed(table / 255)
        weight, bias = self.weight(hidden), self.bias(hidden)[:, :, None, None]
        if self.encode:
            blocks = F.pixel_unshuffle(x, 8)  # (B, inputs * 64, h, w)
            matrix = weight.view(-1, self.outputs, self.inputs * 64)
            x = torch.matmul(matrix, blocks.flatten(2)).unflatten(2, blocks.shape[2:])
        else:
            matrix = weight.view(-1, self.outputs * 64, self.inputs)
            x = F.pixel_shuffle(torch.matmul(matrix, x.flatten(2)).unflatten(2, x.shape[2:]), 8)
        return self.activation(x + bias)


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees all before it; a fifth of the last is added."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.layers = nn.ModuleList(
            nn.Conv2d(count * channels, channels, 3, padding=1, groups=groups) for count in range(1, 6)
        )
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for convolution, activation in zip(self.layers, self.activations):
            seen.append(activation(convolution(self.joined(seen))))
        return x + 0.2 * self.layers[-1](self.joined(seen))

    def joined(self, maps: list[Tensor]) -> Tensor:
        """Concatenated group by group, so that a group sees its own channels of each map."""
        return torch.cat([one.unflatten(1, (self.groups, -1)) for one in maps], 2).flatten(1, 2)


class RRDB(nn.Module):
    """Residual in residual dense block (Wang et al., ESRGAN, 2018)."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, groups) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.blocks(x)


def by_frequency(planes: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 64 * C, H / 8, W / 8), the C channels of a frequency next to each other."""
    return F.pixel_unshuffle(planes, 8).unflatten(1, (-1, 64)).transpose(1, 2).flatten(1, 2)


def by_plane(frequencies: Tensor) -> Tensor:
    """Inverse of :func:`by_frequency`."""
    return F.pixel_shuffle(frequencies.unflatten(1, (64, -1)).transpose(1, 2).flatten(1, 2), 8)


def per_frequency(inputs: int, outputs: int, activation: bool = True) -> list[nn.Module]:
    """A 3x3 convolution over blocks that keeps the 64 frequencies apart."""
    convolution = nn.Conv2d(64 * inputs, 64 * outputs, 3, padding=1, groups=64)
    return [convolution, nn.PReLU()] if activation else [convolution]


class BlockNet(nn.Module):
    """Planes -> block features -> RRDBs -> planes (Sec. 3.3)."""

    def __init__(self, inputs: int, outputs: int, config: QGACConfig) -> None:
        super().__init__()
        self.encode = FilterManifold(inputs, config.features, config.manifold, encode=True)
        self.body = nn.Sequential(*(RRDB(config.features) for _ in range(config.depth)))
        self.decode = FilterManifold(config.features, outputs, config.manifold, encode=False)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return self.decode(self.body(self.encode(x, table)), table)


class LumaNet(nn.Module):
    """Blocks, frequencies, blocks again, and the fusion of the three (Fig. 4): coefficients -> what to add to them."""

    def __init__(self, config: QGACConfig) -> None:
        super().__init__()
        planes, each = config.planes, config.frequency_features
        self.first = BlockNet(1, planes, config)
        self.frequencies = nn.Sequential(
            *per_frequency(planes, each), *(RRDB(64 * each, 64) for _ in range(config.depth)), *per_frequency(each, planes)
        )
        self.second = BlockNet(planes, planes, config)
        self.fusion = nn.Sequential(
            *per_frequency(3 * planes, each), *per_frequency(each, each), *per_frequency(each, 1, activation=False)
        )
        start_at_zero(self.fusion[-1])  # the network starts as the identity

    def forward(self, coefficients: Tensor, table: Tensor) -> Tensor:
        first = self.first(coefficients, table)
        middle = by_plane(self.frequencies(by_frequency(first)))
        second = self.second(middle, table)
        return by_plane(self.fusion(by_frequency(torch.cat([second, middle, first], 1))))


class ChromaNet(nn.Module):
    """Coefficients of one chroma plane at half resolution, guided by those of the restored luma (Fig. 5) -> what to add to the
    chroma's at full resolution."""

    def __init__(self, config: QGACConfig) -> None:
        super().__init__()
        width, manifold = config.chroma_features, config.manifold
        self.encode = FilterManifold(1, width, manifold, encode=True)
        self.low = nn.Sequential(*(RRDB(width) for _ in range(config.depth)))
        self.doubler = nn.Sequential(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.PReLU())
        self.encode_luma = FilterManifold(1, width, manifold, encode=True)
        self.high = nn.Sequential(*(RRDB(2 * width) for _ in range(config.depth)))
        self.decode = FilterManifold(2 * width, 1, manifold, encode=False, activation=False)
        for part in (self.decode.weight.weight, self.decode.weight.bias):
            with torch.no_grad():
                part.mul_(0.01)  # start close to the identity

    def forward(self, chroma: Tensor, luma: Tensor, tables: Tensor) -> Tensor:
        """(N, 1, H / 2, W / 2), (N, 1, H, W) and (N, 2, 64) -> (N, 1, H, W)."""
        low = self.doubler(self.low(self.encode(chroma, tables[:, 1])))
        return self.decode(self.high(torch.cat([low, self.encode_luma(luma, tables[:, 0])], 1)), tables[:, 1])


@dataclass
class Tables:
    """(B, 2, 64) quantisation tables, and (B,) whether chroma is stored at half resolution (4:2:0)."""

    values: Tensor
    halved: Tensor


class QGAC(RestorationModel):
    """Restores the DCT coefficients of a JPEG, one model for all qualities, told by the file's tables.

    The coefficients are those of the decoded pixels moved to the multiples of the tables' steps, which gives back what the
    file holds: for luma always, for chroma at half resolution up to what the decoder's upsampling blurs (measured in the
    tests against the file's own). Chroma of other subsamplings is seen at half resolution as well, but not moved; what the
    network adds goes to the decoded chroma at full resolution, so nothing that the file holds is lost.

    Shape:
        (B, 3, H, W) float, RGB in [0, 1] -> the same, not clipped; multiples of 16, blocks aligned with the file's.
    """

    stride = 16
    needs = "tables"
    quality_override = True

    def __init__(self, config: QGACConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or QGACConfig()
        self.luma = LumaNet(config)
        self.chroma = ChromaNet(config)
        rrdb = 15 * config.depth  # in blocks
        luma = 3 * rrdb + 5
        chroma = 3 * rrdb + 2  # one RRDB at twice the block size
        self.receptive_radius = 8 * (luma + chroma + 1)

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Tables:
        halved = torch.tensor([one.subsampling == "4:2:0" for one in information], device=x.device)
        return Tables(stacked_tables(information, x), halved)

    def restore(self, x: Tensor, guidance: Tables) -> Tensor:
        tables = guidance.values
        ycbcr = dct.to_ycbcr(x)
        luma = dct.dequantised(dct.dct(ycbcr[:, :1]), tables[:, 0])
        luma = luma + self.luma(luma / SCALE, tables[:, 0]).float() * SCALE
        chroma = dct.dct(dct.halved(ycbcr[:, 1:]))
        stored = dct.dequantised(chroma, tables[:, 1])
        chroma = torch.where(guidance.halved[:, None, None, None], stored, chroma)
        twice = tables.repeat_interleave(2, 0)  # Cb and Cr of an image follow each other
        added = self.chroma(chroma.flatten(0, 1)[:, None] / SCALE, luma.repeat_interleave(2, 0) / SCALE, twice)
        added = dct.idct(added.float() * SCALE).view(len(x), 2, *x.shape[-2:])
        return dct.to_rgb(torch.cat([dct.idct(luma), ycbcr[:, 1:] + added], 1))
