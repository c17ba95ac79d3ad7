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

import functools
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.device import get_device
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.errors import ConfigError, DagnPreError, UsageError, WeightsError
from dagn_pre.training import checkpoint

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # mean, std of RGB in 0..255
FLOOR = 1e-3  # of a layer's mean energy: what a silent channel is divided by


class Teacher(nn.Module):
    """Features of a frozen network in eval mode, at named layers.

    Args:
        network: takes (B, 3, H, W) images, normalised; errors call it by its ``title``, or by its class.
        layers: names of its sub-modules, as ``named_modules`` gives them; where one returns several maps, each counts. ""
            is the network itself.
        mean, std: of the channels, on the scale of 0..255, in the order in which the network takes them.
        bgr: whether it takes blue first.
        scale: images are resized by this factor first, as the network's own pipeline would: features depend on the size of
            things.
        divisor: sides are padded to multiples of it, by replication.
        scores: names of those layers or maps that hold the network's own class scores before softmax or sigmoid, classes in
            dimension 1; :func:`same` compares them.
        exclusive: whether a place has one class (softmax) or any number of them (sigmoid).

    Shape:
        input (B, 3, H, W) float, RGB in [0, 1]; output {name: (B, ...) float}, the layers' outputs.

    Raises:
        ConfigError: no layers, or a layer that the network does not have; those that it has are named.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
        bgr: bool = False,
        scale: float = 1.0,
        divisor: int = 1,
        scores: Sequence[str] = (),
        exclusive: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < scale <= 16:
            raise ConfigError(f"scale must lie above 0 and be 16 at most, not {scale}")
        modules = dict(network.named_modules())
        missing = [name for name in layers if name not in modules]
        if missing or not layers:
            has = [name for name in modules if name and name.count(".") < 2]
            more = ", ..." if len(has) > 12 else ""
            what = f"no layer {missing[0]!r}" if missing else "no layers named"
            title = getattr(network, "title", type(network).__name__)
            raise ConfigError(f"{title}: {what}; it has {', '.join(has[:12])}{more}")
        self.network = network
        network.eval()  # mmdet's backbones return None
        network.requires_grad_(False)
        self.bgr, self.scale, self.divisor, self.scores, self.exclusive = bgr, scale, divisor, tuple(scores), exclusive
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
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        height, width = images.shape[-2:]
        if height % self.divisor or width % self.divisor:
            images = F.pad(images, (0, -width % self.divisor, 0, -height % self.divisor), mode="replicate")
        self._found.clear()
        self.network((images * 255 - self.mean) / self.std)
        found = dict(self._found)
        self._found.clear()
        return found


def maps(output: object, name: str) -> dict[str, Tensor]:
    """{name: tensor} of all float tensors in nested tuples, lists and dictionaries; ``name.0.1`` of what is nested."""
    if isinstance(output, Tensor):
        return {name: output} if output.is_floating_point() else {}
    items: Iterable[tuple[object, object]]
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
    distances = []
    for name, aim in target.items():
        aim = aim.float()
        error, energy = (found[name].float() - aim).abs().pow(power), aim.abs().pow(power)
        if by_channel:
            dims = [0, *range(2, aim.ndim)]
            energy = energy.mean(dims)
            distances.append((error.mean(dims) / (energy + FLOOR * energy.mean()).clamp_min(1e-12)).mean())
        else:
            distances.append(error.mean() / energy.mean().clamp_min(1e-12))
    return added(distances) / len(target)


def same(teacher: Teacher, found: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor | None:
    """How far a network's own class scores agree with those on the target, 0..1; None where no layer holds them.

    Where classes exclude each other: the share of places whose highest class is the target's. Otherwise: the sum over places
    and classes of the lower of both probabilities, over the sum of the higher one.
    """
    names = [name for name in target if any(f"{name}.".startswith(f"{scores}.") for scores in teacher.scores)]
    if not names:
        return None
    if teacher.exclusive and all(target[name].shape[1] > 1 for name in names):
        return torch.cat([(found[name].argmax(1) == target[name].argmax(1)).float().flatten() for name in names]).mean()
    pairs = [(found[name].float().sigmoid(), target[name].float().sigmoid()) for name in names]
    return added(torch.minimum(a, b).sum() for a, b in pairs) / added(torch.maximum(a, b).sum() for a, b in pairs)


def added(values: Iterable[Tensor]) -> Tensor:
    """The sum of one scalar or more, from the first on."""
    return functools.reduce(torch.add, values)


def not_finite(found: Mapping[str, Tensor]) -> str | None:
    """The first layer that holds a NaN or an infinity, or None."""
    return next((name for name, features in found.items() if not features.isfinite().all()), None)


def describe(spec: Mapping) -> dict:
    """A config's entry for the records: files by their name and the start of their SHA-256, wherever they lie."""

    def told(value: object) -> object:
        if isinstance(value, (str, Path)) and Path(value).is_file():
            return f"{Path(value).name} {hashlib.sha256(Path(value).read_bytes()).hexdigest()[:16]}"
        return value

    return json.loads(json.dumps({key: told(value) for key, value in spec.items()}))  # of plain types, as checkpoints are


