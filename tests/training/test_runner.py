from __future__ import annotations

import argparse
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import DictAction
from mmengine.registry import PARAM_SCHEDULERS

from dagn_pre import architectures, codec, metrics, models, weights
from dagn_pre.errors import ConfigError, TrainingError, UsageError, WeightsError
from dagn_pre.networks.dagn import DAGNConfig
from dagn_pre.training import checkpoint
from dagn_pre.training.configuration import load_stages, parse_options
from dagn_pre.training.data import JPEGPairs, load_photographs
from dagn_pre.training.export import export
from dagn_pre.training.runner import StageRunner, schedule
from dagn_pre.training.stages import RestorationStage
from tests.training import runs

ROOT = Path(__file__).parents[2]


def test_rate_warms_up_and_anneals():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    schedulers = [PARAM_SCHEDULERS.build(part, default_args={"optimizer": optimiser}) for part in schedule(1000, 100)]
    rates = []
    for _ in range(1000):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(1.0) and np.argmax(rates) in (99, 100)
    for step in (300, 550, 900):
        assert rates[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 100) / 900)), abs=1e-3)
    assert rates[999] < 1e-4 and len(schedule(10, 0)) == 1


def same(first: Path, second: Path, parts=("state_dict", "ema_state_dict")) -> None:
    a, b = checkpoint.read(first), checkpoint.read(second)
    for part in parts:
        assert set(a[part]) == set(b[part])
        for name, expected in a[part].items():
            # Batch norm takes this bias out: its gradient is rounding noise, which Adam scales up.
            if name.endswith(("branch.0.bias", "branch.1.running_mean")):
                continue
            assert torch.allclose(expected.float(), b[part][name].float(), atol=1e-5), (part, name)


@pytest.fixture
def noisy(monkeypatch):
    """Training that draws random numbers of its own."""
    losses = RestorationStage.losses

    def noisy_losses(self, compressed, original, quality):
        return losses(self, compressed + 0.05 * torch.randn_like(compressed), original, quality)

    monkeypatch.setattr(RestorationStage, "losses", noisy_losses)


