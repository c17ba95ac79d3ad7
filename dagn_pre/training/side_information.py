"""Stage "side": a descriptor of artifacts, its context model and its mapping, learnt end to end under rate and distortion."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dagn_pre import models
from dagn_pre.errors import UsageError
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig
from dagn_pre.protocol import Facts
from dagn_pre.training.stages import Losses, Stage

SCALE = 0.01  # of the loss: keeps gradients about as large as the other stages', which one clip fits


class SideInformationStage(Stage):
    """L = D + lambda R: D the MSE on the scale of 0..255, R the mean bits of a symbol (one for 16x16 pixels).

    Args:
        config: shape of the side information; ``conditioned`` is the trunk's.
        trunk: the restorer that it conditions: a name, or the path of weights.
        train_trunk: whether the trunk learns too, as in the paper; a fixed one restores files without side information as
            it always did, and needs no second file of weights.
        lambda_rate: the trade, in squared levels of 0..255 per bit and symbol.
        sigma: of the soft quantisation in the backward pass.
        rate_warmup: steps until lambda has its value: 0 for half of them, then rising. A rate that counts from the start
            leaves one symbol for everything before any has been found useful (measured: within 200 steps).
    """

    def __init__(
        self,
        config: SideInformationConfig,
        trunk: str,
        train_trunk: bool = False,
        lambda_rate: float = 1.0,
        sigma: float = 1.0,
        rate_warmup: int = 0,
        **options,
    ) -> None:
        if not trunk:
            raise UsageError("stage side needs trunk, the name or the weights of the restorer that it conditions")
        model = models.load(trunk).model
        if not model.conditioned_channels:
            raise UsageError(f"{trunk} cannot be conditioned by side information")
        side = SideInformation(replace(config, conditioned=tuple(model.conditioned_channels)))
        super().__init__({"side": side, "trunk": model.requires_grad_(train_trunk)}, **options)
        self.lambda_rate, self.sigma, self.rate_warmup = lambda_rate, sigma, rate_warmup
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

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
        return self.lambda_rate * min(max(2 * int(self.steps) / self.rate_warmup - 1, 0.0), 1.0)

    def restored(self, original: Tensor, compressed: Tensor, rated: bool = True) -> tuple[Tensor, Tensor]:
        """(restored, bits of each symbol); images (B, 3, H, W) with sides that are multiples of 16."""
        with torch.autocast(compressed.device.type, enabled=False):
            maps, bits = self.side(original, compressed, self.sigma, rated)
            guidance = self.trunk.guide(compressed, [Facts()] * len(compressed))
        return self.trunk.restore(compressed, self.trunk.condition(guidance, maps)).float(), bits

    def losses(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Losses:
        weight = self.rate_weight()
        output, bits = self.restored(original, compressed, weight > 0)
        self.steps += 1
        distortion, rate = 255**2 * F.mse_loss(output, original), bits.mean()
        # The context model learns from the start, at its own pace: what is said before rate counts has no gradient to symbols.
        losses = {"loss_distortion": SCALE * distortion, "loss_rate": SCALE * (weight or 1.0) * rate}
        jpeg = 255**2 * F.mse_loss(compressed, original)
        return losses, {"MSE": distortion, "bits": rate, "JPEG_MSE": jpeg}

    def forward(self, compressed: Tensor, original: Tensor, quality: Tensor, mode: str = "loss"):
        if mode == "loss":
            return self.losses(compressed, original, quality)
        images = torch.cat([original, compressed])
        padded = self.trunk.pad(images)
        output = self.restored(*padded.chunk(2))[0][..., : images.shape[-2], : images.shape[-1]]
        return list(output.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
