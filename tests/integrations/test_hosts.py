"""The transforms inside mmdet and mmseg, on tiny models built from the hosts' own configs."""

from __future__ import annotations

import copy
import pickle

import mmcv
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.apis import MMSegInferencer, inference_model, init_model

from dagn_pre import models
from dagn_pre.integrations.openmmlab.insert import insert

LOADERS = {
    "main process": dict(num_workers=0, persistent_workers=False),
    "2 workers": dict(num_workers=2, persistent_workers=False),
    "2 persistent workers": dict(num_workers=2, persistent_workers=True),
}


@pytest.fixture
def loads(monkeypatch) -> list:
    """One entry for each time that weights are loaded in this process."""
    calls, load = [], models.load
    monkeypatch.setattr(models, "load", lambda model: calls.append(model) or load(model))
    return calls


def run_test(config: Config, name: str, **loader) -> dict[str, dict]:
    """Run the host's own test; file name -> what the run kept of that image."""
    config = copy.deepcopy(config)
    config.experiment_name = name
    config.test_dataloader.update(loader)
    metrics = Runner.from_cfg(config).test()
    assert metrics and all(np.isfinite(value) for value in metrics.values())
    with open(config.test_evaluator[-1].out_file_path, "rb") as file:
        return {sample["img_path"].rpartition("/")[2]: sample for sample in pickle.load(file)}


def test_runner_detects_the_same_in_any_number_of_workers(faster_rcnn):
    results = {name: run_test(faster_rcnn, f"det-{name}", **loader) for name, loader in LOADERS.items()}
    for samples in results.values():  # the header's QF 95 is above max_quality
        assert {name: sample["dagn_restored"] for name, sample in samples.items()} == {
            "q10.jpg": True, "q40.jpg": True, "q95.jpg": False, "lossless.png": True
        }  # fmt: skip
        for name, sample in samples.items():
            expected = results["main process"][name]["pred_instances"]
            assert len(expected["bboxes"]) > 0
            torch.testing.assert_close(sample["pred_instances"]["bboxes"], expected["bboxes"], rtol=1e-3, atol=1e-2)


def test_runner_segments_the_same_in_any_number_of_workers(pspnet):
    results = {name: run_test(pspnet, f"seg-{name}", **loader) for name, loader in LOADERS.items()}
    for samples in results.values():
        assert {name: sample["dagn_restored"] for name, sample in samples.items()} == {
            "q10.jpg": True, "q40.jpg": True, "q95.jpg": False
        }  # fmt: skip
        for name, sample in samples.items():
            expected = results["main process"][name]["pred_sem_seg"]["data"]
            assert (sample["pred_sem_seg"]["data"] == expected).float().mean() > 0.999


def test_compressed_in_the_pipeline(faster_rcnn, weights):
    config = insert(faster_rcnn, compress=20, model=weights)
    samples = run_test(config, "det-compressed")
    assert {sample["jpeg_quality"] for sample in samples.values()} == {20}
    assert all(sample["dagn_restored"] for sample in samples.values())  # also q95.jpg: the note goes before the header


def test_spawned_workers(faster_rcnn):
    faster_rcnn.env_cfg.mp_cfg.mp_start_method = "spawn"
    method = torch.multiprocessing.get_start_method()
    try:
        samples = run_test(faster_rcnn, "det-spawn", num_workers=1)
    finally:
        torch.multiprocessing.set_start_method(method, force=True)
    assert samples["q10.jpg"]["dagn_restored"]


def test_cuda_in_a_forked_worker_names_the_remedy(faster_rcnn, weights):
    config = insert(faster_rcnn, model=weights, device="cuda")
    with pytest.raises(Exception, match="forked DataLoader worker.*mp_start_method=.*num_workers=0.*device=.cpu"):
        run_test(config, "det-cuda", num_workers=1)


@pytest.mark.parametrize("wrapper", ["RepeatDataset", "ConcatDataset"])
def test_wrapped_datasets(faster_rcnn, weights, wrapper):
    inner = faster_rcnn.test_dataloader.dataset
    inner.pipeline = [step for step in inner.pipeline if step.type != "DAGNRestore"]
    inner.lazy_init = False
    if wrapper == "RepeatDataset":
        wrapped, count = dict(type=wrapper, times=2, dataset=inner), 8
    else:
        wrapped, count = dict(type=wrapper, datasets=[inner, copy.deepcopy(inner)]), 8
    faster_rcnn.test_dataloader.dataset = ConfigDict(wrapped)
    config = insert(faster_rcnn, model=weights, splits=["test"], restore_lossless="always")
    init_default_scope("mmdet")
    samples = list(Runner.build_dataloader(config.test_dataloader, seed=0))
    notes = [sample["data_samples"][0].metainfo["dagn_restored"] for sample in samples]
    assert len(notes) == count and notes.count(False) == 2  # q95.jpg, twice


