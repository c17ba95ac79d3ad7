"""Adapting: what a folder gives, when a run ends, what is kept of it, and what is refused."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import Restorer, codec, models, weights
from dagn_pre.errors import ConfigError, TrainingError, UsageError
from dagn_pre.training import adapt as adapting
from dagn_pre.training import checkpoint, loops
from dagn_pre.training.adapt import Adapted, adapt, gather
from dagn_pre.training.data import quality_recipe
from dagn_pre.training.semantic import SemanticStage
from tests.support import photograph, write_photographs
from tests.training import runs

ROOT = Path(__file__).parents[2]
TOY = {"kind": "tests.training.toys:scoring"}
QUICK = {"workers": 0, "batch": 2, "patch": 48, "validation_size": 48, "ema_decay": 0.9, "lr": 3e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten small photographs."""
    return write_photographs(tmp_path_factory.mktemp("domain"), 10, noise=9)


def run(folder: Path, output: Path, trunk: Path, teacher: dict = TOY, **more) -> Adapted:
    lines: list[str] = []
    given = {"steps": 10, "minutes": 60, "amp": "none", "tell": lines.append, **more}
    given["options"] = QUICK | given.get("options", {})
    found = adapt(teacher, folder, output, model=str(trunk), **given)
    return found if "tell" in more else (found, lines)[0]


def test_agreement_rises_and_the_file_restores(folder, tiny_weights, tmp_path):
    trunk = models.load(tiny_weights).model
    torch.nn.init.uniform_(trunk.quality.vectors)  # for an assumed quality
    weights.save(tmp_path / "trunk.safetensors", trunk, dtype=torch.float32)
    tiny_weights, lines = tmp_path / "trunk.safetensors", []
    found = run(folder, tmp_path / "mine.safetensors", tiny_weights, steps=40, tell=lines.append)
    assert found.qualities == [10, 20, 40, 75] and found.steps == 40 and found.ended == "all steps are done"
    names = [f"distance_model_{qf}" for qf in found.qualities]
    before, after = (np.mean([figures[name] for name in names]) for figures in (found.before, found.after))
    assert after < before and set(found.after) == set(found.before) and "same_model_10" in found.after
    assert lines[0].startswith("10 images, 4 of them held out; patches of 48 pixels, QF 10 to 90; float32 on ")
    assert "step 40 of 40, 0.0 min left, loss " in lines[-1] and f"({1 - before:.1%} at first)" in lines[-1]
    loaded, trunk = models.load(found.output), models.load(tiny_weights)
    for name, tensor in trunk.model.state_dict().items():
        if name.startswith(("network.encoder", "quality")):
            assert torch.allclose(loaded.model.state_dict()[name], tensor, atol=1e-3), name
    restorer = Restorer(found.output, "cpu")
    jpeg = codec.encode(photograph(40, 56), 10)
    assert restorer(jpeg).shape == (40, 56, 3) and Restorer(found.output, "cpu", assume_quality=30)(jpeg).shape == (40, 56, 3)
    assert restorer.estimate_quality(codec.decode(jpeg)).source == "blind"
    made = loaded.card["training"]["semantic"]
    assert loaded.card["trunk"] == models.fingerprint(tiny_weights) and made["teachers"] == {"model": TOY}
    assert (made["images"], made["steps"], loaded.card["steps"]) == (6, 40, found.best)
    assert made["minutes"] == round(found.minutes, 2) > 0
    assert loaded.card["metrics"] == found.after and loaded.card["metrics_before"] == found.before


def test_the_best_weights_are_written_and_a_run_that_gets_no_better_ends(folder, tiny_weights, tmp_path, monkeypatch):
    """It learns the opposite here."""
    losses = SemanticStage.losses

    def opposite(self, *pair):
        found, figures = losses(self, *pair)
        return {name: -value for name, value in found.items()}, figures

    monkeypatch.setattr(SemanticStage, "losses", opposite)
    found = run(folder, tmp_path / "mine.safetensors", tiny_weights, steps=50)
    assert found.best == 0 and found.after == found.before
    assert found.steps == 20 and found.ended == "the agreement has not risen for 3 validations"
    loaded, trunk = (models.load(path).model.state_dict() for path in (found.output, tiny_weights))
    assert all(torch.allclose(loaded[name], tensor, atol=1e-3) for name, tensor in trunk.items())
    again = run(folder, tmp_path / "again.safetensors", tiny_weights, steps=50, resume=True, work_dir=tmp_path / "mine.adapt")
    assert (again.steps, again.ended) == (found.steps, found.ended)


