"""Restoring in the model's preprocessor, against restoring in the pipeline, on tiny models of both hosts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose, LoadImageFromFile
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint, save_checkpoint
from mmseg.apis import MMSegInferencer, inference_model, init_model
from openmmlab_toys import SIZE
from torch.utils.data import get_worker_info

from dagn_pre import models, restorer
from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.downstream.hosts.train import relocated
from dagn_pre.errors import ConfigError, ImageError, UsageError
from dagn_pre.integrations.openmmlab import DAGNDefer, DAGNDetDataPreprocessor, DAGNSegDataPreProcessor, preprocessors
from dagn_pre.integrations.openmmlab.insert import insert

OURS = ("dagn_restored", "dagn_reason")
RESIZED = (113, 75)  # width, height: neither side by a whole factor
SEG_TRAIN = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(144, 96), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
DET_TRAIN = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomChoiceResize", scales=[(144, 96), (96, 64), (70, 50)], keep_ratio=True),
    dict(type="Pad", size=(160, 112), pad_val=dict(img=(114.0, 115.0, 116.0))),
    dict(type="RandomFlip", prob=0.9, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackDetInputs"),
]


@pytest.fixture
def det(faster_rcnn) -> Config:
    """mmdet's Faster R-CNN with DAGNRestore, resizing."""
    faster_rcnn.test_dataloader.dataset.pipeline[2].scale = RESIZED
    return faster_rcnn


@pytest.fixture
def seg(pspnet) -> Config:
    """mmseg's PSPNet with DAGNRestore, resizing."""
    pspnet.test_dataloader.dataset.pipeline[2].scale = RESIZED
    return pspnet


@pytest.fixture
def calls(monkeypatch) -> list:
    """How many images each call of a restorer got."""
    counts, call = [], restorer.Restorer.restore
    spy = lambda self, images, *args, **kwargs: counts.append(len(images)) or call(self, images, *args, **kwargs)  # noqa: E731
    monkeypatch.setattr(restorer.Restorer, "restore", spy)
    return counts


def moved(config: Config, weights: str, **options) -> Config:
    """The same config, restoring in the preprocessor."""
    return insert(config, where="preprocessor", model=weights, restore_lossless="always", **options)


def prepared(config: Config, size: int, training: bool = False, seed: int = 0) -> list[dict]:
    """What the model gets, in batches of ``size`` images."""
    init_default_scope(config.default_scope)
    np.random.seed(seed)
    dataset = DATASETS.build(copy.deepcopy(config.test_dataloader.dataset))
    samples = [dataset[index] for index in range(len(dataset))]
    preprocessor = MODELS.build(config.model.data_preprocessor)
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [preprocessor({key: [s[key] for s in batch] for key in batch[0]}, training) for batch in batches]


def assert_alike(batches: list[dict], expected: list[dict], std: float) -> None:
    """Same metainfo and truth, and pixels that differ by one of 255 at the most, in hardly any place."""
    for batch, other in zip(batches, expected, strict=True):
        difference = (batch["inputs"] - other["inputs"]).abs() * std
        assert difference.max() < 1.5 and (difference > 0.5).float().mean() < 0.01
        for sample, wanted in zip(batch["data_samples"], other["data_samples"], strict=True):
            notes = {key: value for key, value in sample.metainfo.items() if key not in OURS}
            assert notes == {key: value for key, value in wanted.metainfo.items() if key not in OURS}
            assert sample.metainfo["dagn_restored"] == (not wanted.img_path.endswith("q95.jpg"))
            for key, truth in wanted.items():
                for name, value in truth.items():
                    found = sample.get(key).get(name)
                    assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value


