"""Parameters and operations of models; nothing is computed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from dagn_pre import architectures, weights
from dagn_pre.forks import mind_fork
from dagn_pre.models.registry import get
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.fold import fold_batch_norm


def network(model: str | Path | NetworkConfig) -> nn.Module:
    """The network of a model, random weights, for counting and timing; on the current default device, or on the CPU.

    Raises:
        UsageError: an unknown name.
        DagnPreError: an extra that it needs is not installed.
    """
    mind_fork()
    if isinstance(model, NetworkConfig):
        return architectures.counted(model)
    known = get(model)
    config = known.config
    if config is not None and known.files():
        config = weights.read_metadata(known.file).config
    if config is not None:
        return architectures.counted(config)
    with torch.device("cpu"):  # other makers' constructors and loaders read numbers out of tensors
        return known.built() if known.network is None else known.network()


def cost(model: str | Path | NetworkConfig, size: int | tuple[int, int] = 512) -> tuple[int, int]:
    """(parameters, multiply-accumulates of one image), batch norm folded; nothing is computed.

    ``size`` in pixels: a square's side, or height and width.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which takes a second

    with torch.device("meta"):
        counted = fold_batch_norm(network(model)).to("meta")
        image = torch.empty(1, 3, *((size, size) if isinstance(size, int) else size))
    if not any(True for _ in counted.parameters()):
        return 0, 0
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted(image)
    return sum(parameter.numel() for parameter in counted.parameters()), counter.get_total_flops() // 2


def thop_macs(model: str | Path | NetworkConfig, side: int = 512) -> int | None:
    """Multiply-accumulates as the paper's Table III counts them, by ``thop``; None if that is missing or miscounts it."""
    known = model if isinstance(model, NetworkConfig) else get(model)
    if importlib.util.find_spec("thop") is None or not getattr(known, "thop", True):
        return None
    from thop import profile

    with torch.device("meta"):  # shapes are enough for counting
        counted, image = network(model).eval().to("meta"), torch.empty(1, 3, side, side)
    if not any(True for _ in counted.parameters()):
        return None
    return int(profile(counted, (image,), verbose=False)[0])
