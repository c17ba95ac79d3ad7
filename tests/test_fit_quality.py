"""tools/fit_quality.py: P_qf learns its pictures, and nothing else of the restorer changes."""

from __future__ import annotations

import sys

import fit_quality
import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import models
from tests.support import photograph


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data root with a photograph in each folder."""
    for seed, name in enumerate((*fit_quality.TRAINED, fit_quality.HELD_OUT)):
        folder = tmp_path / "restoration" / name
        folder.mkdir(parents=True)
        Image.fromarray(photograph(300, 320, seed=seed)).save(folder / "a.png")
    monkeypatch.setenv("DAGN_PRE_DATA", str(tmp_path))
    return tmp_path


def test_only_p_qf_changes_and_it_errs_less(data, tiny_weights, monkeypatch, capsys):
    output = data / "fitted.safetensors"
    words = [str(tiny_weights), "-o", str(output), "--count", "400", "--held-out", "200", "--steps", "200"]
    monkeypatch.setattr(sys, "argv", ["fit_quality.py", *words])
    fit_quality.main()
    before, after = models.load(tiny_weights), models.load(output)
    assert after.card == {**before.card, "quality": {"pictures": 400, "steps": 200}}
    state = {key: value.half().float() for key, value in before.model.state_dict().items()}  # as it is written
    fitted = {key for key, value in after.model.state_dict().items() if not torch.equal(value, state[key])}
    assert fitted and all(key.startswith("quality.mlp") for key in fitted)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert np.mean([float(row[2].rstrip(" |")) for row in rows]) < np.mean([float(row[1]) for row in rows])


def test_pictures_are_of_every_kind_and_one_in_five_is_lossless():
    rng = np.random.default_rng(0)
    found = [picture for picture, _ in zip(fit_quality.pictures([photograph(300, 320)], rng), range(300))]
    kinds = {kind.removesuffix(", lossless") for kind, _, _ in found}
    assert kinds == {"photograph", *fit_quality.drawing.DRAWING}
    lossless = [quality == 100 for _, _, quality in found]
    assert 0.1 < np.mean(lossless) < 0.3 and all(
        kind.endswith("lossless") == is_so for (kind, _, _), is_so in zip(found, lossless)
    )
    assert {min(pixels.shape[:2]) for _, pixels, _ in found} >= {32, 64, 128}
