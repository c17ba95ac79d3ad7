"""Small frozen networks, and what can be wrong with one; named in configs as "tests.training.toys:...". """

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dagn_pre.training.teachers import Teacher


class Small(nn.Module):
    """Two convolutions, then four class scores a place."""

    def __init__(self, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
            self.head = nn.Conv2d(8, 4, 1, bias=False)
            self.head.weight.data -= self.head.weight.data.mean(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def plain(seed: int = 0) -> nn.Module:
    return Small(seed)


def teacher(seed: int = 0, layers: tuple = ("stem", "body"), **options) -> Teacher:
    return Teacher(Small(seed), layers, **options)


def scoring(seed: int = 0) -> Teacher:
    return teacher(seed, ("stem", "head"), scores=("head",))


class Poisoned(nn.Module):
    """The features, with a NaN from the given forward pass on."""

    def __init__(self, after: int):
        super().__init__()
        self.after, self.passes = after, 0
        self.stem = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        x = self.stem(x)
        return self.second(x * math.nan if self.passes > self.after else x)


def poisoned(after: int = 1) -> Teacher:
    return Teacher(Poisoned(after), ["stem", "second"])


class Rounded(torch.autograd.Function):
    """Without a backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.round()


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Rounded.apply(x)


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return 2 * x


class Demanding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("needs 320 pixels")


def with_layer(layer: str) -> Teacher:
    """A network with such a layer in it."""
    made = {"custom": Custom, "detached": Detached, "demanding": Demanding}[layer]()
    return Teacher(nn.Sequential(nn.Conv2d(3, 4, 3), made, nn.Conv2d(4, 4, 3)), ["0", "2"])


def nothing() -> None:
    """Makes no module."""


def failing() -> nn.Module:
    raise RuntimeError("out of stock")


class Single(nn.Module):
    """Refuses all but float32, as an operation of a library may."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise RuntimeError("not implemented for 'BFloat16'")
        return x


def single() -> Teacher:
    return Teacher(nn.Sequential(nn.Conv2d(3, 4, 3), Single()), ["1"])
