"""JPEGCompress and DAGNRestore with cache_dir: the same pixels as without, and nothing computed twice."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from openmmlab_toys import SIZE, picture
from torch.utils.data import DataLoader, Dataset

from dagn_pre import codec, models, planning, weights
from dagn_pre.cache import Cache
from dagn_pre.errors import UsageError
from dagn_pre.inference import Inference
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress
from dagn_pre.networks.dagn import DAGN
from dagn_pre.restorer import Restorer, restorer_of


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture(autouse=True)
def forget():
    """Each test is a new process as to the weights' hashes."""
    restorer_of.cache_clear()


def toy(seed: int = 0, **more) -> dict:
    """What a loading step leaves behind for an image that came as an array."""
    return {"img": np.ascontiguousarray(picture(seed)[..., ::-1]), "img_path": None, "ori_shape": SIZE, **more}


def kinds(folder: str) -> list[str]:
    return sorted(entry.kind for entry in Cache(folder).entries())


def other_weights(path: str, folder) -> str:
    """Weights of the same network that give other pixels."""
    torch.manual_seed(1)
    changed = folder / "other.safetensors"
    weights.save(changed, DAGN(models.get(path).config).eval())
    return str(changed)


# -- JPEGCompress ------------------------------------------------------------------------------------------------------


def test_the_digest_is_noted_with_and_without_a_cache(folder):
    data = codec.encode(picture(0), 10)
    for step in (JPEGCompress(10), JPEGCompress(10, cache_dir=folder), JPEGCompress(10, cache_dir=folder)):
        results = step(toy())
        assert results["jpeg_digest"] == hashlib.sha256(data).hexdigest()
        np.testing.assert_array_equal(results["img"][..., ::-1], codec.decode(data))
        assert results["img"].flags.writeable and results["img"].flags.c_contiguous
    (entry,) = Cache(folder).entries()
    assert Cache(folder).get(entry.path.stem, "jpg") == data
    assert "jpeg_digest" not in JPEGCompress(10, prob=0)(toy())


def test_cached_bytes_are_not_encoded_again(folder, monkeypatch):
    calls, encode = [], codec.encode
    monkeypatch.setattr(codec, "encode", lambda *arguments: calls.append(arguments[1:]) or encode(*arguments))
    for _ in range(2):
        for quality, subsampling in ((10, "4:2:0"), (10, "4:4:4"), (40, "4:2:0")):
            JPEGCompress(quality, subsampling, cache_dir=folder)(toy())
    assert calls == [(10, "4:2:0"), (10, "4:4:4"), (40, "4:2:0")]
    JPEGCompress(10, cache_dir=folder)(toy(1))
    monkeypatch.setattr(codec, "encoder", lambda: "another library")
    JPEGCompress(10, cache_dir=folder)(toy())
    assert len(calls) == 5


# -- DAGNRestore -------------------------------------------------------------------------------------------------------


def test_second_time_is_read_and_equal(weights, folder):
    expected = DAGNRestore(weights)(toy(jpeg_quality=10))
    assert expected["dagn_cached"] is False
    first, second = (DAGNRestore(weights, cache_dir=folder)(toy(jpeg_quality=10)) for _ in range(2))
    assert (first["dagn_cached"], second["dagn_cached"]) == (False, True)
    for results in (first, second):
        np.testing.assert_array_equal(results["img"], expected["img"])
        assert results["dagn_restored"] is True and results["img"].flags.writeable and results["img"].flags.c_contiguous
    assert kinds(folder) == ["png"]


def refused(restorer: Restorer):
    raise AssertionError("the networks were asked for")


def test_no_network_is_loaded_when_every_image_is_there(weights, folder, monkeypatch):
    images = [toy(seed, jpeg_quality=10) for seed in range(3)]
    for image in images:
        DAGNRestore(weights, cache_dir=folder)(dict(image))

    restorer_of.cache_clear()
    monkeypatch.setattr(Restorer, "inference", property(refused))
    assert all(DAGNRestore(weights, cache_dir=folder)(dict(image))["dagn_cached"] for image in images)
    with pytest.raises(AssertionError):
        DAGNRestore(weights, cache_dir=folder)(toy(3, jpeg_quality=10))


def test_untouched_images_are_markers_and_their_quality_is_not_estimated_again(folder, monkeypatch):
    monkeypatch.setattr(Inference, "blind_quality", lambda self, guidance: [codec.Quality(95, "blind")])
    for cached in (False, True):
        results = (before := toy()).copy()
        DAGNRestore("dagn-s", cache_dir=folder, restore_lossless="always")(results)
        assert results["img"] is before["img"] and results["dagn_restored"] is False and results["dagn_cached"] is cached
        if not cached:
            monkeypatch.setattr(Restorer, "inference", property(refused))
    assert kinds(folder) == ["untouched"]


@pytest.mark.parametrize(
    "change",
    [dict(strength=0.5), dict(max_quality=30), dict(tile=32), dict(dtype="bfloat16"), dict(jpeg_quality=20), dict(pixel=1)]
    + [dict(seed=1), dict(version="0"), dict(weights=True)],
    ids=str,
)
def test_whatever_changes_pixels_changes_the_key(weights, folder, change, monkeypatch, tmp_path):
    """And the result is that of the changed step without a cache."""
    image = toy(change.pop("seed", 0), jpeg_quality=change.pop("jpeg_quality", 10))
    DAGNRestore(weights, cache_dir=folder)(toy(jpeg_quality=10))
    image["img"][5, 7, 1] ^= change.pop("pixel", 0)
    if change.pop("version", None):
        monkeypatch.setattr(planning, "__version__", "another")
    model = other_weights(weights, tmp_path) if change.pop("weights", None) else weights
    results = DAGNRestore(model, cache_dir=folder, **change)(dict(image))
    assert results["dagn_cached"] is False and len(kinds(folder)) == 2
    np.testing.assert_array_equal(results["img"], DAGNRestore(model, **change)(dict(image))["img"])


