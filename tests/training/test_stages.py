from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import models
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.networks.dagn import DAGN
from dagn_pre.training.__main__ import main
from dagn_pre.training.data import JPEGPairs, load_photographs, restoration_quality, uniform_quality
from dagn_pre.training.stages import InsensitiveStage, RestorationStage, Schedule, SensitiveStage
from tests.conftest import TINY, photograph

PHOTOGRAPHS = [photograph(64, 80, seed) for seed in range(3)]


def schedule(steps: int, **options) -> Schedule:
    return Schedule(**{"steps": steps, "batch": 2, "patch": 32, "workers": 0, "warmup": 1, "save_every": 2, **options})


def quiet(line: str) -> None:
    pass


def test_a_pair_depends_on_seed_and_index_alone():
    first, second = (JPEGPairs(PHOTOGRAPHS, 32, 10, seed=s) for s in (0, 0))
    for index in (3, 0, 7):
        for a, b in zip(first[index][:2], second[index][:2]):
            assert torch.equal(a, b) and a.shape == (3, 32, 32) and a.dtype == torch.uint8
    other = JPEGPairs(PHOTOGRAPHS, 32, 10, seed=1)
    assert any(not torch.equal(first[i][0], other[i][0]) for i in range(5))


def test_pairs_are_compressed_and_the_grid_is_aligned_half_of_the_time():
    pairs = JPEGPairs(PHOTOGRAPHS, 32, 200, quality=lambda rng: 10)
    aligned = 0
    for index in range(200):
        compressed, original, quality = pairs[index]
        assert quality == 10 and not torch.equal(compressed, original)
        steps = np.abs(np.diff(compressed.numpy().astype(float).mean(0), axis=1)).mean(0)
        aligned += steps[7::8].mean() > 1.5 * np.delete(steps, np.s_[7::8]).mean()
    assert 70 < aligned < 150  # one in 64 of the others is aligned by chance, and columns alone one in 8


def test_qualities_follow_their_recipes():
    rng = np.random.default_rng(0)
    drawn = [restoration_quality(rng) for _ in range(4000)]
    assert min(drawn) >= 8 and max(drawn) <= 96
    assert np.mean([q in (10, 20, 30, 40, 50, 60) for q in drawn]) == pytest.approx(0.75 + 0.25 * 6 / 89, abs=0.03)
    assert {uniform_quality(rng) for _ in range(4000)} == set(range(3, 100))


def test_small_and_unreadable_images_are_left_out_by_name(tmp_path):
    Image.fromarray(PHOTOGRAPHS[0]).save(tmp_path / "good.png")
    Image.fromarray(PHOTOGRAPHS[0][:20, :20]).save(tmp_path / "small.png")
    (tmp_path / "bad.jpg").write_bytes(b"x")
    photographs, skipped = load_photographs([tmp_path], 32)
    assert len(photographs) == 1 and sorted(line.split("/")[-1].split(":")[0] for line in skipped) == ["bad.jpg", "small.png"]
    with pytest.raises(UsageError, match="no usable"):
        load_photographs([tmp_path], 500)


def test_rate_warms_up_and_anneals_by_steps_or_minutes():
    plan = Schedule(steps=1000, minutes=10, lr=1.0, warmup=100)
    assert plan.rate(0, 0) == pytest.approx(0.01)
    assert plan.rate(500, 0) == pytest.approx(0.5)
    assert plan.rate(100, 300) == pytest.approx(0.5)
    assert plan.rate(999, 0) < 1e-4 and plan.rate(200, 600) == pytest.approx(0)


@pytest.mark.parametrize("stage_type, falls", [(InsensitiveStage, "content"), (SensitiveStage, "content")])
def test_auto_encoders_learn(tmp_path, stage_type, falls):
    torch.manual_seed(0)
    lines: list[str] = []
    stage = stage_type(TINY)
    stage.run(PHOTOGRAPHS, schedule(40, lr=5e-3, save_every=10), tmp_path / "s.pth", lines.append)
    values = [float(line.split(f"{falls} ")[1].split(",")[0]) for line in lines]
    assert len(values) == 4 and values[-1] < 0.8 * values[0]


