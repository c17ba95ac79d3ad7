"""A subset of the test images that still holds all kinds of them: what ``--subset N --seed S`` tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from dagn_pre.benchmarks.downstream.hosts import configs, data_checks
from dagn_pre.errors import ConfigError


def stratified(labels: list[set[int]], count: int, seed: int) -> list[int]:
    """Choose ``count`` images so that those of each stratum keep their share, and each stratum at least one if there is room.

    An image's stratum is the rarest class in it; images without any are one more. Within a stratum, chance decides.

    Args:
        labels: the classes in each image.
        count: how many to choose; all of them where there are no more.
        seed: of the choice.

    Returns:
        indices, ascending.
    """
    if count >= len(labels):
        return list(range(len(labels)))
    frequency = Counter(label for found in labels for label in found)
    strata: dict[int | None, list[int]] = {}
    for index, found in enumerate(labels):
        rarest = min(found, key=lambda label: (frequency[label], label), default=None)
        strata.setdefault(rarest, []).append(index)
    groups = sorted(strata.values(), key=len)
    sizes = np.array([len(group) for group in groups])
    quota = sizes * count / sizes.sum()
    taken = np.floor(quota).astype(int)
    if count >= len(groups):
        taken = np.maximum(taken, 1)
    while taken.sum() != count:  # the rest by the largest remainders; what the minimum of one took, from where it hurts least
        missing = taken.sum() < count
        lack = np.where(taken < sizes, quota - taken, -np.inf) if missing else np.where(taken > 1, taken - quota, -np.inf)
        taken[int(lack.argmax())] += 1 if missing else -1
    rng = np.random.default_rng(seed)
    return sorted(int(index) for group, size in zip(groups, taken) for index in rng.choice(group, size, replace=False))


def subset(cfg: Config, count: int, seed: int) -> dict[int, str] | None:
    """``count`` test images of a config, stratified by the classes in their annotations or masks.

    Returns:
        index -> file name, ascending; None where the data hold no more than ``count``: all of them.

    Raises:
        ConfigError: the test data are several data sets behind a wrapper.
    """
    dataset = cfg.test_dataloader.dataset
    if "dataset" in dataset or "datasets" in dataset:
        raise ConfigError(f"config {configs.name(cfg)} tests on a wrapped data set: --subset needs a plain one")
    _, entries = data_checks.read(cfg, dataset)
    if count >= len(entries):
        return None
    chosen = stratified([classes_in(entry) for entry in entries], count, seed)
    return {index: Path(entries[index]["img_path"]).name for index in chosen}


def classes_in(entry: dict) -> set[int]:
    """The classes in one image of a data set's list: of its boxes, or in its mask (255 is no class)."""
    if "instances" in entry:
        return {instance["bbox_label"] for instance in entry["instances"]}
    if not entry.get("seg_map_path"):
        return set()
    with Image.open(entry["seg_map_path"]) as mask:
        if mask.mode in ("L", "P"):
            return set(np.flatnonzero(mask.histogram()).tolist()) - {255}
        return {int(label) for label in np.unique(np.asarray(mask))} - {255}
