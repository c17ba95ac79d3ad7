"""DAGN with its quality predictor, as a restorer: blind, or with its QF set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dagn_pre.errors import UsageError
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig, Guidance
from dagn_pre.networks.fold import fold_batch_norm
from dagn_pre.networks.side_information import window
from dagn_pre.protocol import ImageInformation, Maps, RestorationModel


class BlindDAGN(RestorationModel):
    """A :class:`DAGN`, batch norm folded, and P_qf where the network has a compression-sensitive encoder.

    A QF set by hand replaces an image's compression-sensitive vector by that QF's mean over the training set.
    """

    stride = DAGN.stride
    pixel_guidance = True

    def __init__(self, config: DAGNConfig | DAGN, predictor: QualityPredictor | None = None) -> None:
        """``config`` may be a network, which is then folded in place; ``predictor`` is then P_qf, or None for none."""
        super().__init__()
        built = config if isinstance(config, DAGN) else DAGN(config)
        if built is not config and built.config.sensitive:
            predictor = QualityPredictor(built.encoder_cs.out_channels)
        self.network = fold_batch_norm(built)
        self.quality = None if predictor is None else predictor.eval()
        self.config = built.config
        self.blind = self.quality_override = predictor is not None
        self.receptive_radius = built.receptive_radius
        self.conditioned_channels = built.config.decoder_widths

    def check_quality_override(self, quality: int) -> None:
        super().check_quality_override(quality)
        if self.quality is None or not self.quality.vectors[quality - 1].any():
            raise UsageError("these weights hold no mean vectors, so quality cannot be set by hand")

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> Guidance:
        assumed = [one.assumed for one in information if one.assumed is not None]
        if not assumed:
            return self.network.guide(x)
        if len(assumed) < len(information):
            raise ValueError("either all images of a batch have a QF set by hand or none")
        if self.quality is None:
            raise ValueError("without P_qf no QF can be set by hand")
        return self.network.guide(x, self.quality.vectors[torch.tensor(assumed, device=x.device) - 1])

    def condition(self, guidance: Guidance, maps: Maps) -> Guidance:
        return replace(guidance, side=maps)

    def window(self, guidance: Guidance, top: int, left: int, height: int, width: int) -> Guidance:
        if guidance.side is None:
            return guidance
        return replace(guidance, side=window(guidance.side, top, left, height, width))

    def pack(self, guidance: Guidance) -> list[Tensor]:
        if guidance.side is not None:
            raise UsageError("side information cannot be given to a graph")
        pairs = [*(guidance.sensitive or ()), *(guidance.insensitive or ()), *((guidance.tokens,) if guidance.tokens else ())]
        vector = guidance.sensitive_vector
        return [tensor for pair in pairs for tensor in pair] + ([] if vector is None else [vector])

    def unpack(self, tensors: Sequence[Tensor]) -> Guidance:
        given = iter(tensors)

        def pairs(count: int) -> list[tuple[Tensor, Tensor]]:
            return [(next(given), next(given)) for _ in range(count)]

        config, count = self.config, len(self.config.guided_blocks)
        return Guidance(
            sensitive=pairs(count) if config.sensitive else None,
            insensitive=pairs(count) if config.insensitive else None,
            tokens=pairs(1)[0] if config.fusion else None,
            sensitive_vector=next(given) if config.sensitive else None,
        )

    def restore(self, x: Tensor, guidance: Guidance) -> Tensor:
        return self.network.restore(x, guidance)

    def blind_quality(self, guidance: Guidance) -> Tensor | None:
        vector = guidance.sensitive_vector
        return None if self.quality is None or vector is None else self.quality.quality(vector.float())
