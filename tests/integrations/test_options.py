"""All adapters take the restorer's options: the same names, the same defaults, the same errors."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from openmmlab_toys import picture

from dagn_pre import Restorer, engines, restorer
from dagn_pre.cache import Cache
from dagn_pre.errors import UsageError
from dagn_pre.integrations import workers
from dagn_pre.integrations.openmmlab import DAGNRestore, preprocessors
from dagn_pre.integrations.torchvision import DAGNRestore as TorchvisionRestore
from dagn_pre.options import Options


class Host:
    """In the place of a host's preprocessor."""


class Preprocessor(preprocessors.Restoring, Host):
    pass


NAMES = [field.name for field in fields(Options)]
STEPS = {"openmmlab": DAGNRestore, "torchvision": TorchvisionRestore}
OTHERS = {  # a valid value of each option that is not its default
    "model": "arcnn", "device": "auto", "max_quality": None, "restore_lossless": "always", "strength": 0.5, "tile": 32,
    "overlap": 16, "dtype": "float32", "engine": "auto", "assume_quality": 30, "strict": True, "assume_tables": True,
    "side_information": False, "expect_side_information": True, "strict_files": True, "again": True, "cache_dir": "cache",
    "cache_size": "1 MB",
}  # fmt: skip


@pytest.fixture
def made(monkeypatch) -> list[dict]:
    """The options of each restorer that is asked for."""
    asked = []
    monkeypatch.setattr(engines, "missing", lambda engine: engine)  # "auto" is torch then: none is loaded here

    def build(device: str, options: Options) -> Restorer:
        found = restorer.restorer_on(device, options)
        asked.append(asdict(found.options))
        return found

    for module in (workers, preprocessors):
        monkeypatch.setattr(module, "restorer_on", build)
    return asked


def test_the_examples_are_of_all_options():
    defaults = {**asdict(Options()), "device": workers.DEVICE}
    assert list(OTHERS) == NAMES and all(defaults[name] != value for name, value in OTHERS.items())


@pytest.mark.parametrize("name", NAMES)
def test_each_option_reaches_the_restorer_of_each_adapter(name, made, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"model": "dagn-s", name: OTHERS[name]}
    for step in STEPS.values():
        step(**given).restorer()
        assert made.pop() == {**asdict(Options()), "device": workers.DEVICE, **given}
    assert asdict(Restorer(**{"device": "cpu", **given}).options) == {**asdict(Options()), "device": "cpu", **given}
    if name != "device":  # a preprocessor restores where the model is
        image = torch.from_numpy(picture(0)).permute(2, 0, 1)
        Preprocessor(restorer=given).restored([image], [None], False)
        assert made.pop() == {**asdict(Options()), "device": "cpu", **given}


def test_options_of_another_name_are_refused_by_the_nearest():
    builds = [*STEPS.values(), Restorer, lambda **options: Preprocessor(restorer=options)]
    for build in builds:
        with pytest.raises(UsageError, match="no option 'max_qualty'; did you mean max_quality"):
            build(max_qualty=80)


def test_each_option_is_documented():
    documented = [line.partition(":")[0].strip() for line in Options.__doc__.splitlines() if line.startswith("        ")]
    assert [name for name in documented if name in NAMES] == NAMES


def test_every_adapter_reads_what_another_one_restored(weights, tmp_path):
    """Of the same pixels, of which nothing else is known."""
    options = dict(model=weights, restore_lossless="always", cache_dir=str(Path(tmp_path) / "cache"))
    rgb = picture(0)
    expected = DAGNRestore(**options)({"img": np.ascontiguousarray(rgb[..., ::-1]), "img_path": None})["img"][..., ::-1]
    tensor = torch.from_numpy(rgb).permute(2, 0, 1).contiguous()
    found = TorchvisionRestore(**options)(tensor)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    (found,) = Preprocessor(restorer=options).restored([tensor.flip(0)], [None], False)
    assert np.array_equal(found.image.flip(0).permute(1, 2, 0).numpy(), expected)
    assert len(list(Cache(options["cache_dir"]).entries())) == 1
