from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dagn_pre import models, weights
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN
from dagn_pre.networks.fold import fold_batch_norm
from tests.support import TINY, randomised


def test_names_and_unknown_name():
    assert models.names()[:5] == ["dagn-s", "dagn-s-psnr", "dagn-xs", "dagn-xs-psnr", "dagn"]
    with pytest.raises(UsageError, match="unknown model 'x'; known: dagn-s, dagn-s-psnr, dagn-xs, dagn-xs-psnr, dagn, arcnn"):
        models.get("x")


def test_a_failed_registration_changes_nothing():
    before = models.names()
    with pytest.raises(UsageError, match="registered already"):
        models.register(models.Model("dagn", TINY, weights.SHIPPED / "x", ""))
    assert models.names() == before and models.get("dagn").config != TINY


@pytest.mark.parametrize("name", [*models.FOR.values(), "dagn-s", "dagn-xs-psnr"])
def test_shipped_weights_are_small_and_carry_a_card(name):
    model = models.get(name)
    assert model.weights.stat().st_size < 10e6
    metadata = weights.read_metadata(model.weights)
    assert metadata.config == model.config
    assert metadata.card["name"] == ("dagn-s" if name == "dagn-s-psnr" else name)
    assert model.weights.with_suffix(".md").is_file()
    vectors = models.load(name).model.quality.vectors
    assert vectors.any(dim=1).all()  # a quality can be set by hand at each of the 100 QFs


def test_save_and_load_give_the_same_function(tmp_path):
    network = randomised(DAGN(TINY)).eval()
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = network(x)
        weights.save(tmp_path / "w.safetensors", network, QualityPredictor(network.encoder_cs.out_channels))
        loaded = models.load(tmp_path / "w.safetensors")
        assert (loaded.model.network(x) - expected).abs().max() < 2e-3  # float16 weights
    assert loaded.model.quality is not None and not loaded.model.training


def test_parameters_and_cost_of_the_full_network():
    parameters, macs = models.cost(models.get("dagn").config)
    folded = fold_batch_norm(DAGN(TINY))
    assert models.cost(TINY)[0] == sum(p.numel() for p in folded.parameters())
    assert parameters / 1e6 == pytest.approx(109.9, abs=0.1)
    assert macs / 1e9 == pytest.approx(930.7, abs=0.1)


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.pkl"])
def test_pickles_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(WeightsError, match=f"{name}: refused"):
        models.load(tmp_path / name)


def test_missing_damaged_and_foreign_files_are_named(tmp_path, tiny_weights):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such"):
        models.load(tmp_path / "gone.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_weights.read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"cut\.safetensors: damaged"):
        models.load(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(WeightsError, match=r"foreign\.safetensors: no known architecture.*DnCNN.*SwinIR"):
        models.load(foreign)
    old = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, old, {"format": "dagn-pre-weights-1"})
    with pytest.raises(WeightsError, match=r"old\.safetensors: is of format dagn-pre-weights-1.*export it again"):
        models.load(old)


def test_weights_that_do_not_fit_name_the_first_keys(tmp_path, tiny_weights):
    tensors = load_file(tiny_weights)
    tensors["network.tail.weight"] = torch.zeros(1)
    del tensors["network.head.bias"]
    wrong = tmp_path / "wrong.safetensors"
    metadata = {
        "format": weights.FORMAT,
        "architecture": "dagn",
        "config": json.dumps(TINY.to_dict()),
        "card": "{}",
    }
    save_file(tensors, wrong, metadata)
    with pytest.raises(WeightsError, match=r"network\.head\.bias, network\.tail\.weight"):
        models.load(wrong)


@pytest.mark.parametrize("config", ['{"depth_of_soup": 1}', '{"widths": [1, 2]}', "[1]", "no JSON"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, config):
    path = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": weights.FORMAT, "config": config, "card": "{}"})
    with pytest.raises(WeightsError, match=r"odd\.safetensors: its configuration"):
        models.load(path)


def test_fingerprint_tells_files_apart(tmp_path, tiny_weights):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(tiny_weights.read_bytes())
    assert models.fingerprint(copy) == models.fingerprint(tiny_weights) != models.fingerprint("dagn-s")