def trained(config: Config, pipeline: list, weights: str) -> tuple[Config, Config]:
    """``config`` with a training pipeline in its test data, restoring in the pipeline and in the preprocessor."""
    dataset = config.test_dataloader.dataset
    dataset.pipeline, dataset.test_mode = [ConfigDict(copy.deepcopy(step)) for step in pipeline], False
    dataset.pipeline[-1].meta_keys = ("img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    config.pop("tta_pipeline", None)
    return insert(config, model=weights, restore_lossless="always"), moved(config, weights)


# -- the same pixels and the same truth ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["det", "seg"])
@pytest.mark.parametrize("scale", [RESIZED, SIZE[::-1]])
def test_a_batch_of_one_equals_the_transforms(host, scale, request, weights):
    config = request.getfixturevalue(host)
    config.test_dataloader.dataset.pipeline[2].scale = scale
    for batch, expected in zip(prepared(moved(config, weights), 1), prepared(config, 1), strict=True):
        assert torch.equal(batch["inputs"], expected["inputs"])
        assert batch["data_samples"][0].metainfo == expected["data_samples"][0].metainfo


@pytest.mark.parametrize("host", ["det", "seg"])
def test_a_larger_batch_is_restored_at_once(host, request, weights, calls):
    config = request.getfixturevalue(host)
    count = 4 if host == "det" else 3
    batches = prepared(moved(config, weights), count)
    assert calls == [count]
    assert_alike(batches, prepared(config, count), std=58)


@pytest.mark.parametrize("seed", range(2))
def test_truth_of_training_is_resized_padded_and_flipped_with_the_image(faster_rcnn, weights, seed):
    plain, ours = trained(faster_rcnn, DET_TRAIN, weights)
    plain.model.data_preprocessor.pad_mask = ours.model.data_preprocessor.pad_mask = False
    batches, expected = prepared(ours, 4, True, seed), prepared(plain, 4, True, seed)
    for batch in expected:
        for sample in batch["data_samples"]:
            sample.set_metainfo(dict.fromkeys(OURS))
    assert_alike(batches, expected, std=58)
    assert len({sample.scale_factor for sample in batches[0]["data_samples"]}) > 1


@pytest.mark.parametrize("seed", range(2))
def test_maps_of_training_are_resized_and_flipped_with_the_image(pspnet, weights, seed):
    for pre in (pspnet.model.data_preprocessor, pspnet.data_preprocessor):
        pre.update(size=(200, 300))
    plain, ours = trained(pspnet, SEG_TRAIN, weights)
    assert_alike(prepared(ours, 3, True, seed), prepared(plain, 3, True, seed), std=58)


def test_quality_comes_from_the_note_the_header_and_the_pixels(faster_rcnn, weights, monkeypatch):
    hints, call = [], restorer.Restorer.restore

    def spy(self, images, quality, **more):
        hints.extend(quality)
        return call(self, images, quality, **more)

    monkeypatch.setattr(restorer.Restorer, "restore", spy)
    prepared(moved(faster_rcnn, weights), 4)
    assert [getattr(hint, "value", None) for hint in hints] == [10, 40, 95, None]
    hints.clear()
    prepared(moved(faster_rcnn, weights, compress=30), 4)
    assert [(hint.value, hint.source, hint.subsampling) for hint in hints] == [(30, "given", "4:2:0")] * 4


def test_options_reach_the_restorer(faster_rcnn, weights):
    strong, off = moved(faster_rcnn, weights, max_quality=None), moved(faster_rcnn, weights, strength=0)
    notes = [[s.dagn_restored for s in prepared(config, 4)[0]["data_samples"]] for config in (strong, off)]
    assert notes == [[True] * 4, [False] * 4]


def test_a_strength_by_quality_reaches_the_restorer(faster_rcnn, weights):
    by_quality, plain = ([[10, 1.0], [50, 0.5]], 0.75)  # of JPEGs of QF 30
    configs = [moved(faster_rcnn, weights, compress=30, strength=strength) for strength in (by_quality, plain)]
    first, second = (prepared(config, 4)[0]["inputs"] for config in configs)
    assert torch.allclose(first, second, atol=0.02)  # normalised pixels: one level of 255


def test_the_callers_batch_stays_as_it_was(faster_rcnn, weights):
    config = moved(faster_rcnn, weights)
    init_default_scope("mmdet")
    sample = DATASETS.build(config.test_dataloader.dataset)[0]
    before = sample["inputs"].clone()
    preprocessor = MODELS.build(config.model.data_preprocessor)
    first, again = (preprocessor(dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]])) for _ in "12")
    assert torch.equal(first["inputs"], again["inputs"]) and torch.equal(sample["inputs"], before)
    stacked = preprocessor(dict(inputs=sample["inputs"][None], data_samples=[sample["data_samples"]]))  # default_collate's
    assert torch.equal(first["inputs"], stacked["inputs"])