def test_the_quality_set_by_hand_changes_the_key(folder):
    for quality, cached in ((10, False), (40, False), (10, True), (None, False)):
        assert DAGNRestore("dagn-s", assume_quality=quality, cache_dir=folder)(toy(jpeg_quality=10))["dagn_cached"] is cached


def test_what_changes_no_pixels_shares_the_entry(weights, folder, tmp_path):
    """Another path of the same weights, "auto" for what it resolves to, and how errors and files are treated."""
    DAGNRestore(weights, cache_dir=folder)(toy(jpeg_quality=10))
    copy = shutil.copy(weights, tmp_path / "copy.safetensors")
    more = [dict(model=str(copy)), dict(dtype="float32"), dict(on_error="pass"), dict(cache_size="1GB")]
    more += [] if torch.cuda.is_available() else [dict(device="auto")]
    for change in more:
        assert DAGNRestore(**{"model": weights, "cache_dir": folder, **change})(toy(jpeg_quality=10))["dagn_cached"], change


def test_weights_replaced_after_the_first_look_are_not_filed_under_the_old(weights, folder, tmp_path):
    path = tmp_path / "mine.safetensors"
    shutil.copy(weights, path)
    step = DAGNRestore(str(path), cache_dir=folder)
    assert step.restorer().fingerprint == models.fingerprint(weights)
    shutil.copy(other_weights(weights, tmp_path), path)
    assert step(toy(jpeg_quality=10))["dagn_cached"] is False
    assert DAGNRestore(weights, cache_dir=folder)(toy(jpeg_quality=10))["dagn_cached"] is False
    restorer_of.cache_clear()
    assert step(toy(jpeg_quality=10))["dagn_cached"] is True


def test_both_steps_share_a_folder(weights, folder):
    for cached in (False, True):
        results = DAGNRestore(weights, cache_dir=folder)(JPEGCompress(10, cache_dir=folder)(toy()))
        assert results["dagn_cached"] is cached
    assert kinds(folder) == ["jpg", "png"]


def test_damaged_entries_are_restored_again(weights, folder, caplog):
    step = DAGNRestore(weights, cache_dir=folder)
    expected = step(toy(jpeg_quality=10))["img"]
    (entry,) = Cache(folder).entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-40])
    results = step(toy(jpeg_quality=10))
    np.testing.assert_array_equal(results["img"], expected)
    assert results["dagn_cached"] is False and "damaged" in caplog.text and step(toy(jpeg_quality=10))["dagn_cached"] is True


def test_a_full_disk_is_one_warning_and_the_pipeline_goes_on(weights, folder, monkeypatch, caplog):
    step, expected = DAGNRestore(weights, cache_dir=folder), DAGNRestore(weights)(toy(jpeg_quality=10))["img"]

    def refuse(*_):
        raise OSError(28, "No space left on device", folder)

    monkeypatch.setattr(os, "replace", refuse)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_array_equal(step(toy(jpeg_quality=10))["img"], expected)
    assert caplog.text.count("No space left") == 1 and kinds(folder) == []


@pytest.mark.parametrize("build", [lambda **more: JPEGCompress(10, **more), lambda **more: DAGNRestore(**more)])
def test_cache_options(build, tmp_path):
    with pytest.raises(UsageError, match="'10 apples'"):
        build(cache_dir=str(tmp_path), cache_size="10 apples")
    with pytest.raises(UsageError, match="-1"):
        build(cache_size=-1)  # also where no folder is given yet
    (tmp_path / "photo.png").touch()
    with pytest.raises(UsageError, match="holds other things"):
        build(cache_dir=str(tmp_path))
    step = build(cache_dir=str(tmp_path / "new"), cache_size="1 MB")
    pickled = pickle.loads(pickle.dumps(step))
    assert len(pickle.dumps(step)) < 3000 and (getattr(pickled, "cache", None) or pickled.restorer().cache).size == 10**6
    again = eval(repr(step))
    kept = [getattr(one, "options", vars(one)) for one in (step, again)]
    assert kept[0]["cache_dir"] == kept[1]["cache_dir"] == str(tmp_path / "new") and kept[1]["cache_size"] == "1 MB"
    assert "cache_dir" not in repr(build())


# -- DataLoader workers ------------------------------------------------------------------------------------------------


class Epoch(Dataset):
    """Four images through both steps; gives whether each came from the cache, and the sum of its pixels."""

    def __init__(self, weights: str, folder: str) -> None:
        self.steps = [JPEGCompress(10, cache_dir=folder), DAGNRestore(weights, cache_dir=folder)]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[bool, int]:
        results = toy(index)
        for step in self.steps:
            results = step(results)
        return results["dagn_cached"], int(results["img"].astype(np.int64).sum())


def test_later_epochs_of_workers_are_all_hits(weights, folder):
    epochs = []
    for method in ("fork", "fork", "spawn"):
        loader = DataLoader(Epoch(weights, folder), num_workers=2, batch_size=None, multiprocessing_context=method)
        epochs.append(list(loader))
    assert [[cached for cached, _ in epoch] for epoch in epochs] == [[False] * 4, [True] * 4, [True] * 4]
    assert len({tuple(pixels for _, pixels in epoch) for epoch in epochs}) == 1
    assert Cache(folder).verify() == (8, [], [])