def test_insensitive_stage_alternates():
    torch.manual_seed(0)
    stage = InsensitiveStage(TINY)
    batch = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.tensor([10, 20])
    losses = stage.losses(*batch)
    encoder_loss, _ = next(losses)
    encoder_loss.backward()
    assert all(p.grad is not None for p in stage.modules["auto_encoder"].parameters())
    for parameter in stage.modules.parameters():
        parameter.grad = None
    discriminator_loss, _ = next(losses)
    discriminator_loss.backward()
    assert all(p.grad is None for p in stage.modules["auto_encoder"].parameters())
    assert all(p.grad is not None for p in stage.modules["discriminator"].parameters())


def test_restoration_learns_and_leaves_the_encoders_alone(tmp_path):
    torch.manual_seed(0)
    network = DAGN(TINY)
    before = {k: v.clone() for k, v in network.state_dict().items() if k.startswith("encoder_")}
    lines: list[str] = []
    stage = RestorationStage(network)
    stage.quality = lambda rng: 10
    smooth = [photograph(64, 80, seed, noise=0) for seed in range(3)]
    stage.run(smooth, schedule(80, lr=3e-3, batch=4, save_every=20), tmp_path / "s.pth", lines.append)
    after = stage.modules["network"].state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    last = lines[-1]
    assert float(last.split("L1 x1000 ")[1].split(",")[0]) < float(last.split("JPEG's ")[1].split(",")[0])


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
    def stage():
        torch.manual_seed(0)
        return RestorationStage(DAGN(TINY))

    whole, first, second = stage(), stage(), stage()
    whole.run(PHOTOGRAPHS, schedule(6), tmp_path / "whole.pth", quiet)

    def stop(line: str) -> None:
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(PHOTOGRAPHS, schedule(6), tmp_path / "cut.pth", stop)
    second.run(PHOTOGRAPHS, schedule(6), tmp_path / "cut.pth", quiet)
    for (name, expected), found in zip(whole.modules.state_dict().items(), second.modules.state_dict().values()):
        assert torch.allclose(expected.float(), found.float(), atol=1e-6), name


@pytest.mark.parametrize("limit", [{"steps": 2}, {"steps": 50, "minutes": 1e-9}])
def test_a_finished_stage_is_left_as_it_is(tmp_path, limit):
    stage = SensitiveStage(TINY)
    stage.run(PHOTOGRAPHS, schedule(**limit), tmp_path / "s.pth", quiet)
    before = {key: value.clone() for key, value in stage.modules.state_dict().items()}
    lines: list[str] = []
    stage.run(PHOTOGRAPHS, schedule(**limit), tmp_path / "s.pth", lines.append)
    assert lines == []
    assert all(torch.equal(value, stage.modules.state_dict()[key]) for key, value in before.items())


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    stage = RestorationStage(DAGN(TINY))
    checkpoint = tmp_path / "s.pth"
    stage.run(PHOTOGRAPHS, schedule(2), checkpoint, quiet)
    state = torch.load(checkpoint, weights_only=True)
    state["modules"]["network.tail.bias"].fill_(math.nan)
    torch.save(state, checkpoint)
    kept = checkpoint.read_bytes()
    with pytest.raises(DagnPreError, match="nan at step 2"):
        stage.run(PHOTOGRAPHS, schedule(4), checkpoint, quiet)
    assert checkpoint.read_bytes() == kept


def test_the_command_runs_all_stages_to_a_weights_file(tmp_path, monkeypatch):
    monkeypatch.setitem(models._registry, "tiny", models.Model("tiny", TINY, tmp_path / "none", ""))
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(PHOTOGRAPHS):
        Image.fromarray(image).save(tmp_path / "photos" / f"{index}.png")
    photos = str(tmp_path / "photos")
    two = ["2", "2", "2"]
    arguments = ["--data", photos, "--validation", photos, "--work-dir", str(tmp_path / "w"), "--model", "tiny"]
    arguments += ["--steps", *two, "--batch", *two, "--patch", "32", "32", "32", "--workers", "0", "--validate-images", "1"]
    assert main(arguments) == 0
    loaded = models.load(tmp_path / "w" / "tiny.safetensors")
    assert loaded.predictor is not None and loaded.card["images"] == 3 and "gain" in loaded.card["validation"]
    assert main(arguments) == 0  # finished stages are not run again
