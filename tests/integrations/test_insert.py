"""``insert`` on Config objects, ``insert_file`` and ``dagn-pre insert`` on files: text-style, JSON and pure-Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, init_default_scope
from openmmlab_toys import FASTER_RCNN, PSPNET

from dagn_pre.benchmarks.downstream.hosts.configs import CONFIGS
from dagn_pre.cli.main import main
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress
from dagn_pre.integrations.openmmlab.insert import SPLITS, find, insert, insert_file, load, outlines

MODULE = "dagn_pre.integrations.openmmlab"
LOAD, RESIZE = dict(type="LoadImageFromFile"), dict(type="Resize", scale=(96, 64))


def names(pipeline: list) -> list[str]:
    """Type names of a pipeline's steps."""
    return [step["type"] if isinstance(step["type"], str) else step["type"].__name__ for step in pipeline]


def toy(**more) -> Config:
    """A config with one pipeline in each split."""
    config = {f"{split}_dataloader": dict(dataset=dict(pipeline=[LOAD, RESIZE])) for split in ("train", "val", "test")}
    return Config({**config, "test_pipeline": [LOAD, RESIZE], "tta_pipeline": [LOAD, dict(type="TestTimeAug")], **more})


# -- on a Config -------------------------------------------------------------------------------------------------------


def test_goes_behind_the_loading_step_of_the_chosen_splits():
    config = toy()
    before = config.to_dict()
    changed = insert(config, compress=20, strength=0.5, assume_quality=30)
    assert config.to_dict() == before
    ours = [dict(type="JPEGCompress", quality=20), dict(type="DAGNRestore", model="dagn-xs", strength=0.5, assume_quality=30)]
    for pipeline in (changed.val_dataloader.dataset.pipeline, changed.test_dataloader.dataset.pipeline):
        assert pipeline == [LOAD, *ours, RESIZE]
    assert changed.test_pipeline == [LOAD, *ours, RESIZE] and changed.tta_pipeline[1:3] == ours
    assert changed.train_dataloader == config.train_dataloader
    assert changed.custom_imports == dict(imports=[MODULE], allow_failed_imports=False)


def test_only_compressing_or_only_restoring():
    assert names(insert(toy(), compress=10, restore=False).test_pipeline) == [
        "LoadImageFromFile",
        "JPEGCompress",
        "Resize",
    ]
    assert names(insert(toy()).test_pipeline) == ["LoadImageFromFile", "DAGNRestore", "Resize"]


def test_inserting_again_replaces():
    once, other = insert(toy(), compress=10), insert(toy(), compress=40, strength=0.3)
    assert insert(once, compress=10).to_dict() == once.to_dict()
    assert insert(once, compress=40, strength=0.3).to_dict() == other.to_dict()
    assert insert(once).to_dict() == insert(toy()).to_dict()
    assert insert(toy(), splits=["val", "test", "tta", "val"]).to_dict() == insert(toy()).to_dict()


def test_splits_that_share_one_object_stay_apart():
    config = toy()
    config._cfg_dict["test_dataloader"] = config._cfg_dict["val_dataloader"]
    changed = insert(config, splits=["val"])
    assert "DAGNRestore" in names(changed.val_dataloader.dataset.pipeline)
    assert "DAGNRestore" not in names(changed.test_dataloader.dataset.pipeline)


def test_wrapped_datasets_hooks_and_scoped_or_nested_loading_steps():
    leaf = dict(type="CocoDataset", pipeline=[dict(type="mmdet.LoadImageFromFile", backend_args=dict(backend="http"))])
    mosaic = dict(type="MultiImageMixDataset", dataset=leaf, pipeline=[dict(type="Mosaic")])
    repeat = dict(type="RepeatDataset", times=2, dataset=dict(type="ConcatDataset", datasets=[leaf, mosaic]))
    hook = dict(type="PipelineSwitchHook", switch_epoch=1, switch_pipeline=[LOAD, RESIZE])
    broadcast = dict(type="TransformBroadcaster", transforms=[dict(type="LoadImageFromNDArray"), RESIZE])
    changed = insert(
        toy(train_dataloader=dict(dataset=repeat), custom_hooks=[dict(type="A"), hook], test_pipeline=[broadcast]),
        splits=SPLITS,
    )
    first, second = changed.train_dataloader.dataset.dataset.datasets
    for pipeline in (first.pipeline, second.dataset.pipeline):
        assert pipeline[1] == dict(type="DAGNRestore", backend_args=dict(backend="http"), model="dagn-xs")
    assert names(second.pipeline) == ["Mosaic"]
    assert names(changed.custom_hooks[1].switch_pipeline) == ["LoadImageFromFile", "DAGNRestore", "Resize"]
    assert names(changed.test_pipeline[0].transforms) == ["LoadImageFromNDArray", "DAGNRestore", "Resize"]