# -- in the hosts --------------------------------------------------------------------------------------------------------


def run_test(config: Config, name: str, **loader) -> dict[str, dict]:
    """Run the host's own test; file name -> what the run kept of that image."""
    config = copy.deepcopy(config)
    config.experiment_name = name
    config.test_dataloader.update(loader)
    Runner.from_cfg(config).test()
    with open(config.test_evaluator[-1].out_file_path, "rb") as file:
        return {sample["img_path"].rpartition("/")[2]: sample for sample in pickle.load(file)}


@pytest.mark.parametrize("loader", [dict(batch_size=1), dict(batch_size=4)])
def test_runner_detects_what_it_detects_with_the_transform(det, weights, loader):
    expected = run_test(det, f"det-transform-{loader}", **loader)
    for name, sample in run_test(moved(det, weights), f"det-preprocessor-{loader}", **loader).items():
        found, wanted = sample["pred_instances"], expected[name]["pred_instances"]
        assert len(wanted["bboxes"]) > 0 and sample["dagn_restored"] == (name != "q95.jpg")
        torch.testing.assert_close(found["bboxes"], wanted["bboxes"], rtol=1e-3, atol=0.05)
        torch.testing.assert_close(found["scores"], wanted["scores"], rtol=1e-3, atol=1e-3)


def test_runner_segments_what_it_segments_with_the_transform(seg, weights):
    expected = run_test(seg, "seg-transform")
    for name, sample in run_test(moved(seg, weights), "seg-preprocessor").items():
        same = sample["pred_sem_seg"]["data"] == expected[name]["pred_sem_seg"]["data"]
        assert same.float().mean() > 0.999 and same.shape[-2:] == SIZE


def in_workers_only(*args, **kwargs) -> None:
    raise AssertionError("a worker loads a restorer" if get_worker_info() else "the main process loads one")


def test_workers_load_no_network_and_the_dataset_holds_none(det, weights, monkeypatch):
    init_default_scope("mmdet")
    config = moved(det, weights)
    assert len(pickle.dumps(DATASETS.build(config.test_dataloader.dataset))) < 20_000
    monkeypatch.setattr(models, "load", in_workers_only)
    with pytest.raises(AssertionError, match="a worker loads a restorer"):  # so the test would see it
        list(Runner.build_dataloader({**det.test_dataloader, "num_workers": 1}, seed=0))
    batches = list(Runner.build_dataloader({**config.test_dataloader, "num_workers": 2}, seed=0))
    assert len(batches) == 4 and all(batch["inputs"][0].shape[1:] == SIZE for batch in batches)
    with pytest.raises(AssertionError, match="the main process"):
        MODELS.build(config.model.data_preprocessor)(batches[0])


def training(config: Config, pipeline: list, weights: str, work_dir) -> Config:
    """``config`` with three iterations of training in the place of its test."""
    _, ours = trained(config, pipeline, weights)
    loader = dict(ours.test_dataloader, batch_size=2, sampler=dict(type="InfiniteSampler", shuffle=False), drop_last=False)
    ours.train_dataloader, ours.test_dataloader, ours.test_cfg, ours.test_evaluator = loader, None, None, None
    ours.train_cfg = dict(type="IterBasedTrainLoop", max_iters=3, val_interval=10)
    ours.optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3), clip_grad=dict(max_norm=1.0))
    ours.default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3), logger=None)
    ours.custom_hooks = [dict(type="EMAHook")]
    ours.val_dataloader = ours.val_evaluator = ours.val_cfg = None
    ours.work_dir = str(work_dir)
    return ours


def test_runner_trains_a_detector(faster_rcnn, weights, tmp_path, calls, monkeypatch):
    runner = Runner.from_cfg(training(faster_rcnn, DET_TRAIN, weights, tmp_path))
    losses, train_step = [], runner.model.train_step
    monkeypatch.setattr(runner.model, "train_step", lambda *a, **k: losses.append(train_step(*a, **k)) or losses[-1])
    runner.train()
    assert calls == [2, 2, 2] and len(losses) == 3
    assert all(torch.isfinite(value).all() for loss in losses for value in loss.values())
    saved = torch.load(tmp_path / "iter_3.pth", weights_only=False)
    names = set(MODELS.build({**faster_rcnn.model, "data_preprocessor": dict(type="DetDataPreprocessor")}).state_dict())
    assert set(saved["state_dict"]) == names
    assert {name.removeprefix("module.") for name in saved["ema_state_dict"]} - {"steps"} == names


