"""How layers start that are to change little before they have learnt anything."""

from __future__ import annotations

import torch
from torch import nn


def start_at_zero(layer: nn.Module) -> None:
    """Zero a layer's weights and bias."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def start_small(layer: nn.Conv2d, factor: float) -> None:
    """Multiply a layer's random weights by ``factor``, and zero its bias."""
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.zero_()
