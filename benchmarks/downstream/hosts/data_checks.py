"""A look at a config's test data before anything is run: that annotations, images and classes belong together.

The hosts notice little of this: they stop in the middle at a missing file, and score wrong labels without a word.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.errors import ConfigError, quiet

MASKS = 4  # so many masks are opened: a wrong class list shows in the first ones


def check(cfg: Config) -> list[str]:
    """Remarks on what is strange but no error, one sentence each: files that are not tested, categories not scored.

    Raises:
        ConfigError: the annotations cannot be read or are empty, name images or masks that do not exist, or are of other
            classes than the config's; the first few are named.
    """
    remarks: list[str] = []
    for leaf in configs.datasets(cfg.test_dataloader.dataset):
        dataset, entries = read(cfg, leaf)
        source = dataset.ann_file or " and ".join(str(folder) for folder in dataset.data_prefix.values())
        if not entries:
            raise ConfigError(f"{source} of config {configs.name(cfg)} holds no images: give other data with --data-root")
        if not leaf.get("backend_args"):  # files of this machine
            remarks += compare_files("images", [entry["img_path"] for entry in entries], source)
            masks = [entry["seg_map_path"] for entry in entries if entry.get("seg_map_path")]
            remarks += compare_files("masks", masks, source)
            if hasattr(dataset, "reduce_zero_label"):  # mmseg's
                check_labels(dataset, masks[:MASKS], cfg)
                check_sizes([(entry["img_path"], entry["seg_map_path"]) for entry in entries if entry.get("seg_map_path")])
        if hasattr(dataset, "COCOAPI"):
            content = json.loads(Path(dataset.ann_file).read_text(encoding="utf-8"))
            remarks += [*check_categories(dataset, content, cfg), *check_boxes(dataset, content)]
    return remarks


def read(cfg: Config, leaf: dict) -> tuple:
    """The data set of an innermost config, without its pipeline, and what it lists: a dictionary for each image."""
    dataset = build(cfg, leaf, "test")
    return dataset, dataset.data_list


def build(cfg: Config, leaf: dict, split: str):
    """The data set of an innermost config, without its pipeline and with all that it lists in ``data_list``.

    Raises:
        ConfigError: its annotations cannot be read; ``split`` is what the message calls the data.
    """
    try:
        with quiet(), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            dataset = DATASETS.build({**leaf, "pipeline": [], "lazy_init": True})
            dataset.data_list = dataset.load_data_list()
            return dataset
    except Exception as error:  # an annotation file can be anything
        raise ConfigError(
            f"the {split} data of config {configs.name(cfg)} cannot be read ({type(error).__name__}: {error}): repair "
            f"{leaf.get('ann_file') or 'them'}, or give other data with --data-root"
        ) from error


def compare_files(kind: str, paths: Sequence[str], source: str) -> Iterator[str]:
    """A remark on files beside ``paths`` that are not among them, unless a list in a text file chooses on purpose.

    Raises:
        ConfigError: some of ``paths``, or all, do not exist.
    """
    named = {Path(path) for path in paths}
    folders = {path.parent for path in named}
    suffixes = {path.suffix for path in named}
    there = {file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.suffix in suffixes}
    missing, others = sorted(named - there), sorted(there - named)
    place = min(folders, default=None)
    if missing and missing == sorted(named):
        held = f"which holds {len(others)} others ({first(others)})" if others else "which holds none at all"
        raise ConfigError(
            f"none of the {len(named)} {kind} that {source} names ({first(missing)}) is in {place}, {held}: "
            "give the data that belong together with --data-root"
        )
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(named)} {kind} that {source} names do not exist ({first(missing)} in {place}): "
            "complete the data, or leave them out of the annotations"
        )
    if others and not source.endswith(".txt"):
        yield f"{len(others)} of {len(there)} {kind} in {place} are not named by {source} and not tested ({first(others)})"


def check_categories(dataset, content: dict, cfg: Config) -> Iterator[str]:
    """A remark on annotated categories that the classes leave out; ``content`` is of the data set's annotation file.

    Raises:
        ConfigError: there are no annotations; a class is no category or several, or they stand in another order: labels are
            places in the file's list.
    """
    for evaluator in configs.evaluators(cfg):
        check_truth(evaluator.get("ann_file"), content, dataset.ann_file)
    if "annotations" not in content:  # as in the files for COCO's test split
        raise ConfigError(f"{dataset.ann_file} holds images without annotations: give a split whose truth is known")
    names = {category["id"]: category["name"] for category in content["categories"]}
    classes = list(dataset.metainfo["classes"])
    absent = [name for name in classes if name not in names.values()]
    beyond = Counter(names.get(note["category_id"], note["category_id"]) for note in content["annotations"])
    for name in classes:
        beyond.pop(name, None)
    remedy = "set metainfo=dict(classes=...) of the data set to the classes of the checkpoint, as the file spells them"
    if absent:
        rest = f"; the file's other categories: {first(sorted(beyond, key=str))}" if beyond else ""
        raise ConfigError(
            f"{len(absent)} of {len(classes)} classes of config {configs.name(cfg)} are no categories of {dataset.ann_file} "
            f"({first(absent)}{rest}): {remedy}"
        )
    order = [name for name in names.values() if name in classes]
    if twice := [name for name, count in Counter(order).items() if count > 1]:
        raise ConfigError(f"{dataset.ann_file} names several categories alike ({first(twice)}): rename or merge them")
    if order != classes:
        place = next(i for i, (one, other) in enumerate(zip(order, classes, strict=False)) if one != other)
        raise ConfigError(
            f"the categories of {dataset.ann_file} stand in another order than the classes of config {configs.name(cfg)} "
            f"(number {place + 1} is {order[place]}, in the config {classes[place]}): reorder the file's list of categories"
        )
    if beyond:
        count = sum(beyond.values())
        yield (
            f"{count} annotations in {dataset.ann_file} are of {len(beyond)} categories that config {configs.name(cfg)} has no "
            f"class for and are not scored ({first(sorted(beyond, key=str))})"
        )


def check_boxes(dataset, content: dict) -> Iterator[str]:
    """A remark on boxes that leave their images by more than a pixel: no detector can find those parts."""
    images = {image["id"]: image for image in content["images"]}
    outside = []
    for note in content["annotations"]:
        image = images.get(note["image_id"], {})
        if "bbox" in note and "width" in image:
            x, y, width, height = note["bbox"]
            if min(x, y) < -1 or x + width > image["width"] + 1 or y + height > image["height"] + 1:
                outside.append(image["file_name"])
    if outside:
        yield f"{len(outside)} boxes in {dataset.ann_file} reach beyond their images ({first(outside)})"


def check_truth(file: str | None, tested: dict, source: str) -> None:
    """Raise ConfigError where the evaluator's annotations, in a file of their own, lack images that are tested."""
    if not file or Path(file).samefile(source):
        return
    known = {image["id"] for image in json.loads(Path(file).read_text(encoding="utf-8"))["images"]}
    missing = [image["file_name"] for image in tested["images"] if image["id"] not in known]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(tested['images'])} images of {source} are not in {file}, which test_evaluator scores with "
            f"({first(missing)}): set its ann_file to the data set's"
        )


