"""Configs of the hosts that are not ours: mmdet's and mmseg's own, made tiny, score what the hosts' own Runner scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.dataset import base_dataset
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from dagn_pre import codec
from dagn_pre.benchmarks.downstream import report, run
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.cli import main as cli
from dagn_pre.errors import ConfigError, quiet
from tests.benchmarks.downstream.host_toys import COUNT, coco, masks

QF = 10
# What makes an official config tiny: its images, its classes, its widths.
DETECTION = """
data_root = 'data/coco/'
small = dict(
    ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017/'),
    metainfo=dict(classes=('person', 'bicycle')))
_base_.test_dataloader.dataset.pipeline[1].scale = (96, 64)
test_dataloader = dict(dataset=small)
"""
FPN = """
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None), neck=dict(in_channels=[8, 16, 32, 64], out_channels=16))
"""
SEGMENTATION = "_base_.test_dataloader.dataset.pipeline[1].scale = (96, 64)\n"
BATCH_NORM = "norm_cfg = dict(type='BN', requires_grad=True)\n"
DETECTORS = {
    "rtmdet": (  # anchor-free; SyncBN, its own preprocessor, Pad, batches of 5, an EMAHook
        "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        """
_base_.test_dataloader.dataset.pipeline[2].size = (96, 96)
model = dict(
    backbone=dict(widen_factor=0.125, init_cfg=None), neck=dict(in_channels=[32, 64, 128], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, num_classes=2))
""",
    ),
    "fcos": (  # anchor-free
        "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
        FPN
        + """
_base_.test_dataloader.dataset.pipeline[1].scale = (192, 128)  # the last of five levels is more than a pixel
model['bbox_head'] = dict(in_channels=16, feat_channels=32, num_classes=2)
""",
    ),
    "retinanet": (  # one stage
        "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
        FPN + "model['bbox_head'] = dict(in_channels=16, feat_channels=16, num_classes=2)\n",
    ),
    "mask_rcnn": (  # masks
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        FPN
        + """
model['rpn_head'] = dict(in_channels=16, feat_channels=16)
model['roi_head'] = dict(
    bbox_roi_extractor=dict(out_channels=16), mask_roi_extractor=dict(out_channels=16),
    bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=2),
    mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=2))
model['test_cfg'] = dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=20))
""",
    ),
}
LAZY = """
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.evaluation import CocoMetric
from mmdet.models import FPN, DetDataPreprocessor, FocalLoss, L1Loss, ResNet, RetinaHead, RetinaNet
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmengine.dataset import DefaultSampler
from mmengine.hooks import EMAHook
from mmengine.runner import TestLoop

default_scope = None
data_root = 'data/coco/'
model = dict(
    type=RetinaNet,
    data_preprocessor=dict(
        type=DetDataPreprocessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(type=ResNet, depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3), style='pytorch'),
    neck=dict(
        type=FPN, in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type=RetinaHead, num_classes=2, in_channels=16, stacked_convs=4, feat_channels=16,
        anchor_generator=dict(
            type=AnchorGenerator, octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_means=[0, 0, 0, 0], target_stds=[1, 1, 1, 1]),
        loss_cls=dict(type=FocalLoss, use_sigmoid=True), loss_bbox=dict(type=L1Loss)),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=(96, 64), keep_ratio=True),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=PackDetInputs, meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=CocoDataset, data_root=data_root, ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'), metainfo=dict(classes=('person', 'bicycle')), test_mode=True,
        pipeline=test_pipeline))
test_evaluator = dict(
    type=CocoMetric, ann_file=data_root + 'annotations/instances_val2017.json', metric='bbox', format_only=False)
test_cfg = dict(type=TestLoop)
custom_hooks = [dict(type=EMAHook)]
"""  # a pure-Python config, which no text-style config can inherit from
DETECTORS["lazy"] = (None, LAZY)
SEGMENTERS = {  # with where the images and masks of their data sets lie
    "deeplabv3plus": (
        "mmseg::deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py",
        BATCH_NORM
        + """
model = dict(
    pretrained=None, data_preprocessor=dict(size=None, test_cfg=dict(size_divisor=8)),
    backbone=dict(base_channels=8, stem_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=64, channels=8, c1_in_channels=8, c1_channels=8, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=32, channels=8, norm_cfg=norm_cfg))
