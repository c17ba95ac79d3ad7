"""DAGN: the Dual Awareness Guidance Network (Ma et al., TIP 2024, Sec. III-B).

The paper leaves details open; this reading reproduces its Table III (109.9 M parameters, 952.8 G as ``thop`` counts). Where
the printed equations slip: eq. 10 lacks a transpose on C3(F_bf); the ablation's neutral guidance is scale 1, shift 0.

Two parts, so that large images can be tiled: :meth:`DAGN.guide` looks at the whole image and returns a small
:class:`Guidance`; :meth:`DAGN.restore` is convolutional, hence local, and takes that guidance for any crop of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.initialisation import start_at_zero, start_small
from dagn_pre.networks.resnet import ResNetEncoder
from dagn_pre.networks.side_information import conditioned
from dagn_pre.protocol import Maps


@dataclass(frozen=True)
class DAGNConfig(NetworkConfig):
    """Shape of a DAGN; the defaults are the paper's network.

    Attributes:
        widths: channels of the scales, each of half the resolution of the one before; the paper's four are full to 1/8.
        blocks: residual blocks at each scale of the base encoder; the decoder's first scale has as many as the last of them.
        guided_blocks: blocks of each kind (sensitive, insensitive) in the DAGBs, from the second coarsest scale to the finest.
        encoder_depth, encoder_width: the ResNet of E_ci and E_cs.
        guider_widths: hidden widths of the guiders' two shared layers.
        pool_bins: bins per side of the fusion module's pyramid pooling.
        insensitive, sensitive, fusion: the ablation's switches (CIGM, CSGM, CFM; Table V).
        residual: add the input to the output; off in the paper's network.
        shuffle: side of the square of pixels that are one position's channels at the finest scale (``pixel_unshuffle``), 1 in
            the paper's network: with 2, the first scale has half the image's resolution and 12 channels come in.

    Raises:
        ValueError: lists of lengths that do not go together, or scales that do not divide 16 pixels.
    """

    architecture = "dagn"
    free = ("widths", "blocks", "guided_blocks", "pool_bins")
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (4, 4, 4, 4)
    guided_blocks: tuple[int, ...] = (4, 4, 4)
    encoder_depth: int = 50
    encoder_width: int = 64
    guider_widths: tuple[int, int] = (512, 256)
    pool_bins: tuple[int, ...] = (1, 2, 4, 8)
    insensitive: bool = True
    sensitive: bool = True
    fusion: bool = True
    residual: bool = False
    shuffle: int = 1

    def __post_init__(self) -> None:
        scales = len(self.widths)
        if scales < 2 or len(self.blocks) != scales or len(self.guided_blocks) != scales - 1:
            raise ValueError(
                f"widths {self.widths!r}, blocks {self.blocks!r} and guided_blocks {self.guided_blocks!r} do not go together: "
                "as many blocks as widths, at least two, and one guided_blocks less"
            )
        if self.shuffle not in (1, 2, 4, 8) or ResNetEncoder.stride % (self.shuffle * 2 ** (scales - 1)):
            raise ValueError(f"shuffle {self.shuffle!r} and {scales} scales do not divide {ResNetEncoder.stride} pixels")

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels of the DAGBs, the coarsest first."""
        return self.widths[-2::-1]

    @property
    def quality_override(self) -> bool:
        return self.sensitive

    @property
    def blind(self) -> bool:
        return self.sensitive


