"""Put the transforms into a host's config: into a ``Config`` (:func:`insert`), or by a short file that inherits from
the original (:func:`insert_file`, which ``dagn-pre insert`` calls)."""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyObject
from mmengine.config.utils import MODULE2PACKAGE

from dagn_pre.codec import check_quality
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.files import atomic_path
from dagn_pre.integrations.openmmlab.transforms import DAGNRestore, JPEGCompress

MODULE = "dagn_pre.integrations.openmmlab"
SPLITS = ("train", "val", "test", "tta")
OURS = ("JPEGCompress", "DAGNRestore")
BY_HAND = "add dict(type='DAGNRestore') right after the step that loads the image by hand"


@dataclass(frozen=True)
class Edit:
    """One list of steps to change: ``pipeline[start:stop] = steps``. ``path`` leads to it from the config's root, as
    Python writes it (``val_dataloader.dataset.pipeline``)."""

    path: str
    pipeline: list
    start: int
    stop: int
    steps: list[dict]


def insert(
    config: Config,
    *,
    compress: int | None = None,
    restore: bool = True,
    model: str = "dagn-s",
    splits: Sequence[str] = ("val", "test", "tta"),
    **options,
) -> Config:
    """A copy of ``config`` with the transforms right after the loading step of each pipeline of the chosen splits.

    JPEGCompress or DAGNRestore that are there already are replaced. Found are the top-level pipelines (such as
    ``test_pipeline``), those of the dataloaders' datasets, inside any wrappers, and the one that a PipelineSwitchHook
    brings in. A text-style config also gets the ``custom_imports`` that its dump needs; one with classes as ``type``
    gets classes.

    Args:
        config: an mmdet or mmseg config, text-style or pure-Python. It stays as it is.
        compress: the QF of a JPEGCompress in front; None for none.
        restore: whether to put DAGNRestore in.
        model: DAGNRestore's.
        splits: of "train", "val", "test", "tta"; one that the config lacks is passed over.
        options: DAGNRestore's other arguments. ``backend_args`` follows the loading step.

    Raises:
        UsageError: a value outside its range, an unknown split or model, or nothing to insert.
        ConfigError: no pipeline in the chosen splits, one without a loading step, or one that loads float32 images.
    """
    config = copy.copy(config)
    for key, value in list(dict.items(config._cfg_dict)):
        config[key] = unshared(value)
    edits = plan(config, compress, restore, model, splits, options)
    for edit in edits:
        edit.pipeline[edit.start : edit.stop] = [
            ConfigDict({**step, "type": held(step["type"])}) for step in edit.steps
        ]
    if any(isinstance(step["type"], str) for edit in edits for step in edit.steps):
        config.custom_imports = custom_imports(config)
    return config


def insert_file(
    source: str | Path,
    out: str | Path,
    *,
    compress: int | None = None,
    restore: bool = True,
    model: str = "dagn-s",
    splits: Sequence[str] = ("val", "test", "tta"),
    **options,
) -> list[tuple[str, str, str]]:
    """Write a config that inherits from ``source`` and changes its pipelines as :func:`insert` does.

    Args:
        source: the path of a config, or "mmdet::..." / "mmseg::..." for one of the installed host's own.
        out: the .py file to write; it is loaded and compared before it takes its place.

    Returns:
        For each pipeline its path inside the config and its outline before and after.

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
    after = insert(before, compress=compress, restore=restore, model=model, splits=splits, **options)
    edits = plan(before, compress, restore, model, splits, options)
    render = render_lazy if Config._is_lazy_import(str(path)) else render_text
    text = render(str(source), path, out, before, edits)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        if outlines(load(temporary), splits) != outlines(after, splits):
            raise ConfigError(f"{source}: a config that inherits from it does not keep the changes; {BY_HAND}")
    old, new = outlines(before, splits), outlines(after, splits)
    return [(edit.path, old[edit.path], new[edit.path]) for edit in edits]


def plan(
    config: Config, compress: int | None, restore: bool, model: str, splits: Sequence[str], options: dict
) -> list[Edit]:
    """What :func:`insert` has to change, as edits of ``config``'s own lists; raises what it raises."""
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise UsageError(f"splits must be some of {', '.join(SPLITS)}, not {unknown or splits!r}")
    if compress is None and not restore:
        raise UsageError("there is nothing to insert: give a quality to compress with, or let it restore")
    if compress is not None:
        check_quality(compress)
    if restore:
        DAGNRestore(model=model, **options)  # refuses bad values here rather than in the written config
    edits, file = [], config.filename or "the config"
    for path, pipeline, leaf in [found for split in dict.fromkeys(splits) for found in pipelines(config, split)]:
        place = loading_step(path, pipeline)
        if place is None:
            if leaf:
                raise ConfigError(f"{file}: {path} has no step that loads an image (LoadImageFromFile); {BY_HAND}")
            continue  # such as the mosaic of a MultiImageMixDataset, whose inner dataset loads
        path, pipeline, loader = place
        if loader.get("to_float32"):
            raise ConfigError(f"{file}: {path} loads float32 images and JPEG is uint8; set to_float32=False there")
        named = isinstance(loader["type"], str)
        steps = []
        if compress is not None:
            steps.append(dict(type="JPEGCompress" if named else JPEGCompress, quality=compress))
        if restore:
            backend = {"backend_args": loader["backend_args"]} if loader.get("backend_args") else {}
            steps.append(dict(type="DAGNRestore" if named else DAGNRestore, model=model, **{**backend, **options}))
        edits.append(edit_for(path, pipeline, loader, steps))
    if not edits:
        raise ConfigError(
            f"{file}: nothing that loads images in {', '.join(f'{s}_dataloader, {s}_pipeline' for s in splits)}; "
            f"choose other splits, or {BY_HAND}"
        )
    return edits


