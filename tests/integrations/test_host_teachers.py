"""Models of mmdet and mmseg as teachers: what they see is what their hosts' own code sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from openmmlab_toys import FASTER_RCNN, SIZE, picture
from torch import nn

from dagn_pre.errors import ConfigError, WeightsError
from dagn_pre.integrations.openmmlab import teachers
from dagn_pre.training.teachers import build, same


@pytest.fixture(params=["faster_rcnn", "pspnet"])
def made(request, tmp_path) -> tuple[Config, nn.Module, Path]:
    """A tiny model of each host: its config, the model as the host builds it, and its checkpoint."""
    cfg = request.getfixturevalue(request.param)
    model = teachers.build(cfg)
    with torch.no_grad():
        for parameter in model.parameters():  # so that no output is all zeros
            parameter.add_(0.02 * torch.randn_like(parameter))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    return cfg, model, tmp_path / "model.pth"


def close(found: dict, name: str, maps) -> None:
    for index, expected in enumerate(maps):
        assert torch.allclose(found[f"{name}.{index}"], expected, atol=1e-4), (name, index)


def test_features_are_those_of_the_host_on_its_own_preprocessed_input(made):
    cfg, model, checkpoint = made
    teacher = teachers.model(cfg, checkpoint)
    image = picture(0)
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)  # as LoadImageFromFile gives it
    with torch.no_grad():
        data = model.data_preprocessor({"inputs": [bgr], "data_samples": [sample(cfg)]}, False)
        found = teacher(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        backbone = model.backbone(data["inputs"])
        neck = model.extract_feat(data["inputs"])
        close(found, "backbone", backbone)
        if model.with_neck:
            close(found, "neck", neck)
            for index, maps in enumerate(model.rpn_head(neck)):
                close(found, f"rpn_head.{index}", maps)
        else:
            assert torch.allclose(found["decode_head"], model.decode_head(neck), atol=1e-4)


def sample(cfg: Config):
    """What the hosts' preprocessors write the padding into."""
    if teachers.scope_of(cfg) == "mmseg":
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    return Sample(metainfo={"img_shape": SIZE})


def test_class_scores_are_found_among_the_heads_maps(made):
    cfg, _, checkpoint = made
    teacher = build("t", {"kind": f"{teachers.__name__}:model", "config": cfg, "checkpoint": checkpoint})
    detector = teachers.scope_of(cfg) == "mmdet"
    found = teacher(torch.rand(1, 3, 64, 96))
    assert same(teacher, found, found).item() == pytest.approx(1)
    changed = {name: maps + 3 * torch.randn_like(maps) for name, maps in found.items()}
    boxes = {name: changed[name] if name.startswith("rpn_head.1") else maps for name, maps in found.items()}
    assert same(teacher, changed, found).item() < 0.99 and same(teacher, boxes, found).item() == pytest.approx(1)
    assert teacher.exclusive is not detector


def test_layers_are_by_the_hosts_names_and_others_are_refused(made):
    cfg, model, checkpoint = made
    found = teachers.model(cfg, checkpoint, ["backbone.layer1", "backbone.layer2.0.conv1"])(torch.rand(1, 3, 64, 64))
    assert list(found) == ["backbone.layer1", "backbone.layer2.0.conv1"]
    told = f"{type(model).__name__}: no layer 'backbone.stage1'; it has backbone, .*backbone.layer1"
    with pytest.raises(ConfigError, match=told):
        teachers.model(cfg, checkpoint, ["backbone.stage1"])


def test_a_checkpoint_that_does_not_fit_is_refused(made, tmp_path):
    cfg, model, _ = made
    state = dict(list(model.state_dict().items())[5:])
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not fit .*missing"):
        teachers.model(cfg, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="none.pth does not exist"):
        teachers.model(cfg, tmp_path / "none.pth")


def test_heads_that_need_more_than_maps_are_let_go():
    class Demanding(nn.Module):
        def forward(self, maps, queries):
            raise AssertionError("never called")

    model = nn.Module()
    model.backbone, model.bbox_head, model.seg_head = nn.Conv2d(3, 4, 3), Demanding(), nn.Conv2d(4, 2, 1)
    features = teachers.Features(model)
    features.drop_other_heads()
    assert features.heads() == ["seg_head"]


@pytest.mark.parametrize(
    "resize",
    [
        dict(scale=(1333, 800), keep_ratio=True),
        dict(scale=(200, 100), keep_ratio=True),
        dict(scale=(120, 90), keep_ratio=False),
        dict(scale_factor=1.5, keep_ratio=True),
        dict(scale_factor=(1.5, 0.5)),
    ],
)
def test_the_scale_is_that_of_the_hosts_resize(resize):
    from mmcv.transforms import Resize

    sizes, factors = [(64, 96), (375, 500), (480, 360)], []
    for height, width in sizes:
        resized = Resize(**resize)({"img": np.zeros((height, width, 3), np.uint8)})["img"]
        factors.append(np.sqrt(resized.shape[0] * resized.shape[1] / (height * width)))
    pipeline = [dict(type="LoadImageFromFile"), dict(type="mmdet.Resize", **resize), dict(type="PackDetInputs")]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(dataset=dict(pipeline=pipeline)))))
    assert teachers.test_scale(cfg, sizes) == pytest.approx(np.exp(np.mean(np.log(factors))), rel=0.01)


def test_the_scale_of_real_configs(faster_rcnn, pspnet):
    for cfg in (faster_rcnn, pspnet):
        assert teachers.test_scale(cfg, [SIZE]) == pytest.approx(1)
    official = teachers.load(teachers.find(FASTER_RCNN))
    assert teachers.test_scale(official, [(480, 640)]) == pytest.approx(800 / 480)
    assert teachers.test_scale(Config(dict(test_pipeline=[dict(type="LoadImageFromFile")])), [SIZE]) == 1


def test_configs_that_are_not_models_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be built"):
        teachers.build(Config(dict(model=dict(type="NoDetector"), default_scope="mmdet")))
    with pytest.raises(ConfigError, match="host must be mmdet or mmseg"):
        teachers.backbone("mmpose", "x.pth", ["layer1"])


def test_backbones_come_from_the_hosts_registry(tmp_path):
    from mmdet.models import ResNet

    network = ResNet(18, base_channels=8, stem_channels=8)
    network.eval()  # the host's gives None
    torch.save(network.state_dict(), tmp_path / "w.pth")
    spec = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, mean=[0.0] * 3, std=[255.0] * 3)
    x = torch.rand(1, 3, 64, 64)
    found = teachers.backbone("mmdet", tmp_path / "w.pth", ["layer1", "layer3"], **spec)(x)
    maps = network(x)
    assert torch.allclose(found["layer1"], maps[0], atol=1e-4) and torch.allclose(found["layer3"], maps[2], atol=1e-4)
    with pytest.raises(ConfigError, match="mmdet makes no backbone"):
        teachers.backbone("mmdet", tmp_path / "w.pth", ["layer1"], type="NoNet")
