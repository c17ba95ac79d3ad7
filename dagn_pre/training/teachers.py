"""Teachers: frozen networks whose features say what compression must not change, for stage "semantic".

A teacher is made by a function that a config names: one of :data:`KINDS`, or "package:function". It returns a
:class:`Teacher`; what it takes besides the weight is its own business::

    teachers = dict(
        lite0=dict(kind="timm", name="tf_efficientnet_lite0", weights="lite0.pth", layers=["blocks.1", "blocks.2"]),
        mine=dict(kind="my_package.networks:teacher", weight=2.0),
    )

Detectors and segmenters of OpenMMLab: ``dagn_pre.integrations.openmmlab.teachers``. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dagn_pre.errors import ConfigError, DagnPreError, UsageError, WeightsError

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # mean, std of RGB in 0..255
FLOOR = 1e-3  # of a layer's mean energy: what a silent channel is divided by


class Teacher(nn.Module):
    """Features of a frozen network in eval mode, at named layers.

    Args:
        network: takes (B, 3, H, W) images, normalised.
        layers: names of its sub-modules, as ``named_modules`` gives them; where one returns several maps, each counts. ""
            is the network itself.
        mean, std: of the channels, on the scale of 0..255, in the order in which the network takes them.
        bgr: whether it takes blue first.

    Shape:
        input (B, 3, H, W) float, RGB in [0, 1]; output {name: (B, ...) float}, the layers' outputs.

    Raises:
        ConfigError: no layers, or a layer that the network does not have; those that it has are named.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
        bgr: bool = False,
    ) -> None:
        super().__init__()
        modules = dict(network.named_modules())
        missing = [name for name in layers if name not in modules]
        if missing or not layers:
            has = [name for name in modules if name and name.count(".") < 2]
            more = ", ..." if len(has) > 12 else ""
            what = f"no layer {missing[0]!r}" if missing else "no layers named"
            raise ConfigError(f"{type(network).__name__}: {what}; it has {', '.join(has[:12])}{more}")
        self.network = network
        network.eval()  # mmdet's backbones return None
        network.requires_grad_(False)
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self._found: dict[str, Tensor] = {}
        for name in layers:
            modules[name].register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            self._found.update(maps(output, name))

        return hook

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        images = images.flip(1) if self.bgr else images
        self._found.clear()
        self.network((images * 255 - self.mean) / self.std)
        found = dict(self._found)
        self._found.clear()
        return found


def maps(output: object, name: str) -> dict[str, Tensor]:
    """{name: tensor} of all float tensors in nested tuples, lists and dictionaries; ``name.0.1`` of what is nested."""
    if isinstance(output, Tensor):
        return {name: output} if output.is_floating_point() else {}
    if isinstance(output, Mapping):
        items = output.items()
    elif isinstance(output, (tuple, list)):
        items = enumerate(output)
    else:
        return {}
    return {key: tensor for index, part in items for key, tensor in maps(part, f"{name}.{index}").items()}


def distance(found: Mapping[str, Tensor], target: Mapping[str, Tensor], power: int = 2, by_channel: bool = False) -> Tensor:
    """How far features are from the target's: mean over layers of mean(\\|found - target\\|^p) / mean(\\|target\\|^p).

    Args:
        found, target: {layer: (B, C, ...)}, the same layers; gradients flow to both.
        power: p, 1 or 2.
        by_channel: the quotient is taken for each channel, and averaged: quiet channels, where fine texture is, count as
            much as loud ones.

    Returns:
        A float32 scalar; 0 for equal features.
    """
    total = 0
    for name, aim in target.items():
        aim = aim.float()
        error, energy = (found[name].float() - aim).abs().pow(power), aim.abs().pow(power)
        if by_channel:
            dims = [0, *range(2, aim.ndim)]
            energy = energy.mean(dims)
            total = total + (error.mean(dims) / (energy + FLOOR * energy.mean()).clamp_min(1e-12)).mean()
        else:
            total = total + error.mean() / energy.mean().clamp_min(1e-12)
    return total / len(target)


