"""A restorer as graphs of tensors alone, which exporters and inference engines take.

    GuideGraph     (B, 3, H, W) float32 in [0, 1], padded  ->  the guidance's tensors, in the order of ``model.pack``
    RestoreGraph   the same image or a crop of it, and those tensors  ->  (B, 3, H, W) float32, not clipped
    WholeGraph     (B, 3, H, W) uint8 RGB of any size  ->  the same, restored

They hold a copy of the network in which what no exporter can do for sizes that it does not know is written otherwise.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dagn_pre.protocol import RestorationModel


class GuideGraph(nn.Module):
    """What a restorer with ``pixel_guidance`` has to know of a whole image."""

    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = exportable(model)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.pack(self.model.guide(x, [])))


class RestoreGraph(nn.Module):
    """A restorer's local part."""

    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model = exportable(model)

    def forward(self, x: Tensor, *guidance: Tensor) -> Tensor:
        return self.model.restore(x, self.model.unpack(list(guidance)))


class WholeGraph(nn.Module):
    """From pixels to pixels: padding, guidance, restoration, rounding."""

    def __init__(self, model: RestorationModel) -> None:
        super().__init__()
        self.model, self.stride = exportable(model), model.stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        rows, columns = (self.padded(length, image.device) for length in (height, width))
        x = image.index_select(2, rows).index_select(3, columns).float() / 255
        restored = self.model.restore(x, self.model.guide(x, []))
        # not by slices, whose layout torch.export would take for another one where nothing is cut off
        for dim, length in ((2, height), (3, width)):
            restored = restored.index_select(dim, torch.arange(length, device=x.device))
        return (restored.clamp(0, 1) * 255).round().to(torch.uint8)

    def padded(self, length: int, device: torch.device) -> Tensor:
        """Indices that repeat the last up to a multiple of the stride; exporters cannot pad by a size that is not known."""
        whole = self.stride * ((length + self.stride - 1) // self.stride)
        return torch.arange(whole, device=device).clamp(max=length - 1)


class MatrixPool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, for sizes that are not known when a graph is made.

    Shape:
        (B, C, H, W) -> (B, C, size, size).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return self.bins(x, 2) @ x @ self.bins(x, 3).transpose(0, 1)

    def bins(self, x: Tensor, dim: int) -> Tensor:
        """(size, length) weights: row i averages what bin i covers."""
        length, index = x.shape[dim], torch.arange(self.size, device=x.device)
        first, end = index * length // self.size, ((index + 1) * length + self.size - 1) // self.size
        place = torch.arange(length, device=x.device)
        inside = (place >= first[:, None]) & (place < end[:, None])
        return inside.to(x.dtype) / (end - first)[:, None].to(x.dtype)


def exportable(model: RestorationModel) -> RestorationModel:
    """A float32 copy on the CPU, in eval mode, that gives the same results up to rounding."""
    twin = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(parent, name, MatrixPool(child.output_size))
    return twin
