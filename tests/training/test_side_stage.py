"""Stage "side": symbols become useful, rate has its say, runs resume, and what is exported codes and restores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dagn_pre import Restorer, codec, models, weights
from dagn_pre.errors import ConfigError, UsageError, WeightsError
from dagn_pre.networks.side_information import SideInformationConfig
from dagn_pre.side_information import SideInformationEncoder, adapter
from dagn_pre.training import checkpoint, peers
from dagn_pre.training.configuration import load_stages
from dagn_pre.training.export import export
from dagn_pre.training.run import train
from dagn_pre.training.sequence import train_stage
from dagn_pre.training.side_information import SideInformationStage
from tests.support import photograph
from tests.training import runs

SHAPE = {"extractor": (4, 4, 8), "context": 8, "mapping": 8}


def options(photos, trunk, **more) -> dict:
    shape = {f"network.{key}": value for key, value in SHAPE.items()}
    return {**runs.SMALL, **shape, "trunk": str(trunk), "data": [str(photos)], "validation": str(photos), **more}


@pytest.fixture(scope="module")
def backbone(photos, tmp_path_factory):
    """A tiny EDSR-baseline*, trained without side information."""
    folder = tmp_path_factory.mktemp("edsr")
    values = {**runs.SMALL, "network.width": 8, "network.blocks": 2, "data": [str(photos)], "validation": str(photos)}
    return train("edsr/plain", folder, values)


def test_training_writes_weights_that_code_and_restore(photos, tiny_weights, tmp_path):
    more = {"validation_images": 1, "validate_every": 4, "validation_size": 40, "lambda_rate": 0.5, "rate_warmup": 2}
    path = train("dagn-s/side", tmp_path, options(photos, tiny_weights, **more))
    found = adapter.load(path)
    assert (found.trunk, found.lambda_rate) == (models.fingerprint(tiny_weights), 0.5)
    card = weights.read_metadata(path).card
    assert card["steps"] == 4 and "psnr_gain_10" in card["metrics"]
    encoder = SideInformationEncoder(tiny_weights, weights=path)
    file = encoder.encode(photograph(40, 56), 20)
    assert Restorer(tiny_weights, "cpu", side_information=path)(file).shape == (40, 56, 3)


def test_a_trunk_that_learns_too_is_written_beside(photos, backbone, tmp_path):
    path = train("edsr/side", tmp_path, options(photos, backbone))
    trunk = tmp_path / "edsr-s-side-trunk.safetensors"
    assert adapter.load(path).trunk == models.fingerprint(trunk) != models.fingerprint(backbone)
    file = SideInformationEncoder(trunk, weights=path).encode(photograph(40, 56), 20)
    assert Restorer(trunk, "cpu", side_information=path)(file).shape == (40, 56, 3)
    with pytest.raises(WeightsError, match="for another restorer"):
        Restorer(backbone, "cpu", side_information=path)


def blocks(seed: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """(compressed, original): gray, and cells of 16x16 pixels that a coin made brighter or darker by 20."""
    rng = np.random.default_rng(seed)
    compressed = torch.full((count, 3, 64, 64), 0.5)
    coins = torch.from_numpy(rng.choice([-20, 20], (count, 1, 4, 4)) / 255).float()
    cells = coins.repeat_interleave(16, 2).repeat_interleave(16, 3)
    return compressed, (compressed + cells).contiguous()


def trained(trunk, lambda_rate: float, seed: int = 0, steps: int = 250) -> tuple[SideInformationStage, float, float]:
    """A stage taught on :func:`blocks`, and its distortion and bits a symbol on others."""
    torch.manual_seed(seed)
    shape = SideInformationConfig(**SHAPE, shift=True)
    stage = SideInformationStage(shape, str(trunk), True, lambda_rate=lambda_rate, rate_warmup=100)
    stage.train()
    optimiser = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], 1e-2)
    quality = torch.full((8,), 10)
    for stage.step in range(steps):
        compressed, original = blocks(stage.step)
        losses, _ = stage.losses(compressed, original, quality)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(stage.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        output, bits, _ = stage.restored(*reversed(blocks(10_000)))
    return stage, (255**2 * (output - blocks(10_000)[1]).square().mean()).item(), bits.mean().item()


def test_symbols_say_what_the_decoder_cannot_know(backbone):
    """A coin a cell: one bit is worth 400 squared levels, and at a high price no bit is bought.

    About one start in six settles where no symbol says anything; which one, the processor's roundings decide.
    """
    for seed in range(4):
        _, distortion, bits = trained(backbone, 1.0, seed)
        if bits > 0.2:
            break
    assert distortion < 100 and 0.8 < bits < 1.6
    _, distortion, bits = trained(backbone, 2000.0, seed)
    assert distortion > 300 and bits < 0.2


def test_a_fixed_trunk_stays_as_it_is(tiny_weights, photos, tmp_path):
    config = load_stages("dagn-s/side", options(photos, tiny_weights))["side"]
    state = checkpoint.read(train_stage(config, tmp_path))["state_dict"]
    before = models.load(tiny_weights).model.state_dict()
    assert all(torch.equal(state[f"trunk.{key}"], value) for key, value in before.items())


def test_a_resumed_run_is_the_whole_run(photos, tiny_weights, tmp_path):
    config = load_stages("dagn-s/side", options(photos, tiny_weights, rate_warmup=4))["side"]
    states = runs.whole_and_resumed(config, tmp_path)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_lambda_rises_over_the_second_half_of_the_warm_up(tiny_weights):
    stage = SideInformationStage(SideInformationConfig(**SHAPE), str(tiny_weights), lambda_rate=2.0, rate_warmup=100)
    found = []
    for stage.step in (0, 50, 75, 100, 500):
        found.append(stage.rate_weight())
    assert found == [0, 0, 1, 2, 2]


def test_the_loop_tells_the_stage_its_step(photos, tiny_weights, tmp_path, monkeypatch):
    """Also after resuming, and from the start again where a run loads another's weights."""
    seen, losses = [], SideInformationStage.losses
    monkeypatch.setattr(SideInformationStage, "losses", lambda self, *rest: seen.append(self.step) or losses(self, *rest))
    config = load_stages("dagn-s/side", options(photos, tiny_weights))["side"]
    done = train_stage(config, tmp_path / "first")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "step_0000002.pth").write_bytes((tmp_path / "first" / "step_0000002.pth").read_bytes())
    train_stage(config, tmp_path / "half", resume=True)
    train_stage(load_stages("dagn-s/side", options(photos, tiny_weights, load_from=str(done)))["side"], tmp_path / "second")
    assert seen == [0, 1, 2, 3, 2, 3, 0, 1, 2, 3]


