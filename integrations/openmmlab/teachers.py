"""Models of mmdet and mmseg as teachers of stage "semantic" (:mod:`dagn_pre.training.teachers`)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from dagn_pre.errors import ConfigError
from dagn_pre.integrations.openmmlab import checkpoints
from dagn_pre.integrations.openmmlab.deferred import type_name
from dagn_pre.integrations.openmmlab.insert import find, load
from dagn_pre.integrations.openmmlab.insert.plan import pipelines
from dagn_pre.training.teachers import IMAGENET, Teacher, load_weights

HEADS = ("bbox_head", "rpn_head", "decode_head", "seg_head")  # what works on the features alone, and so needs no boxes
PARTS = ("backbone", "neck", *HEADS)
SCORES = {"mmdet": ("bbox_head.0", "rpn_head.0"), "mmseg": ("decode_head",)}  # the maps of class scores among a head's


class Features(nn.Module):
    """A detector or segmenter as far as it goes without annotations: backbone, neck, and the heads on their maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.title = type(model).__name__
        for name in PARTS:
            part = getattr(model, name, None)
            if isinstance(part, nn.ModuleList):  # a cascade's heads: the first is on the features alone
                part = part[0]
            if isinstance(part, nn.Module):
                self.add_module(name, part)

    def trunk(self, x: Tensor) -> object:
        """What the heads work on."""
        found = self.get_submodule("backbone")(x)
        return self.get_submodule("neck")(found) if hasattr(self, "neck") else found

    def heads(self) -> list[str]:
        return [name for name in HEADS if hasattr(self, name)]

    def forward(self, x: Tensor) -> None:
        found = self.trunk(x)
        for name in self.heads():
            getattr(self, name)(found)

    @torch.no_grad()
    def drop_other_heads(self, side: int = 64) -> None:
        """Let go of heads that need more than the maps, such as a transformer's queries or the image's annotations."""
        found = self.eval().trunk(torch.zeros(1, 3, side, side))
        for name in self.heads():
            try:
                getattr(self, name)(found)
            except Exception:  # whatever a head misses
                delattr(self, name)


def model(
    config: str | Path | Config,
    checkpoint: str | Path,
    layers: Sequence[str] = PARTS,
    scale: float = 1.0,
) -> Teacher:
    """A detector or segmenter of mmdet or mmseg from its config: features of backbone and neck, and the heads' maps.

    Args:
        layers: of the default's names, those that the model has are taken; any other must be there.
        scale: of the images that it is shown, such as :func:`test_scale`.

    Raises:
        ConfigError: no such config, a model without backbone, or a layer that it does not have.
        WeightsError: a checkpoint that is missing, damaged or of another model.
    """
    cfg = config if isinstance(config, Config) else load(find(config))
    built, scope = build(cfg), scope_of(cfg)
    checkpoints.load(built, checkpoints.find(str(checkpoint)))
    network = Features(built)
    if not hasattr(network, "backbone"):
        raise ConfigError(f"{scope}'s {type(built).__name__} has no backbone")
    network.drop_other_heads()
    layers = [name for name in layers if name not in PARTS or hasattr(network, name)]
    mean, std, bgr = normalisation(cfg)
    return Teacher(
        network, layers, mean, std, bgr, scale, divisor(cfg), scores=SCORES[scope], exclusive=scope == "mmseg"
    )


def backbone(host: str, checkpoint: str | Path, layers: Sequence[str], mean=IMAGENET[0], std=IMAGENET[1], **spec) -> Teacher:
    """A backbone of a host's registry, such as ``host="mmdet", type="MobileNetV2", out_indices=(1, 2, 4)``.

    Raises:
        ConfigError: the host has none of that type.
        WeightsError: a checkpoint that is missing, damaged or of another network.
    """
    register(host)
    try:
        with DefaultScope.overwrite_default_scope(host):
            network = MODELS.build(dict(spec))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{host} makes no backbone of {spec} ({error})") from error
    load_weights(network, checkpoint)
    return Teacher(network, layers, mean, std)


