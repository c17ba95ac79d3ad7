"""The texture teacher: it learns to tell textures apart, and its file is a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.training import teachers, texture


def woven(tilt: float, size: int = 128) -> np.ndarray:
    """Gray with waves of 5 pixels at an angle: (size, size, 3) uint8."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / 5)
    return np.rint(128 + 20 * np.sin(np.cos(tilt) * x + np.sin(tilt) * y))[..., None].repeat(3, 2).astype(np.uint8)


def test_it_tells_textures_of_one_colour_apart(monkeypatch):
    monkeypatch.setattr(texture, "BATCH", 16)
    _, told = texture.train([woven(0.0), woven(np.pi / 2)], steps=30)
    assert told > 0.9


def test_crops_teach_from_the_left_and_measure_on_the_right():
    image = woven(0.0)
    image[:, 90:] = 0  # the mean is taken off, so nothing is left of it
    crops = texture.Crops([image, image])
    assert all(crops.held_out(8)[0][:, :, :, 40:].flatten(1).std(1) < crops.taught(8)[0].flatten(1).std(1))


def test_a_written_file_is_a_teacher(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(texture, "BATCH", 4)
    for index in range(2):
        Image.fromarray(woven(index)).save(tmp_path / f"{index}.png")
    file = tmp_path / "texture.safetensors"
    assert main(["train-data", "texture", str(tmp_path), "-o", str(file), "--steps", "2"]) == 0
    assert "2 photographs, 0 left out" in capsys.readouterr().out
    found = teachers.build("texture", dict(kind="texture", weights=str(file)))(torch.rand(1, 3, 64, 64))
    assert {name: features.shape[1:] for name, features in found.items()} == {
        "stem": (24, 32, 32), "stages.0": (24, 32, 32), "stages.1": (48, 16, 16), "stages.2": (96, 8, 8)
    }  # fmt: skip


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UsageError, match="two photographs or more, not 1"):
        texture.train([woven(0.0)], 1)
    with pytest.raises(WeightsError, match="missing.safetensors: cannot be read"):
        texture.teacher(tmp_path / "missing.safetensors")
