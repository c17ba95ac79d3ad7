"""Checkpoints of other makers: recognised by their keys, or refused by name."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import spandrel
import spandrel_extra_arches
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.FBCNN import FBCNN
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SwinIR import SwinIR
from spandrel_extra_arches.architectures.Restormer import Restormer

from dagn_pre import Restorer, codec, metrics, models
from dagn_pre.errors import UsageError, WeightsError
from tests.support import photograph, randomised

SWINIR = {"img_size": 28, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 7, "mlp_ratio": 2}
NETWORKS = {
    "DnCNN": lambda: DnCNN(in_nc=3, out_nc=3, nc=8, nb=20, act_mode="R"),
    "FBCNN": lambda: FBCNN(nc=[8, 8, 8, 512], nb=2),
    "SCUNet": lambda: SCUNet(in_nc=3, config=[1] * 7, dim=64),
    "SwinIR": lambda: SwinIR(in_chans=3, upscale=1, img_range=255.0, upsampler="", resi_connection="1conv", **SWINIR),
    "Restormer": lambda: Restormer(dim=16, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 1, 1]),
}


def saved(path, network: torch.nn.Module):
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_the_architecture_is_recognised_and_runs_as_it_is(tmp_path, name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    path = saved(tmp_path / "peer.pth", network)
    image = photograph(40, 56)
    output = Restorer(path, device="cpu", max_quality=None)(image)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():  # sizes that a network does not take are padded by spandrel
        expected = spandrel.ModelLoader().load_from_state_dict(network.state_dict())(x)
    assert np.abs(output.astype(int) - expected[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()).max() <= 1


def test_fbcnn_keeps_the_qf_it_predicts_and_takes_one(tmp_path):
    torch.manual_seed(0)
    path = saved(tmp_path / "fbcnn.pth", randomised(FBCNN(nc=[8, 8, 8, 512], nb=2)))
    image = photograph(40, 56)
    blind = Restorer(path, device="cpu", max_quality=None)
    assert blind.estimate_quality(image).source == "blind"
    low, high = (Restorer(path, device="cpu", assume_quality=quality)(image) for quality in (5, 95))
    assert (low != high).any()


def test_a_grey_network_restores_colour_by_channel(tmp_path):
    torch.manual_seed(0)
    network = DnCNN(in_nc=1, out_nc=1, nc=8, nb=20, act_mode="R").eval()
    np.savez(tmp_path / "grey.npz", **{key: value.numpy() for key, value in network.state_dict().items()})
    image = photograph(40, 56)
    output = Restorer(tmp_path / "grey.npz", device="cpu", max_quality=None)(image)
    with torch.no_grad():
        green = network(torch.from_numpy(image[..., 1])[None, None] / 255)[0, 0]
    assert np.abs(output[..., 1].astype(int) - green.clamp(0, 1).mul(255).round().numpy()).max() <= 1


def test_tiles_and_half_precision_are_ours(tmp_path):
    torch.manual_seed(0)
    path = saved(tmp_path / "dncnn.pth", DnCNN(in_nc=3, out_nc=3, nc=8, nb=20, act_mode="R"))
    image = photograph(96, 160)
    options = {"device": "cpu", "max_quality": None}
    whole = Restorer(path, tile=0, **options)(image)
    assert np.abs(Restorer(path, tile=48, **options)(image).astype(int) - whole).max() <= 1
    assert np.abs(Restorer(path, dtype="bfloat16", **options)(image).astype(int) - whole).max() <= 8


def test_a_quality_cannot_be_set_where_it_has_no_effect(tmp_path):
    path = saved(tmp_path / "dncnn.pth", NETWORKS["DnCNN"]())
    with pytest.raises(UsageError, match=r"dncnn\.pth.*no effect"):
        Restorer(path, device="cpu", assume_quality=30)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl"])
def test_a_pickle_with_code_in_it_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps({"model.0.weight": Evil()}))
    with pytest.raises(WeightsError, match=rf"evil\{suffix}: refused, since it .* may run code"):
        models.load(path)
    torch.save({"model.0.weight": Evil()}, path)
    with pytest.raises(WeightsError, match=r"refused"):
        models.load(path)
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_what_nobody_recognises_lists_what_is_known(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"odd\.safetensors: no known architecture.*DnCNN.*FBCNN.*Restormer.*SwinIR"):
        models.load(path)


def test_damaged_partial_and_resizing_checkpoints_are_named(tmp_path):
    network = NETWORKS["DnCNN"]()
    whole = saved(tmp_path / "whole.pth", network)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"cut\.pth: damaged"):
        models.load(cut)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(WeightsError, match=r"cut\.npz: damaged"):
        models.load(tmp_path / "cut.npz")
    state = network.state_dict()
    state["model.4.weight"] = torch.zeros(3, 3, 3, 3)
    torch.save(state, tmp_path / "bent.pth")
    with pytest.raises(WeightsError, match=r"bent\.pth: looks like a known architecture, but does not fit"):
        models.load(tmp_path / "bent.pth")
    state = NETWORKS["SwinIR"]().state_dict() | {"conv_first.weight": torch.zeros(())}
    torch.save(state, tmp_path / "flat.pth")
    with pytest.raises(WeightsError, match=r"flat\.pth: looks like a known architecture, but does not fit"):
        models.load(tmp_path / "flat.pth")
    np.savez(tmp_path / "words.npz", a=np.array(["b"]))
    np.save(tmp_path / "one.npy", np.zeros(1))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for damaged in ("words.npz", "one.npz"):
        with pytest.raises(WeightsError, match=rf"{damaged}: damaged"):
            models.load(tmp_path / damaged)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth: holds a list"):
        models.load(tmp_path / "list.pth")
    larger = SwinIR(in_chans=3, upscale=2, img_range=1.0, upsampler="pixelshuffledirect", **{**SWINIR, "window_size": 4})
    with pytest.raises(WeightsError, match=r"larger\.pth: SwinIR from 3 to 3 channels at scale 2"):
        models.load(saved(tmp_path / "larger.pth", larger))


def test_a_checkpoint_can_be_counted(tmp_path):
    for name in ("DnCNN", "SwinIR"):
        network = NETWORKS[name]()
        parameters, macs = models.cost(saved(tmp_path / f"{name}.pth", network), 56)
        assert parameters == sum(parameter.numel() for parameter in network.parameters()) and macs > 1e6


def test_fingerprints_follow_the_file(tmp_path):
    first, second = (saved(tmp_path / f"{name}.pth", NETWORKS["DnCNN"]()) for name in "ab")
    assert len(models.fingerprint(first)) == 64
    assert models.fingerprint(first) != models.fingerprint(second)


@pytest.mark.slow
def test_published_weights_give_their_published_figures(real_data):
    """DnCNN-3 on grey LIVE1 at QF 10; docs/results/peers.md has all 29 images and the other qualities. The first three of the
    images, as its own network gives them, and as much better than JPEG as the paper's 1.4 dB on all."""
    restorer = Restorer(real_data / "weights" / "dncnn3.npz", device="cpu", max_quality=None)
    gains = []
    for path in sorted((real_data / "LIVE1").iterdir())[:3]:
        with Image.open(path) as opened:
            luma = np.asarray(opened.convert("L"))
        original = np.repeat(luma[..., None], 3, 2)
        compressed = codec.decode(codec.encode(luma, 10))
        output = restorer(compressed)
        assert (np.ptp(output, axis=2) == 0).all()
        with torch.no_grad():
            expected = restorer.model.network(torch.from_numpy(compressed[..., 0].copy())[None, None] / 255)
        assert np.abs(output[..., 0].astype(int) - expected[0, 0].clamp(0, 1).mul(255).round().numpy()).max() <= 1
        gains.append(metrics.psnr(output, original) - metrics.psnr(compressed, original))
    assert 1.0 < np.mean(gains) < 1.8


def test_extra_architectures_are_registered_once():
    spandrel_extra_arches.install(ignore_duplicates=True)  # a second time, as another package may