def scope_of(cfg: Config) -> str:
    scope = cfg.get("default_scope")
    return scope if scope in ("mmdet", "mmseg") else "mmdet"


def register(host: str) -> None:
    """Make a host's models known to mmengine's registry."""
    if host not in ("mmdet", "mmseg"):
        raise ConfigError(f"host must be mmdet or mmseg, not {host!r}")
    importlib.import_module(f"{host}.utils").register_all_modules(init_default_scope=False)


def build(cfg: Config) -> nn.Module:
    """The model of a config, random weights, in eval mode; nothing is fetched for its backbone.

    Raises:
        ConfigError: the config has no model, or it cannot be built.
    """
    scope = scope_of(cfg)
    register(scope)
    settings = without_pretrained(cfg.get("model"))
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(settings).eval()
    except Exception as error:  # a host's constructors: anything may be wrong with their arguments
        raise ConfigError(f"the model of {cfg.filename} cannot be built ({type(error).__name__}: {error})") from error


def without_pretrained(node):
    """Nested settings without ``init_cfg`` and ``pretrained``: the checkpoint brings all weights."""
    if isinstance(node, Mapping):  # the hosts read some of it as attributes
        return ConfigDict({k: without_pretrained(v) for k, v in node.items() if k not in ("init_cfg", "pretrained")})
    if isinstance(node, (list, tuple)):
        return type(node)(without_pretrained(item) for item in node)
    return node


def preprocessor(cfg: Config) -> Mapping:
    return (cfg.get("model") or {}).get("data_preprocessor") or cfg.get("data_preprocessor") or {}


def normalisation(cfg: Config) -> tuple[Sequence[float], Sequence[float], bool]:
    """Mean, std and whether blue comes first, of what the model's data preprocessor gives it."""
    settings = preprocessor(cfg)
    mean, std = settings.get("mean") or (0.0, 0.0, 0.0), settings.get("std") or (1.0, 1.0, 1.0)
    return mean, std, not settings.get("bgr_to_rgb", False)


def divisor(cfg: Config) -> int:
    """What the preprocessor pads sides to multiples of, when testing."""
    settings = preprocessor(cfg)
    return int(settings.get("pad_size_divisor") or (settings.get("test_cfg") or {}).get("size_divisor") or 1)


def test_scale(cfg: Config, sizes: Sequence[tuple[int, int]]) -> float:
    """By how much the config's test pipeline resizes images of these sizes, (height, width): the geometric mean; 1.0 where
    it has no Resize, or one of another kind."""
    for _, pipeline, _ in pipelines(cfg, "test"):
        for step in steps(pipeline):
            if type_name(step) == "Resize":
                factors = [resize_factor(step, *size) for size in sizes]
                return math.exp(sum(map(math.log, factors)) / len(factors))
    return 1.0


def steps(pipeline: Sequence) -> Iterator[Mapping]:
    """A pipeline's steps, and those inside of them."""
    for step in pipeline:
        if isinstance(step, Mapping):
            yield step
            inner = step.get("transforms")
            yield from steps(inner if isinstance(inner, (list, tuple)) else [])


def resize_factor(step: Mapping, height: int, width: int) -> float:
    """Of the side's length, by a Resize of mmcv, mmdet or mmseg; where it distorts, of the area's root."""
    scale, factor = step.get("scale"), step.get("scale_factor")
    if isinstance(scale, int):  # mmcv: the same for both sides
        scale = (scale, scale)
    if scale is None:
        factors = factor if isinstance(factor, (list, tuple)) else (factor or 1.0,) * 2
        return math.sqrt(factors[0] * factors[1])
    if step.get("keep_ratio", False):
        return min(max(scale) / max(height, width), min(scale) / min(height, width))
    return math.sqrt(scale[0] * scale[1] / (height * width))