def build(name: str, spec: Mapping) -> Teacher:
    """The teacher that a config's entry describes, where mmengine trains; ``weight`` is not its maker's.

    Raises:
        ConfigError: no or an unknown kind, a maker that refuses its arguments, or one that makes no :class:`Teacher`.
        WeightsError: weights that are missing or do not fit.
        DagnPreError: an extra that it needs is not installed.
    """
    options = {key: value for key, value in spec.items() if key not in ("kind", "weight")}
    kind = spec.get("kind")
    maker = KINDS.get(str(kind), str(kind))
    if ":" not in maker:
        raise ConfigError(f"teacher {name}: kind must be one of {', '.join(KINDS)}, or package:function, not {kind!r}")
    try:
        teacher = called(maker, options).to(get_device())
        if not isinstance(teacher, Teacher):
            raise ConfigError(f"{kind} makes a {type(teacher).__name__}, not a Teacher")
        check_gradients(teacher)
    except DagnPreError as error:
        raise type(error)(f"teacher {name}: {error}") from error
    return teacher


def called(path: str, options: Mapping) -> nn.Module:
    """What the function at ``path``, "package:function", makes of ``options``.

    Raises:
        ConfigError: it cannot be imported, does not take its arguments, fails, or makes no module.
    """
    module, _, function = path.partition(":")
    try:
        maker = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be imported ({error})") from error
    try:
        made = maker(**options)
    except (DagnPreError, OSError):
        raise
    except TypeError as error:
        raise ConfigError(f"{path} does not take what it is given ({error})") from error
    except Exception as error:  # somebody else's code: anything may be wrong with it
        raise ConfigError(f"{path} fails ({type(error).__name__}: {first_line(error)})") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{path} makes a {type(made).__name__}, not a torch module")
    return made


def check_gradients(teacher: Teacher, side: int = 64) -> None:
    """See that gradients of a teacher's features reach the image, under the autocast that is on.

    Raises:
        ConfigError: the network fails on an image of ``side`` pixels, or an operation has no backward pass or detaches what
            it gives; the layer and the operation are named as far as torch tells.
    """
    image = torch.full((1, 3, side, side), 0.5, device=teacher.mean.device, requires_grad=True)
    lost: list[str] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            given, kept = (any(one.requires_grad for one in maps(tensors, "").values()) for tensors in (inputs, output))
            if given and not kept:
                lost.append(f"{name} ({type(module).__name__})")

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in teacher.network.named_modules()]
    try:
        features = teacher(image)
    except Exception as error:  # somebody else's code, too
        raise ConfigError(f"it fails on an image of {side}x{side} pixels ({first_line(error)})") from error
    finally:
        for handle in handles:
            handle.remove()
    if not features:
        raise ConfigError("its layers give no tensors of floats")
    blocked = [name for name, found in features.items() if not found.requires_grad]
    if blocked:
        where = f": {lost[0]} gives its output without them" if lost else ""
        raise ConfigError(f"no gradients reach the image from layer {blocked[0]!r}{where}")
    for name, found in features.items():
        try:
            torch.autograd.grad(found.float().square().mean(), image, retain_graph=True)
        except (RuntimeError, NotImplementedError) as error:
            operations = without_backward(found)
            what = f"{operations[0]} has no backward pass" if operations else first_line(error)
            raise ConfigError(f"no gradients reach the image from layer {name!r}: {what}") from error


def without_backward(tensor: Tensor) -> list[str]:
    """The ``torch.autograd.Function``s behind a tensor that define no backward pass, by name."""
    found, seen, todo = [], set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(node, "_forward_cls", None)  # of Functions written in Python
        if function and all(getattr(function, name) is getattr(torch.autograd.Function, name) for name in ("backward", "vjp")):
            found.append(function.__name__)
        todo += [parent for parent, _ in node.next_functions]
    return found


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, of its ``state_dict`` where it has one; float32, on the CPU.

    Raises:
        WeightsError: missing, damaged, or not tensors alone.
    """
    content = checkpoint.load(Path(path), "weights file", "weights alone")
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


def module(
    function: str,
    layers: Iterable[str] | None = None,
    arguments: Mapping | None = None,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (255.0, 255.0, 255.0),
    **options,
) -> Teacher:
    """Whatever "package:function" makes of ``arguments``: a :class:`Teacher`, or any module that takes (B, 3, H, W) images.

    Of a plain module, ``layers`` are compared, its output where none are named; it gets RGB, in [0, 1] unless ``mean`` and
    ``std`` say otherwise, and ``options`` are :class:`Teacher`'s. A Teacher has settled all that itself.

    Raises:
        ConfigError: a function that cannot be imported or called, that makes something else, a layer that is not there, or
            layers named for a Teacher.
    """
    made = called(function, arguments or {})
    if not isinstance(made, Teacher):
        return Teacher(made, ("",) if layers is None else list(layers), mean, std, **options)
    if layers is not None:
        raise ConfigError(f"{function} makes a Teacher, which names its layers itself: name none")
    return made


KINDS = {
    "timm": f"{__name__}:timm_backbone",
    "torchvision": f"{__name__}:torchvision_backbone",
    "module": f"{__name__}:module",
    "texture": "dagn_pre.training.texture:teacher",
}


def names(specs: Mapping) -> list[str]:
    """The teachers' names, checked.

    Raises:
        UsageError: none.
    """
    if not specs:
        raise UsageError("stage semantic needs teachers: networks whose features the restored image should keep")
    return list(specs)
