from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.nn import functional as F

from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.training.mean_vectors import sensitive_vectors
from dagn_pre.training.runner import BFloat16OptimWrapper
from dagn_pre.training.stages import InsensitiveStage, RestorationStage, SensitiveStage, blocking, quality_loss, settle
from tests.support import TINY, photograph
from tests.training import runs


def batch(count: int = 2):
    images = torch.rand(2, count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return images[0], images[1], torch.arange(10, 10 + count)


def test_insensitive_losses_reach_their_own_networks_alone():
    torch.manual_seed(0)
    stage = InsensitiveStage(TINY)
    losses, _ = stage.losses(*batch())
    for loss, learns, rests in (
        ("loss_auto_encoder", stage.auto_encoder, stage.discriminator),
        ("loss_discriminator", stage.discriminator, stage.auto_encoder),
    ):
        stage.zero_grad()
        losses[loss].backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learns.parameters())
        assert all(p.grad is None for p in rests.parameters())


def test_insensitive_step_equals_two_optimisers_stepped_in_turn():
    """The textbook alternation with its two backward passes, from the same state, as the reference."""
    torch.manual_seed(0)
    stage = InsensitiveStage(TINY, lambda_ci=0.5)
    reference = copy.deepcopy(stage)
    names = ("auto_encoder", "discriminator")

    def optimisers(model):
        return {name: torch.optim.SGD(getattr(model, name).parameters(), lr=0.1) for name in names}

    wrappers = {name: OptimWrapper(optimiser) for name, optimiser in optimisers(stage).items()}
    compressed, original, quality = batch(3)
    pair = [image.mul(255).byte() for image in (compressed, original)]
    stage.train()
    stage.train_step([*pair, quality], OptimWrapperDict(**wrappers))

    both = torch.cat([image.float() / 255 for image in pair])
    reference.train()
    separate = optimisers(reference)
    features, images = reference.auto_encoder(both)
    probability = reference.discriminator(features).sigmoid()
    fooling = 0.5 * (-probability[:3].log().mean() - (1 - probability[3:]).log().mean())
    ((images - both).abs().mean() + 0.5 * fooling).backward()
    separate["auto_encoder"].step()
    reference.zero_grad()
    probability = reference.discriminator(features.detach()).sigmoid()
    (-(1 - probability[:3]).log().mean() - probability[3:].log().mean()).backward()
    separate["discriminator"].step()
    for (name, expected), found in zip(reference.state_dict().items(), stage.state_dict().values()):
        assert torch.allclose(expected.float(), found.float(), atol=1e-5), name


def test_lambdas_weigh_their_losses():
    for stage_type, key, figure in ((InsensitiveStage, "lambda_ci", "fooling"), (SensitiveStage, "lambda_cs", "awareness")):
        totals = []
        for weight in (0.0, 10.0):
            torch.manual_seed(0)
            losses, figures = stage_type(TINY, **{key: weight}).losses(*batch())
            totals.append(losses["loss_auto_encoder"].item())
        assert totals[0] == pytest.approx(figures["content"].item())
        assert totals[1] == pytest.approx(totals[0] + 10 * figures[figure].item(), rel=1e-5)


def test_quality_loss_is_least_at_the_truth_and_grows_with_distance():
    losses = [quality_loss(20 * torch.eye(100)[[guess - 1]], torch.tensor([30])).item() for guess in (30, 33, 40, 90)]
    assert losses == sorted(losses) and losses[0] < losses[1] - 0.5


@pytest.mark.parametrize("name", ["insensitive", "sensitive"])
def test_auto_encoders_learn(name, photos, tmp_path):
    runs.train(name, photos, tmp_path, steps=40, lr=5e-3)
    values = runs.curve(tmp_path, "content")
    assert len(values) == 40 and np.mean(values[-10:]) < 0.8 * np.mean(values[:10])


def test_sensitive_stage_ends_with_the_mean_vectors(photos, tmp_path):
    from dagn_pre.training import checkpoint
    from dagn_pre.training.data import load_photographs
    from dagn_pre.training.mean_vectors import mean_vectors

    state = checkpoint.read(runs.train("sensitive", photos, tmp_path, steps=2))["state_dict"]
    stage = SensitiveStage(TINY)
    stage.load_state_dict(state)
    expected = mean_vectors(stage.auto_encoder.encoder, load_photographs([photos], 32)[0])
    assert torch.allclose(state["predictor.vectors"], expected, atol=1e-5) and expected.abs().sum() > 0


@pytest.mark.parametrize("shift", [0, 3])
def test_blocking_is_the_blocking_effect_of_psnr_b_wherever_the_grid_lies(shift):
    from dagn_pre import codec, metrics

    original = photograph(72, 72, 0, noise=0)
    compressed = codec.compress(original, 5)

    def loss(image: np.ndarray) -> float:
        window = image[shift : shift + 64, shift : shift + 64]
        return blocking(torch.from_numpy(window.copy()).permute(2, 0, 1)[None] / 255).item()

    assert loss(compressed) > 5 * loss(original) >= 0
    if not shift:  # against the metric: 10^(-PSNR-B / 10) = MSE + log2(8) / log2(64) times the same difference
        window = np.ascontiguousarray(compressed[:64, :64])
        other = np.full_like(window, 128)
        mse, with_effect = (10 ** (-metric(window, other) / 10) for metric in (metrics.psnr, metrics.psnr_b))
        assert 3 * loss(compressed) * 0.5 == pytest.approx(with_effect - mse, rel=0.02)