""",
        ("leftImg8bit/val/x/{}_leftImg8bit.png", "gtFine/val/x/{}_gtFine_labelTrainIds.png"),
    ),
    "segformer": (  # reduce_zero_label: 0 is ignored
        "mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        BATCH_NORM
        + """
model = dict(
    data_preprocessor=dict(size=None, test_cfg=dict(size_divisor=32)),
    backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1], init_cfg=None),
    decode_head=dict(in_channels=[8, 16, 40, 64], channels=16, norm_cfg=norm_cfg))
""",
        ("images/validation/{}.jpg", "annotations/validation/{}.png"),
    ),
    "hrnet": (
        "mmseg::hrnet/fcn_hr18s_4xb4-20k_voc12aug-512x512.py",
        BATCH_NORM
        + """
branches = [dict(num_channels=(4, 8, 16, 32)[:n], num_blocks=(1,) * n, num_modules=1) for n in (2, 3, 4)]
model = dict(
    pretrained=None, data_preprocessor=dict(size=None, test_cfg=dict(size_divisor=32)),
    backbone=dict(norm_cfg=norm_cfg, extra=dict(
        stage1=dict(num_channels=(4,)), stage2=branches[0], stage3=branches[1], stage4=branches[2])),
    decode_head=dict(in_channels=[4, 8, 16, 32], channels=60, norm_cfg=norm_cfg))
""",
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    ),
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No scope of an earlier test's host; no report, which has its own tests; and nothing that only costs the hosts time:
    formatting configs for their logs, collecting garbage after three images."""
    monkeypatch.setattr(report, "write", lambda work_dir: None)
    monkeypatch.setattr(Config, "pretty_text", "")
    monkeypatch.setattr(base_dataset, "gc", SimpleNamespace(collect=lambda: 0))
    DefaultScope._instance_dict.clear()
    torch.manual_seed(0)
    yield
    DefaultScope._instance_dict.clear()


def compressed(image: np.ndarray) -> np.ndarray:
    return codec.compress(image, QF)


def random_weights(config: Path, out: Path) -> Path:
    """A checkpoint of the config's model, random, with biases under which something is found."""
    cfg = configs.load(str(config))
    with quiet(), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        state = MODELS.build(cfg.model).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if value.is_floating_point() and "running" not in name:
            spread = 0.1 if value.ndim < 2 else value[0].numel() ** -0.5
            value.copy_(spread * torch.randn(value.shape, generator=generator) + (value.ndim == 1 and "weight" in name))
        if "rtm_reg" in name and value.ndim == 1:
            value += 1  # sides of boxes, which a ReLU keeps from being negative
        if name.endswith("decode_head.conv_seg.bias"):
            value[19:] = -100  # the masks' labels are below
    torch.save({"state_dict": state, "meta": {}}, out)
    return out


def of_the_host(config: Path, checkpoint: Path, root: Path, work_dir: Path) -> tuple[dict, Path]:
    """What the host's own Runner makes of the same, image by image: its metrics, and the start of the names of its
    detections' files."""
    cfg = configs.load(str(config))
    configs.set_data_root(cfg, root)
    cfg.work_dir, cfg.load_from = str(work_dir), str(checkpoint)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=1)
    if configs.kind(cfg.test_evaluator) == "CocoMetric":
        cfg.test_evaluator.outfile_prefix = str(work_dir / "found")
    for key in [key for key in cfg if key.startswith(("train_", "val_"))] + ["optim_wrapper", "param_scheduler"]:
        cfg.pop(key, None)
    with quiet():
        metrics = Runner.from_cfg(cfg).test()
    DefaultScope._instance_dict.clear()
    return metrics, work_dir / "found"