def edit_for(path: str, pipeline: list, loader: dict, steps: list[dict]) -> Edit:
    """The edit that puts ``steps`` behind ``loader``, in place of what an earlier insertion put there."""
    start = stop = next(index for index, step in enumerate(pipeline) if step is loader) + 1
    while stop < len(pipeline) and type_name(pipeline[stop]) in OURS:
        stop += 1
    astray = [type_name(step) for step in [*pipeline[:start], *pipeline[stop:]] if type_name(step) in OURS]
    if astray:
        raise ConfigError(
            f"{path} has {astray[0]} elsewhere than right after {type_name(loader)}; remove it there first"
        )
    return Edit(path, pipeline, start, stop, steps)


def pipelines(config: Config, split: str) -> Iterator[tuple[str, list, bool]]:
    """(path, pipeline, whether images must be loaded in it) of one split."""
    for key in list(config):
        value = config[key] if key.startswith(f"{split}_") else None
        if isinstance(value, list) and "pipeline" in key:
            yield key, value, False
        elif isinstance(value, dict):
            yield from dataset_pipelines(key, value)
    if split == "train":
        for index, hook in enumerate(config.get("custom_hooks") or []):
            if hook.get("switch_pipeline"):
                yield f"custom_hooks[{index}].switch_pipeline", hook["switch_pipeline"], False


def dataset_pipelines(path: str, node: dict) -> Iterator[tuple[str, list, bool]]:
    """The same below one dataloader or dataset; wrappers hold a ``dataset`` or a list of ``datasets``."""
    inner = [(f"{path}.dataset", node["dataset"])] if isinstance(node.get("dataset"), dict) else []
    many = node.get("datasets")
    inner += [(f"{path}.datasets[{i}]", d) for i, d in enumerate(many)] if isinstance(many, (list, tuple)) else []
    if isinstance(node.get("pipeline"), list):
        yield f"{path}.pipeline", node["pipeline"], not inner
    for inner_path, dataset in inner:
        yield from dataset_pipelines(inner_path, dataset)


def loading_step(path: str, pipeline: list) -> tuple[str, list, dict] | None:
    """The list that holds the loading step, with its path, and the step; looks into steps that hold ``transforms``."""
    for index, step in enumerate(pipeline):
        name = type_name(step)
        if name.startswith("LoadImage") or name == "InferencerLoader":
            return path, pipeline, step
        inner = step.get("transforms") if isinstance(step, dict) else None
        if isinstance(inner, list) and (found := loading_step(f"{path}[{index}].transforms", inner)):
            return found
    return None


def type_name(step: object) -> str:
    """The class name of a step, without its scope or module; "" for what is no step."""
    kind = step.get("type", "") if isinstance(step, dict) else ""
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def outlines(config: Config, splits: Sequence[str]) -> dict[str, str]:
    """Path of each list that loads images -> its steps by name, ours with their arguments."""
    found = [loading_step(path, steps) for split in splits for path, steps, _ in pipelines(config, split)]
    return {path: " -> ".join(map(outline, pipeline)) for path, pipeline, _ in filter(None, found)}


def outline(step: dict) -> str:
    """One step for a reader: its name, with the arguments if it is one of ours."""
    name = type_name(step)
    shown = {k: v for k, v in step.items() if k not in ("type", "_scope_")} if name in OURS else {}
    return f"{name}({', '.join(f'{k}={plain(v)!r}' for k, v in shown.items())})" if shown else name


def custom_imports(config: Config) -> dict:
    """``config``'s custom_imports with this package added."""
    existing = config.get("custom_imports") or {}
    imports = existing.get("imports") or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    merged = dict(imports=[*imports, *([] if MODULE in imports else [MODULE])])
    return dict(merged, allow_failed_imports=existing.get("allow_failed_imports", False))


def render_text(source: str, path: Path, out: Path, config: Config, edits: list[Edit]) -> str:
    """A text-style config that inherits through ``_base_`` and edits its lists in place."""
    imports = custom_imports(config)
    if "custom_imports" in config and not isinstance(config.custom_imports, dict):
        imports["_delete_"] = True  # None in the base: replace it, a dict cannot be merged into it
    return "\n".join(
        [
            f"# Written by `dagn-pre insert` from {source}; everything else is inherited.",
            f"_base_ = {base_of(source, path, out)}",
            f"custom_imports = {call(imports)}",
            *(statement(edit, "_base_.", lazy=False) for edit in edits),
            "",
        ]
    )


