"""tools/without_guidance.py: a network that starts where the one with the guidance stood."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import without_guidance
from PIL import Image

from dagn_pre import codec, models
from dagn_pre.training.data import channels_first, restoration_quality
from tests.support import photograph


@pytest.mark.parametrize("part", ["insensitive", "sensitive"])
def test_the_means_over_one_image_restore_it_as_before(part, tiny_weights, monkeypatch, tmp_path):
    """Of one image, the mean of the guidance is the guidance: folded into the weights, it gives the same pixels."""
    side = without_guidance.SIDE
    (tmp_path / "photos").mkdir()
    picture = photograph(side + 8, side + 8)
    Image.fromarray(picture).save(tmp_path / "photos" / "a.png")
    output = tmp_path / "trunk.safetensors"
    words = [str(tiny_weights), part, "-o", str(output), "--data", str(tmp_path / "photos")]
    monkeypatch.setattr(sys, "argv", ["without_guidance.py", *words])
    without_guidance.main()
    before, after = models.load(tiny_weights), models.load(output)
    assert not getattr(after.model.config, part) and getattr(before.model.config, part)
    assert after.card["trunk"] == f"{tiny_weights} without {part}"

    def both(image: np.ndarray) -> list[torch.Tensor]:
        x = channels_first(image)[None] / 255
        return [one.model(x) for one in (before, after)]

    corner = np.ascontiguousarray(picture[:side, :side])
    jpeg = codec.compress(corner, restoration_quality(np.random.default_rng(0)))
    first, second = both(jpeg)
    assert torch.allclose(first, second, atol=1e-5)
    first, second = both(photograph(side, side, seed=1, noise=40))
    assert not torch.allclose(first, second, atol=1e-5)  # another image has another guidance


def test_without_fusion_the_rest_stays(tiny_weights):
    model = models.load(tiny_weights).model
    made = without_guidance.without(model, "fusion", [])
    state = model.state_dict()
    assert not made.config.fusion and set(made.state_dict()) < set(state)
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