class ResidualBlock(nn.Module):
    """x + scale * conv3x3(ReLU(BN(conv3x3(x)))) + shift, nothing after the sum (eq. 12, 13; RNORM read as BN, ReLU).

    Without guidance it is the plain residual block of the base encoder.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.branch = nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), last)
        start_small(last, 0.1)  # dozens of branches are summed

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        branch = self.branch(x)
        if scale is not None and shift is not None:
            branch = torch.addcmul(shift, scale, branch)
        return x + branch


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class Guider(nn.Module):
    """Three-layer MLP from globally averaged features to a (scale, shift) pair per DAGB; two layers are shared.

    The heads start at zero, so an untrained guider is neutral: scale 1, shift 0.

    Shape:
        input (B, features); output one (scale, shift) pair of (B, C_i, 1, 1) for each C_i of ``channels``.
    """

    def __init__(self, features: int, hidden: tuple[int, int], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Linear(features, hidden[0]), nn.ReLU(inplace=True), nn.Linear(hidden[0], hidden[1]), nn.ReLU(inplace=True)
        )
        self.heads = nn.ModuleList(nn.Linear(hidden[1], 2 * width) for width in channels)
        for head in self.heads:
            start_at_zero(head)

    def forward(self, vector: Tensor) -> list[tuple[Tensor, Tensor]]:
        hidden = self.shared(vector)
        pairs = []
        for head in self.heads:
            scale, shift = head(hidden)[:, :, None, None].chunk(2, dim=1)
            pairs.append((1 + scale, shift))
        return pairs


class CrossFeatureFusion(nn.Module):
    """CFM (eq. 10): base features attend, without softmax, to the pyramid-pooled insensitive features.

    Pooling comes before the 1x1 convolutions: they commute, and this is cheaper. C2 starts at zero, so an untrained module
    is the identity. The constant factor 1 / (tokens * sqrt(channels)) keeps the sum's size independent of both.
    """

    def __init__(self, features: int, channels: int, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in bins)
        self.key = nn.Conv1d(features, channels, 1)
        self.value = nn.Conv1d(features, channels, 1)
        self.query = nn.Conv2d(channels, channels, 1)
        self.scale = 1 / (sum(size * size for size in bins) * channels**0.5)
        start_at_zero(self.value)

    def tokens(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, features, h, w) -> keys and values, (B, channels, tokens) each."""
        pooled = torch.cat([pool(features).flatten(2) for pool in self.pools], dim=2)
        return self.key(pooled), self.value(pooled)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        query = self.query(x).flatten(2)
        similarity = keys.transpose(1, 2) @ query
        return x + (values @ similarity * self.scale).unflatten(2, x.shape[2:])


@dataclass
class Guidance:
    """What DAGN needs to know of the whole image; None where the ablation switches a part off.

    Attributes:
        sensitive, insensitive: a (scale, shift) pair of (B, C_i, 1, 1) per DAGB.
        tokens: keys and values of the fusion module, (B, C, 85) each.
        sensitive_vector: (B, F) spatial mean of E_cs; P_qf reads the blind quality from it.
        side: side information, one pair of maps per DAGB; the one part that is not the same all over the image.
    """

    sensitive: list[tuple[Tensor, Tensor]] | None = None
    insensitive: list[tuple[Tensor, Tensor]] | None = None
    tokens: tuple[Tensor, Tensor] | None = None
    sensitive_vector: Tensor | None = None
    side: Maps | None = None


class GuidedBlock(nn.Module):
    """DAGB (eq. 11): up by 2, then compression-sensitive blocks, then compression-insensitive blocks.

    Side information, where there is some, conditions what the first of them takes.
    """

    def __init__(self, inputs: int, channels: int, count: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, channels, 2, stride=2)
        self.sensitive = nn.ModuleList(ResidualBlock(channels) for _ in range(count))
        self.insensitive = nn.ModuleList(ResidualBlock(channels) for _ in range(count))

    def forward(
        self,
        x: Tensor,
        sensitive: tuple = (None, None),
        insensitive: tuple = (None, None),
        side: tuple[Tensor, Tensor | None] | None = None,
    ) -> Tensor:
        x = conditioned(self.up(x), side)
        for block in self.sensitive:
            x = block(x, *sensitive)
        for block in self.insensitive:
            x = block(x, *insensitive)
        return x


