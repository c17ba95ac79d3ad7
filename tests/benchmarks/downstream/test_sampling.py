"""The stratified choice of images."""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image

from dagn_pre.benchmarks.downstream.sampling import classes_in, stratified


def labels() -> list[set[int]]:
    """1000 images: 700 with class 0, of which 200 also with class 1; 280 without any; 20 with the rare class 2."""
    return [{0}] * 500 + [{0, 1}] * 200 + [set()] * 280 + [{0, 2}] * 20


def test_each_stratum_keeps_its_share():
    chosen = stratified(labels(), 100, seed=0)
    assert chosen == sorted(set(chosen)) and len(chosen) == 100
    found = Counter(frozenset(labels()[index]) for index in chosen)
    assert found == {frozenset({0}): 50, frozenset({0, 1}): 20, frozenset(): 28, frozenset({0, 2}): 2}


def test_a_rare_class_is_kept_where_there_is_room():
    assert any(2 in labels()[index] for index in stratified(labels(), 10, seed=3))
    assert len(stratified(labels(), 2, seed=3)) == 2


def test_the_seed_decides():
    assert stratified(labels(), 50, seed=1) == stratified(labels(), 50, seed=1) != stratified(labels(), 50, seed=2)


def test_all_of_them_where_there_are_no_more():
    assert stratified(labels(), 5000, seed=0) == list(range(1000))


def test_any_count_is_met():
    rng = np.random.default_rng(0)
    mixed = [set(rng.integers(0, 30, rng.integers(0, 4)).tolist()) for _ in range(97)]
    for count in range(1, 97):
        assert len(stratified(mixed, count, seed=count)) == count


def test_classes_come_from_boxes_or_masks(tmp_path):
    assert classes_in({"instances": [{"bbox_label": 3}, {"bbox_label": 3}, {"bbox_label": 1}]}) == {1, 3}
    Image.fromarray(np.array([[0, 4], [255, 4]], np.uint8)).save(tmp_path / "mask.png")
    assert classes_in({"seg_map_path": str(tmp_path / "mask.png")}) == {0, 4}
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "wide.png")
    assert classes_in({"seg_map_path": str(tmp_path / "wide.png")}) == {0, 300}
    assert classes_in({"img_path": "no truth"}) == set()
