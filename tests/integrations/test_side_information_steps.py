"""Side information in pipelines: JPEGCompress adds it, DAGNRestore finds it, in memory and in files."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import pytest
from mmcv.transforms import LoadImageFromFile

from dagn_pre import Restorer
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress
from dagn_pre.integrations.openmmlab.det_preprocessor import DAGNDetDataPreprocessor
from dagn_pre.side_information import SideInformationEncoder, segment
from tests.support import photograph, save_adapter

IMAGE = photograph(70, 90)


@pytest.fixture(scope="module")
def side(tiny_weights, tmp_path_factory):
    return str(save_adapter(tmp_path_factory.mktemp("side") / "side.safetensors", tiny_weights))


@pytest.fixture(scope="module")
def expected(tiny_weights, side):
    """RGB pixels with side information and without."""
    file = SideInformationEncoder(tiny_weights, weights=side).encode(IMAGE, 20)
    return tuple(Restorer(tiny_weights, "cpu", side_information=value)(file) for value in (side, False))


def loaded() -> dict:
    return {"img": IMAGE[..., ::-1].copy(), "img_path": None}


def compress(tiny_weights, side, **options) -> JPEGCompress:
    return JPEGCompress(20, side_information=True, side_model=str(tiny_weights), side_weights=side, **options)


def test_what_one_step_adds_the_next_one_uses(tiny_weights, side, expected):
    results = compress(tiny_weights, side)(loaded())
    assert segment.Layout.of(results["jpeg_data"]).message() is not None
    restored = DAGNRestore(str(tiny_weights), side_information=side)(dict(results))["img"][..., ::-1]
    assert (restored == expected[0]).all()
    without = DAGNRestore(str(tiny_weights), side_information=False)(dict(results))["img"][..., ::-1]
    assert (without == expected[1]).all() and (restored != without).any()
    plain = JPEGCompress(20)(loaded())
    assert (results["img"] == plain["img"]).all()


def test_a_file_that_is_loaded_brings_its_own(tiny_weights, side, expected, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(SideInformationEncoder(tiny_weights, weights=side).encode(IMAGE, 20))
    results = LoadImageFromFile()({"img_path": str(path)})
    step = pickle.loads(pickle.dumps(DAGNRestore(str(tiny_weights), side_information=side)))
    assert (step(results)["img"][..., ::-1] == expected[0]).all()


def test_files_of_other_formats_are_no_news(tiny_weights, side, tmp_path):
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    results = LoadImageFromFile()({"img_path": str(tmp_path / "a.png")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DAGNRestore(str(tiny_weights), side_information=side, max_quality=None)(results)


def test_caches_tell_files_with_it_from_files_without(tiny_weights, side, expected, tmp_path):
    folder = str(tmp_path / "cache")
    with_it, bare = compress(tiny_weights, side, cache_dir=folder), JPEGCompress(20, cache_dir=folder)
    restore = DAGNRestore(str(tiny_weights), side_information=side, cache_dir=folder)
    for _ in range(2):
        for step, pixels in ((with_it, expected[0]), (bare, expected[1])):
            results = restore(step(loaded()))
            assert (results["img"][..., ::-1] == pixels).all()
            assert (segment.Layout.of(results["jpeg_data"]).message() is None) == (step is bare)
    assert results["dagn_cached"]


def test_a_cache_keeps_what_was_used_and_not_what_was_there(tiny_weights, side, expected, tmp_path):
    """A file whose side information is of no use must not stand in for one that can use it, nor other weights' result."""
    good = compress(tiny_weights, side)(loaded())
    stale = {**good, "jpeg_data": good["jpeg_data"] + b"\0"}  # the same pixels and segments, another picture by its checksum
    restore = DAGNRestore(str(tiny_weights), side_information=side, cache_dir=str(tmp_path / "cache"))
    assert (restore(dict(stale))["img"][..., ::-1] == expected[1]).all()
    assert (restore(dict(good))["img"][..., ::-1] == expected[0]).all()
    path = tmp_path / "own.safetensors"
    save_adapter(path, tiny_weights, seed=7)
    changing = DAGNRestore(str(tiny_weights), side_information=path, cache_dir=str(tmp_path / "cache"))
    assert (changing(dict(good))["img"][..., ::-1] == expected[1]).all()
    path.write_bytes(Path(side).read_bytes())
    assert (changing(dict(good))["img"][..., ::-1] == expected[0]).all()


def test_the_log_names_the_file_each_time(tiny_weights, side, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr("dagn_pre.integrations.openmmlab.restore.print_log", lambda text, *rest: logged.append(text))
    results = {**compress(tiny_weights, side)(loaded()), "img_path": "street.jpg"}
    results["jpeg_data"] += b"\0"
    restore = DAGNRestore(str(tiny_weights), side_information=side, cache_dir=str(tmp_path))
    for _ in range(2):
        restore(dict(results))
    assert len(logged) == 2 and all("street.jpg: side information that is damaged" in text for text in logged)


def test_options_show_and_are_checked_when_built(tiny_weights, side):
    assert "side_information=" in repr(compress(tiny_weights, side)) and "side_information" not in repr(JPEGCompress(20))
    assert f"side_information={side!r}" in repr(DAGNRestore(str(tiny_weights), side_information=side))
    for wrong in ({"side_lambda": 1.0}, {"side_model": "dagn"}, {"side_weights": side}):
        with pytest.raises(UsageError, match="which is off"):
            JPEGCompress(20, **wrong)
    with pytest.raises(WeightsError, match="no such weights file"):
        DAGNRestore(str(tiny_weights), side_information="none.safetensors")
    with pytest.raises(UsageError, match="side information is in files"):
        DAGNDetDataPreprocessor(restorer={"model": str(tiny_weights), "side_information": side})
    with pytest.raises(UsageError, match="no side information for model"):
        JPEGCompress(20, side_information=True, side_model=str(tiny_weights))
