"""Teachers: what they show a network, what they take from it, and how two such views are compared."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from dagn_pre.errors import ConfigError, UsageError, WeightsError
from dagn_pre.training import teachers
from dagn_pre.training.teachers import Teacher, build, distance, same
from tests.training.toys import Small

MEAN, STD = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)


def images(seed: int = 0, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bgr", [False, True])
def test_features_are_those_of_the_network_called_by_hand(bgr):
    network = Small().eval()
    teacher = Teacher(network, ["stem", "body.0"], MEAN, STD, bgr)
    x = images()
    found = teacher(x)
    shown = x[:, [2, 1, 0]] if bgr else x
    shown = (255 * shown - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    stem = network.stem(shown)
    assert list(found) == ["stem", "body.0"]
    assert torch.allclose(found["stem"], stem, atol=1e-5) and torch.allclose(found["body.0"], network.body[0](stem), atol=1e-5)


def test_images_are_resized_and_padded_as_told():
    class Echo(nn.Module):
        def forward(self, x):
            return x + 0

    x = images(height=30, width=50)
    found = Teacher(Echo(), [""], (0, 0, 0), (255, 255, 255), scale=1.3, divisor=16)(x)[""]
    resized = F.interpolate(x, (39, 65), mode="bilinear", align_corners=False)
    assert found.shape == (2, 3, 48, 80) and torch.allclose(found[..., :39, :65], resized, atol=1e-6)
    assert torch.equal(found[..., 39:, :], found[..., 38:39, :].expand(2, 3, 9, 80))
    with pytest.raises(ConfigError, match="scale"):
        Teacher(Echo(), [""], scale=0)


def test_nested_outputs_are_maps_of_their_own():
    class Nested(nn.Module):
        def forward(self, x):
            return {"a": (x, [2 * x]), "count": torch.tensor(3), "none": None}

    found = Teacher(nn.Sequential(Nested()), ["0"], (0, 0, 0), (255, 255, 255))(images())
    assert list(found) == ["0.a.0", "0.a.1.0"] and torch.allclose(found["0.a.1.0"], 2 * found["0.a.0"])


def test_layers_that_are_not_there_are_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"Small: no layer 'neck'; it has stem, stem\.0, .*head"):
        Teacher(Small(), ["stem", "neck"])
    with pytest.raises(ConfigError, match="no layers named"):
        Teacher(Small(), [])


def test_it_stays_frozen_and_in_eval_mode():
    teacher = Teacher(Small(), ["stem"])
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    teacher.train()
    teacher(images())
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("by_channel", [False, True])
def test_distance_is_the_formula(power, by_channel):
    rng = np.random.default_rng(0)
    aim = {"a": rng.normal(0, 2, (2, 3, 4, 5)), "b": rng.normal(0, 9, (2, 6))}
    found = {name: values + rng.normal(0, 1, values.shape) for name, values in aim.items()}
    expected = []
    for name in aim:
        error, energy = np.abs(found[name] - aim[name]) ** power, np.abs(aim[name]) ** power
        if by_channel:
            axes = (0, 2, 3) if error.ndim == 4 else (0,)
            energy = energy.mean(axes)
            expected.append((error.mean(axes) / (energy + 1e-3 * energy.mean())).mean())
        else:
            expected.append(error.mean() / energy.mean())
    tensors = [{name: torch.tensor(values) for name, values in one.items()} for one in (found, aim)]
    assert distance(*tensors, power, by_channel).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert distance(tensors[1], tensors[1], power, by_channel).item() == 0


def test_gradients_of_the_distance_reach_the_image():
    teacher, x = Teacher(Small(), ["body"]), images().requires_grad_()
    distance(teacher(x), teacher(images(1))).backward()
    assert x.grad.abs().sum() > 0


def test_class_scores_agree_place_by_place_or_as_overlapping_probabilities():
    rng = np.random.default_rng(0)
    aim, found = rng.normal(0, 1, (2, 4, 5, 6)), rng.normal(0, 1, (2, 4, 5, 6))
    tensors = [{"stem": torch.zeros(1, 2, 1, 1), "head.0": torch.tensor(values)} for values in (found, aim)]
    exclusive = Teacher(Small(), ["stem"], scores=["head"])
    assert same(exclusive, *tensors).item() == pytest.approx((found.argmax(1) == aim.argmax(1)).mean())
    several = Teacher(Small(), ["stem"], scores=["head"], exclusive=False)
    p, q = (1 / (1 + np.exp(-values)) for values in (found, aim))
    assert same(several, *tensors).item() == pytest.approx(np.minimum(p, q).sum() / np.maximum(p, q).sum(), rel=1e-5)
    assert same(Teacher(Small(), ["stem"], scores=["stem.1"]), *tensors) is None


def toy(function: str, **options) -> dict:
    return {"kind": f"tests.training.toys:{function}", **options}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("custom", r"no gradients reach the image from layer '2': Rounded has no backward pass"),
        ("detached", r"no gradients reach the image from layer '2': 1 \(Detached\) gives its output without them"),
        ("demanding", r"fails on an image of 64x64 pixels \(needs 320 pixels\)"),
    ],
)
def test_networks_that_cannot_teach_are_refused_by_layer_and_operation(layer, reason):
    with pytest.raises(ConfigError, match=f"teacher t: .*{reason}"):
        build("t", toy("with_layer", layer=layer))


def test_entries_that_make_no_teacher_are_refused():
    for spec, reason in (
        ({}, "kind must be one of timm, torchvision, module, texture, or package:function, not None"),
        (toy("absent"), "cannot be imported"),
        ({"kind": "no.such.package:f"}, "cannot be imported"),
        (toy("teacher", colour=3), "does not take what it is given"),
        (toy("nothing"), "makes a NoneType, not a torch module"),
        (toy("plain"), "makes a Small, not a Teacher"),
        (toy("failing"), r"fails \(RuntimeError: out of stock\)"),
    ):
        with pytest.raises(ConfigError, match=f"teacher t: .*{reason}"):
            build("t", spec)
    assert list(build("t", toy("teacher", weight=2.0))(images())) == ["stem", "body"]
    with pytest.raises(UsageError, match="needs teachers"):
        teachers.names({})


def test_any_module_can_teach_by_its_output_or_by_named_layers():
    def module(function: str, **options) -> Teacher:
        return build("t", {"kind": "module", "function": f"tests.training.toys:{function}", **options})

    x, network = images(), Small(3).eval()
    found = module("plain", arguments={"seed": 3})(x)
    assert list(found) == [""] and torch.allclose(found[""], network(x), atol=1e-5)
    found = module("plain", arguments={"seed": 3}, layers=["stem"], mean=MEAN, std=STD, bgr=True)(x)
    assert torch.allclose(found["stem"], Teacher(network, ["stem"], MEAN, STD, True)(x)["stem"])
    assert list(module("teacher")(x)) == ["stem", "body"]
    with pytest.raises(ConfigError, match="names its layers itself"):
        module("teacher", layers=["stem"])
    with pytest.raises(ConfigError, match="no layer 'neck'; it has stem"):
        module("plain", layers=["neck"])


def test_timm_backbones_come_by_name_with_weights_from_a_file(tmp_path):
    network = timm.create_model("test_resnet", features_only=True).eval()
    torch.save({"state_dict": network.half().state_dict() | {"head.weight": torch.zeros(1)}}, tmp_path / "w.pth")
    spec = {"kind": "timm", "name": "test_resnet", "weights": str(tmp_path / "w.pth")}
    spec |= {"layers": ["layer1", "layer3"], "mean": MEAN, "std": STD}
    x = images(height=64, width=64)
    found = build("t", spec)(x)
    maps = network.float()((255 * x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    assert torch.allclose(found["layer1"], maps[1], atol=1e-4) and torch.allclose(found["layer3"], maps[3], atol=1e-4)
    with pytest.raises(ConfigError, match="timm makes no 'no_net'"):
        build("t", spec | {"name": "no_net"})
    with pytest.raises(WeightsError, match="w.pth does not fit .* differ or are missing"):
        build("t", spec | {"name": "test_efficientnet"})


def test_torchvision_models_come_by_name_with_weights_from_a_file(tmp_path):
    from torchvision.models import get_model

    network = get_model("squeezenet1_1", weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    spec = {"kind": "torchvision", "name": "squeezenet1_1", "weights": str(tmp_path / "w.pth"), "layers": ["features.4"]}
    x = images(height=64, width=64)
    shown = (255 * x - torch.tensor(teachers.IMAGENET[0]).view(3, 1, 1)) / torch.tensor(teachers.IMAGENET[1]).view(3, 1, 1)
    assert torch.allclose(build("t", spec)(x)["features.4"], network.features[:5](shown), atol=1e-4)
    with pytest.raises(ConfigError, match="torchvision makes no 'no_net'"):
        build("t", spec | {"name": "no_net"})


def test_weights_that_cannot_be_read(tmp_path):
    (tmp_path / "torn.pth").write_bytes(b"no weights")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    torch.save(Small(), tmp_path / "code.pth")
    reasons = {"none": "no such weights", "torn": "damaged", "numbers": "no state dict", "code": "damaged or not weights"}
    for name, reason in reasons.items():
        with pytest.raises(WeightsError, match=f"{name}.pth: .*{reason}"):
            teachers.read_weights(tmp_path / f"{name}.pth")


def test_records_name_files_by_their_content(tmp_path):
    (tmp_path / "a").mkdir()
    for folder in (tmp_path, tmp_path / "a"):
        (folder / "w.pth").write_bytes(b"weights")
    first, second = (teachers.describe({"weights": str(f / "w.pth"), "layers": ("x",)}) for f in (tmp_path, tmp_path / "a"))
    assert first == second == {"weights": f"w.pth {hashlib.sha256(b'weights').hexdigest()[:16]}", "layers": ["x"]}
    assert teachers.describe({"weights": "no/such/file", "seed": 3}) == {"weights": "no/such/file", "seed": 3}
