"""What an insertion changes in a config, as edits that can be applied or written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyObject

from dagn_pre.codec import check_quality
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.integrations.openmmlab.compress import JPEGCompress
from dagn_pre.integrations.openmmlab.deferred import DAGNDefer, type_name, why_not
from dagn_pre.integrations.openmmlab.preprocessors import preprocessor
from dagn_pre.integrations.openmmlab.restore import DAGNRestore
from dagn_pre.options import Options, check_options

MODULE = "dagn_pre.integrations.openmmlab"
SPLITS = ("train", "val", "test", "tta")
HOSTS = {"DetDataPreprocessor": "DAGNDetDataPreprocessor", "SegDataPreProcessor": "DAGNSegDataPreProcessor"}
INSERTED = ("JPEGCompress", "DAGNRestore")  # right after the loading step
OURS = (*INSERTED, "DAGNDefer", *HOSTS.values())
PIXELLESS = ("FilterAnnotations", "GenerateEdge")  # steps beside the loading ones that neither read nor change pixels
BY_HAND = "add dict(type='DAGNRestore') right after the step that loads the image by hand"
IN_PIPELINE = "restore in the pipeline, with where='transform'"


@dataclass(frozen=True)
class Reference:
    """A part of the config that stays as it is, and its path from the config's root, as Python writes it."""

    path: str
    value: object


@dataclass(frozen=True)
class Edit:
    """One list of steps to change: ``pipeline[start:stop] = steps``. ``path`` leads to it from the config's root, as
    Python writes it (``val_dataloader.dataset.pipeline``)."""

    path: str
    pipeline: list
    start: int
    stop: int
    steps: list[dict | Reference]

    def apply(self) -> None:
        """Do it."""
        self.pipeline[self.start : self.stop] = [kept(step) for step in self.steps]


@dataclass(frozen=True)
class Update:
    """One dict to change, the one at ``path``: ``values`` are set, the keys in ``removed`` go. (A ConfigDict's own ``update``
    would merge the dicts inside.)"""

    path: str
    node: dict
    values: dict
    removed: tuple[str, ...] = ()

    def apply(self) -> None:
        """Do it."""
        for key, value in self.values.items():
            self.node[key] = kept(value)
        for key in self.removed:
            self.node.pop(key, None)


def kept(value: object) -> object:
    """A step as the config keeps it: references resolved, and classes as pure-Python configs hold them, so that the config
    can be dumped."""
    if isinstance(value, Reference):
        return value.value
    if isinstance(value, type):
        return LazyObject(MODULE, value.__name__)
    return ConfigDict({key: kept(item) for key, item in value.items()}) if isinstance(value, dict) else value


def plan(
    config: Config, where: str, compress: int | None, restore: bool, model: str, splits: Sequence[str], options: dict
) -> list[Edit | Update]:
    """What :func:`insert` has to change, as edits of ``config``'s own lists, in an order in which each still finds its
    place; raises what :func:`insert` raises. ``where`` is "transform" or "preprocessor"."""
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise UsageError(f"splits must be some of {', '.join(SPLITS)}, not {unknown or splits!r}")
    if compress is None and not restore:
        raise UsageError("there is nothing to insert: give a quality to compress with, or let it restore")
    if compress is not None:
        check_quality(compress)
    later = restore and where == "preprocessor"
    if restore:  # refuse bad values here rather than in the written config
        check_restorer(model, options) if later else DAGNRestore(model=model, **options)
    edits, file = [], config.filename or "the config"
    for path, pipeline, leaf in [found for split in dict.fromkeys(splits) for found in pipelines(config, split)]:
        place = loading_step(path, pipeline)
        if place is None:
            if leaf:
                raise ConfigError(f"{file}: {path} has no step that loads an image (LoadImageFromFile); {BY_HAND}")
            if later and pipeline:  # such as the mosaic of a MultiImageMixDataset, whose inner dataset loads
                raise ConfigError(f"{file}: {path} works on images that other pipelines load; {IN_PIPELINE}")
            continue
        path, pipeline, loader = place
        if loader.get("to_float32"):
            raise ConfigError(f"{file}: {path} loads float32 images and JPEG is uint8; set to_float32=False there")
        named = isinstance(loader["type"], str)
        backend = {"backend_args": loader["backend_args"]} if loader.get("backend_args") else {}
        steps: list[dict | Reference] = []
        if compress is not None:
            steps.append(dict(type="JPEGCompress" if named else JPEGCompress, quality=compress))
        if restore and not later:
            steps.append(dict(type="DAGNRestore" if named else DAGNRestore, model=model, **{**backend, **options}))
        edit = edit_for(path, pipeline, loader, steps)
        wrapper = dict(type="DAGNDefer" if named else DAGNDefer, **backend)
        changes = wrapping(file, path, pipeline, edit.stop, wrapper) if later else unwrapping(path, pipeline, edit.stop)
        edits += [*reversed(changes), edit]  # from the end: each leaves the indices before it alone
    if not edits:
        raise ConfigError(
            f"{file}: nothing that loads images in {', '.join(f'{s}_dataloader, {s}_pipeline' for s in splits)}; "
            f"choose other splits, or {BY_HAND}"
        )
    edits = [edit for edit in edits if edit.steps or edit.stop > edit.start]
    return [*edits, *(preprocessing(config, model, options) if later else without_preprocessing(config, splits))]


