"""``datasets``: the actor as the function of ``map``, on a folder of images as the library itself loads it."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from dagn_pre import Restorer
from dagn_pre.integrations.ray import RestoreActor
from tests.support import photograph

OPTIONS = {"model": "dagn-xs", "device": "cpu", "dtype": "float32"}


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> datasets.Dataset:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    paths = []
    for i in range(5):
        paths.append(str(tmp_path / f"{i}.jpg"))
        Image.fromarray(photograph(32, 48, i)).save(paths[-1], quality=95 if i == 4 else 20)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": paths, "label": list(range(5))}, features=features)


@pytest.mark.parametrize("decode", [True, False])
def test_map_restores_a_column_of_images(dataset, tmp_path, decode):
    restorer = Restorer(**OPTIONS)
    given = dataset if decode else dataset.cast_column("image", datasets.Image(decode=False))
    restored = given.map(RestoreActor(format=None if decode else "png", **OPTIONS), batched=True, batch_size=2, features=None)
    restored = restored.cast_column("image", datasets.Image())
    assert restored["dagn_state"][:] == ["restored"] * 4 + ["untouched"] and restored["label"][:] == list(range(5))
    for i, image in enumerate(restored["image"]):
        assert np.array_equal(np.asarray(image), restorer(str(Path(tmp_path, f"{i}.jpg"))))


@pytest.mark.parametrize("order", [[0, 1, None, None, 2], [None, None, 0, None]])
def test_rows_without_an_image_stay_so(dataset, order):
    """Also where a whole batch has none, the first one too."""
    images = [None if i is None else dataset[i]["image"] for i in order]
    given = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    restored = given.map(RestoreActor(**OPTIONS), batched=True, batch_size=2)
    assert restored["dagn_state"][:] == ["failed" if i is None else "restored" for i in order]
    assert [image is None for image in restored["image"]] == [i is None for i in order]


def test_the_same_map_is_not_done_twice(dataset):
    """The library knows a function by its pickle, which is that of the options, whether or not the weights are loaded."""
    actor = RestoreActor(**OPTIONS)
    first = datasets.fingerprint.Hasher.hash(actor)
    dataset.select(range(1)).map(actor, batched=True)
    assert datasets.fingerprint.Hasher.hash(actor) == first == datasets.fingerprint.Hasher.hash(RestoreActor(**OPTIONS))
    assert datasets.fingerprint.Hasher.hash(RestoreActor(**OPTIONS | {"strength": 0.5})) != first
