"""Stage "side": a descriptor of artifacts, its context model and its mapping, learnt end to end under rate and distortion."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dagn_pre import models
from dagn_pre.errors import UsageError
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig
from dagn_pre.protocol import ImageInformation
from dagn_pre.training.stages import Losses, Stage, guided

SCALE = 0.01  # of the loss: keeps gradients about as large as the other stages', which one clip fits


class SideInformationStage(Stage):
    """L = D + lambda R: D the MSE on the scale of 0..255, R the mean bits of a symbol (one for 16x16 pixels).

    With ``relative`` D is the mean over the images of their MSE divided by their JPEG's. Decibels per bit are about the same
    at every QF, squared levels are not: with those, what is worth its bits at QF 10 leaves nothing to say at QF 20.

    Args:
        config: shape of the side information; ``conditioned`` is the trunk's.
        trunk: the restorer that it conditions: a name, or the path of weights.
        train_trunk: whether the trunk learns too, as in the paper; a fixed one restores files without side information as
            it always did, and needs no second file of weights. A DAGN is fixed: its encoders and P_qf are stage 1's.
        relative: see above; the paper's D is not.
        lambda_rate: the trade: what a bit of every symbol has to win, in squared levels or, where relative, as a share of the
            JPEG's MSE. Buying the bits by a higher QF instead wins about 0.006 of it.
        sigma: of the soft quantisation in the backward pass.
        rate_warmup: steps until lambda has its value: 0 for half of them, then rising. A rate that counts from the start
            leaves one symbol for everything before any has been found useful (measured: within 200 steps).
        usage: weight, for as long as rate does not count, of what the mean probabilities of the symbols lack to the entropy of
            equal ones. Where the trunk learns too, it gets used to one symbol first otherwise (measured: within 500 steps).
    """

    def __init__(
        self,
        config: SideInformationConfig,
        trunk: str,
        train_trunk: bool = False,
        relative: bool = False,
        lambda_rate: float = 1.0,
        sigma: float = 1.0,
        rate_warmup: int = 0,
        usage: float = 0.0,
        **options,
    ) -> None:
        if not trunk:
            raise UsageError("stage side needs trunk, the name or the weights of the restorer that it conditions")
        model = models.load(trunk).model
        if not model.conditioned_channels:
            raise UsageError(f"{trunk} cannot be conditioned by side information")
        if train_trunk and model.blind:
            raise UsageError(f"{trunk} is blind: trained on, its encoders would no longer be those of its quality predictor")
        side = SideInformation(replace(config, channels=tuple(model.conditioned_channels)))
        super().__init__({"side": side, "trunk": model.requires_grad_(train_trunk)}, **options)
        self.relative, self.lambda_rate, self.sigma = relative, lambda_rate, sigma
        self.rate_warmup, self.usage = rate_warmup, usage

    def train(self, mode: bool = True) -> SideInformationStage:
        super().train(mode)
        self.trunk.eval()  # its batch norm is folded
        return self

    def compiled(self):
        return [(self.trunk, "restore")]

    def rate_weight(self) -> float:
        """lambda at this step."""
        if not self.rate_warmup:
            return self.lambda_rate
        return self.lambda_rate * min(max(2 * self.step / self.rate_warmup - 1, 0.0), 1.0)

    def restored(self, original: Tensor, compressed: Tensor, rated: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """(restored, bits of each symbol, mean probabilities); images (B, 3, H, W) with sides that are multiples of 16."""
        with torch.autocast(compressed.device.type, enabled=False):
            maps, bits, usage = self.side(original, compressed, self.sigma, rated)
        guidance = guided(self.trunk, compressed, [ImageInformation()] * len(compressed))
        return self.trunk.restore(compressed, self.trunk.condition(guidance, maps)).float(), bits, usage

    def losses(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Losses:
        weight = self.rate_weight()
        output, bits, usage = self.restored(original, compressed, weight > 0)
        error, before = (255**2 * (image - original).square().mean((1, 2, 3)) for image in (output, compressed))
        distortion, rate, scale = error.mean(), bits.mean(), SCALE
        if self.relative:
            distortion, scale = (error / before.clamp_min(1)).mean(), 1.0
        # The context model learns from the start, at its own pace: what is said before rate counts has no gradient to symbols.
        losses = {"loss_distortion": scale * distortion, "loss_rate": scale * (weight or self.lambda_rate or 1.0) * rate}
        if self.usage and not weight:
            losses["loss_usage"] = self.usage * (math.log(len(usage)) + (usage * usage.clamp_min(1e-6).log()).sum())
        return losses, {"MSE": error.mean(), "bits": rate, "JPEG_MSE": before.mean()}

    def predict(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Tensor:
        padded = self.trunk.pad(torch.cat([original, compressed]))
        return self.restored(*padded.chunk(2))[0][..., : compressed.shape[-2], : compressed.shape[-1]]