def test_existing_custom_imports_are_kept():
    changed = insert(toy(custom_imports=dict(imports="json", allow_failed_imports=True)))
    assert changed.custom_imports == dict(imports=["json", MODULE], allow_failed_imports=True)
    assert insert(changed).custom_imports == changed.custom_imports


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(splits=["dev"]), "dev"),
        (dict(splits=[]), "splits"),
        (dict(compress=0), "1 to 100"),
        (dict(restore=False), "nothing to insert"),
        (dict(model="nope"), "known: dagn-s"),
        (dict(strength=7), "strength"),
        (dict(assume_quality=101), "quality"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        insert(toy(), **arguments)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (toy(val_dataloader=dict(dataset=dict(pipeline=[RESIZE]))), "val_dataloader.dataset.pipeline has no step"),
        (toy(val_dataloader=dict(dataset=dict(pipeline=[dict(LOAD, to_float32=True)]))), "to_float32=False"),
        (toy(val_dataloader=dict(dataset=dict(pipeline=[LOAD, RESIZE, dict(type="DAGNRestore")]))), "remove it"),
        (Config(dict(model=dict(type="A"), val_dataloader=None)), "val_dataloader, val_pipeline, test_dataloader"),
    ],
)
def test_configs_that_cannot_take_it(config, words):
    with pytest.raises(ConfigError, match=words):
        insert(config)


# -- on files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [FASTER_RCNN, PSPNET])
def test_written_config_stands_alone_and_builds(source, tmp_path, weights):
    out = tmp_path / "out.py"
    insert_file(source, out, compress=10, model=weights, splits=SPLITS)
    code = (
        "import sys; from mmengine.config import Config; from mmengine.dataset import Compose\n"
        "from mmengine.registry import init_default_scope; config = Config.fromfile(sys.argv[1])\n"
        "init_default_scope(config.default_scope); print(Compose(config.test_dataloader.dataset.pipeline))"
    )
    built = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(out)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "JPEGCompress(quality=10" in built.stdout and f"DAGNRestore(model={weights!r}" in built.stdout

    original, written = Config.fromfile(find(source)), Config.fromfile(out)
    assert outlines(written, SPLITS) == outlines(insert(original, compress=10, model=weights, splits=SPLITS), SPLITS)
    assert written.model.backbone.type == original.model.backbone.type
    assert len(out.read_text()) < 3000
    assert str(Path(find(source)).parent) not in out.read_text()  # not bound to this machine


def test_file_in_another_folder_with_a_nested_wrapper(tmp_path, weights):
    source = tmp_path / "configs" / "original.py"
    source.parent.mkdir()
    source.write_text(
        "custom_imports = None\n"
        "pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64))]\n"
        "dataset = dict(type='CocoDataset', ann_file='a.json', pipeline=pipeline, lazy_init=True)\n"
        "val_dataloader = dict(batch_size=1, dataset=dict(type='ConcatDataset', datasets=[dataset, dataset]))\n"
    )
    out = tmp_path / "elsewhere" / "deep" / "out.py"
    insert_file(source, out, model=weights)
    config = Config.fromfile(out)
    assert "_base_ = '../../configs/original.py'" in out.read_text()
    assert [names(d.pipeline)[1] for d in config.val_dataloader.dataset.datasets] == ["DAGNRestore"] * 2
    assert config.val_dataloader.batch_size == 1 and config.custom_imports.imports == [MODULE]
    init_default_scope("mmdet")
    step = DATASETS.build(config.val_dataloader.dataset.datasets[1]).pipeline.transforms[1]
    assert isinstance(step, DAGNRestore)

    again = tmp_path / "again.py"
    insert_file(out, again, compress=30, model=weights)
    pipeline = Config.fromfile(again).val_dataloader.dataset.datasets[0].pipeline
    assert names(pipeline) == ["LoadImageFromFile", "JPEGCompress", "DAGNRestore", "Resize"]


def test_json_original(tmp_path):
    source = tmp_path / "original.json"
    source.write_text(json.dumps(dict(test_pipeline=[LOAD, dict(type="Resize", scale_factor=0.5)])))
    insert_file(source, tmp_path / "out.py")
    assert names(Config.fromfile(tmp_path / "out.py").test_pipeline) == ["LoadImageFromFile", "DAGNRestore", "Resize"]


def test_pure_python_original(tmp_path, weights):
    source = tmp_path / "configs" / "lazy.py"
    source.parent.mkdir()
    source.write_text(
        "from mmcv.transforms import LoadImageFromFile, Resize\n"
        "test_pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 64))]\n"
        "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n"
        "val_dataloader = test_dataloader\n"
    )
    out = tmp_path / "out" / "lazy_dagn.py"
    insert_file(source, out, compress=10, model=weights)
    assert "from ..configs.lazy import *" in out.read_text()
    config = Config.fromfile(out)
    for pipeline in (
        config.test_pipeline,
        config.val_dataloader.dataset.pipeline,
        config.test_dataloader.dataset.pipeline,
    ):
        steps = Compose(pipeline).transforms
        assert isinstance(steps[1], JPEGCompress) and isinstance(steps[2], DAGNRestore) and len(steps) == 4
    insert_file(out, tmp_path / "out" / "again.py", model=weights)
    assert names(Config.fromfile(tmp_path / "out" / "again.py").test_pipeline) == [
        "LoadImageFromFile", "DAGNRestore", "Resize"
    ]  # fmt: skip
    dumped = tmp_path / "dumped.py"
    insert(Config.fromfile(source), model=weights).dump(dumped)
    assert isinstance(Compose(Config.fromfile(dumped).test_pipeline).transforms[1], DAGNRestore)

    with pytest.raises(ConfigError, match="by hand"):
        awkward = source.with_name("not-a-name.py")
        awkward.write_text(source.read_text())
        insert_file(awkward, out)