def render_lazy(source: str, path: Path, out: Path, config: Config, edits: list[Edit]) -> str:
    """A pure-Python config that inherits through ``read_base`` and edits the imported lists in place."""
    relative = relative_path(path, out)
    parts = Path(relative).with_suffix("").parts
    ups = parts.count("..")
    if not all(part.isidentifier() for part in parts[ups:]):
        raise ConfigError(
            f"{source}: a pure-Python config can only be inherited from by names that Python can import, which "
            f"{relative} is not; write to another folder, or {BY_HAND}"
        )
    names = sorted({type_name(step) for edit in edits for step in edit.steps} & set(OURS))
    return "\n".join(
        [
            f"# Written by `dagn-pre insert` from {source}; everything else is inherited.",
            "from mmengine.config import read_base",
            "",
            "with read_base():",
            f"    from {'.' * (ups + 1)}{'.'.join(parts[ups:])} import *",
            "",
            f"from {MODULE} import {', '.join(names)}",
            "",
            *(statement(edit, "", lazy=True) for edit in edits),
            "",
        ]
    )


def statement(edit: Edit, prefix: str, lazy: bool) -> str:
    """``edit`` as Python code."""
    lines = [f"{prefix}{edit.path}[{edit.start}:{edit.stop}] = ["]
    for step in edit.steps:
        kind = type_name(step) if lazy else repr(type_name(step))
        lines.append(f"    {call({key: value for key, value in step.items() if key != 'type'}, f'type={kind}')},")
    return "\n".join([*lines, "]"])


def call(arguments: dict, first: str | None = None) -> str:
    """``dict(...)`` as code."""
    return f"dict({', '.join(([first] if first else []) + [f'{k}={plain(v)!r}' for k, v in arguments.items()])})"


def base_of(source: str, path: Path, out: Path) -> str:
    """The expression for ``_base_``: as short as the installed mmengine understands, and not bound to this machine."""
    if "::" not in source:
        return repr(relative_path(path, out))
    package, inner = source.split("::")
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.py"
        probe.write_text(f"_base_ = {source!r}\n", encoding="utf-8")
        try:
            Config.fromfile(probe, import_custom_modules=False)
            return repr(source)
        except (ImportError, AssertionError):
            # mmengine knows mmseg by the upstream distribution's name only; where another distribution provides the
            # package, its folder is asked for instead. mmengine evaluates the expression.
            return f"__import__({package!r}).__path__[0] + {f'/.mim/configs/{inner}'!r}"


def relative_path(path: Path, out: Path) -> str:
    """``path`` seen from ``out``'s folder; ".." is resolved by the file system, hence real folders."""
    target = path.parent.resolve() / path.name
    return Path(os.path.relpath(target, out.parent.resolve())).as_posix()


def find(source: str | Path) -> Path:
    """The file of a config given by path or as "package::folder/name.py"; raises UsageError if there is none.

    mmengine's own ``get_config`` is not used: it installs packages that it does not find.
    """
    named = re.fullmatch(r"(\w+)::(.+)", str(source))
    if not named:
        path = Path(source)
    else:
        spec = importlib.util.find_spec(named[1])
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(f"{source}: the package {named[1]} is not installed")
        path = Path(spec.submodule_search_locations[0]) / ".mim" / "configs" / named[2]
    if not path.is_file():
        raise UsageError(f"{source}: there is no such config file")
    return path


@contextmanager
def mmseg_under_any_name() -> Iterator[None]:
    """Let ``mmseg::`` in ``_base_`` be found where its distribution is onedl-mmsegmentation.

    mmengine looks for the distribution by upstream's name, and for a module only by the name given for it here.
    """
    upstream = MODULE2PACKAGE["mmseg"]
    MODULE2PACKAGE["mmseg"] = "mmseg"
    try:
        yield
    finally:
        MODULE2PACKAGE["mmseg"] = upstream


def load(path: Path) -> Config:
    """``Config.fromfile``; raises ConfigError for whatever goes wrong inside, since a config is code."""
    try:
        with mmseg_under_any_name():
            return Config.fromfile(path)
    except Exception as error:
        raise ConfigError(f"{path}: the config cannot be loaded: {error}") from error


def unshared(value: object) -> object:
    """A deep copy in which no list or dict stands in two places: an edit of one split leaves the others alone."""
    if isinstance(value, dict):  # dict.items: ConfigDict's own would import what lazy configs name
        return type(value)({key: unshared(item) for key, item in dict.items(value)})
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(unshared(item) for item in value)
    return value


def held(kind: str | type) -> str | LazyObject:
    """A class as pure-Python configs hold it, so that the config can be dumped; a name stays."""
    return kind if isinstance(kind, str) else LazyObject(MODULE, kind.__name__)


def plain(value: object) -> object:
    """ConfigDict -> dict, so that its repr is code."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value
