"""Batch norm folded into the convolution before it: the same function, fewer operations, smaller files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norm(module: Module) -> Module:
    """Fold every (Conv2d, BatchNorm2d) neighbour pair of every ``nn.Sequential`` in place; return ``module`` in eval mode.

    A network that is already folded is left as it is.
    """
    module.eval()
    for sequence, index, convolution, norm in _pairs(module):
        sequence[index] = fuse_conv_bn_eval(convolution, norm)
        sequence[index + 1] = nn.Identity()
    return module


def take_folded(module: nn.Module, folded: nn.Module) -> None:
    """Give a module the function, in eval mode, of a folded one of the same shape, its batch norm in place.

    Raises:
        RuntimeError: a layer is of another shape, as ``load_state_dict`` says it.
    """
    state = folded.state_dict()
    names = {layer: name for name, layer in module.named_modules()}
    for sequence, index, convolution, norm in _pairs(module):
        name = names[sequence]
        state[f"{name}.{index + 1}.bias"] = state.pop(f"{name}.{index}.bias")
        if convolution.bias is not None:
            state[f"{name}.{index}.bias"] = torch.zeros_like(convolution.bias)
        identity = {"weight": 1.0, "running_mean": 0.0, "running_var": 1 - norm.eps}
        state |= {f"{name}.{index + 1}.{key}": torch.full_like(norm.bias, value) for key, value in identity.items()}
        state[f"{name}.{index + 1}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    module.load_state_dict(state)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d, nn.BatchNorm2d]]:
    """Every convolution that batch norm follows: its sequence, its place there, and both."""
    for sequence in module.modules():
        if isinstance(sequence, nn.Sequential):
            for index in range(len(sequence) - 1):
                convolution, norm = sequence[index], sequence[index + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    yield sequence, index, convolution, norm
