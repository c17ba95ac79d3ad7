"""Models of mmdet and mmseg as teachers of stage "semantic" (:mod:`dagn_pre.training.teachers`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from dagn_pre.errors import ConfigError
from dagn_pre.integrations.openmmlab import checkpoints
from dagn_pre.integrations.openmmlab.insert import find, load
from dagn_pre.training.teachers import IMAGENET, Teacher, load_weights

HEADS = ("bbox_head", "rpn_head", "decode_head", "seg_head")  # what works on the features alone, and so needs no boxes
PARTS = ("backbone", "neck", *HEADS)


class Features(nn.Module):
    """A detector or segmenter as far as it goes without annotations: backbone, neck, and the heads on their maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name in PARTS:
            part = getattr(model, name, None)
            if isinstance(part, nn.ModuleList):  # a cascade's heads: the first is on the features alone
                part = part[0]
            if isinstance(part, nn.Module):
                self.add_module(name, part)

    def forward(self, x: Tensor) -> None:
        found = self.backbone(x)
        if hasattr(self, "neck"):
            found = self.neck(found)
        for name in HEADS:
            if hasattr(self, name):
                getattr(self, name)(found)


def model(config: str | Path | Config, checkpoint: str | Path, layers: Sequence[str] = ("backbone", "neck", *HEADS)) -> Teacher:
    """A detector or segmenter of mmdet or mmseg from its config: features of backbone and neck, and the heads' maps.

    Of ``layers``, those of the default that the model has are taken; any other must be there.

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
    layers = [name for name in layers if name not in PARTS or hasattr(network, name)]
    return Teacher(network, layers, *normalisation(cfg))


def backbone(host: str, checkpoint: str | Path, layers: Sequence[str], mean=IMAGENET[0], std=IMAGENET[1], **spec) -> Teacher:
    """A backbone of a host's registry, such as ``host="mmdet", type="MobileNetV2", out_indices=(1, 2, 4)``.

    Raises:
        ConfigError: the host has none of that type.
        WeightsError: a checkpoint that is missing, damaged or of another network.
    """
    from mmengine.registry import MODELS

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
    import importlib

    if host not in ("mmdet", "mmseg"):
        raise ConfigError(f"host must be mmdet or mmseg, not {host!r}")
    importlib.import_module(f"{host}.utils").register_all_modules(init_default_scope=False)


def build(cfg: Config) -> nn.Module:
    """The model of a config, random weights, in eval mode; nothing is fetched for its backbone.

    Raises:
        ConfigError: the config has no model, or it cannot be built.
    """
    from mmengine.registry import MODELS

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
    if isinstance(node, Mapping):
        return {k: without_pretrained(v) for k, v in node.items() if k not in ("init_cfg", "pretrained")}
    if isinstance(node, (list, tuple)):
        return type(node)(without_pretrained(item) for item in node)
    return node


def normalisation(cfg: Config) -> tuple[Sequence[float], Sequence[float], bool]:
    """Mean, std and whether blue comes first, of what the model's data preprocessor gives it."""
    settings = (cfg.get("model") or {}).get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    mean, std = settings.get("mean") or (0.0, 0.0, 0.0), settings.get("std") or (1.0, 1.0, 1.0)
    return mean, std, not settings.get("bgr_to_rgb", False)