def write_config(folder: Path, base: str | None, text: str) -> Path:
    path = folder / "tiny_official.py"
    path.write_text((f"_base_ = {base!r}\n" if base else "") + text)
    return path


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_of_mmdet(name, tmp_path, tiny_weights):
    base, widths = DETECTORS[name]
    config = write_config(tmp_path, base, DETECTION + widths if base else widths)
    checkpoint = random_weights(config, tmp_path / "random.pth")
    root = coco(tmp_path / "data")
    inputs = ("original", "jpeg", str(tiny_weights))
    options = dict(checkpoint=str(checkpoint), data_root=root, inputs=inputs, qualities=(QF,), device="cpu")
    rows = run.run([str(config)], tmp_path / "out", **options)["rows"]
    assert [(row["input"], row["metric"], row["n_images"]) for row in rows] == [
        (label, "bbox_mAP", COUNT) for label in ("original", "jpeg", "tiny")
    ]
    sources = {"original": root, f"jpeg-qf{QF}": coco(tmp_path / "jpegs", compressed)}
    found = {}
    for cell, (source, row) in zip(sources, zip(sources.values(), rows[:2], strict=True), strict=True):
        metrics, prefix = of_the_host(config, checkpoint, source, tmp_path / cell)
        assert round(row["value"] / 100, 3) == pytest.approx(metrics["coco/bbox_mAP"], abs=1e-3)
        for kind in ("bbox", "segm") if name == "mask_rcnn" else ("bbox",):
            ours = tmp_path / "out" / "detections" / f"tiny_official-{cell}.{kind}.json"
            found[cell, kind] = json.loads(ours.read_text())
            assert found[cell, kind] == json.loads(Path(f"{prefix}.{kind}.json").read_text())
            assert {one["image_id"] for one in found[cell, kind]} == set(range(COUNT))
    assert found["original", "bbox"] != found[f"jpeg-qf{QF}", "bbox"]
    first, again = (configs.digest(configs.load(str(config))) for _ in range(2))
    assert first == again  # so that a run can be resumed


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters_of_mmseg(name, tmp_path, tiny_weights):
    base, widths, places = SEGMENTERS[name]
    config = write_config(tmp_path, base, SEGMENTATION + widths)
    checkpoint = random_weights(config, tmp_path / "random.pth")
    root = masks(tmp_path / "data", places)
    inputs = ("original", "jpeg", str(tiny_weights))
    options = dict(checkpoint=str(checkpoint), data_root=root, inputs=inputs, qualities=(QF,), device="cpu")
    rows = run.run([str(config)], tmp_path / "out", **options)["rows"]
    assert [(row["input"], row["metric"], row["n_images"]) for row in rows] == [
        (label, "mIoU", COUNT) for label in ("original", "jpeg", "tiny")
    ]
    assert rows[0]["value"] > 0 and rows[0]["value"] != rows[1]["value"]
    for row, source in zip(rows, (root, masks(tmp_path / "jpegs", places, compressed)), strict=False):
        metrics, _ = of_the_host(config, checkpoint, source, tmp_path / row["input"])
        assert row["value"] == pytest.approx(metrics["mIoU"], abs=0.006)


def test_the_command_line_takes_any_config_of_the_hosts(tmp_path, monkeypatch, capsys):
    """``--host-config`` alone, straight from mmdet, with data and weights of its own: the same as CONFIG."""
    official = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
    root = coco(tmp_path / "data", classes=CocoDataset.METAINFO["classes"])
    words = ["bench", "run", "--host-config", official, "--checkpoint", "none.pth", "--data-root", str(root)]
    assert cli.main([*words, "--work-dir", str(tmp_path / "out")]) == 1
    assert "checkpoint none.pth does not exist" in capsys.readouterr().err
    calls = []
    monkeypatch.setattr(run, "run", lambda configs, work_dir, **options: calls.append((configs, work_dir)) or 1 / 0)
    for given in (["--host-config", official], [official], ["demo", "--host-config", official]):
        with pytest.raises(ZeroDivisionError):
            cli.main(["bench", "run", *given])
    folder = Path("work_dirs/bench-rtmdet_tiny_8xb32-300e_coco")
    assert calls == [([official], folder), ([official], folder), (["demo", official], Path("work_dirs/bench-demo"))]
    assert cli.main(["bench", "run"]) == 2
    assert "give a CONFIG or --host-config" in capsys.readouterr().err


def test_a_model_of_ours_that_is_not_kept_is_told_how_to_make():
    with pytest.raises(ConfigError, match="is not kept in the repository: dagn-pre bench train pspnet_camvid_jpeg --work-dir"):
        configs.checkpoint(configs.load("pspnet_camvid_jpeg"))
