"""Checkpoints are read without running what they contain."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from dagn_pre.benchmarks import checkpoints
from dagn_pre.errors import ConfigError, WeightsError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def full(model: nn.Module) -> dict:
    """What mmengine's Runner saves: weights, and records of the training."""
    log = {"loss": HistoryBuffer([1.0, 2.0], [1, 1])}
    return {
        "meta": {"epoch": 3, "time": "now", "dtype": torch.float32, "size": torch.Size([2])},
        "state_dict": model.state_dict(),
        "message_hub": {"log_scalars": log, "runtime_info": {"lr": np.float64(0.1), "ids": np.arange(3)}},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_full_checkpoint_gives_its_weights(zipped, tmp_path):
    model, path = network(), tmp_path / "full.pth"
    torch.save(full(model), path, _use_new_zipfile_serialization=zipped)
    found = checkpoints.read(path)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    other = network()
    nn.init.zeros_(other[0].weight)
    checkpoints.load(other, path)
    assert torch.equal(other[0].weight, model[0].weight)


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_other_code_is_refused_and_not_run(zipped, tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"state_dict": network().state_dict(), "meta": Evil(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth is not only weights \(it would call posix\.mkdir\)"):
        checkpoints.read(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the file is what it was meant to be


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip", bytes(range(256)) * 9])
def test_damaged_files(content, tmp_path):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.pth cannot be read"):
        checkpoints.read(path)


def test_a_truncated_file(tmp_path):
    path = tmp_path / "half.pth"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"half\.pth cannot be read"):
        checkpoints.read(path)


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"epoch": 3}, [torch.zeros(1)], torch.zeros(2)])
def test_no_state_dict(content, tmp_path):
    path = tmp_path / "empty.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"empty\.pth holds no state dict"):
        checkpoints.read(path)


def test_names_are_matched(tmp_path):
    model, path = network(), tmp_path / "some.pth"
    state = model.state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    checkpoints.load(network(), path)
    torch.save({**state, "ema_0_weight": state["0.weight"]}, path)  # left aside
    checkpoints.load(network(), path)
    torch.save({name: value for name, value in state.items() if name != "1.num_batches_tracked"}, path)
    checkpoints.load(network(), path)
    torch.save({name: value for name, value in state.items() if name != "0.bias"}, path)
    with pytest.raises(WeightsError, match=r"some\.pth does not fit Sequential: 1 weights are missing, first 0\.bias"):
        checkpoints.load(network(), path)
    torch.save({**state, "0.bias": torch.zeros(5)}, path)
    with pytest.raises(WeightsError, match=r"some\.pth does not fit Sequential.*0\.bias"):
        checkpoints.load(network(), path)


def test_found_as_given_or_beside_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pth").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "there.pth").touch()
    assert checkpoints.find("here.pth") == Path("here.pth")
    assert checkpoints.find("there.pth", (tmp_path / "folder",)) == tmp_path / "folder" / "there.pth"
    with pytest.raises(ConfigError, match=r"checkpoint there\.pth does not exist: give .* --checkpoint"):
        checkpoints.find("there.pth")


@pytest.fixture
def server(tmp_path):
    """The address of an HTTP server on this machine, over tmp_path/served; its ``seen`` lists what was asked for."""
    seen = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            seen.append(self.path)

    served = tmp_path / "served"
    served.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", served, seen
        running.shutdown()
        thread.join()


def test_urls_are_fetched_once_and_checked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    address, served, seen = server
    right = f"model-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    for name in (right, "model-00000000.pth"):
        (served / name).write_bytes(b"weights")
    for _ in range(2):
        assert checkpoints.find(f"{address}/{right}").read_bytes() == b"weights"
    assert len(seen) == 1
    for name in ("model-00000000.pth", "absent.pth"):
        with pytest.raises(ConfigError, match=f"cannot fetch checkpoint {address}/{name} .*--checkpoint"):
            checkpoints.find(f"{address}/{name}")
        assert not (tmp_path / "hub" / "checkpoints" / name).exists()