def test_a_run_ends_in_time_at_a_rate_near_zero(folder, tiny_weights, tmp_path):
    started = time.monotonic()
    options = {"patience": 99, "log_every": 1}
    found = run(folder, tmp_path / "mine.safetensors", tiny_weights, steps=None, minutes=0.1, options=options)
    assert found.ended == "the time is over" and 0 < found.minutes < 0.3 and time.monotonic() - started < 40
    rates = runs.curve(tmp_path / "mine.adapt", "all.lr")
    assert len(rates) == found.steps > 3 and rates[-1] < 0.2 * max(rates) and max(rates) <= QUICK["lr"]


def test_a_time_that_is_over_before_the_first_step_leaves_a_file_all_the_same(folder, tiny_weights, tmp_path):
    found = run(folder, tmp_path / "mine.safetensors", tiny_weights, steps=None, minutes=1e-6)
    assert (found.steps, found.ended) == (1, "the time is over") and models.load(found.output)


def test_the_rate_follows_the_share_of_the_run():
    assert loops.rate(0) == pytest.approx(0.1) and loops.rate(loops.WARMUP) == 1 and loops.rate(1) == 0
    for share in (0.1, 0.5, 0.9):
        expected = 0.5 * (1 + math.cos(math.pi * (share - loops.WARMUP) / (1 - loops.WARMUP)))
        assert loops.rate(share) == pytest.approx(expected)


