from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from thop import profile

from dagn_pre.networks.autoencoder import AutoEncoder, Discriminator, QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.networks.fold import fold_batch_norm, take_folded
from dagn_pre.networks.resnet import ResNetEncoder
from tests.support import TINY, randomised


@pytest.fixture(scope="module")
def tiny() -> DAGN:
    torch.manual_seed(0)
    return randomised(DAGN(TINY)).eval()


def test_full_network_has_the_parameters_of_table_iii():
    with torch.device("meta"):
        network = DAGN()
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    assert sum(counts.values()) == 109_945_475
    assert counts["encoder_ci"] == counts["encoder_cs"] == 23_508_032
    assert counts["guider_ci"] + counts["guider_cs"] == pytest.approx(2.821e6, abs=1e3)
    assert counts["fusion"] == pytest.approx(2.361e6, abs=1e3)


def test_full_network_costs_what_thop_counts_for_table_iii():
    with torch.device("meta"):  # shapes are enough for counting
        network, image = DAGN().eval(), torch.empty(1, 3, 512, 512)
    macs, _ = profile(network, (image,), verbose=False)
    assert macs / 1e9 == pytest.approx(951.6, rel=1e-3)


def test_training_only_parts_have_the_counted_parameters():
    with torch.device("meta"):
        heads = Discriminator(), QualityPredictor()
        decoder = AutoEncoder().decoder
    assert [round(sum(p.numel() for p in head.parameters()) / 1e6, 3) for head in heads] == [4.198, 4.401]
    layers = [m for m in decoder.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))]
    assert len(layers) == 15


@pytest.mark.parametrize("depth, channels", [(18, 16), (50, 64)])
def test_encoder_has_stride_16(depth, channels):
    assert ResNetEncoder(depth, 2)(torch.zeros(1, 3, 64, 96)).shape == (1, channels, 4, 6)


def test_encoder_refuses_unknown_depth():
    with pytest.raises(ValueError, match="depth 34"):
        ResNetEncoder(34)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 40), (7, 9), (16, 16), (17, 31), (48, 33)])
def test_any_size_comes_back(tiny, height, width):
    with torch.no_grad():
        assert tiny(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


def test_folding_batch_norm_changes_nothing(tiny):
    x = torch.rand(1, 3, 40, 56)
    folded = fold_batch_norm(copy.deepcopy(tiny))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        assert (folded(x) - tiny(x)).abs().max() < 1e-5


def test_a_network_with_batch_norm_takes_the_function_of_a_folded_one(tiny):
    x = torch.rand(1, 3, 32, 48)
    other = randomised(DAGN(TINY)).eval()
    take_folded(other, fold_batch_norm(copy.deepcopy(tiny)))
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in other.modules())
    with torch.no_grad():
        assert (other(x) - tiny(x)).abs().max() < 1e-5
    wider = DAGN(dataclasses.replace(TINY, encoder_width=TINY.encoder_width + 1))
    with pytest.raises(RuntimeError, match="size mismatch"):
        take_folded(wider, fold_batch_norm(copy.deepcopy(tiny)))


SHUFFLED = dataclasses.replace(TINY, shuffle=4, widths=(8, 16), blocks=(1, 2), guided_blocks=(1,))


HALVED = dataclasses.replace(TINY, shuffle=2, widths=(8, 8, 8), blocks=(1, 0, 1), guided_blocks=(1, 2))


@pytest.mark.parametrize("config", [TINY, SHUFFLED, HALVED, dataclasses.replace(TINY, shuffle=2)])
def test_nothing_beyond_the_receptive_radius_matters_and_its_border_does(config):
    torch.manual_seed(0)
    network = randomised(DAGN(config)).eval()
    start = 16 * (network.receptive_radius // 16 + 1)
    x = torch.rand(1, 3, start + 16, 48)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 33, 7)).shape == (1, 3, 33, 7)
        guidance = network.guide(x)
        beyond, within = x.clone(), x.clone()
        beyond[..., : start - network.receptive_radius, :] = 0
        within[..., : start - 16, :] = 0
        whole, *others = (network.restore(image, guidance)[..., start:, :] for image in (x, beyond, within))
    differences = [(other - whole).abs().max() for other in others]
    assert differences[0] < 1e-6 < 1e-5 < differences[1]


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"blocks": [1, 1, 1]}, "do not go together"),
        ({"guided_blocks": [1, 1, 1, 1]}, "do not go together"),
        ({"widths": [8], "blocks": [1], "guided_blocks": []}, "do not go together"),
        ({"shuffle": 3}, "do not divide 16"),
        ({"shuffle": 4}, "do not divide 16"),
    ],
)
def test_shapes_that_cannot_be_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        DAGNConfig.from_dict(values)


