"""Stage "semantic": a restorer gets closer to the original in what frozen networks see; what must stay, stays."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dagn_pre import Restorer, codec, models
from dagn_pre.errors import ConfigError, TrainingError, UsageError
from dagn_pre.networks.dagn import DAGNConfig
from dagn_pre.training import checkpoint, teachers
from dagn_pre.training.configuration import CONFIGS, check_config, read_config
from dagn_pre.training.data import load_photographs
from dagn_pre.training.export import export
from dagn_pre.training.semantic import SemanticStage
from dagn_pre.training.sequence import train_stage
from tests.training import runs, toys

TOYS = {name: {"kind": "tests.training.toys:teacher", "seed": seed} for seed, name in enumerate(("a", "b", "c"))}
HELD = ("model.network.encoder_ci", "model.network.encoder_cs", "model.quality")


def config(photos, trunk, **options):
    base = read_config(CONFIGS / "base.py")[0]
    own = {"stage": "semantic", "trunk": str(trunk), "teachers": TOYS, "data": [str(photos)], "validation": str(photos)}
    base.merge_from_dict(runs.SMALL | own | options)
    return check_config(base, "the test")


def stage(trunk, **options) -> SemanticStage:
    return SemanticStage(DAGNConfig(), str(trunk), **{"teachers": TOYS, **options}).eval()


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    waves = 128 + 60 * np.sin(np.arange(32) / 3)[:, None, None] + rng.normal(0, 9, (32, 32, 3))
    original = waves.clip(0, 255).astype(np.uint8)
    return as_tensor(codec.compress(original, 10)), as_tensor(original), torch.tensor([10])


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None] / 255


def test_the_loss_is_pixels_and_the_weighted_mean_of_the_distances(tiny_weights):
    weighted = {"a": {**TOYS["a"], "weight": 3.0}, "b": TOYS["b"]}
    made = stage(tiny_weights, teachers=weighted, lambda_pixels=0.5, power=1, by_channel=True)
    compressed, original, quality = pair()
    losses, figures = made.losses(compressed, original, quality)
    output = models.load(tiny_weights).model(compressed)
    assert torch.allclose(losses["loss_pixels"], 0.5 * F.l1_loss(output, original), atol=1e-6)
    for name, share in (("a", 0.75), ("b", 0.25)):
        teacher = teachers.build(name, TOYS[name])
        expected = share * teachers.distance(teacher(output), teacher(original), 1, True)
        assert torch.allclose(losses[f"loss_{name}"], expected, rtol=1e-4)
    assert figures["JPEG_pixels"].item() == pytest.approx(F.l1_loss(compressed, original).item())


def test_some_of_the_teachers_have_a_say_in_a_step(tiny_weights):
    made = stage(tiny_weights, per_step=2)
    seen = []
    for made.step in range(6):
        losses, _ = made.losses(*pair())
        seen.append(set(losses) - {"loss_pixels"})
        assert seen[-1] == {f"loss_{name}" for name in random.Random(made.step).sample(list(TOYS), 2)}
    assert set().union(*seen) == {"loss_a", "loss_b", "loss_c"}


def test_judges_have_no_say_but_are_measured(photos, tiny_weights, tmp_path):
    made = stage(tiny_weights, judges=["b"])
    losses, _ = made.losses(*pair())
    assert set(losses) == {"loss_pixels", "loss_a", "loss_c"}
    compressed, original, _ = pair()
    assert "distance_b" in made.measures(compressed, original, original)


@pytest.mark.parametrize(("judges", "reason"), [(["z"], "z is none of"), (list(TOYS), "all of the teachers")])
def test_judges_that_are_no_teachers_or_all_of_them_are_refused(tiny_weights, judges, reason):
    with pytest.raises(ConfigError, match=reason):
        stage(tiny_weights, judges=judges)


def test_training_brings_features_closer_and_leaves_encoders_and_quality_as_they_are(photos, tiny_weights, tmp_path):
    options = {"steps": 40, "lr": 3e-3, "save_every": 40, "ema_decay": 0.9, "teachers": {"_delete_": True, "a": TOYS["a"]}}
    path = train_stage(config(photos, tiny_weights, **options), tmp_path)
    state = checkpoint.read(path)
    before = {f"model.{name}": tensor for name, tensor in models.load(tiny_weights).model.state_dict().items()}
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, state["state_dict"][name])}
    assert changed and not any(name.startswith(HELD) for name in changed)
    assert set(before) == set(state["state_dict"])  # the teachers are no part of it
    losses = runs.curve(tmp_path, "loss")
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_validation_tells_distances_as_shares_of_the_jpegs(photos, tiny_weights, tmp_path):
    options = {"validation_images": 2, "validation_qualities": [10, 30], "validation_size": 48, "steps": 2}
    options["teachers"] = {"_delete_": True, "a": {"kind": "tests.training.toys:scoring"}}
    state = checkpoint.read(train_stage(config(photos, tiny_weights, **options), tmp_path))
    model = models.load(tiny_weights).model
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state["state_dict"].items()})
    teacher, found = toys.scoring(), {10: [], 30: []}
    with torch.no_grad():
        for image in load_photographs([photos], 16)[0][:2]:
            crop = np.ascontiguousarray(image[:48, :48])
            for quality, values in found.items():
                aim, jpeg = as_tensor(crop), as_tensor(codec.compress(crop, quality))
                restored = model(jpeg).clamp(0, 1).mul(255).round() / 255
                seen, base, target = teacher(restored), teacher(jpeg), teacher(aim)
                share = teachers.distance(seen, target) / teachers.distance(base, target)
                agree = (seen["head"].argmax(1) == target["head"].argmax(1)).float().mean()
                values.append((share.item(), agree.item()))
    for quality, values in found.items():
        share, agree = np.mean(values, axis=0)
        assert state["metrics"][f"distance_a_{quality}"] == pytest.approx(share, rel=1e-2)
        assert state["metrics"][f"same_a_{quality}"] == pytest.approx(agree, abs=0.01)
        assert f"same_JPEG_a_{quality}" in state["metrics"]
    shares = [state["metrics"][f"distance_a_{quality}"] for quality in found]
    assert stage(tiny_weights).score(state["metrics"]) == pytest.approx(1 - np.mean(shares))


def test_a_resumed_run_is_the_whole_run(photos, tiny_weights, tmp_path):
    settings = config(photos, tiny_weights, per_step=1, ema_decay=0.9)
    states = runs.whole_and_resumed(settings, tmp_path)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_is_exported_restores_and_says_what_taught_it(photos, tiny_weights, tmp_path):
    train_stage(config(photos, tiny_weights), tmp_path)
    path = export(tmp_path, tmp_path / "out.safetensors", "float32")
    card = models.load(path).card
    assert card["trunk"] == models.fingerprint(tiny_weights) and card["teachers"] == ["a", "b", "c"]
    assert card["training"]["semantic"]["teachers"]["b"] == TOYS["b"] and card["steps"] == 4
    restorer = Restorer(path, "cpu", max_quality=None)
    jpeg = codec.encode(load_photographs([photos], 16)[0][0], 10)
    assert not np.array_equal(restorer(jpeg), Restorer(tiny_weights, "cpu", max_quality=None)(jpeg))
    assert restorer.estimate_quality(codec.decode(jpeg)) == Restorer(tiny_weights, "cpu").estimate_quality(codec.decode(jpeg))


@pytest.mark.parametrize(("after", "what"), [(1, "an original"), (2, "its JPEG or what was restored")])
def test_a_nan_is_laid_at_its_teachers_door_and_the_state_kept(after, what, photos, tiny_weights, tmp_path):
    """One forward pass is the look at its gradients; a step has two."""
    poisoned = {"p": {"kind": "tests.training.toys:poisoned", "after": after + 4}}  # in the third step
    told = f"step 2: teacher p gives NaN or infinity in layer 'second' for {what}; .*step_0000002"
    with pytest.raises(TrainingError, match=told):
        train_stage(config(photos, tiny_weights, teachers={"_delete_": True, **poisoned}), tmp_path)
    assert all(tensor.isfinite().all() for tensor in checkpoint.read(tmp_path)["state_dict"].values())


def test_a_restorer_that_diverges_is_not_its_teachers_fault(tiny_weights):
    made = stage(tiny_weights)
    torch.nn.init.constant_(made.model.network.tail.bias, torch.inf)
    with pytest.raises(FloatingPointError, match="the restored image is not finite"):
        made.losses(*pair())


def test_the_hash_of_a_configuration_does_not_depend_on_where_weights_lie(photos, tiny_weights):
    def hash_of(**spec):
        specs = {"_delete_": True, "t": {"kind": "timm", **spec}}
        return checkpoint.config_hash(json.dumps(config(photos, tiny_weights, teachers=specs).to_dict()))

    assert hash_of(weights="/a/w.pth") == hash_of(weights="/b/c/w.pth") != hash_of(weights="/a/v.pth")
    assert hash_of(config="/a/m.py", checkpoint="x/c.pth") == hash_of(config="m.py", checkpoint="c.pth")
    assert hash_of(config="mmdet::a/m.py") != hash_of(config="mmdet::b/m.py")


def test_settings_that_cannot_be_are_refused(tiny_weights):
    for error, reason, options in (
        (UsageError, "needs teachers", {"teachers": {}}),
        (ConfigError, "teacher a: weight must be positive", {"teachers": {"a": {**TOYS["a"], "weight": 0}}}),
        (ConfigError, r"per_step must lie in 1\.\.3", {"per_step": 4}),
        (ConfigError, "frozen leaves nothing to learn", {"frozen": ["network", "quality"]}),
        (ConfigError, "teacher a: .*no layer 'neck'", {"teachers": {"a": {**TOYS["a"], "layers": ["neck"]}}}),
    ):
        with pytest.raises(error, match=reason):
            stage(tiny_weights, **options)
    with pytest.raises(UsageError, match="needs trunk"):
        SemanticStage(DAGNConfig(), "", TOYS)
    with pytest.raises(UsageError, match="identity is not one of our networks"):
        stage("identity")


def test_an_average_of_the_weights_shares_the_teachers(tiny_weights):
    import copy

    made = stage(tiny_weights)
    copied = copy.deepcopy(made)
    assert copied._teachers is made._teachers and copied.model is not made.model