def test_before_rate_counts_it_teaches_the_context_model_alone(tiny_weights):
    stage = SideInformationStage(SideInformationConfig(**SHAPE), str(tiny_weights), rate_warmup=100)
    image = photograph(32, 32)
    pair = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (codec.compress(image, 10), image)]
    rate = stage.losses(*pair, torch.tensor([10]))[0]["loss_rate"]
    rate.backward()
    assert any(p.grad is not None and p.grad.any() for p in stage.side.context.parameters())
    assert all(p.grad is None or not p.grad.any() for p in stage.side.extractor.parameters())


def test_until_rate_counts_one_symbol_for_all_is_costly(tiny_weights):
    stage = SideInformationStage(SideInformationConfig(**SHAPE), str(tiny_weights), rate_warmup=100, usage=0.5)
    image = torch.from_numpy(photograph(32, 32)).permute(2, 0, 1)[None] / 255

    def cost() -> torch.Tensor:
        return stage.losses(codec_of(image[0], 10)[None], image, torch.tensor([10]))[0]["loss_usage"]

    last = stage.side.extractor.describe[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    assert cost().item() == pytest.approx(0, abs=1e-5)  # all alike
    with torch.no_grad():
        last.bias[3] = 100
    assert cost().item() == pytest.approx(0.5 * math.log(16), rel=1e-3)
    with torch.no_grad():
        last.bias[3] = 1
    cost().backward()
    assert last.bias.grad[3] > 0 > last.bias.grad[0]  # back to equal shares
    stage.step = 51
    assert "loss_usage" not in stage.losses(image, image, torch.tensor([10]))[0]


def test_relative_distortion_is_a_share_of_each_images_own_error(tiny_weights):
    """Images of any QF then weigh the same."""
    images = [torch.from_numpy(photograph(32, 32, seed)).permute(2, 0, 1) / 255 for seed in range(2)]
    original = torch.stack(images)
    compressed = torch.stack([codec_of(images[0], 5), codec_of(images[1], 60)])
    found = []
    for relative in (True, False):
        torch.manual_seed(0)
        stage = SideInformationStage(SideInformationConfig(**SHAPE), str(tiny_weights), relative=relative)
        output, *_ = stage.restored(original, compressed)
        found.append(stage.losses(compressed, original, torch.tensor([5, 60]))[0]["loss_distortion"].item())
    errors = [255**2 * (image - original).square().mean((1, 2, 3)) for image in (output, compressed)]
    assert found[0] == pytest.approx((errors[0] / errors[1]).mean().item(), rel=1e-4)
    assert found[1] == pytest.approx(0.01 * errors[0].mean().item(), rel=1e-4)


def test_without_side_information_the_backbone_minimises_the_same_distortion(backbone):
    """Or curves would compare losses, not what the symbols say."""
    shape = SideInformationConfig(**SHAPE)
    stage = SideInformationStage(shape, str(backbone), True)
    for head in stage.side.mapping.heads:  # neutral maps: the symbols say nothing
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    original = torch.from_numpy(photograph(32, 32)).permute(2, 0, 1)[None] / 255
    compressed = codec_of(original[0], 10)[None]
    quality = torch.tensor([10])
    peer = peers.LOSSES["edsr"](models.load(backbone).model, compressed, original, quality)[1]["loss_pixels"]
    assert stage.losses(compressed, original, quality)[0]["loss_distortion"].item() == pytest.approx(peer.item(), rel=1e-4)


def codec_of(image: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return torch.from_numpy(codec.compress(pixels, quality)).permute(2, 0, 1) / 255


def test_a_trunk_that_has_changed_since_is_not_exported_for(photos, backbone, tiny_weights, tmp_path):
    """The card would name a restorer that these weights never saw."""
    trunk = tmp_path / "trunk.safetensors"
    trunk.write_bytes(backbone.read_bytes())
    values = options(photos, trunk, train_trunk=False)
    done = train_stage(load_stages("edsr/side", values)["side"], tmp_path / "run")
    export(done, tmp_path / "good.safetensors")
    model, metadata = weights.load(trunk)
    with torch.no_grad():
        model.tail.weight.add_(1)
    weights.save(trunk, model, None, metadata.card)
    with pytest.raises(WeightsError, match="no longer the file that it was trained on"):
        export(done, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()


def test_what_does_not_fit_is_named(photos, tiny_weights):
    with pytest.raises(UsageError, match="stage side needs trunk"):
        SideInformationStage(SideInformationConfig(), None)
    with pytest.raises(UsageError, match="arcnn cannot be conditioned"):
        SideInformationStage(SideInformationConfig(), "arcnn")
    with pytest.raises(UsageError, match="is blind"):
        SideInformationStage(SideInformationConfig(), str(tiny_weights), train_trunk=True)
    with pytest.raises(ConfigError, match="lambda_rate must be positive, not 0"):
        load_stages("dagn-s/side", options(photos, tiny_weights, lambda_rate=0))
    with pytest.raises(ConfigError, match="aligned = True, p_second = p_resized = 0"):
        load_stages("dagn-s/side", options(photos, tiny_weights, aligned=False))
    with pytest.raises(ConfigError, match="is not for stage side"):
        load_stages("dagn-s/side", options(photos, tiny_weights, architecture="arcnn"))