def test_baseline_is_independent_of_the_encoders():
    torch.manual_seed(1)
    full = DAGN(TINY).eval()  # guiders and fusion are neutral at the start
    baseline = DAGN(dataclasses.replace(TINY, insensitive=False, sensitive=False, fusion=False)).eval()
    assert not [name for name, _ in baseline.named_parameters() if name.startswith(("encoder", "guider", "fusion"))]
    for network in (full, baseline):
        torch.nn.init.normal_(network.tail.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    baseline.load_state_dict({k: v for k, v in full.state_dict().items() if k in baseline.state_dict()})
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(full(x), baseline(x), atol=1e-6)
        assert not torch.allclose(baseline(x), x)


@pytest.mark.parametrize("switch, part", [("insensitive", "guider_ci"), ("sensitive", "guider_cs"), ("fusion", "fusion")])
def test_each_switch_adds_a_part_that_acts_on_the_output(switch, part):
    off = dict(insensitive=False, sensitive=False, fusion=False)
    network = randomised(DAGN(dataclasses.replace(TINY, **{**off, switch: True}))).eval()
    parts = {name for name, _ in network.named_children() if name.startswith(("guider", "fusion"))}
    assert parts == {part}
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = network(x)
        for parameter in getattr(network, part).parameters():
            parameter.add_(0.5)
        assert not torch.allclose(network(x), before)


def test_gradients_reach_every_trainable_parameter():
    network = randomised(DAGN(TINY)).train()
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    # A bias before batch norm has no effect in training mode, hence no gradient worth testing; all others must move.
    dead = [name for name, p in network.named_parameters() if p.grad is None]
    assert dead == []


def test_guidance_of_the_whole_serves_a_crop(tiny):
    x = torch.rand(1, 3, 320, 320)
    radius = -(-tiny.receptive_radius // 16) * 16
    with torch.no_grad():
        guidance = tiny.guide(x)
        whole = tiny.restore(x, guidance)
        crop = tiny.restore(x[..., 32:, 32:], guidance)
    inner = slice(32 + radius, -radius)
    assert whole[..., inner, inner].numel()
    start = slice(radius, -radius)
    assert (whole[..., inner, inner] - crop[..., start, start]).abs().max() < 1e-5


def test_config_round_trip_and_unknown_option():
    import json

    config = DAGNConfig.from_dict(json.loads(json.dumps(TINY.to_dict())))
    assert config == TINY
    with pytest.raises(ValueError, match="depth_of_soup"):
        DAGNConfig.from_dict({"depth_of_soup": 1})


def test_predictor_gives_the_median_quality():
    predictor = QualityPredictor(4)
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        predictor.mlp[-1].bias[29] = 20
    assert predictor.quality(torch.zeros(1, 4)).tolist() == [30]


def test_a_given_sensitive_vector_stands_in_for_the_encoder(tiny, monkeypatch):
    x = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        own = tiny.guide(x)
        monkeypatch.setattr(tiny.encoder_cs, "forward", None)  # calling it would fail
        given = tiny.guide(x, own.sensitive_vector)
        for a, b in zip(own.sensitive, given.sensitive):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        one_for_all = tiny.restore(x, tiny.guide(x, own.sensitive_vector[:1]))
        assert torch.allclose(one_for_all[0], tiny.restore(x, own)[0], atol=1e-6)
        assert not torch.allclose(one_for_all[1], tiny.restore(x, own)[1], atol=1e-6)
