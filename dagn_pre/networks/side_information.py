"""Side information (Ma, Liu et al., "Improving Compression Artifact Reduction via End-to-End Learning of Side Information",
2020): one of 16 symbols for each cell of 16x16 pixels, computed where the original is known, that conditions a restorer.

    extractor    original, JPEG -> probabilities of the symbols       (artifact descriptor extraction)
    quantised    the likeliest symbol; softly in the backward pass    (quantisation)
    context      symbols above and to the left -> probabilities       (rate estimation)
    mapping      symbols -> factors for the restorer's layers         (artifact feature mapping)

The source leaves layers' widths and strides open; what is chosen here is said where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.initialisation import start_small
from dagn_pre.protocol import Maps

SYMBOLS = 16
CELL = 16  # pixels a side that one symbol stands for
AMPLIFIED = 20  # artifacts are a fiftieth of the content's amplitude: without this the descriptor is of the content
MAPPED = 8  # pixels a side of a mapped feature: symbols are doubled in resolution, then the restorer's layer is reached


@dataclass(frozen=True)
class SideInformationConfig(NetworkConfig):
    """Shape of a :class:`SideInformation`.

    Attributes:
        channels: of the restorer's layers that are conditioned, as its ``conditioned_channels`` says.
        extractor: channels of the three convolutions that original and JPEG go through, each of stride 2.
        context: channels of the context model.
        mapping: channels of the mapped features.
        shift: also add to the layers' inputs, beside multiplying them.
    """

    architecture = "side_information"
    free = ("channels",)
    channels: tuple[int, ...] = (96, 64, 32)
    extractor: tuple[int, int, int] = (32, 48, 64)
    context: int = 32
    mapping: int = 64
    shift: bool = False


class DescriptorExtractor(nn.Module):
    """Both images through the same three convolutions; their features and the difference, concatenated, to log-probabilities.

    Shape:
        original, compressed (B, 3, H, W) float, RGB in [0, 1], sides multiples of 16 -> (B, 16, H / 16, W / 16), natural
        logarithms of probabilities.
    """

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *widths), widths):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.1)]
        self.features = nn.Sequential(*layers[:-1])
        self.describe = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(3 * widths[2], widths[2], 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(widths[2], widths[2], 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(widths[2], SYMBOLS, 1),
        )

    def forward(self, original: Tensor, compressed: Tensor) -> Tensor:
        first, second = self.features(torch.cat([original, compressed])).chunk(2)
        difference = AMPLIFIED * (first - second)
        return torch.log_softmax(self.describe(torch.cat([first, second, difference], 1)).float(), 1)


def one_hot(symbols: Tensor) -> Tensor:
    """(B, h, w) integers of 0..15 -> (B, 16, h, w) float32."""
    return F.one_hot(symbols.long(), SYMBOLS).permute(0, 3, 1, 2).float()


def quantised(log_probabilities: Tensor, sigma: float) -> Tensor:
    """The nearest one-hot vectors, forward; softmax(-sigma KL) of them, backward (soft-to-hard quantisation).

    The divergence of a one-hot vector from x is -log of x at its one, so the nearest is x's largest, and the soft one
    softmax(sigma log x).

    Shape:
        (B, 16, h, w) -> the same, float32.
    """
    hard = one_hot(log_probabilities.argmax(1))
    soft = torch.softmax(sigma * log_probabilities, 1)
    return hard + (soft - soft.detach())


class CausalConv2d(nn.Conv2d):
    """5x5 over the twelve symbols above and to the left alone; zero outside the image."""

    SIZE = 5
    mask: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, self.SIZE, padding=self.SIZE // 2)
        mask = torch.zeros(self.SIZE * self.SIZE)
        mask[: self.SIZE * self.SIZE // 2] = 1
        self.register_buffer("mask", mask.view(1, 1, self.SIZE, self.SIZE), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class ContextModel(nn.Module):
    """A masked 5x5 convolution and three 1x1 convolutions: how likely each symbol is after those before it.

    This is what trains; files are coded by :class:`dagn_pre.side_information.coder.SymbolModel`, the same in integers.

    Shape:
        (B, 16, h, w) one-hot float32 -> (B, 16, h, w) natural logarithms of probabilities.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.causal = CausalConv2d(SYMBOLS, width)
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width if i < 2 else SYMBOLS, 1) for i in range(3))

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.causal(symbols)
        for layer in self.pointwise:
            x = layer(torch.relu(x))
        return torch.log_softmax(x.float(), 1)

    def bits(self, symbols: Tensor) -> Tensor:
        """(B, 16, h, w) one-hot -> (B, h, w), -log2 of the chosen symbol's probability (the printed R lacks the sign)."""
        return -(symbols * self(symbols)).sum(1) / math.log(2)