def check_restorer(model: str, options: dict) -> None:
    """Raise UsageError for what a preprocessor's ``restorer`` cannot take."""
    known = {field.name for field in fields(Options)} - {"device"}
    for name in options:
        if name not in known:
            why = "it restores where the model is" if name == "device" else "it is the DAGNRestore transform's"
            raise UsageError(f"a preprocessor takes no {name}, {why}; leave it out, or choose where='transform'")
    if check_options(model=model, **options).needs_file:
        raise UsageError(f"model {model!r} works on files, and a preprocessor has tensors: choose where='transform'")


def edit_for(path: str, pipeline: list, loader: dict, steps: list[dict | Reference]) -> Edit:
    """The edit that puts ``steps`` behind ``loader``, in place of what an earlier insertion put there."""
    start = stop = next(index for index, step in enumerate(pipeline) if step is loader) + 1
    while stop < len(pipeline) and type_name(pipeline[stop]) in INSERTED:
        stop += 1
    astray = [type_name(step) for step in [*pipeline[:start], *pipeline[stop:]] if type_name(step) in INSERTED]
    if astray:
        raise ConfigError(
            f"{path} has {astray[0]} elsewhere than right after {type_name(loader)}; remove it there first"
        )
    return Edit(path, pipeline, start, stop, steps)


def wrapping(file: str, path: str, pipeline: list, start: int, wrapper: dict) -> list[Edit]:
    """The edits that put each step from ``start`` on that moves pixels, and the Pack step, into a DAGNDefer."""
    edits, packs = [], False
    for path_, steps, index, step in walk(path, pipeline, start):
        name = type_name(step)
        packs |= name.startswith("Pack") or type_name(step.get("transform")).startswith("Pack")
        if name.startswith("Load") or name in PIXELLESS or name == "DAGNDefer":
            continue
        if reason := why_not(step):
            raise ConfigError(f"{file}: {path_}[{index}] is {reason}: restoring cannot come after it; {IN_PIPELINE}")
        wrapped = {"type": wrapper["type"], "transform": Reference(f"{path_}[{index}]", step), **wrapper}
        edits.append(Edit(path_, steps, index, index + 1, [wrapped]))
    if not packs:
        raise ConfigError(f"{file}: {path} has no step that packs the inputs (PackDetInputs, PackSegInputs); {IN_PIPELINE}")
    return edits


def unwrapping(path: str, pipeline: list, start: int = 0) -> list[Edit]:
    """The edits that take steps out of their DAGNDefer again."""
    return [
        Edit(path_, steps, index, index + 1, [Reference(f"{path_}[{index}].transform", step["transform"])])
        for path_, steps, index, step in walk(path, pipeline, start)
        if type_name(step) == "DAGNDefer"
    ]


