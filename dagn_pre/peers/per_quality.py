"""One model per QF, as ARCNN, DMCNN, IPT and SwinIR are published: each image goes to the one trained nearest to its QF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dagn_pre.errors import ImageError
from dagn_pre.protocol import ImageInformation, RestorationModel


class PerQuality(RestorationModel):
    """Models by the QF that they were trained for.

    Which QF an image has is told by its header or by the caller; ``Restorer(strict=True)`` refuses those that no model was
    trained for.
    """

    needs = "tables"  # that is, a known QF
    quality_override = True

    def __init__(self, models: Mapping[int, RestorationModel]) -> None:
        super().__init__()
        self.models = nn.ModuleDict({str(quality): model for quality, model in sorted(models.items())})
        self.qualities = tuple(sorted(models))
        each = list(models.values())
        self.stride = max(model.stride for model in each)
        self.receptive_radius = max(model.receptive_radius for model in each)
        self.tiles, self.autocast = all(model.tiles for model in each), all(model.autocast for model in each)
        self.float16 = all(model.float16 for model in each)

    def guide(self, x: Tensor, information: Sequence[ImageInformation]) -> list[tuple[RestorationModel, Any]]:
        """One model and its guidance for each image."""
        chosen = [self.trained_for(one) for one in information]
        return [(model, model.guide(x[i : i + 1], information[i : i + 1])) for i, model in enumerate(chosen)]

    def trained_for(self, information: ImageInformation) -> RestorationModel:
        """The model trained nearest to an image's QF.

        Raises:
            ImageError: no QF is known.
        """
        if information.quality is None:
            raise ImageError(f"{information.name}: no QF is known, and there is one model per QF")
        return cast(RestorationModel, self.models[str(self.nearest(information.quality))])

    def restore(self, x: Tensor, guidance: list[tuple[RestorationModel, Any]]) -> Tensor:
        return torch.cat([model.restore(x[i : i + 1], known) for i, (model, known) in enumerate(guidance)])