class ArtifactMapping(nn.Module):
    """Symbols to float features, doubled in resolution, and by a 1x1 convolution per conditioned layer to factors around 1.

    The 1x1 convolutions come before the upsampling by up to 8, with which they commute; it is bilinear, as decoders' of chroma.

    Shape:
        (B, 16, h, w) one-hot -> :data:`dagn_pre.protocol.Maps` of (B, C, 2 h, 2 w).
    """

    def __init__(self, config: SideInformationConfig) -> None:
        super().__init__()
        width = config.mapping
        self.before = nn.Conv2d(SYMBOLS, width, 3, padding=1)
        self.after = nn.Conv2d(width, width, 3, padding=1)
        heads = [nn.Conv2d(width, channels * (1 + config.shift), 1) for channels in config.channels]
        for head in heads:
            start_small(head, 0.03)  # near neutral: symbols that harm from the start are never chosen again
        self.heads = nn.ModuleList(heads)
        self.shift = config.shift

    def forward(self, symbols: Tensor) -> Maps:
        x = F.leaky_relu(self.before(symbols), 0.1)
        x = F.leaky_relu(self.after(F.interpolate(x, scale_factor=2, mode="nearest")), 0.1)
        maps = (head(x) for head in self.heads)
        if not self.shift:
            return [(1 + factor, None) for factor in maps]
        return [(1 + factor, shift) for factor, shift in (both.chunk(2, 1) for both in maps)]


def conditioned(x: Tensor, pair: tuple[Tensor, Tensor | None] | None) -> Tensor:
    """A layer's input (B, C, H, W), multiplied, and shifted where there is a shift, by a pair of maps; None leaves it."""
    if pair is None:
        return x

    def upsampled(part: Tensor) -> Tensor:
        return F.interpolate(part.to(x.dtype), x.shape[-2:], mode="bilinear", align_corners=False)

    factor, shift = pair
    return x * upsampled(factor) if shift is None else torch.addcmul(upsampled(shift), x, upsampled(factor))


def window(maps: Maps, top: int, left: int, height: int, width: int) -> Maps:
    """The maps of a crop of the image; all in pixels, multiples of 16.

    Upsampled they differ from the whole image's up to 4 pixels from the crop's border, which a tile's overlap takes in.
    """
    rows, columns = (slice(start // MAPPED, (start + size) // MAPPED) for start, size in ((top, height), (left, width)))
    return [
        (factor[..., rows, columns], None if shift is None else shift[..., rows, columns]) for factor, shift in maps
    ]


class SideInformation(nn.Module):
    """All four parts, for one restorer and one trade of rate against distortion."""

    def __init__(self, config: SideInformationConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SideInformationConfig()
        self.extractor = DescriptorExtractor(config.extractor)
        self.context = ContextModel(config.context)
        self.mapping = ArtifactMapping(config)

    def describe(self, original: Tensor, compressed: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in [0, 1], twice, sides multiples of 16 -> (B, H / 16, W / 16) int64."""
        return self.extractor(original, compressed).argmax(1)

    def maps(self, symbols: Sequence | Tensor) -> Maps:
        """(B, h, w) integers of 0..15 -> what :func:`conditioned` takes, for each layer."""
        return self.mapping(one_hot(torch.as_tensor(symbols)))

    def forward(
        self, original: Tensor, compressed: Tensor, sigma: float = 1.0, rated: bool = True
    ) -> tuple[Maps, Tensor, Tensor]:
        """For training: the maps; the bits of each symbol, (B, h, w); and the mean probability of each symbol, (16,).

        All are differentiable. Unless ``rated``, the bits teach the context model alone, and not which symbols to choose.
        """
        described = self.extractor(original, compressed)
        chosen = quantised(described, sigma)
        bits = self.context.bits(chosen if rated else chosen.detach())
        return self.mapping(chosen), bits, described.exp().mean((0, 2, 3))