def build(name: str, spec: Mapping) -> Teacher:
    """The teacher that a config's entry describes; ``weight`` is not its maker's.

    Raises:
        ConfigError: no or an unknown kind, a maker that refuses its arguments, or one that makes no :class:`Teacher`.
        WeightsError: weights that are missing or do not fit.
        DagnPreError: an extra that it needs is not installed.
    """
    options = {key: value for key, value in spec.items() if key not in ("kind", "weight")}
    kind = spec.get("kind")
    module, _, function = (KINDS.get(kind) or str(kind)).partition(":")
    if not function:
        raise ConfigError(f"teacher {name}: kind must be one of {', '.join(KINDS)}, or package:function, not {kind!r}")
    try:
        maker = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"teacher {name}: kind {kind!r} cannot be imported ({error})") from error
    try:
        teacher = maker(**options)
    except DagnPreError as error:
        raise type(error)(f"teacher {name}: {error}") from error
    except TypeError as error:
        raise ConfigError(f"teacher {name}: {kind} does not take what it is given ({error})") from error
    if not isinstance(teacher, Teacher):
        raise ConfigError(f"teacher {name}: {kind} makes a {type(teacher).__name__}, not a Teacher")
    try:
        check_gradients(teacher)
    except ConfigError as error:
        raise ConfigError(f"teacher {name}: {error}") from error
    return teacher


def check_gradients(teacher: Teacher, side: int = 64) -> None:
    """See that gradients of a teacher's features reach the image.

    Raises:
        ConfigError: an operation without a backward pass, or a network that detaches the image; what it says is kept.
    """
    image = torch.full((1, 3, side, side), 0.5, requires_grad=True)
    try:
        sum(features.float().square().mean() for features in teacher(image).values()).backward()
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"no gradients reach the image: {str(error).splitlines()[0]}") from error
    if image.grad is None:
        raise ConfigError("no gradients reach the image: the network detaches it")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, of its ``state_dict`` where it has one; float32, on the CPU.

    Raises:
        WeightsError: missing, damaged, or not tensors alone.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: damaged or not weights alone ({str(error).splitlines()[0]})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Fill a backbone; what the file has beyond it (a classifier) is left aside.

    Raises:
        WeightsError: see :func:`read_weights`; or tensors that are missing or of another shape, the first three named.
    """
    state, wanted = read_weights(path), network.state_dict()
    wrong = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        raise WeightsError(f"{path} does not fit {type(network).__name__}: {', '.join(wrong[:3])} differ or are missing")
    network.load_state_dict(state, strict=False)


def timm_backbone(name: str, weights: str, layers: Sequence[str], mean=IMAGENET[0], std=IMAGENET[1], **options) -> Teacher:
    """A backbone of ``timm`` without its classifier (``features_only``), weights from a file; ``options`` go to timm.

    Raises:
        DagnPreError: timm is not installed.
        ConfigError: it knows no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise DagnPreError(f'kind timm needs timm ({error}): pip install "dagn-pre[train]"') from error
    try:
        network = timm.create_model(name, pretrained=False, features_only=True, **options)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"timm makes no {name!r} ({error})") from error
    load_weights(network, weights)
    return Teacher(network, layers, mean, std)


def torchvision_backbone(name: str, weights: str, layers: Sequence[str], mean=IMAGENET[0], std=IMAGENET[1]) -> Teacher:
    """A model of ``torchvision`` by name, weights from a file.

    Raises:
        ConfigError: torchvision knows no such model.
    """
    from torchvision.models import get_model

    try:
        network = get_model(name, weights=None)
    except ValueError as error:
        raise ConfigError(f"torchvision makes no {name!r} ({error})") from error
    load_weights(network, weights)
    return Teacher(network, layers, mean, std)


KINDS = {
    "timm": f"{__name__}:timm_backbone",
    "torchvision": f"{__name__}:torchvision_backbone",
}


def names(specs: Mapping) -> list[str]:
    """The teachers' names, checked.

    Raises:
        UsageError: none.
    """
    if not specs:
        raise UsageError("stage semantic needs teachers: networks whose features the restored image should keep")
    return list(specs)
