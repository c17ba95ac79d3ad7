"""Put the restoring into a host's config: into a ``Config`` (:func:`insert`), or by a short file that inherits from the
original (:func:`insert_file`, which ``dagn-pre insert`` calls)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from dagn_pre.defaults import MODEL
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.files import atomic_path
from dagn_pre.integrations.openmmlab.insert.files import find, load, mmseg_under_any_name
from dagn_pre.integrations.openmmlab.insert.plan import BY_HAND, SPLITS, Edit, Update, custom_imports, outlines, plan
from dagn_pre.integrations.openmmlab.insert.render import render_lazy, render_text

__all__ = ["SPLITS", "WHERE", "find", "insert", "insert_file", "load", "mmseg_under_any_name", "outlines"]

WHERE = ("transform", "preprocessor", "auto")


def insert(
    config: Config,
    *,
    where: str = "transform",
    compress: int | None = None,
    restore: bool = True,
    model: str = MODEL,
    splits: Sequence[str] = ("val", "test", "tta"),
    **options,
) -> Config:
    """A copy of ``config`` that restores the images of the chosen splits, and compresses them first if asked to.

    As a transform, DAGNRestore stands right after the loading step of each pipeline. As a preprocessor, the model's own is
    replaced by DAGNDetDataPreprocessor or DAGNSegDataPreProcessor, with its arguments, and DAGNDefer is put around each
    Resize, Pad and RandomFlip and around the Pack step. What an earlier insertion did in these splits is replaced.

    Found are the top-level pipelines (such as ``test_pipeline``), those of the dataloaders' datasets, inside any wrappers,
    and the one that a PipelineSwitchHook brings in. A text-style config also gets the ``custom_imports`` that its dump
    needs; one with classes as ``type`` gets classes.

    Args:
        config: an mmdet or mmseg config, text-style or pure-Python. It stays as it is.
        where: "transform", "preprocessor", or "auto": "preprocessor" where torch finds CUDA (or ``device`` is a CUDA
            device) and the config allows it, else "transform".
        compress: the QF of a JPEGCompress in front; None for none.
        restore: whether to restore.
        model: the restorer's.
        splits: of "train", "val", "test", "tta"; one that the config lacks is passed over.
        options: DAGNRestore's other arguments, or with a preprocessor those of :class:`dagn_pre.Restorer` but ``device``.
            ``backend_args`` follows the loading step.

    Raises:
        UsageError: a value outside its range, an unknown split or model, or nothing to insert.
        ConfigError: no pipeline in the chosen splits, one without a loading step, or one that loads float32 images; as a
            preprocessor also a step whose pixels cannot be done after restoring (named), or a model whose preprocessor is
            neither host's standard one.
    """
    config = copy.copy(config)
    for key, value in list(dict.items(config._cfg_dict)):
        config[key] = unshared(value)
    arguments: dict[str, Any] = dict(compress=compress, restore=restore, model=model, splits=splits)
    where, options = decided(config, where, options, **arguments)
    edits = plan(config, where, options=options, **arguments)
    kinds = [step["type"] for edit in edits for step in added(edit)]
    for edit in edits:
        edit.apply()
    if any(isinstance(kind, str) for kind in kinds):
        config.custom_imports = custom_imports(config)
    return config


def insert_file(
    source: str | Path,
    out: str | Path,
    *,
    where: str = "transform",
    compress: int | None = None,
    restore: bool = True,
    model: str = MODEL,
    splits: Sequence[str] = ("val", "test", "tta"),
    **options,
) -> list[tuple[str, str, str]]:
    """Write a config that inherits from ``source`` and changes it as :func:`insert` does.

    Args:
        source: the path of a config, or "mmdet::..." / "mmseg::..." for one of the installed host's own.
        out: the .py file to write; it is loaded and compared before it takes its place.

    Returns:
        For each pipeline, and for a preprocessor that changes, its path inside the config and its outline before and after.

    Raises:
        UsageError: ``source`` does not exist, ``out`` is no .py file or is the source; and as :func:`insert`.
        ConfigError: ``source`` cannot be loaded or inherited from; and as :func:`insert`.
    """
    path, out = find(source), Path(out)
    if out.suffix != ".py":
        raise UsageError(f"{out}: the config to write must be a .py file")
    if out.resolve() == path.resolve():
        raise UsageError(f"{out}: the new config cannot inherit from itself; choose another file to write")
    before = load(path)
    arguments: dict[str, Any] = dict(compress=compress, restore=restore, model=model, splits=splits)
    where, options = decided(before, where, options, **arguments)
    after = insert(before, where=where, **arguments, **options)
    edits = plan(before, where, options=options, **arguments)
    render = render_lazy if Config._is_lazy_import(str(path)) else render_text
    text = render(str(source), path, out, before, edits)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        if outlines(load(temporary), splits) != outlines(after, splits):
            raise ConfigError(f"{source}: a config that inherits from it does not keep the changes; {BY_HAND}")
    old, new = outlines(before, splits), outlines(after, splits)
    changed = [place for place in new if any(f"{edit.path}[".startswith(f"{place}[") for edit in edits)]
    return [(place, old[place], new[place]) for place in changed]


def decided(config: Config, where: str, options: dict, **arguments) -> tuple[str, dict]:
    """Where to restore, "transform" or "preprocessor", and the options for that place; a warning says why "auto" did not
    take the preprocessor although there is CUDA."""
    if where not in WHERE:
        raise UsageError(f"where must be one of {', '.join(WHERE)}, not {where!r}")
    device = options.get("device", "auto")
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if where != "auto" or not arguments["restore"] or not cuda:
        return ("transform" if where == "auto" else where), options
    elsewhere = {key: value for key, value in options.items() if key != "device"}
    try:
        plan(config, "preprocessor", options=elsewhere, **arguments)
    except (ConfigError, UsageError) as error:
        logging.getLogger(__name__).warning("restoring stays in the pipeline: %s", error)
        return "transform", options
    return "preprocessor", elsewhere


def added(edit: Edit | Update) -> list[dict]:
    """The new steps, or the new preprocessor, of an edit."""
    return [edit.values] if isinstance(edit, Update) else [step for step in edit.steps if isinstance(step, dict)]


def unshared(value: object) -> object:
    """A deep copy in which no list or dict stands in two places: an edit of one split leaves the others alone."""
    if isinstance(value, dict):  # dict.items: ConfigDict's own would import what lazy configs name
        return type(value)({key: unshared(item) for key, item in dict.items(value)})
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(unshared(item) for item in value)
    return value