def test_a_failed_insertion_leaves_nothing(tmp_path):
    source, out = tmp_path / "original.py", tmp_path / "out.py"
    source.write_text("test_pipeline = [dict(type='Resize', scale=(96, 64))]\n")
    out.write_text("kept = 1\n")
    with pytest.raises(ConfigError, match="original.py"):
        insert_file(source, out)
    assert out.read_text() == "kept = 1\n" and sorted(tmp_path.iterdir()) == [source, out]


# -- the command -------------------------------------------------------------------------------------------------------


def test_command_prints_the_pipeline_before_and_after(tmp_path, capsys):
    out = tmp_path / "out.py"
    arguments = ["insert", FASTER_RCNN, "-o", str(out), "--compress", "10", "--max-quality", "80", "--splits", "val"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "before: LoadImageFromFile -> Resize -> LoadAnnotations -> PackDetInputs" in printed
    assert (
        "LoadImageFromFile -> JPEGCompress(quality=10) -> DAGNRestore(model='dagn-xs', max_quality=80) -> Re" in printed
    )
    config = Config.fromfile(out)
    assert "DAGNRestore" in names(config.val_dataloader.dataset.pipeline)
    assert "DAGNRestore" not in names(config.test_dataloader.dataset.pipeline)

    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize("config", ["gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py", "legacy_1.x/ssd300_coco_v1.py"])
def test_command_takes_configs_in_folders_whose_names_mmengine_cannot_read(config, tmp_path):
    source = f"mmdet::{config}"
    assert main(["insert", source, "-o", str(tmp_path / "out.py")]) == 0
    before, after = (Config.fromfile(path) for path in (find(source), tmp_path / "out.py"))
    assert "DAGNRestore" in names(after.test_dataloader.dataset.pipeline) and after.model == before.model


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["missing.py", "-o", "out.py"], 2, "missing.py"),
        (["mmdet::faster_rcnn/missing.py", "-o", "out.py"], 2, "mmdet::faster_rcnn/missing.py"),
        (["mmnothing::a/b.py", "-o", "out.py"], 2, "mmnothing is not installed"),
        ([FASTER_RCNN, "-o", "out.yaml"], 2, "out.yaml"),
        ([FASTER_RCNN, "-o", "out.py", "--model", "nope"], 2, "dagn-s"),
        ([FASTER_RCNN, "-o", "out.py", "--compress", "101"], 2, "101"),
        ([FASTER_RCNN, "-o", "out.py", "--splits", "dev"], 2, "dev"),
        (["broken.py", "-o", "out.py"], 1, "broken.py"),
        (["broken.py", "-o", "broken.py", "--overwrite"], 2, "inherit from itself"),
        (["unloading.py", "-o", "out.py"], 1, "unloading.py: test_dataloader.dataset.pipeline"),
    ],
)
def test_command_reports_bad_input_in_one_line(arguments, status, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("a = 1 / 0\n")
    Path("unloading.py").write_text("test_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize')]))\n")
    assert main(["insert", *arguments]) == status
    message = capsys.readouterr().err
    assert words in message and "Traceback" not in message and len(message.strip().splitlines()) == 1
    assert not Path("out.py").exists() and not Path("out.yaml").exists()


def test_inserted_config_keeps_its_config_dicts():
    """Hosts read steps by attribute (inference_detector sets ``pipeline[0].type``)."""
    assert all(isinstance(step, ConfigDict) for step in insert(toy(), compress=10).test_pipeline)


def test_a_config_that_inherits_from_mmseg_is_read_under_any_name_of_its_package():
    changed = insert(load(CONFIGS / "pspnet_r50_d8_voc.py"), splits=("test",))
    assert names(changed.test_dataloader.dataset.pipeline)[:2] == ["LoadImageFromFile", "DAGNRestore"]


@pytest.mark.parametrize(
    "code, reason",
    {
        "raise KeyError('lost')": "KeyError: 'lost'",
        "import sys; sys.exit(7)": "it ends the program",
        "a = = 1": "invalid syntax",
        "_base_ = './gone.py'": "gone.py: No such file or directory",
    }.items(),
)
def test_what_goes_wrong_in_a_config_is_one_error(tmp_path, code, reason):
    (tmp_path / "a.py").write_text(code)
    with pytest.raises(ConfigError, match=f"a.py: the config cannot be loaded: .*{reason}"):
        load(tmp_path / "a.py")