def check_sizes(pairs: Sequence[tuple[str, str]]) -> None:
    """Raise ConfigError where images and masks differ in size; headers alone are read, and files that are damaged passed over,
    which the loading step names."""
    wrong = []
    for image, mask in pairs:
        try:
            with Image.open(image) as one, Image.open(mask) as other:
                if one.size != other.size:
                    wrong.append(f"{Path(image).name} {one.width}x{one.height}, its mask {other.width}x{other.height}")
        except OSError:
            continue
    if wrong:
        raise ConfigError(f"{len(wrong)} of {len(pairs)} images differ from their masks in size ({first(wrong)}): repair them")


def check_labels(dataset, masks: Sequence[str], cfg: Config) -> None:
    """Raise ConfigError where a mask is no map of labels, or holds one beyond the classes that is not ignored."""
    classes = dataset.metainfo["classes"]
    ignored = {255, dataset.ignore_index, *(one.get("ignore_index", 255) for one in configs.evaluators(cfg))}
    for path in masks:
        with Image.open(path) as file:
            mask = np.asarray(file)
        if mask.ndim != 2:
            raise ConfigError(f"mask {path} is a picture of shape {mask.shape}, not a map of labels: convert the masks")
        found = [int(label) for label in np.unique(mask)]
        if dataset.reduce_zero_label:
            found = [label - 1 for label in found if label not in (0, 255)]
        found = [(dataset.label_map or {}).get(label, label) for label in found]
        beyond = [label for label in found if label >= len(classes) and label not in ignored]
        if beyond:
            raise ConfigError(
                f"mask {path} holds labels beyond the {len(classes)} classes of config {configs.name(cfg)} ({first(beyond)}): "
                "set metainfo and num_classes to the data's, or ignore_index to what stands for no class"
            )


def first(items: Sequence) -> str:
    """The first three items, files by their names."""
    shown = [item.name if isinstance(item, Path) else str(item) for item in items[:3]]
    return f"first: {', '.join(shown)}" if len(items) > 1 else shown[0]
