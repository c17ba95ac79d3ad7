"""Checkpoints are read without running what they contain."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from dagn_pre.errors import ConfigError, WeightsError
from dagn_pre.integrations.openmmlab import checkpoints


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


@pytest.fixture(params=["torch's list of safe names", "torch before 2.4"])
def torches(request, monkeypatch):
    """Both ways of loading: the torch that is installed, and one without ``safe_globals``."""
    if request.param == "torch before 2.4":
        monkeypatch.delattr(torch.serialization, "safe_globals")


@pytest.fixture
def torch_load(monkeypatch):
    """The keyword arguments of each call of torch.load."""
    calls, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: calls.append(options) or load(path, **options))
    return calls


def test_official_and_torchvision_files_load_with_weights_only(tmp_path, torch_load):
    model, before = network(), set(torch.serialization.get_safe_globals())
    for content in (full(model), model.state_dict()):
        torch.save(content, tmp_path / "model.pth")
        checkpoints.load(network(), tmp_path / "model.pth")
    assert [options["weights_only"] for options in torch_load] == [True, True]
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):  # what torch alone says to OpenMMLab's
        torch.save(full(model), tmp_path / "model.pth")
        torch.load(tmp_path / "model.pth", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_full_checkpoint_gives_its_weights(zipped, tmp_path, torches):
    model, path = network(), tmp_path / "full.pth"
    torch.save(full(model), path, _use_new_zipfile_serialization=zipped)
    found = checkpoints.read(path).state
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
def test_other_code_is_refused_and_not_run(zipped, tmp_path, torches):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"state_dict": network().state_dict(), "meta": Evil(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth is not only weights \(it would call posix\.mkdir\)"):
        checkpoints.read(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the file is what it was meant to be


def test_getattr_of_a_record_is_not_run(tmp_path, torches):
    """The hosts allow ``getattr`` by name, by which a file can reach any function."""

    class Reach:
        def __reduce__(self):
            return getattr, (SeenByGetattr(tmp_path / "seen"), "anything")

    torch.save({"state_dict": network().state_dict(), "meta": Reach()}, tmp_path / "reach.pth")
    with contextlib.suppress(WeightsError):  # the class of this test is no known record either
        checkpoints.read(tmp_path / "reach.pth")
    assert not (tmp_path / "seen").exists()
    torch.load(tmp_path / "reach.pth", weights_only=False)
    assert (tmp_path / "seen").exists()


class SeenByGetattr:
    """Leaves a file behind when an attribute is asked for that it does not have."""

    def __init__(self, path: Path):
        self.path = path

    def __getattr__(self, name: str):
        if name == "anything":
            self.path.touch()
            return name
        raise AttributeError(name)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip", bytes(range(256)) * 9])
def test_damaged_files(content, tmp_path, torches):
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
    with pytest.raises(WeightsError, match=r"some\.pth does not fit Sequential: .* \(missing: 0\.bias\)"):
        checkpoints.load(network(), path)


def test_the_first_keys_of_another_model_are_shown(tmp_path):
    torch.save({f"other.{i}": torch.zeros(1) for i in range(5)} | {"0.weight": torch.zeros(4, 3, 5, 5)}, tmp_path / "o.pth")
    with pytest.raises(WeightsError) as caught:
        checkpoints.load(network(), tmp_path / "o.pth", ("a", "b"))
    assert str(caught.value) == (
        f"checkpoint {tmp_path / 'o.pth'} does not fit Sequential: it is of another model (missing: 0.bias, 1.weight, 1.bias "
        "and 2 more; unexpected: other.0, other.1, other.2 and 2 more; of other shapes: 0.weight [4, 3, 5, 5] instead of "
        "[4, 3, 3, 3]); give the config it was trained with"
    )


class Heads(nn.Module):
    """A trunk, and heads as detectors have them: softmax with background, four sides of a box, nine anchors."""

    def __init__(self, classes: int):
        super().__init__()
        self.trunk = nn.Linear(2, 3)
        self.softmax, self.sides, self.anchors = (nn.Linear(3, n) for n in (classes + 1, 4 * classes, 9 * classes))


@pytest.mark.parametrize(("theirs", "ours"), [(80, 20), (20, 80), (80, 1), (1, 2), (19, 21)])
def test_another_number_of_classes_is_said_in_words(theirs, ours, tmp_path):
    torch.save(Heads(theirs).state_dict(), tmp_path / "h.pth")
    names = [f"class {i}" for i in range(ours)]
    with pytest.raises(WeightsError, match=f"the checkpoint knows {theirs} classes, the config {ours} .*softmax.weight"):
        checkpoints.load(Heads(ours), tmp_path / "h.pth", names)


@pytest.mark.parametrize("key", ["CLASSES", "dataset_meta", "DATASET_META"])
def test_classes_that_the_checkpoint_names(key, tmp_path):
    model, path = Heads(3), tmp_path / "named.pth"
    names = ("cat", "dining_table", "tv")
    meta = {"CLASSES": names} if key == "CLASSES" else {"dataset_meta": {"classes" if key.islower() else "CLASSES": names}}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    checkpoints.load(model, path)
    checkpoints.load(model, path, ["Cat", "dining table", "tv"])
    with pytest.raises(WeightsError, match=r"knows 3 classes \(cat, dining_table, tv\), the config 4 \(a, b, c, \.\.\.\)"):
        checkpoints.load(model, path, "abcd")
    with pytest.raises(WeightsError, match=r"2 of 3 are in another order \(cat is tv in the config, tv is cat in"):
        checkpoints.load(model, path, ["tv", "dining table", "cat"])
    with pytest.raises(WeightsError, match=r"1 of 3 are of other names \(tv is dog in the config\).*state_dict alone"):
        checkpoints.load(model, path, ["cat", "dining table", "dog"])


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