def walk(path: str, steps: Sequence, start: int = 0) -> Iterator[tuple[str, Any, int, dict]]:
    """(path of the list, the list, index, step) of each step, those inside TestTimeAug instead of itself."""
    for index, step in list(enumerate(steps))[start:]:
        if isinstance(step, (list, tuple)):  # the alternatives of a TestTimeAug
            yield from walk(f"{path}[{index}]", step)
        elif type_name(step) == "TestTimeAug":
            yield from walk(f"{path}[{index}].transforms", step.get("transforms") or [])
        else:
            yield path, steps, index, step


def preprocessing(config: Config, model: str, options: dict) -> list[Update]:
    """The changes to the model's preprocessor; it keeps the host's arguments."""
    updates = []
    for path, node in preprocessors(config):
        name = type_name(node)
        ours = name if name in HOSTS.values() else HOSTS.get(name)
        if ours is None:
            raise ConfigError(
                f"{config.filename or 'the config'}: {path} is a {name}, and restoring can be put into "
                f"{' or '.join(HOSTS)} only; {IN_PIPELINE}"
            )
        kind = ours if isinstance(node["type"], str) else preprocessor(ours)
        updates.append(Update(path, node, dict(type=kind, restorer=dict(model=model, **options))))
    if not updates:
        raise ConfigError(f"{config.filename or 'the config'} has no model.data_preprocessor; {IN_PIPELINE}")
    return updates


def without_preprocessing(config: Config, splits: Sequence[str]) -> list[Update]:
    """The changes that give the model its host's preprocessor back, unless a split that stays hands images to ours."""
    others = [found for split in SPLITS if split not in splits for found in pipelines(config, split)]
    if any(unwrapping(path, pipeline) for path, pipeline, _ in others):
        return []
    theirs = {ours: host for host, ours in HOSTS.items()}
    return [
        Update(path, node, dict(type=theirs[type_name(node)]), removed=("restorer",))
        for path, node in preprocessors(config)
        if type_name(node) in theirs
    ]


def preprocessors(config: Config) -> list[tuple[str, dict]]:
    """Path and config of the model's preprocessor, and of the top-level one, which is for a model that has none."""
    model = config.get("model")
    inner = model.get("data_preprocessor") if isinstance(model, dict) else None
    places = {"model.data_preprocessor": inner, "data_preprocessor": config.get("data_preprocessor")}
    return [(path, node) for path, node in places.items() if isinstance(node, dict)]


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


def outlines(config: Config, splits: Sequence[str]) -> dict[str, str]:
    """Path of each list that loads images -> its steps by name, ours with their arguments; and so of the preprocessors."""
    found = [loading_step(path, steps) for split in splits for path, steps, _ in pipelines(config, split)]
    lists = {path: " -> ".join(map(outline, pipeline)) for path, pipeline, _ in filter(None, found)}
    return lists | {path: outline(node) for path, node in preprocessors(config)}


def outline(step: dict | list) -> str:
    """One step for a reader: its name, with the arguments if it is one of ours."""
    if isinstance(step, (list, tuple)):
        return f"[{', '.join(map(outline, step))}]"
    name = type_name(step)
    if name == "DAGNDefer":
        return f"DAGNDefer({outline(step['transform'])})"
    if name == "TestTimeAug" and unwrapping("", [step]):
        return f"TestTimeAug({', '.join(map(outline, step['transforms']))})"
    keys = INSERTED if name in INSERTED else ()
    shown = {k: v for k, v in step.items() if k == "restorer" or (keys and k not in ("type", "_scope_"))}
    return f"{name}({', '.join(f'{k}={plain(v)!r}' for k, v in shown.items())})" if shown else name


def custom_imports(config: Config) -> dict:
    """``config``'s custom_imports with this package added."""
    existing = config.get("custom_imports") or {}
    imports = existing.get("imports") or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    merged = dict(imports=[*imports, *([] if MODULE in imports else [MODULE])])
    return dict(merged, allow_failed_imports=existing.get("allow_failed_imports", False))


def plain(value: Any) -> Any:
    """ConfigDict -> dict, so that its repr is code."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value
