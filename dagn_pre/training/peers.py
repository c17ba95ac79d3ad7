"""Stage "peer": the other restorers, each with the losses of its paper, on the pairs that DAGN learns from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dagn_pre import architectures, codec
from dagn_pre.networks import dct
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.dmcnn import DMCNN
from dagn_pre.networks.fbcnn import FBCNN
from dagn_pre.networks.qgac import QGAC, Tables
from dagn_pre.protocol import RestorationModel
from dagn_pre.training.side_information import SCALE
from dagn_pre.training.stages import Stage

Estimate = tuple[Tensor, dict[str, Tensor]]  # the restored images, and the losses

MULTI_SCALE = 0.618  # DMCNN's theta: the weight of the estimate at half the resolution, its square that at a quarter
DCT_WEIGHT = 0.9  # DMCNN's lambda: the weight of the DCT branch's estimate
QUALITY_WEIGHT = 0.1  # FBCNN's weight of the predicted QF


def tables_of(quality: Tensor) -> Tensor:
    """(B,) QF -> (B, 2, 64) float32, IJG's tables, on the same device."""
    return torch.from_numpy(codec.standard_tables()).to(quality.device)[quality - 1].float()


def plain(model: RestorationModel, compressed: Tensor, original: Tensor, quality: Tensor) -> Estimate:
    """L1 on pixels."""
    output = model.restore(compressed, None)
    return output, {"loss_pixels": F.l1_loss(output.float(), original)}


def squared(model: RestorationModel, compressed: Tensor, original: Tensor, quality: Tensor) -> Estimate:
    """MSE, the D of side information's stage, for its comparison with the same network without: L1 costs PSNR."""
    output = model.restore(compressed, None)
    return output, {"loss_pixels": SCALE * 255**2 * F.mse_loss(output.float(), original)}


def dmcnn(model: DMCNN, compressed: Tensor, original: Tensor, quality: Tensor) -> Estimate:
    """L1, as for nearly all here, on three scales and on the DCT branch's estimate (Sec. 2.4, which has L2), in YCbCr."""
    target = dct.to_ycbcr(original)
    estimate, (full, half, quarter) = model.scales(compressed, tables_of(quality)[:, 0])
    output = dct.to_rgb(full)
    return output, {
        "loss_pixels": F.l1_loss(output, original),
        "loss_half": MULTI_SCALE * F.l1_loss(half, F.avg_pool2d(target, 2)),
        "loss_quarter": MULTI_SCALE**2 * F.l1_loss(quarter, F.avg_pool2d(target, 4)),
        "loss_dct": DCT_WEIGHT * F.l1_loss(estimate, target),
    }


def qgac(model: QGAC, compressed: Tensor, original: Tensor, quality: Tensor) -> Estimate:
    """L1 on pixels; the paper's regression stage adds 0.05 of SSIM, which is left out here as for the others."""
    halved = torch.ones(len(quality), dtype=torch.bool, device=quality.device)
    output = model.restore(compressed, Tables(tables_of(quality), halved))
    return output, {"loss_pixels": F.l1_loss(output, original)}


def fbcnn(model: FBCNN, compressed: Tensor, original: Tensor, quality: Tensor) -> Estimate:
    """L1 on pixels and on the predicted QF (eq. 5)."""
    output, predicted = model.predict(compressed)
    error = F.l1_loss(predicted.float()[:, 0], 1 - quality.float() / 100)
    return output, {"loss_pixels": F.l1_loss(output.float(), original), "loss_quality": QUALITY_WEIGHT * error}


LOSSES: dict[str, Callable[..., Estimate]] = {  # of the architecture's model, and of the arguments of Stage.losses
    "arcnn": plain,
    "dmcnn": dmcnn,
    "qgac": qgac,
    "fbcnn": fbcnn,
    "edsr": squared,
}


class PeerStage(Stage):
    """One of :data:`LOSSES`' networks, trained end to end in one stage."""

    def __init__(self, config: NetworkConfig, **options) -> None:
        super().__init__({"model": architectures.build(config)}, **options)
        self.loss = LOSSES[config.architecture]

    def compiled(self):
        return [(self.model, "restore")]

    def predict(self, compressed, original, quality):
        padded = self.model.pad(compressed)
        return self.loss(self.model, padded, padded, quality)[0][..., : compressed.shape[-2], : compressed.shape[-1]]

    def losses(self, compressed, original, quality):
        _, losses = self.loss(self.model, compressed, original, quality)
        return losses, {"JPEG_pixels": F.l1_loss(compressed, original)}