def test_resumed_run_equals_an_uninterrupted_one(photos, tmp_path, encoders, noisy, monkeypatch):
    options = {"steps": 6, **encoders}
    whole = runs.train("dagn", photos, tmp_path / "whole", **options)
    step = RestorationStage.train_step

    def stopping(self, *arguments, **more):
        stopping.left -= 1
        if stopping.left < 0:
            raise KeyboardInterrupt
        return step(self, *arguments, **more)

    stopping.left = 5  # one step beyond the checkpoint at 4
    monkeypatch.setattr(RestorationStage, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        runs.train("dagn", photos, tmp_path / "cut", **options)
    assert checkpoint.latest(tmp_path / "cut").name == "step_0000004.pth"
    stopping.left = 2
    resumed = runs.train("dagn", photos, tmp_path / "cut", resume=True, workers=1, **options)
    same(whole, resumed)
    first, second = checkpoint.read(whole), checkpoint.read(resumed)
    assert first["param_schedulers"] == second["param_schedulers"]
    assert torch.equal(first["rng"]["cpu"], second["rng"]["cpu"])
    assert runs.curve(tmp_path / "cut", "loss") == pytest.approx(runs.curve(tmp_path / "whole", "loss"), rel=1e-4)


def test_killed_run_continues_to_the_same_end(photos, tmp_path, encoders):
    """SIGKILL between two checkpoints, wherever it hits."""
    options = {"steps": 100, "save_every": 5, "log_every": 100, **encoders}
    cut = tmp_path / "cut"
    arguments = [sys.executable, "-m", "dagn_pre.cli.main", *runs.command("dagn-s/dagn", photos, cut, **options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while len(checkpoint.checkpoints(cut)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = checkpoint.step_of(checkpoint.latest(cut))
    assert 0 < reached < 100 and checkpoint.read(cut)["step"] == reached
    resumed = runs.train("dagn", photos, cut, resume=True, **options)
    same(runs.train("dagn", photos, tmp_path / "whole", **options), resumed)


def test_a_finished_stage_is_left_as_it_is(photos, tmp_path):
    path = runs.train("sensitive", photos, tmp_path)
    before = path.read_bytes(), sorted(tmp_path.iterdir())
    assert runs.train("sensitive", photos, tmp_path, resume=True) == path
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == before


def test_another_run_is_not_overwritten(photos, tmp_path):
    runs.train("sensitive", photos, tmp_path)
    with pytest.raises(UsageError, match="--resume"):
        runs.train("sensitive", photos, tmp_path)


def test_the_last_checkpoints_are_kept_and_load_without_code(photos, tmp_path):
    runs.train("insensitive", photos, tmp_path, steps=7, save_every=2)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step_0000006.pth", "step_0000007.pth"]
    state = torch.load(tmp_path / "step_0000007.pth", weights_only=True)
    assert state["stage"] == "insensitive" and state["step"] == 7 and len(state["optimizer"]) == 2
    assert {key.split(".")[0] for key in state["state_dict"]} == {"auto_encoder", "discriminator"}


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_checkpoint(photos, tmp_path):
    path = runs.train("insensitive", photos, tmp_path, steps=2)
    state = torch.load(path, weights_only=True)
    state["state_dict"]["auto_encoder.decoder.layers.0.bias"].fill_(math.nan)
    torch.save(state, path)
    kept = path.read_bytes()
    with pytest.raises(TrainingError, match=r"step 2: the loss is nan; .*step_0000002.pth holds the last good state"):
        runs.train("insensitive", photos, tmp_path, resume=True)
    assert path.read_bytes() == kept and checkpoint.latest(tmp_path) == path


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(photos, tmp_path, monkeypatch, encoders):
    losses = RestorationStage.losses

    def broken(self, compressed, original, quality):
        values, figures = losses(self, compressed, original, quality)
        broken.step += 1
        if broken.step == 4:  # finite forward, infinite backward
            values["loss_root"] = (self.network.tail.bias[0] * 0).abs().sqrt()
        return values, figures

    broken.step = 0
    monkeypatch.setattr(RestorationStage, "losses", broken)
    with pytest.raises(TrainingError, match=r"step 3: a gradient is not finite; .*step_0000002.pth"):
        runs.train("dagn", photos, tmp_path, **encoders)
    assert all(value.isfinite().all() for value in checkpoint.read(tmp_path)["state_dict"].values())


def test_a_full_disk_names_the_file_and_keeps_the_previous_checkpoint(photos, tmp_path, monkeypatch):
    path = runs.train("insensitive", photos, tmp_path, steps=2)
    kept = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, hard))
    try:
        with pytest.raises(TrainingError, match=r"step_0000004.pth: cannot be written .*step_0000002.pth is the last good"):
            runs.train("insensitive", photos, tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == kept and checkpoint.checkpoints(tmp_path) == [path]
    assert not list(tmp_path.glob(".step*"))
    assert checkpoint.step_of(runs.train("insensitive", photos, tmp_path, resume=True)) == 4


def test_a_dead_worker_is_named_and_the_state_kept(photos, tmp_path, monkeypatch):
    get = JPEGPairs.__getitem__

    def dying(self, index):
        if index >= 40:
            os._exit(1)
        return get(self, index)

    monkeypatch.setattr(JPEGPairs, "__getitem__", dying)
    with pytest.raises(TrainingError, match=r"stopped at step \d+: a data worker died .*--resume"):
        runs.train("insensitive", photos, tmp_path, steps=40, workers=1, save_every=1)
    assert checkpoint.read(tmp_path)["step"] > 0
    monkeypatch.setattr(JPEGPairs, "__getitem__", get)
    assert checkpoint.step_of(runs.train("insensitive", photos, tmp_path, resume=True, steps=40, save_every=50)) == 40


def test_a_workers_death_while_a_checkpoint_is_written_is_told_as_such(tmp_path, monkeypatch):
    def dying(state, file):
        try:
            raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
        finally:
            raise RuntimeError("unexpected pos 129856 vs 129776")  # noqa: B012  # as torch's writer does, when it is closed

    monkeypatch.setattr(torch, "save", dying)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        checkpoint.write(tmp_path, {"step": 1}, 2)
    assert not list(tmp_path.iterdir())


def test_checkpoints_of_another_stage_or_shape_are_refused_by_their_keys(photos, tmp_path, encoders):
    other = encoders["sensitive_from"]
    with pytest.raises(WeightsError, match=r"stage sensitive, for stage insensitive, does not fit; .*discriminator"):
        runs.train("insensitive", photos, tmp_path / "a", load_from=other)
    with pytest.raises(WeightsError, match="stage sensitive, for insensitive_from, does not fit.*discriminator"):
        runs.train("dagn", photos, tmp_path / "b", **encoders | {"insensitive_from": other})
    with pytest.raises(WeightsError, match=r"does not fit.*auto_encoder.*more"):
        runs.train("dagn", photos, tmp_path / "c", **encoders, **{"network.encoder_width": 4})
    with pytest.raises(UsageError, match="insensitive_from"):
        runs.train("dagn", photos, tmp_path / "d")
    runs.train("sensitive", photos, tmp_path / "e", steps=2)
    with pytest.raises(WeightsError, match="stage sensitive, for stage insensitive"):
        runs.train("insensitive", photos, tmp_path / "e", resume=True)
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.pth")
    for name, reason in (("broken", "damaged"), ("foreign", "not a checkpoint of dagn-pre"), ("none", "no such")):
        with pytest.raises(WeightsError, match=f"{name}.pth: {reason}"):
            checkpoint.read(tmp_path / f"{name}.pth")


def test_encoders_come_from_a_trained_restorer_too(photos, tmp_path, encoders):
    first = runs.train("dagn", photos, tmp_path / "first", **encoders)
    export(first, tmp_path / "first.safetensors", "float32")
    donor = models.load(tmp_path / "first.safetensors").model
    source = dict.fromkeys(("insensitive_from", "sensitive_from"), str(tmp_path / "first.safetensors"))
    second = runs.train("dagn", photos, tmp_path / "second", **source)
    export(second, tmp_path / "second.safetensors", "float32")
    made = models.load(tmp_path / "second.safetensors")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for name in ("encoder_ci", "encoder_cs"):
            found, aim = (getattr(model.network, name)(x) for model in (made.model, donor))
            assert (found - aim).abs().max() < 1e-5 * aim.abs().max()
    assert torch.equal(made.model.quality.vectors, donor.quality.vectors)
    fingerprint = models.fingerprint(tmp_path / "first.safetensors")
    assert made.card["training"]["sensitive"] == {"from": fingerprint}
    with pytest.raises(WeightsError, match="arcnn: has no encoder of stage insensitive"):
        runs.train("dagn", photos, tmp_path / "other", **source | {"insensitive_from": "arcnn"})
    with pytest.raises(WeightsError, match="dagn-s-psnr: its encoder for insensitive_from does not fit"):
        runs.train("dagn", photos, tmp_path / "shape", **source | {"insensitive_from": "dagn-s-psnr"})


def test_validation_is_by_the_average_and_as_measured_by_hand(photos, tmp_path, encoders):
    options = {"steps": 20, "lr": 3e-3, "save_every": 50, "validate_every": 50, "ema_decay": 0.9, **encoders}
    validation = {"validation_images": 2, "validation_qualities": [10, 30], "validation_size": 48}
    path = runs.train("dagn", photos, tmp_path, **validation, **options)
    state = checkpoint.read(path)
    average = RestorationStage(runs.TINY)
    average.load_state_dict(state["state_dict"])
    network = average.eval().network
    gains = {10: [], 30: []}
    for image in load_photographs([photos], 16)[0][:2]:
        crop = np.ascontiguousarray(image[:48, :48])
        for quality in gains:
            compressed = codec.compress(crop, quality)
            with torch.no_grad():
                x = torch.from_numpy(compressed.copy()).permute(2, 0, 1)[None] / 255
                restored = network(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
            gains[quality].append(metrics.psnr(restored, crop) - metrics.psnr(compressed, crop))
    for quality, values in gains.items():
        assert state["metrics"][f"psnr_gain_{quality}"] == pytest.approx(np.mean(values), abs=1e-3)
        assert f"psnrb_gain_{quality}" in state["metrics"]
    raw = {key.removeprefix("module."): value for key, value in state["ema_state_dict"].items()}
    assert not torch.equal(raw["network.head.weight"], state["state_dict"]["network.head.weight"])


def test_amp_compile_tensorboard_and_a_patch_schedule_work_together(photos, tmp_path, encoders):
    options = {"amp": "bf16", "compile": "eager", "tensorboard": True, "patch": [(0.0, 32), (0.5, 48)], **encoders}
    path = runs.train("dagn", photos, tmp_path, **options)
    assert all(value.isfinite().all() for value in checkpoint.read(path)["state_dict"].values())
    assert not any("_orig_mod" in key for key in checkpoint.read(path)["state_dict"])
    assert list(tmp_path.glob("*/vis_data/events.out.tfevents.*"))


def test_the_log_tells_throughput_waiting_and_what_was_left_out(photos, tmp_path):
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "torn.png").write_bytes(b"x")
    runs.train("insensitive", tmp_path, tmp_path / "w")
    log = next((tmp_path / "w").glob("*/*.log")).read_text()
    assert "3 images, 1 left out" in log and "torn.png" in log
    assert "patches per second" in log and "of the time waiting for data" in log and "eta: 0:00" in log
    assert len(runs.curve(tmp_path / "w", "patches_per_core_second")) == 4
    assert all(0 <= share <= 1 for share in runs.curve(tmp_path / "w", "data_wait"))


def torchrun(processes: int, port: int, arguments: list[str]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [*launch, "-m", "dagn_pre.cli.main", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("stage", ["insensitive", "dagn"])
def test_two_processes_train_to_the_curve_of_one_with_the_doubled_batch(stage, photos, tmp_path, encoders):
    """Batch norm sees half a batch in each: the curves agree within a fraction of how far other data moves them."""
    more = encoders if stage == "dagn" else {}
    options = {"steps": 40, "lr": 3e-3, "save_every": 100, **more}
    port = 29500 + os.getpid() % 2000
    half = {**options, "batch": 4}
    torchrun(2, port, runs.command(f"dagn-s/{stage}", photos, tmp_path / "two", "--launcher", "pytorch", **half))
    runs.train(stage, photos, tmp_path / "one", **{**options, "batch": 8})
    runs.train(stage, photos, tmp_path / "other", **{**options, "batch": 8, "seed": 1})
    name = "content" if stage == "insensitive" else "loss_pixels"
    one, two, other = (np.array(runs.curve(tmp_path / run, name)) for run in ("one", "two", "other"))
    assert len(one) == len(two) == 40
    # the log holds the first process's half of the batch: compare means over windows
    windows = [values.reshape(8, 5).mean(1) for values in (one, two, other)]
    assert np.abs(windows[1] / windows[0] - 1).max() < 0.15
    assert np.abs(windows[1] - windows[0]).mean() < np.abs(windows[2] - windows[0]).mean()
    same_shapes = [checkpoint.read(tmp_path / run)["state_dict"] for run in ("one", "two")]
    weights.check_keys(*same_shapes, "two processes")


@pytest.mark.parametrize("name", ["dagn", "dagn-s"])
def test_what_is_trained_is_what_the_zoo_lists(name):
    config = load_stages(f"{name}/dagn")["dagn"]
    assert architectures.config(config.architecture, config.network.to_dict()) == models.get(name).config


def test_configs_are_read_by_name_and_checked(tmp_path):
    assert list(load_stages("dagn/joint")) == ["insensitive", "sensitive", "dagn"]
    stages = load_stages("dagn-s/joint", {"steps": 7, "stages.dagn.steps": 9, "stages.sensitive.lambda_cs": 0.1})
    assert [config.steps for config in stages.values()] == [7, 7, 9]
    assert [config.lambda_cs for config in stages.values()] == [1.0, 0.1, 1.0]
    for words in (["a=1,2", "b=(1,)", "c.d='x'", "e=None", "f=true"], ["g=[(1, 2), [a, b], c]", "h=x=y", "a=3", "i="], []):
        parser = argparse.ArgumentParser()
        parser.add_argument("--cfg-options", nargs="*", action=DictAction, default={})
        assert parse_options(words) == parser.parse_args(["--cfg-options", *words]).cfg_options
    assert parse_options(["lr=1e-4", "patch=[(0.0, 64)]", "name=x"]) == {"lr": 1e-4, "patch": [(0.0, 64)], "name": "x"}
    (tmp_path / "mine.py").write_text("stages = dict(dagn=dict(config='dagn-s/dagn', batch=3))\nlr = 0.5\n")
    mine = load_stages(tmp_path / "mine.py")["dagn"]
    assert (mine.batch, mine.lr, mine.network.residual) == (3, 0.5, True)
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse_options(["lr"])
    with pytest.raises(UsageError, match="Imbalanced brackets"):
        parse_options(["patch=[(0, 64]"])
    with pytest.raises(UsageError, match="nowhere.*dagn-s/joint"):
        load_stages("nowhere")
    with pytest.raises(ConfigError, match="unknown key.*learning_rate"):
        load_stages("dagn-s/dagn", {"learning_rate": 1})
    with pytest.raises(ConfigError, match="unknown key.*learning_rate"):
        load_stages("dagn-s/joint", {"learning_rate": 1})
    (tmp_path / "torn.py").write_text("steps = (")
    with pytest.raises(ConfigError, match="torn.py: cannot be read"):
        load_stages(tmp_path / "torn.py")
    (tmp_path / "alone.py").write_text("steps = 3")
    with pytest.raises(ConfigError, match="inherit from base.py"):
        load_stages(tmp_path / "alone.py")


def test_shipped_dagn_configs_are_the_registered_networks():
    for name in ("insensitive", "sensitive", "dagn"):
        stage = load_stages(f"dagn/{name}")[name]
        assert DAGNConfig.from_dict(stage.network.to_dict()) == models.get("dagn").config and stage.amp == "bf16"
        compact = load_stages(f"dagn-s/{name}")[name]
        assert not compact.end_to_end
        assert DAGNConfig.from_dict(compact.network.to_dict()) == models.get("dagn-s").config
    for stage in load_stages("dagn-xs/joint").values():
        assert DAGNConfig.from_dict(stage.network.to_dict()) == models.get("dagn-xs").config


def test_the_end_to_end_variant_is_stage_2_without_stage_1():
    staged, variant = (load_stages(f"dagn-s/{name}")["dagn"] for name in ("dagn", "end_to_end"))
    assert variant.end_to_end and {**variant.to_dict(), "end_to_end": False} == staged.to_dict()


def test_export_half_precision_from_a_checkpoint(photos, tmp_path, encoders):
    path = runs.train("dagn", photos, tmp_path / "w", validation_images=1, **encoders)
    state = checkpoint.read(path)
    reference = RestorationStage(runs.TINY)
    reference.load_state_dict(state["state_dict"])
    x = torch.rand(1, 3, 48, 48)
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3), ("bfloat16", 2e-2)):
        loaded = models.load(export(tmp_path / "w", tmp_path / f"{dtype}.safetensors", dtype))
        with torch.no_grad():
            assert torch.allclose(loaded.model.network(x), reference.eval().network(x), atol=tolerance)
    assert loaded.card["config_sha256"] == checkpoint.config_hash(state["config"]) and len(loaded.card["config_sha256"]) == 64
    assert loaded.card["metrics"] == state["metrics"] and set(loaded.card["training"]) == {"insensitive", "sensitive", "dagn"}
    assert torch.allclose(loaded.model.quality.vectors, state["state_dict"]["predictor.vectors"], atol=2e-2)
    converted = models.load(export(tmp_path / "float32.safetensors", tmp_path / "half.safetensors"))
    assert converted.card["metrics"] == state["metrics"]
    with pytest.raises(WeightsError, match="stage insensitive, for export, does not fit"):
        export(encoders["insensitive_from"], tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="safetensors"):
        export(path, tmp_path / "x.pth")


def test_the_hash_of_a_configuration_ignores_places(photos, tmp_path):
    import json

    def hash_of(**options):
        return checkpoint.config_hash(json.dumps(runs.config("dagn", photos, **options).to_dict()))

    assert hash_of() == hash_of(data=["elsewhere"]) != hash_of(lr=0.1)


def test_half_precision_costs_next_to_nothing_on_live1(real_data, tmp_path):
    """The shipped weights, once in float32 and once exported to float16."""
    from PIL import Image

    from dagn_pre import Restorer

    single = export(models.get("dagn-s").weights, tmp_path / "single.safetensors", "float32")
    half = export(single, tmp_path / "half.safetensors")
    restorers = [Restorer(str(path), device="cpu", max_quality=None) for path in (single, half)]
    for path in sorted((real_data / "LIVE1").glob("*.*"))[:3]:
        original = np.asarray(Image.open(path).convert("RGB"))[:256, :256]
        compressed = codec.compress(np.ascontiguousarray(original), 10)
        full, halved = (metrics.psnr(restorer(compressed), original) for restorer in restorers)
        assert abs(full - halved) <= 0.01 and full > metrics.psnr(compressed, original)


def test_the_best_weights_are_kept_and_exported(photos, tmp_path, encoders):
    options = {"steps": 6, "lr": 3e-3, "validate_every": 1, "validation_images": 1, "validation_size": 48, "patience": 9}
    path = runs.train("dagn", photos, tmp_path / "w", **options, **encoders)
    state = checkpoint.read(path)
    best, first = state["best"], state["first"]
    gains = [value for name, value in best["metrics"].items() if name.startswith("psnr_gain")]
    last = RestorationStage(runs.TINY).score(state["metrics"])
    assert best["score"] == pytest.approx(np.mean(gains)) and best["score"] >= last
    assert set(first) == set(best["metrics"]) and 0 <= best["step"] <= 6
    loaded = models.load(export(path, tmp_path / "out.safetensors", "float32"))
    assert loaded.card["steps"] == best["step"] and loaded.card["metrics"] == best["metrics"]
    reference = RestorationStage(runs.TINY)
    reference.load_state_dict(best["state_dict"])
    x = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.allclose(loaded.model.network(x), reference.eval().network(x), atol=1e-5)


def test_the_runner_refuses_what_it_cannot_do(photos, tmp_path):
    for reason, launcher, options in (
        ("amp", "none", {"amp": "fp8"}),
        ("minutes must be positive", "none", {"minutes": 0}),
        ("a run of one process alone", "pytorch", {"minutes": 5}),
        ("patience needs images", "none", {"patience": 3}),
    ):
        with pytest.raises(UsageError, match=reason):
            StageRunner(runs.config("insensitive", photos, **options), tmp_path, [], [], launcher=launcher)