def test_runner_trains_a_segmenter(pspnet, weights, tmp_path, calls):
    for pre in (pspnet.model.data_preprocessor, pspnet.data_preprocessor):
        pre.update(size=(200, 300))
    runner = Runner.from_cfg(training(pspnet, SEG_TRAIN, weights, tmp_path))
    runner.train()
    assert calls == [2, 2, 2] and all(torch.isfinite(p).all() for p in runner.model.parameters())


def test_two_processes_train_and_test(faster_rcnn, weights, tmp_path):
    """DDP on gloo: each process restores its own images; parameters and scores end up the same in both."""
    tested = moved(faster_rcnn, weights)
    config = training(faster_rcnn, DET_TRAIN, weights, tmp_path)
    for key in ("test_dataloader", "test_cfg", "test_evaluator"):
        config[key] = tested[key]
    config.launcher, config.custom_hooks = "pytorch", []
    config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)  # on the CPU
    config.dump(tmp_path / "ddp.py")
    (tmp_path / "ddp_run.py").write_text(
        "import sys, torch\nfrom mmengine.config import Config\nfrom mmengine.runner import Runner\n"
        "from mmengine.dist import get_rank\nfrom dagn_pre.restorer import Restorer\ntorch.set_num_threads(1)\n"
        "counts, call = [], Restorer.restore\n"
        "Restorer.restore = lambda self, images, **k: counts.append(len(images)) or call(self, images, **k)\n"
        "torch.distributed.init_process_group('gloo')\n"  # mmengine's own way needs CUDA
        "runner = Runner.from_cfg(Config.fromfile(sys.argv[1])); runner.train(); runner.test()\n"
        "total = sum(p.double().sum().item() for p in runner.model.parameters())\n"
        "with open(f'rank-{get_rank()}.txt', 'w') as file:\n"  # both print at once
        "    print(type(runner.model).__name__, *counts, repr(total), file=file)\n"
        "torch.distributed.barrier(); torch.distributed.destroy_process_group()\n"  # else gloo's threads may abort the exit
    )
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run([*command, "ddp_run.py", "ddp.py"], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [(tmp_path / f"rank-{rank}.txt").read_text().split() for rank in range(2)]
    # Three batches of two in training, then half of the four test images one by one.
    assert [line[:-1] for line in lines] == [["MMDistributedDataParallel", *"22211"]] * 2
    assert lines[0][-1] == lines[1][-1]


def test_detection_by_the_apis(det, weights, data):
    paths = [str(data / "JPEGImages" / name) for name in ("q10.jpg", "q95.jpg")]
    expected = inference_detector(init_detector(det, None, device="cpu"), paths[0])
    config = moved(det, weights)
    torch.manual_seed(0)
    model = init_detector(config, None, device="cpu")
    by_transform = init_detector(det, None, device="cpu")
    by_transform.load_state_dict(model.state_dict())
    expected = inference_detector(by_transform, paths[0])
    found = inference_detector(model, paths[0])
    torch.testing.assert_close(found.pred_instances.bboxes, expected.pred_instances.bboxes, rtol=1e-3, atol=0.05)
    inferencer = DetInferencer(config, None, device="cpu", show_progress=False)
    by_path = inferencer(paths, batch_size=2, return_datasamples=True)["predictions"]
    by_array = inferencer([np.zeros((40, 50, 3), np.uint8)], return_datasamples=True)["predictions"]
    assert [sample.dagn_restored for sample in [*by_path, *by_array]] == [True, False, True]


def test_segmentation_by_the_apis(seg, weights, data):
    config = moved(seg, weights)
    path = str(data / "JPEGImages" / "q10.jpg")
    found = inference_model(init_model(config, None, device="cpu"), path)
    assert found.dagn_restored is True and found.pred_sem_seg.data.shape[-2:] == SIZE
    inferencer = MMSegInferencer(config, None, device="cpu")
    assert [sample.dagn_restored for sample in inferencer([path, path], return_datasamples=True)] == [True, True]


def test_test_time_augmentation_of_a_segmenter_restores_once(pspnet, weights, calls):
    pspnet.test_dataloader.dataset.pipeline = pspnet.tta_pipeline
    config = moved(pspnet, weights)
    expected_config = copy.deepcopy(pspnet)
    for each in (config, expected_config):
        each.model = ConfigDict(**each.tta_model, module=each.model)
    expected = run_test(expected_config, "tta-transform")
    calls.clear()
    samples = run_test(config, "tta-preprocessor")
    assert calls == [1, 1, 1]  # of 2 scales x 2 flips each
    for name, sample in samples.items():
        same = sample["pred_sem_seg"]["data"] == expected[name]["pred_sem_seg"]["data"]
        assert same.float().mean() > 0.999


def test_test_time_augmentation_of_a_detector(faster_rcnn, weights, calls):
    dataset = faster_rcnn.test_dataloader.dataset
    meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    alternatives = [
        [dict(type="Resize", scale=scale, keep_ratio=True) for scale in ((144, 96), (96, 64))],
        [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)],
        [dict(type="PackDetInputs", meta_keys=meta_keys)],
    ]
    dataset.pipeline = [dataset.pipeline[0], ConfigDict(type="TestTimeAug", transforms=alternatives)]
    tta = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=10))
    plain, ours = insert(faster_rcnn, model=weights, restore_lossless="always"), moved(faster_rcnn, weights)
    for each in (plain, ours):
        each.model = ConfigDict(**tta, module=each.model)
    expected = run_test(plain, "det-tta-transform")
    calls.clear()
    samples = run_test(ours, "det-tta-preprocessor")
    assert calls == [1] * 4
    for name, sample in samples.items():
        found, wanted = sample["pred_instances"], expected[name]["pred_instances"]
        torch.testing.assert_close(found["bboxes"], wanted["bboxes"], rtol=1e-3, atol=0.05)


