"""The arrangements that are timed: what each row says, not how fast anything was."""

from __future__ import annotations

import json

import pytest

from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream import deployment
from dagn_pre.benchmarks.downstream.cases import prepare
from dagn_pre.benchmarks.downstream.deployment import Arrangement
from dagn_pre.errors import UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployment") / "data"
    demo.prepare(folder, counts={"train": 0, "val": 8})
    return folder


def row(arrangement: Arrangement, root, tiny_weights, cache) -> dict:
    settings = {"quality": 10, "limit": 8, "model": str(tiny_weights), "device": "cpu", "dtype": "float32", "threads": 1}
    settings |= {"engine": "torch"}
    return deployment.measure(arrangement, prepare("demo_pspnet", root, None), str(cache), settings)


def test_each_place_of_restoring_is_seen(root, tiny_weights, tmp_path):
    plain, transform, preprocessor = (
        row(Arrangement(where), root, tiny_weights, tmp_path) for where in (None, "transform", "preprocessor")
    )
    assert plain["restore_ms"] is None and plain["where"] is None
    for found in (transform, preprocessor):
        assert found["restore_ms"] > 0
    for found in (plain, transform, preprocessor):
        assert found["images"] == 8 and found["model_ms"] > 0 and found["ms_per_image"] > 0
        assert found["peak_bytes"] > 100e6 and found["cuda_peak_bytes"] is None


def test_a_warm_cache_restores_nothing_also_in_workers(root, tiny_weights, tmp_path):
    cold = row(Arrangement("transform", cache="cold"), root, tiny_weights, tmp_path / "cache")
    warm = row(Arrangement("transform", cache="warm"), root, tiny_weights, tmp_path / "cache")
    workers = row(Arrangement("transform", workers=2, cache="warm"), root, tiny_weights, tmp_path / "cache")
    assert cold["restore_ms"] > 0 and warm["restore_ms"] is None and workers["restore_ms"] is None
    assert workers["arrangement"] == "transform, 2 workers, warm cache" and workers["images"] == 8


def test_the_files_hold_every_row(root, tiny_weights, tmp_path):
    arrangements = (Arrangement(None),)
    found = deployment.compare(
        "demo_pspnet", tmp_path, root, model=str(tiny_weights), limit=8, device="cpu", rounds=1, arrangements=arrangements
    )
    assert json.loads((tmp_path / "deployment.json").read_text()) == found
    text = (tmp_path / "deployment.md").read_text()
    assert all(f"| {arrangement.label} " in text for arrangement in arrangements) and " 1.00 |" in text


def test_rounds_are_summed_up_by_their_medians():
    row = {"arrangement": "a"}
    rows = [{**row, "ms_per_image": ms, "model_ms": 2 * ms, "restore_ms": 3 * ms, "peak_bytes": ms} for ms in (5, 1, 3)]
    assert deployment.median(rows) == {**row, "ms_per_image": 3, "model_ms": 6, "restore_ms": 9, "peak_bytes": 5}
    assert deployment.median([{**row, "restore_ms": None} for row in rows])["restore_ms"] is None


def test_too_few_images_or_rounds_are_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 8"):
        deployment.compare("demo_pspnet", tmp_path, limit=4)
    with pytest.raises(UsageError, match="at least 1"):
        deployment.compare("demo_pspnet", tmp_path, rounds=0)
