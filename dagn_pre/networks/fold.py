"""Batch norm folded into the convolution before it: the same function, fewer operations, smaller files."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norm(module: Module) -> Module:
    """Fold every (Conv2d, BatchNorm2d) neighbour pair of every ``nn.Sequential`` in place; return ``module`` in eval mode.

    A network that is already folded is left as it is.
    """
    module.eval()
    for sequence in module.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for index in range(len(sequence) - 1):
            convolution, norm = sequence[index], sequence[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[index] = fuse_conv_bn_eval(convolution, norm)
                sequence[index + 1] = nn.Identity()
    return module