def test_a_run_that_was_stopped_continues_to_the_same_end(folder, tiny_weights, tmp_path, monkeypatch):
    whole = run(folder, tmp_path / "whole.safetensors", tiny_weights)
    step = SemanticStage.train_step

    def stopping(self, *arguments, **more):
        stopping.left -= 1
        if stopping.left < 0:
            raise KeyboardInterrupt
        return step(self, *arguments, **more)

    stopping.left = 6
    monkeypatch.setattr(SemanticStage, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut.safetensors", tiny_weights)
    reached = checkpoint.read(tmp_path / "cut.adapt")
    assert reached["step"] == 6 and "first" in reached and not (tmp_path / "cut.safetensors").exists()
    stopping.left = 4
    cut = run(folder, tmp_path / "cut.safetensors", tiny_weights, resume=True)
    assert (cut.before, cut.after, cut.best, cut.steps) == (whole.before, whole.after, whole.best, whole.steps)
    states = [checkpoint.read(tmp_path / f"{name}.adapt")["state_dict"] for name in ("whole", "cut")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_that_was_killed_continues(folder, tiny_weights, tmp_path):
    """SIGKILL, wherever it hits."""
    output = tmp_path / "mine.safetensors"
    options = [f"{key}={value}" for key, value in QUICK.items()]
    command = [sys.executable, "-m", "dagn_pre.cli.main", "adapt", "--module", "tests.training.toys:teacher", "--resume",
               "--images", str(folder), "-o", str(output), "--model", str(tiny_weights), "--minutes", "0.5",
               "--amp", "none", "--cfg-options", *options]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while not checkpoint.latest(tmp_path / "mine.adapt") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not output.exists()
    state = checkpoint.read(tmp_path / "mine.adapt")
    assert state["step"] > 0 and state["seconds"] > 0
    teacher = {"kind": "module", "function": "tests.training.toys:teacher", "arguments": {}}
    minutes = (state["seconds"] + 2) / 60
    found = run(folder, output, tiny_weights, teacher, resume=True, steps=None, minutes=minutes)
    assert found.steps > state["step"] and found.minutes > minutes - 0.03
    assert models.load(output).card["training"]["semantic"]["steps"] == found.steps


def test_images_are_split_alike_on_every_call(folder):
    first, second = gather(folder, 48, seed=3), gather(folder, 48, seed=3)
    assert len(first.held_out) == adapting.FEWEST and len(first.photographs) == 6 and first.scale == 1
    for one, other in zip(first.photographs + first.held_out, second.photographs + second.held_out):
        assert np.array_equal(one, other)
    seen = {image.tobytes() for image in first.photographs + first.held_out}
    assert len(seen) == 10 and first.notes == []


def test_labels_are_passed_over_and_damaged_images_named(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "annotations.json").write_text("{}")
    (tmp_path / "masks").mkdir()
    Image.fromarray(photograph(64, 80)[..., 0]).save(tmp_path / "masks" / "3.png")
    Image.fromarray(photograph(64, 80, 70)[..., 0]).save(tmp_path / "grey.png")  # a picture of its own
    (tmp_path / "torn.jpg").write_bytes(b"x")
    found = gather(tmp_path, 48)
    assert len(found.photographs) + len(found.held_out) == 11
    labels, damaged = found.notes
    assert labels.startswith("no labels are needed") and "annotations.json" in labels and "3.png" in labels
    assert damaged.startswith(f"left out: {tmp_path / 'torn.jpg'}: ")


def test_too_few_or_too_small_images(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="none: no such folder"):
        gather(tmp_path / "none")
    for seed in range(8):
        Image.fromarray(photograph(75, 90, seed)).save(tmp_path / f"{seed}.png")
    Image.fromarray(photograph(50, 90, 8)).save(tmp_path / "small.png")
    Image.fromarray(photograph(60, 90, 9)).save(tmp_path / "medium.png")
    found = gather(tmp_path)  # 75 - 8 pixels hold a patch of 64
    assert found.patch == 64 and len(found.photographs) + len(found.held_out) == 8
    small, medium = found.notes
    assert small == f"left out: {tmp_path / 'small.png'}: 90x50, smaller than 56 pixels"
    assert "smaller than 72 pixels" in medium and "medium.png" in medium
    for name in ("0.png", "medium.png"):
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=r"7 usable images, and 8 are the least; left out: .*small\.png"):
        gather(tmp_path)
    monkeypatch.setattr(adapting, "MEMORY", 5 * 64 * 80 * 3)
    monkeypatch.setattr(adapting, "LEAST", 4)
    assert "6 images are taken" in gather(folder, 48).notes[0]


def test_low_qualities_are_drawn_more_often():
    draw, rng = quality_recipe("10..90"), np.random.default_rng(0)
    drawn = np.array([draw(rng) for _ in range(4000)])
    assert (drawn.min(), drawn.max()) == (10, 90)
    assert (drawn < 30).mean() == pytest.approx(math.log(30 / 10) / math.log(91 / 10), abs=0.02)
    assert {quality_recipe("7..7")(rng) for _ in range(5)} == {7}
    for wrong in ("40..10", "0..50", "10..101", "10-40"):
        with pytest.raises(UsageError, match="qualit"):
            quality_recipe(wrong)


def test_what_is_there_is_not_overwritten_unasked(folder, tiny_weights, tmp_path):
    output = tmp_path / "mine.safetensors"
    run(folder, output, tiny_weights, steps=2)
    written = output.read_bytes()
    with pytest.raises(UsageError, match="mine.safetensors exists already; .*--overwrite"):
        run(folder, output, tiny_weights)
    with pytest.raises(UsageError, match="mine.adapt holds a run; continue it with --resume"):
        run(folder, tmp_path / "other.safetensors", tiny_weights, work_dir=tmp_path / "mine.adapt")
    with pytest.raises(UsageError, match="must end in .safetensors"):
        run(folder, tmp_path / "mine.pth", tiny_weights)
    assert output.read_bytes() == written
    assert run(folder, output, tiny_weights, steps=3, overwrite=True).steps == 3
    assert output.read_bytes() != written


def test_another_run_is_not_continued(folder, tiny_weights, tmp_path):
    def resumed(**more):
        more = {"steps": 2, "resume": True, "work_dir": tmp_path / "a.adapt", **more}
        return run(folder, tmp_path / "b.safetensors", tiny_weights, **more)

    run(folder, tmp_path / "a.safetensors", tiny_weights, steps=2)
    with pytest.raises(UsageError, match=r"a.adapt holds a run with qualities = '10\.\.90', not '10\.\.40'"):
        resumed(qualities=(10, 40))
    with pytest.raises(UsageError, match="a.adapt holds a run with teachers"):
        resumed(teacher=TOY | {"seed": 2})
    with pytest.raises(UsageError, match="stage1 holds a run of dagn-pre train"):
        resumed(work_dir=runs.train("sensitive", folder, tmp_path / "stage1", steps=1).parent, resume=False, overwrite=True)
    Image.fromarray(photograph(64, 80, 99)).save(folder / "new.png")
    try:
        with pytest.raises(UsageError, match="a.adapt holds a run on 6 images, not 7"):
            resumed()
    finally:
        (folder / "new.png").unlink()
    with pytest.raises(UsageError, match="a.adapt holds a run with steps = 2, not 4"):
        resumed(steps=4)
    assert resumed().steps == 2


def test_a_nan_in_the_model_keeps_the_state(folder, tiny_weights, tmp_path):
    """Its forward passes: one for the gradients, three a held-out image and QF, two a step."""
    teacher = {"kind": "tests.training.toys:poisoned", "after": 1 + 3 * 16 + 2 + 3 * 16 + 1}
    told = "step 1: teacher model gives NaN or infinity in layer 'second' .*step_0000001.pth holds"
    with pytest.raises(TrainingError, match=told):
        run(folder, tmp_path / "mine.safetensors", tiny_weights, teacher)
    assert checkpoint.read(tmp_path / "mine.adapt")["step"] == 1 and not (tmp_path / "mine.safetensors").exists()


def test_a_model_that_cannot_teach_is_refused(folder, tiny_weights, tmp_path):
    for spec, reason in (
        (TOY | {"kind": "tests.training.toys:teacher", "layers": ["neck"]}, "no layer 'neck'; it has stem"),
        ({"kind": "tests.training.toys:with_layer", "layer": "custom"}, "Rounded has no backward pass"),
    ):
        with pytest.raises(ConfigError, match=reason):
            run(folder, tmp_path / "mine.safetensors", tiny_weights, spec)
    assert not checkpoint.latest(tmp_path / "mine.adapt")


def test_bfloat16_is_left_where_the_model_cannot(folder, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "fast_bfloat16", lambda device: True)
    lines: list[str] = []
    teacher = {"kind": "tests.training.toys:single"}
    run(folder, tmp_path / "a.safetensors", tiny_weights, teacher, steps=1, amp="auto", tell=lines.append)
    assert lines[0].startswith("float32, since the model does not work in bfloat16: it fails") and "; float32 on" in lines[1]
    config = json.loads(checkpoint.read(tmp_path / "a.adapt")["config"])
    assert config["amp"] is None
    run(folder, tmp_path / "b.safetensors", tiny_weights, steps=1, amp="auto", tell=lines.append)
    assert json.loads(checkpoint.read(tmp_path / "b.adapt")["config"])["amp"] == "bf16"
    with pytest.raises(UsageError, match="amp must be auto, bf16 or none"):
        run(folder, tmp_path / "c.safetensors", tiny_weights, amp="fp8")


def test_the_scale_comes_from_the_images_sizes(folder, tiny_weights, tmp_path):
    teacher = {"kind": "module", "function": "tests.training.toys:plain"}
    asked = []

    def scale(sizes):
        asked.extend(sizes)
        return 0.5

    run(folder, tmp_path / "a.safetensors", tiny_weights, teacher, steps=1, scale=scale)
    assert asked == [(64, 80)] * 10
    config = json.loads(checkpoint.read(tmp_path / "a.adapt")["config"])
    assert config["teachers"]["model"]["scale"] == 0.5 and (config["patch"], config["batch"]) == (48, 2)


def test_patches_are_larger_where_the_model_sees_images_reduced(tmp_path):
    for seed in range(8):
        Image.fromarray(photograph(180, 210, seed)).save(tmp_path / f"{seed}.png")
    patches = {scale: gather(tmp_path, 96, scale=lambda sizes, scale=scale: scale).patch for scale in (2.0, 1.0, 0.6, 0.5)}
    assert patches == {2.0: 96, 1.0: 96, 0.6: 160, 0.5: 96}  # 192 do not fit
