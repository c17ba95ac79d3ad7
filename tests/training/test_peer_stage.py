"""Stage "peer": each of the other networks learns, resumes, exports and restores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dagn_pre import Restorer, architectures, codec, models, weights
from dagn_pre.cli.main import main
from dagn_pre.errors import ConfigError
from dagn_pre.training.configuration import load_stages, shipped
from dagn_pre.training.data import JPEGPairs
from dagn_pre.training.peers import LOSSES, PeerStage
from dagn_pre.training.run import train
from tests.support import photograph
from tests.training import runs

NETWORKS = {
    "arcnn": {"kernels": (3, 3, 1, 3), "widths": (8, 8, 8)},
    "dmcnn": {"widths": (8, 8, 8), "dilations": (2,)},
    "qgac-s": {"features": 8, "planes": 2, "frequency_features": 2, "chroma_features": 8, "manifold": 4},
    "fbcnn-s": {"widths": (8, 8, 8, 16), "blocks": 2},
}


def options(name: str, photos, **more) -> dict:
    shape = {f"network.{key}": value for key, value in NETWORKS[name].items()}
    return {**runs.SMALL, **shape, "data": [str(photos)], "validation": str(photos), **more}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_peer_trains_and_its_weights_restore(photos, tmp_path, name):
    path = train(f"peers/{name}", tmp_path, options(name, photos, validation_images=1, validate_every=4, validation_size=48))
    assert path.name == f"{name}.safetensors"
    metadata = weights.read_metadata(path)
    assert metadata.config.architecture == name.split("-")[0]
    assert metadata.card["steps"] == 4 and "psnr_gain_10" in metadata.card["metrics"]
    image = codec.encode(photograph(40, 56), 20)
    assert Restorer(path, device="cpu")(image).shape == (40, 56, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_peer_learns(photos, tmp_path, name):
    torch.manual_seed(0)
    stage = PeerStage(architectures.config(name.split("-")[0], NETWORKS[name])).train()
    original = torch.from_numpy(np.stack([photograph(32, 32, seed) for seed in range(4)])).permute(0, 3, 1, 2) / 255
    quality = torch.tensor([10, 10, 10, 10])
    pairs = [codec.compress((one.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), 10) for one in original]
    compressed = torch.from_numpy(np.stack(pairs)).permute(0, 3, 1, 2) / 255
    optimiser = torch.optim.Adam(stage.parameters(), 3e-3)
    first = last = None
    for _ in range(40):
        losses, _ = stage.losses(compressed, original, quality)
        total = sum(losses.values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        first, last = first or losses["loss_pixels"].item(), losses["loss_pixels"].item()
    assert last < 0.97 * first
    assert all(parameter.grad is not None for parameter in stage.parameters())  # every part has a say in the loss


def test_a_resumed_run_is_the_whole_run(photos, tmp_path):
    whole = options("arcnn", photos)
    one = load_stages("peers/arcnn", whole)["peer"]
    states = runs.whole_and_resumed(one, tmp_path)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_registered_shapes_are_what_the_configs_train():
    peers = [name for name in shipped() if name.startswith("peers/")]
    assert peers == ["peers/arcnn", "peers/dmcnn", "peers/fbcnn-s", "peers/qgac-s"]
    for name in peers:
        config = load_stages(name)["peer"]
        network = models.network(config.name)
        assert config.architecture in LOSSES
        assert network.config == architectures.config(config.architecture, config.network.to_dict())
        assert config.aligned == (config.architecture in ("dmcnn", "qgac"))


def test_aligned_pairs_keep_the_files_grid():
    images = [photograph(96, 96, seed) for seed in range(2)]
    pairs = JPEGPairs(images, 32, 20, lambda rng: 5, aligned=True)
    for compressed, _, quality in (pairs[index] for index in range(20)):
        again = codec.compress(compressed.permute(1, 2, 0).numpy().copy(), quality, "4:4:4")
        assert np.abs(again.astype(int) - compressed.permute(1, 2, 0).numpy()).mean() < 6  # the same grid: little changes


@pytest.mark.parametrize("architecture, reason", [("dagn", "is not for stage peer"), ("x", "one of dagn, arcnn")])
def test_an_architecture_that_does_not_fit_the_stage_is_named(photos, architecture, reason):
    with pytest.raises(ConfigError, match=reason):
        load_stages("peers/arcnn", options("arcnn", photos, architecture=architecture))


@pytest.mark.parametrize("values", [{"aligned": False}, {"p_444": 0.5}, {"p_resized": 0.1}])
def test_networks_on_blocks_want_aligned_pairs(photos, values):
    with pytest.raises(ConfigError, match="qgac works on the file's 4:2:0 blocks"):
        load_stages("peers/qgac-s", options("qgac-s", photos, **values))


def test_a_shape_that_the_architecture_does_not_have_is_named(photos, tmp_path, capsys):
    pairs = [f"{key}={value}" for key, value in options("arcnn", photos, **{"network.depth": 3}).items()]
    assert main(["train", "peers/arcnn", "--work-dir", str(tmp_path), "--cfg-options", *pairs]) == 1
    assert "unknown arcnn option(s): depth" in capsys.readouterr().err
