"""Configurations of training: found, read, overridden and checked."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config, DictAction

from dagn_pre import architectures
from dagn_pre.architectures import ARCHITECTURES
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.training.runner import STAGES

CONFIGS = Path(__file__).parent / "configs"


def shipped() -> list[str]:
    """Names of the shipped configs, such as ``dagn-s/joint``."""
    return sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/*.py") if path.stem != "base")


def parse_options(options: Iterable[str]) -> dict:
    """["steps=10", "stages.dagn.lr=1e-4", "data=[a, b]"] -> {key: value}, as mmengine's ``DictAction`` reads them.

    Raises:
        UsageError: an item without ``=``, or with a bracket that is not closed.
    """
    found = argparse.Namespace()
    read = DictAction([], "options")  # not in the command's own parser, which is built without mmengine
    for option in options:
        if "=" not in option:
            raise UsageError(f"--cfg-options takes KEY=VALUE, not {option!r}")
        try:
            read(argparse.ArgumentParser(), found, [option])
        except AssertionError as error:
            raise UsageError(f"{option}: {error}") from error
    return getattr(found, "options", {})


def read_config(name: str | Path) -> tuple[Config, Path]:
    """A config and its file, by path or by shipped name.

    Raises:
        UsageError: neither.
        ConfigError: the file cannot be read.
    """
    path = Path(name)
    if not path.is_file():
        path = CONFIGS / f"{name}.py"
    if not path.is_file():
        raise UsageError(f"{name}: no such config; shipped: {', '.join(shipped())}, or the path of a .py file")
    try:
        return Config.fromfile(path), path
    except Exception as error:  # a config is code: anything may be wrong with it
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error


@functools.cache
def known_keys() -> frozenset[str]:
    return frozenset(read_config(CONFIGS / "base.py")[0])


def check_config(config: Config, source: object) -> Config:
    """Return ``config``; raise ConfigError for keys that ``configs/base.py`` lacks, or lacks of it, or an unknown stage."""
    unknown, missing = sorted(set(config) - known_keys()), sorted(known_keys() - set(config))
    if unknown or missing:
        what = f"unknown key(s) {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing[:3])}; inherit from base.py"
        raise ConfigError(f"{source}: {what}")
    if config.stage not in STAGES:
        raise ConfigError(f"{source}: stage must be one of {', '.join(STAGES)}, not {config.stage!r}")
    kind = {"dagn": "dagn", "side_information": "side"}.get(config.architecture, "peer")
    if kind != (config.stage if config.stage in ("peer", "side") else "dagn"):  # stage semantic takes its trunk's
        raise ConfigError(f"{source}: architecture {config.architecture!r} is not for stage {config.stage}")
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(f"{source}: architecture must be one of {', '.join(ARCHITECTURES)}, not {config.architecture!r}")
    on_blocks = config.architecture in ("dmcnn", "qgac")
    if on_blocks and (not config.aligned or config.p_444 or config.p_422 or config.p_resized):
        raise ConfigError(
            f"{source}: {config.architecture} works on the file's 4:2:0 blocks: aligned = True, p_444 = p_422 = p_resized = 0"
        )
    if config.stage == "side" and not config.lambda_rate > 0:
        raise ConfigError(f"{source}: lambda_rate must be positive, not {config.lambda_rate!r}")
    if config.stage == "side" and (not config.aligned or config.p_second or config.p_resized):
        raise ConfigError(f"{source}: side information is of the file's own blocks: aligned = True, p_second = p_resized = 0")
    try:
        architectures.config(config.architecture, config.network.to_dict())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: network: {error}") from error
    return config


def load_stages(name: str | Path, options: dict | None = None) -> dict[str, Config]:
    """{folder's name: configuration} of a config's stages: one, under its stage's name, or a joint config's in their order.

    ``options`` ("steps", "stages.dagn.steps") override the file's keys; in a joint config a key beside ``stages`` holds for
    all of them.
    """
    config, path = read_config(name)
    config.merge_from_dict(options or {})
    return split(config, path)


def split(config: Config, path: Path) -> dict[str, Config]:
    """:func:`load_stages` of a config that is read already."""
    if "stages" not in config:
        return {config.get("stage", "?"): check_config(config, path)}
    shared = {key: value for key, value in config.to_dict().items() if key != "stages"}
    stages = {}
    for stage, own in config.stages.to_dict().items():
        if "config" not in own:
            raise ConfigError(f"{path}: stages.{stage} names no config")
        part = own.pop("config")
        beside = path.parent / part
        merged, source = read_config(beside if beside.is_file() else part)
        merged.merge_from_dict(shared)
        merged.merge_from_dict(own)
        stages[stage] = check_config(merged, source)
    return stages
