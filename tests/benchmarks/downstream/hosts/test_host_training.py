"""Training of host models: what it leaves out, how it goes on, and the hooks that make it cheap."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from dagn_pre.benchmarks.downstream.hosts import configs, train
from dagn_pre.benchmarks.downstream.hosts.hooks import BFloat16Modules, FixedDepthwise
from dagn_pre.errors import ConfigError
from tests.benchmarks.downstream.host_toys import masks

SEGMENTER = """
_base_ = ['mmseg::pspnet/pspnet_r50-d8_4xb4-40k_voc12aug-512x512.py']
data_root = '{root}/'
checkpoint = 'toy.pth'
norm_cfg = dict(type='BN', requires_grad=True)
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    _delete_=True, type='BaseSegDataset', data_root=data_root, pipeline=pipeline, img_suffix='.jpg', seg_map_suffix='.png',
    metainfo=dict(classes=tuple(map(str, range(19)))), data_prefix=dict(img_path='images', seg_map_path='masks'))
model = dict(
    data_preprocessor=dict(size=(64, 96)), pretrained=None,
    backbone=dict(depth=18, base_channels=4, stem_channels=4, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=32, channels=4, num_classes=19, norm_cfg=norm_cfg), auxiliary_head=None)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
val_dataloader, val_cfg, val_evaluator = None, None, None
test_evaluator = dict(iou_metrics=['mIoU'])
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={steps})
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=1))
"""


@pytest.fixture(autouse=True)
def fresh():
    """No scope of an earlier test's host."""
    DefaultScope._instance_dict.clear()


def segmenter(root: Path, steps: int = 2) -> str:
    """The path of a config that trains on three pictures."""
    (root / "toy.py").write_text(SEGMENTER.format(root=root, steps=steps))
    return str(root / "toy.py")


def test_images_that_are_not_there_are_left_out(tmp_path, capsys):
    root = masks(tmp_path / "data", ("images/{}.jpg", "masks/{}.png"))
    whole = configs.load(segmenter(root))
    train.leave_out_missing(whole)
    assert "indices" not in whole.train_dataloader.dataset and not capsys.readouterr().err
    (root / "masks" / "1.png").unlink()
    some = configs.load(segmenter(root))
    train.leave_out_missing(some)
    assert some.train_dataloader.dataset.indices == [0, 2]
    assert "trained without some: 1 of 3 images (or their masks) are missing" in capsys.readouterr().err
    for mask in (root / "masks").iterdir():
        mask.unlink()
    with pytest.raises(ConfigError, match="holds no images to train toy on"):
        train.leave_out_missing(configs.load(segmenter(root)))


def test_a_training_that_was_cut_off_goes_on(tmp_path):
    root = masks(tmp_path / "data", ("images/{}.jpg", "masks/{}.png"))
    out = tmp_path / "out"
    first = train.train(segmenter(root, 1), out, resume=True)  # nothing to go on from: it begins
    assert (first.name, torch.load(first, weights_only=True)["meta"]["dataset_meta"]["classes"][:2]) == ("toy.pth", ["0", "1"])
    folder = out / "toy"
    train.train(segmenter(root, 3), out, resume=True)
    logs = sorted(folder.glob("*/*.log"), key=lambda file: file.stat().st_mtime)
    assert "resumed epoch: 0, iter: 1" in logs[-1].read_text()
    assert (folder / "last_checkpoint").read_text().endswith("iter_3.pth")


def test_fixed_depthwise_filters_leave_all_other_gradients_as_they_are():
    torch.manual_seed(0)
    plain, fixed = (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
            nn.Conv2d(8, 2, 1),
        )
        for _ in range(2)
    )
    fixed.load_state_dict(plain.state_dict())
    FixedDepthwise().before_train(SimpleNamespace(model=fixed))
    image = torch.randn(2, 3, 16, 20)
    for network in (plain, fixed):
        network(image).square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), fixed.parameters(), strict=True):
        if name in ("1.weight", "2.weight"):
            assert other.grad is None
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert fixed.state_dict().keys() == plain.state_dict().keys()


def test_fixed_depthwise_filters_work_under_autocast():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False))
    FixedDepthwise().before_train(SimpleNamespace(model=network))
    with torch.autocast("cpu", torch.bfloat16):
        found = network(torch.randn(1, 3, 8, 8))
        found.float().sum().backward()
    assert found.dtype == torch.bfloat16 and network[0].weight.grad.abs().sum() > 0


def test_some_modules_run_in_bfloat16_and_give_float32():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.backbone.forward = lambda x: (nn.Conv2d.forward(self.backbone, x),)  # as backbones do

    model = Two()
    image = torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    exact = model.backbone(image)[0]
    BFloat16Modules(["backbone"]).before_train(SimpleNamespace(model=model))
    (found,) = model.backbone(image)
    assert found.is_contiguous()  # mmcv's RoIAlign would misread another layout
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.05
    assert model.head(found).dtype == torch.float32
