"""A cell shared by two processes of torchrun gives the numbers of one, and an error ends both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from dagn_pre.benchmarks.downstream import run
from dagn_pre.benchmarks.downstream.hosts import processes
from dagn_pre.cli.main import main
from tests.benchmarks.downstream.host_toys import COUNT, coco, masks

# A detector and a segmenter without weights to speak of: what they find depends on the pixels alone.
TOYS = '''
import os

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData

if "LOCAL_RANK" in os.environ:
    Config.pretty_text = ""  # formatting a config for the log takes the host longer than the test


@MODELS.register_module(force=True)
class Bright(BaseModel):
    """Takes brightness for a label of each pixel, and for the score of fixed boxes."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs, data_samples, mode="predict"):
        for image, sample in zip(inputs, data_samples, strict=True):
            grey = image.float().mean(0) * self.scale
            sample.pred_sem_seg = PixelData(data=(grey / 12).long().clamp(0, 18)[None])
            corners = [(x + y % 3, y, x + y % 3 + 24, y + 24) for y in range(0, 40, 2) for x in range(0, 72, 8)]
            found = InstanceData(bboxes=torch.tensor(corners, dtype=torch.float32))
            found.scores = torch.stack([grey[y : y + 24, x : x + 24].std() for x, y, _, _ in corners]) / 255
            found.labels = torch.tensor([int(10 * score * 255) % 2 for score in found.scores])
            sample.pred_instances = found
        return data_samples
'''
DETECTION = """
default_scope = 'mmdet'
custom_imports = dict(imports=['bright_toy'])
checkpoint = 'bright.pth'
model = dict(type='Bright')
test_cfg = dict()
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'))]
test_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='CocoDataset', data_root='{root}', ann_file='annotations/instances_val2017.json',
    data_prefix=dict(img='val2017/'), metainfo=dict(classes=('person', 'bicycle')), test_mode=True, pipeline=pipeline))
test_evaluator = dict(type='CocoMetric', ann_file='{root}/annotations/instances_val2017.json', metric='bbox')
"""
SEGMENTATION = """
default_scope = 'mmseg'
custom_imports = dict(imports=['bright_toy'])
checkpoint = 'bright.pth'
model = dict(type='Bright')
test_cfg = dict()
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='BaseSegDataset', data_root='{root}', metainfo=dict(classes=[str(i) for i in range(19)]),
    data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=pipeline))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Path:
    """A folder with detect.py, segment.py, what they import, and their data: three images."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "bright_toy.py").write_text(TOYS)
    (folder / "detect.py").write_text(DETECTION.format(root=coco(folder / "photos")))
    (folder / "segment.py").write_text(SEGMENTATION.format(root=masks(folder / "scenes", ("images/{}.jpg", "masks/{}.png"))))
    torch.save({"scale": torch.tensor(1.0)}, folder / "bright.pth")
    return folder


def torchrun(toys: Path, *words: str, count: int = 2) -> subprocess.CompletedProcess:
    """``dagn-pre bench run WORDS --launcher pytorch`` in several processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    launch += [f"--master-port={29500 + os.getpid() % 2000}", "-m", "dagn_pre.cli.main", "bench", "run", *words]
    paths = os.pathsep.join(filter(None, (str(toys), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    command = [*launch, "--launcher", "pytorch"]
    return subprocess.run(command, cwd=toys, env=environment, capture_output=True, text=True, timeout=400)


def numbers(content: dict) -> dict:
    """results.json without times."""
    rows = [{k: v for k, v in row.items() if not k.endswith("_ms_per_image")} for row in content["rows"]]
    return {**content, "rows": rows, "environment": None}


def test_two_processes_give_the_numbers_of_one(toys, tmp_path, tiny_weights, monkeypatch):
    """Three images for two processes: one of them is tested twice, and counted once."""
    monkeypatch.syspath_prepend(str(toys))
    monkeypatch.chdir(toys)
    configs = ["detect.py", "segment.py"]
    inputs = ["original", "jpeg", str(tiny_weights)]
    words = [*configs, "--inputs", *inputs, "--qf", "10", "--device", "cpu", "--work-dir"]
    done = torchrun(toys, *words, str(tmp_path / "two"))
    assert done.returncode == 0, done.stdout + done.stderr
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    DefaultScope._instance_dict.clear()
    one = run.run(configs, tmp_path / "one", inputs=inputs, qualities=(10,), device="cpu")
    assert numbers(two) == numbers(one)
    assert len(two["rows"]) == 6 and all(row["n_images"] == COUNT and row["value"] > 0 for row in two["rows"])
    assert len({row["value"] for row in two["rows"]}) > 3
    kept = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one" / "detections").iterdir()]
    assert len(kept) == 3
    for path in kept:
        assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "one" / path).read_bytes()
    assert done.stdout.count("# What JPEG costs") == 1
    assert "100% 3/3 [" in done.stderr and "/4 [" not in done.stderr  # the progress bar knows of the repeated one
    assert not re.search(r"\| 1[0-2]/", done.stderr)
    assert not (toys / ".dist_test").exists()


def test_an_error_in_one_process_ends_both_and_is_told_once(toys, tmp_path):
    broken = tmp_path / "photos"
    coco(broken)
    (broken / "val2017" / "1.jpg").write_bytes(b"no picture")  # the second process tests it
    (tmp_path / "detect.py").write_text(DETECTION.format(root=broken))
    (tmp_path / "bright.pth").write_bytes((toys / "bright.pth").read_bytes())
    words = ["--inputs", "original", "--device", "cpu", "--work-dir", str(tmp_path / "out")]
    done = torchrun(toys, str(tmp_path / "detect.py"), *words)
    assert done.returncode != 0
    assert done.stderr.count("dagn-pre bench run:") == 1, done.stderr
    assert "detect-original failed" in done.stderr and "1.jpg" in done.stderr
    assert not (tmp_path / "out" / "results.json").exists()


def test_an_error_of_all_processes_is_told_once(monkeypatch):
    assert processes.tells() and processes.tells()  # without a launcher, each error
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_PORT", str(29500 + (os.getpid() + 1000) % 2000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    processes.join_processes("pytorch")
    try:
        assert [processes.tells(), processes.tells()] == [True, False]
    finally:
        processes.leave()
    assert not torch.distributed.is_initialized()


def test_a_launcher_that_has_not_started_this_is_one_sentence(toys, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert main(["bench", "run", str(toys / "detect.py"), "--work-dir", str(tmp_path / "out"), "--launcher", "pytorch"]) == 2
    assert "start with torchrun" in capsys.readouterr().err