# -- no part of the model ------------------------------------------------------------------------------------------------


def test_checkpoints_go_both_ways_and_copies_share_the_networks(det, weights, tmp_path):
    init_default_scope("mmdet")
    ours = MODELS.build(moved(det, weights).model)
    plain = MODELS.build({**det.model})
    batch = prepared(moved(det, weights), 1)  # the networks are loaded by now
    assert set(ours.state_dict()) == set(plain.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert len(list(ours.modules())) == len(list(plain.modules()))
    save_checkpoint(dict(state_dict=plain.state_dict()), str(tmp_path / "plain.pth"))
    load_checkpoint(ours, str(tmp_path / "plain.pth"), strict=True)
    save_checkpoint(dict(state_dict=ours.state_dict()), str(tmp_path / "ours.pth"))
    load_checkpoint(plain, str(tmp_path / "ours.pth"), strict=True)
    copied = copy.deepcopy(ours.data_preprocessor)
    assert len(pickle.dumps(copied)) < 20_000 and len(batch) == 4
    assert restorer.restorer_of.cache_info().currsize == 1


def test_the_classes_are_the_hosts_and_need_only_theirs(tmp_path):
    """Importing needs neither host; the class of one does not need the other."""
    assert MODELS.get("DAGNDetDataPreprocessor") is DAGNDetDataPreprocessor
    assert MODELS.get("DAGNSegDataPreProcessor") is DAGNSegDataPreProcessor
    with pytest.raises(AttributeError, match="DAGNPosePreprocessor"):
        from dagn_pre.integrations import openmmlab

        _ = openmmlab.DAGNPosePreprocessor
    runs = {}
    for missing, name in (("mmdet", "DAGNSegDataPreProcessor"), ("mmseg", "DAGNDetDataPreprocessor")):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "import dagn_pre.integrations.openmmlab\nfrom mmengine.registry import MODELS\n"
            "assert 'mmdet.models' not in sys.modules and 'mmseg.models' not in sys.modules\n"
            f"print('BASE', type(MODELS.build(dict(type={name!r}, mean=[1, 2, 3], std=[4, 5, 6]))).__mro__[2].__module__)\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", code]
        runs[missing] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    for missing, host in (("mmdet", "mmseg"), ("mmseg", "mmdet")):
        assert f"BASE {host}.models" in runs[missing].communicate()[0] and runs[missing].returncode == 0