class DAGN(nn.Module):
    """Removes JPEG artifacts, guided by compression-insensitive and compression-sensitive features.

    Args:
        config: shape of the network; the paper's by default.

    Shape:
        input (B, 3, H, W) float, RGB in [0, 1], any H, W >= 1 (padded inside by replication to multiples of 16, cropped at
        the end); output the same shape, nominally in [0, 1] but not clipped.

    Submodules not needed under the ablation's switches are absent. ``encoder_ci`` and ``encoder_cs`` come from stage 1 of
    the training and are frozen in stage 2 (Sec. III-B.5).
    """

    stride = ResNetEncoder.stride

    def __init__(self, config: DAGNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DAGNConfig()
        widths, blocks, decoder_widths = config.widths, config.blocks, config.decoder_widths
        pixels = 3 * config.shuffle**2

        if config.insensitive or config.fusion:
            self.encoder_ci = ResNetEncoder(config.encoder_depth, config.encoder_width)
        if config.sensitive:
            self.encoder_cs = ResNetEncoder(config.encoder_depth, config.encoder_width)
            self.guider_cs = Guider(self.encoder_cs.out_channels, config.guider_widths, decoder_widths)
        if config.insensitive:
            self.guider_ci = Guider(self.encoder_ci.out_channels, config.guider_widths, decoder_widths)
        if config.fusion:
            self.fusion = CrossFeatureFusion(self.encoder_ci.out_channels, widths[-1], config.pool_bins)

        self.head = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.scales = nn.ModuleList(residual_blocks(width, count) for width, count in zip(widths, blocks))
        self.downs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in range(len(widths) - 1))
        self.bottom = residual_blocks(widths[-1], blocks[-1])
        self.guided = nn.ModuleList(
            GuidedBlock(inputs, outputs, count)
            for inputs, outputs, count in zip(widths[:0:-1], decoder_widths, config.guided_blocks)
        )
        self.tail = nn.Conv2d(widths[0], pixels, 3, padding=1)
        if config.residual:  # start as the identity
            start_at_zero(self.tail)

    @property
    def receptive_radius(self) -> int:
        """How far, in pixels, :meth:`restore` looks beyond a pixel; a tile with this overlap equals the whole image."""
        blocks, guided = self.config.blocks, self.config.guided_blocks
        radius = 2  # head and tail
        radius += sum(2 * count * 2**scale for scale, count in enumerate(blocks))
        radius += 2 * blocks[-1] * 2 ** len(guided)
        radius += sum(4 * count * 2**scale for scale, count in enumerate(reversed(guided)))
        cell = self.config.shuffle * 2 ** len(guided)  # what shuffling and the 2x2 stride-2 pairs see as one
        return radius * self.config.shuffle + cell - 1

    def pad(self, x: Tensor) -> Tensor:
        """Replicate the bottom and right border up to multiples of 16."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")

    def guide(self, x: Tensor, sensitive_vector: Tensor | None = None) -> Guidance:
        """Guidance from a whole padded image: (B, 3, H, W) -> :class:`Guidance`. The encoders' maps are freed on return.

        ``sensitive_vector``, (B, F) or (1, F) for all, stands in for the spatial mean of E_cs, which is then not computed.
        """
        guidance = Guidance()
        if self.config.insensitive or self.config.fusion:
            features = self.encoder_ci(x)
            if self.config.insensitive:
                guidance.insensitive = self.guider_ci(features.mean((2, 3)))
            if self.config.fusion:
                guidance.tokens = self.fusion.tokens(features)
        if self.config.sensitive:
            guidance.sensitive_vector = self.encoder_cs(x).mean((2, 3)) if sensitive_vector is None else sensitive_vector
            guidance.sensitive = self.guider_cs(guidance.sensitive_vector)
        return guidance

    def restore(self, x: Tensor, guidance: Guidance) -> Tensor:
        """Restore a padded image, or a crop of one that starts at multiples of 16, under the image's guidance.

        Shape:
            (B, 3, H, W) -> (B, 3, H, W), H and W multiples of 16.
        """
        shuffle = self.config.shuffle
        features = self.head(F.pixel_unshuffle(x, shuffle) if shuffle > 1 else x)
        skips = []
        for index, scale in enumerate(self.scales):
            features = scale(features)
            skips.append(features)
            if index < len(self.downs):
                features = self.downs[index](features)
        if guidance.tokens is not None:
            features = self.fusion(features, *guidance.tokens)
        features = self.bottom(features)
        for index, block in enumerate(self.guided):
            features = block(
                features + skips.pop(),
                guidance.sensitive[index] if guidance.sensitive else (None, None),
                guidance.insensitive[index] if guidance.insensitive else (None, None),
                guidance.side[index] if guidance.side else None,
            )
        output = self.tail(features + skips.pop())
        if shuffle > 1:
            output = F.pixel_shuffle(output, shuffle)
        return output + x if self.config.residual else output

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = self.pad(x)
        return self.restore(x, self.guide(x))[..., :height, :width]