def test_inference_detector_on_path_and_array(faster_rcnn, data, loads):
    model = init_detector(faster_rcnn, None, device="cpu")
    path = str(data / "JPEGImages" / "q95.jpg")
    by_path, again = inference_detector(model, path), inference_detector(model, path)
    by_array = inference_detector(model, mmcv.imread(path))
    assert by_path.dagn_restored is again.dagn_restored is False  # the file's header tells
    assert by_array.dagn_restored is True  # an array has no header
    assert len(loads) == 1  # three pipelines were built


def test_det_inferencer(faster_rcnn, data, loads):
    inferencer = DetInferencer(faster_rcnn, None, device="cpu", show_progress=False)
    paths = [str(data / "JPEGImages" / name) for name in ("q10.jpg", "q95.jpg")]
    by_path = inferencer(paths, return_datasamples=True)["predictions"]
    by_array = inferencer([mmcv.imread(path) for path in paths], return_datasamples=True)["predictions"]
    assert [sample.dagn_restored for sample in by_path] == [True, False]
    assert [sample.dagn_restored for sample in by_array] == [True, True]
    assert len(loads) == 1


def test_inference_model_on_path_and_array(pspnet, data, loads):
    model = init_model(pspnet, None, device="cpu")
    path = str(data / "JPEGImages" / "q95.jpg")
    assert inference_model(model, path).dagn_restored is False
    assert inference_model(model, mmcv.imread(path)).dagn_restored is True
    assert len(loads) == 1


def test_mmseg_inferencer(pspnet, data, loads):
    inferencer = MMSegInferencer(pspnet, None, device="cpu")
    paths = [str(data / "JPEGImages" / name) for name in ("q10.jpg", "q95.jpg")]
    by_path = inferencer(paths, return_datasamples=True)
    by_array = inferencer([mmcv.imread(path) for path in paths], return_datasamples=True)
    assert [sample.dagn_restored for sample in by_path] == [True, False]
    assert [sample.dagn_restored for sample in by_array] == [True, True]
    assert len(loads) == 1


def test_test_time_augmentation(pspnet):
    """As the hosts' tools/test.py --tta does it: 2 scales x 2 flips of one restored image."""
    pspnet.test_dataloader.dataset.pipeline = pspnet.tta_pipeline
    init_default_scope("mmseg")
    batches = list(Runner.build_dataloader(copy.deepcopy(pspnet.test_dataloader), seed=0))
    notes = [[sample.dagn_restored for (sample,) in batch["data_samples"]] for batch in batches]
    assert notes == [[True] * 4, [True] * 4, [False] * 4]
    pspnet.model = ConfigDict(**pspnet.tta_model, module=pspnet.model)
    assert len(run_test(pspnet, "seg-tta")) == 3


def test_pure_python_config_imports_the_class(data, weights, tmp_path):
    (tmp_path / "lazy.py").write_text(
        "from mmcv.transforms import LoadImageFromFile\n"
        "from mmdet.datasets import CocoDataset\n"
        "from mmdet.datasets.transforms import PackDetInputs\n"
        "from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress\n"
        "pipeline = [dict(type=LoadImageFromFile), dict(type=JPEGCompress, quality=10),\n"
        f"            dict(type=DAGNRestore, model={weights!r}),\n"
        "            dict(type=PackDetInputs, meta_keys=('jpeg_quality', 'dagn_restored'))]\n"
        f"dataset = dict(type=CocoDataset, data_root={str(data)!r}, ann_file='coco.json', test_mode=True,\n"
        "               data_prefix=dict(img='JPEGImages/'), pipeline=pipeline)\n"
    )
    config = Config.fromfile(tmp_path / "lazy.py")
    dataset = config.dataset.pop("type")(**config.dataset)
    assert [dataset[i]["data_samples"].metainfo["dagn_restored"] for i in range(4)] == [True] * 4
    assert Compose(config.pipeline)(dict(img_path=str(data / "JPEGImages/q95.jpg")))["data_samples"].jpeg_quality == 10