# -- what it refuses -----------------------------------------------------------------------------------------------------


def test_bad_options():
    cases = (dict(device="cpu"), "no device"), (dict(strength=2), "strength"), (dict(model="x"), "known: dagn-s")
    for options, words in cases:
        with pytest.raises(UsageError, match=words):
            DAGNDetDataPreprocessor(restorer=options)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (dict(type="RandomCrop", crop_size=(8, 8)), "RandomCrop, which is none of Resize"),
        (dict(type="Resize", scale=(8, 8), interpolation="bicubic"), "bilinear by cv2"),
        (dict(type="Resize", scale=(8, 8), backend="pillow"), "bilinear by cv2"),
        (dict(type="Pad", size=(8, 8), padding_mode="edge"), "padding_mode='edge'"),
    ],
)
def test_steps_that_cannot_wait(step, words):
    with pytest.raises(ConfigError, match=words):
        DAGNDefer(transform=step)


def test_pixels_that_were_moved_before(data, weights):
    init_default_scope("mmdet")
    path = str(data / "JPEGImages" / "q10.jpg")
    late = Compose([LoadImageFromFile(), dict(type="Resize", scale=(40, 30)), DAGNDefer(dict(type="PackDetInputs"))])
    with pytest.raises(ConfigError, match="DAGNDefer must come right after"):
        late(dict(img_path=path))
    grey = Compose([LoadImageFromFile(color_type="grayscale"), DAGNDefer(dict(type="PackDetInputs"))])
    with pytest.raises(ImageError, match=r"q10\.jpg"):
        grey(dict(img_path=path))


def test_a_pipeline_that_hands_nothing_over_is_told_once(faster_rcnn, weights, monkeypatch, calls):
    said = []
    monkeypatch.setattr(preprocessors, "print_log", lambda message, *args: said.append(message))
    ours = moved(faster_rcnn, weights)
    ours.test_dataloader = insert(faster_rcnn, compress=10, restore=False).test_dataloader
    prepared(ours, 1)
    assert not calls and len(said) == 1 and "DAGNDefer" in said[0]
    prepared(ours, 1, training=True)
    assert len(said) == 1


# -- trained models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "metric"), [("faster_rcnn", "coco/bbox_mAP"), ("pspnet", "mIoU")])
def test_the_demos_models_score_the_same(task, metric, tmp_path):
    """In float32, to 0.1 points; the images are resized, by no whole factor."""
    demo.prepare(tmp_path / "data", counts={"train": 0, "val": 3})
    plain = relocated(configs.load(f"demo_{task}"), tmp_path / "data")
    plain.load_from, plain.work_dir, plain.log_level = str(configs.WEIGHTS / plain.checkpoint), str(tmp_path), "WARNING"
    plain.test_evaluator = [plain.test_evaluator, dict(type="DumpResults", out_file_path=str(tmp_path / "results.pkl"))]
    plain.test_dataloader.dataset.pipeline[1].scale = (300, 225)
    found = {}
    for where in ("transform", "preprocessor"):
        config = insert(plain, where=where, compress=20, splits=["test"], dtype="float32")
        config.experiment_name = f"demo-{task}-{where}"
        scores = Runner.from_cfg(config).test()
        with open(tmp_path / "results.pkl", "rb") as file:
            found[where] = scores[metric] * (100 if task == "faster_rcnn" else 1), pickle.load(file)
    (expected, samples), (score, others) = found.values()
    assert abs(score - expected) <= 0.1 and expected > 5
    for sample, other in zip(samples, others, strict=True):
        if task == "faster_rcnn":
            for key in ("bboxes", "scores"):
                torch.testing.assert_close(other["pred_instances"][key], sample["pred_instances"][key], rtol=1e-3, atol=0.01)
        else:
            assert (other["pred_sem_seg"]["data"] == sample["pred_sem_seg"]["data"]).float().mean() > 0.999