class Edges(nn.Module):
    """A stand-in for E_cs whose features do tell qualities apart: how many differences to the neighbours exceed a threshold."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.logspace(-3, -1, features)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        differences = (x - F.avg_pool2d(x, 3, 1, 1)).abs().mean(1, keepdim=True)
        return F.avg_pool2d((differences > self.thresholds).float(), 16)


@pytest.mark.parametrize("steps, falls", [(0, False), (1000, True)])
def test_settling_fits_the_predictor_to_whole_photographs(steps, falls):
    torch.manual_seed(0)
    photographs = [photograph(64, 80, seed) for seed in range(3)]
    encoder, predictor = Edges(32), QualityPredictor(32)
    vectors, truth = sensitive_vectors(encoder, photographs), torch.arange(1, 101).repeat(3)

    def error() -> float:
        return (predictor.quality(vectors.flatten(0, 1)) - truth).abs().mean().item()

    before, thresholds = error(), encoder.thresholds.clone()
    settle(predictor, encoder, photographs, 3, steps)
    assert (error() < 0.7 * before) == falls
    assert torch.allclose(predictor.vectors, vectors.mean(0)) and torch.equal(encoder.thresholds, thresholds)


def test_restoration_learns_and_leaves_the_encoders_alone(photos, tmp_path, encoders):
    from dagn_pre.training import checkpoint

    options = {"steps": 80, "lr": 3e-3, "batch": 4, "qualities": [10], "save_every": 100, "ema_decay": None, **encoders}
    state = checkpoint.read(runs.train("dagn", photos, tmp_path, **options))["state_dict"]
    for name, part in (("insensitive", "encoder_ci"), ("sensitive", "encoder_cs")):
        source = checkpoint.read(encoders[f"{name}_from"])["state_dict"]
        for key, value in source.items():
            if key.startswith("auto_encoder.encoder."):
                assert torch.equal(value, state[key.replace("auto_encoder.encoder", f"network.{part}")]), key
    assert torch.equal(state["predictor.vectors"], source["predictor.vectors"])
    assert np.mean(runs.curve(tmp_path, "loss_pixels")[-10:]) < np.mean(runs.curve(tmp_path, "JPEG_pixels")[-10:])


def test_end_to_end_trains_the_encoders_and_needs_no_stage_1(photos, tmp_path):
    from dagn_pre.training import checkpoint

    first, last = (
        checkpoint.read(runs.train("dagn", photos, tmp_path / str(steps), steps=steps, end_to_end=True, ema_decay=None))
        for steps in (1, 4)
    )
    key = "network.encoder_cs.stages.0.0.branch.0.0.weight"
    assert not torch.equal(first["state_dict"][key], last["state_dict"][key])
    assert last["state_dict"]["predictor.vectors"].abs().sum() > 0


def test_frozen_encoders_stay_in_eval_mode_and_only_they():
    stage = RestorationStage(TINY).train()
    network = stage.network
    assert network.training and not any(m.training for e in (network.encoder_ci, network.encoder_cs) for m in e.modules())
    assert RestorationStage(TINY, end_to_end=True).train().network.encoder_ci.training


@pytest.mark.parametrize("stage_type", [SensitiveStage, RestorationStage])
def test_encoders_run_in_float32_under_bfloat16(stage_type):
    torch.manual_seed(0)
    stage = stage_type(TINY).train()
    encoder, rest = (
        (stage.auto_encoder.encoder, stage.auto_encoder.decoder.layers[0])
        if stage_type is SensitiveStage
        else (stage.network.encoder_cs, stage.network.head)
    )
    seen = {}
    encoder.stages[0].register_forward_hook(lambda module, x, y: seen.update(encoder=y.dtype))
    rest.register_forward_hook(lambda module, x, y: seen.update(rest=y.dtype))
    parameters = [p for p in stage.parameters() if p.requires_grad]
    wrapper = BFloat16OptimWrapper(optimizer=torch.optim.Adam(parameters), clip_grad={"max_norm": 1.0})
    pair = [torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    outputs = stage.train_step([*pair, torch.tensor([10, 20])], OptimWrapperDict(all=wrapper))
    assert seen == {"encoder": torch.float32, "rest": torch.bfloat16}
    assert outputs["loss"].dtype == torch.float32 and all(p.grad is None for p in parameters)


def test_predictions_are_the_networks():
    torch.manual_seed(0)
    stage = RestorationStage(TINY).eval()
    torch.nn.init.normal_(stage.network.tail.weight, std=0.1)
    compressed = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        expected = stage.network(compressed).clamp(0, 1).mul(255).round().byte()[0].permute(1, 2, 0).numpy()
        found = stage(compressed, compressed, torch.tensor([10]), mode="predict")[0]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("part", ["insensitive", "sensitive", "fusion"])
def test_ablations_train_without_the_part(part, photos, tmp_path, encoders):
    path = runs.train("dagn", photos, tmp_path, steps=1, **encoders, **{f"network.{part}": False})
    config = DAGNConfig.from_dict({**TINY.to_dict(), part: False})
    keys = {key.removeprefix("network.") for key in torch.load(path, weights_only=True)["state_dict"] if "network." in key}
    assert keys == set(DAGN(config).state_dict())
