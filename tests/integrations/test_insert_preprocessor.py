"""``insert(where="preprocessor"|"auto")`` on Config objects and files; the transform's side is in test_insert.py."""

from __future__ import annotations

import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS
from openmmlab_toys import FASTER_RCNN, PSPNET

from dagn_pre.cli.main import main
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.integrations.openmmlab import DAGNDetDataPreprocessor
from dagn_pre.integrations.openmmlab.insert import SPLITS, find, insert, insert_file, load, outlines

MODULE = "dagn_pre.integrations.openmmlab"
LOAD, LABELS, RESIZE = dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="Resize", scale=(96, 64))
FLIP, PACK = dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs", meta_keys=("img_path",))
CROP = dict(type="RandomCrop", crop_size=(8, 8))
TTA = dict(type="TestTimeAug", transforms=[[RESIZE, RESIZE], [FLIP], [PACK]])
PREPROCESSOR = dict(type="mmdet.DetDataPreprocessor", mean=[1, 2, 3], std=[4, 5, 6], pad_size_divisor=32)


def later(step: dict, **more) -> dict:
    return dict(type="DAGNDefer", transform=step, **more)


def toy(test: list | None = None, **more) -> Config:
    """A config with a detector's preprocessor and one pipeline in each split."""
    test = test or [LOAD, RESIZE, LABELS, PACK]
    pipelines = dict(train=[LOAD, LABELS, RESIZE, FLIP, PACK], val=test, test=test)
    config = {f"{split}_dataloader": dict(dataset=dict(pipeline=steps)) for split, steps in pipelines.items()}
    model = dict(type="A", data_preprocessor=PREPROCESSOR)
    return Config({"model": model, **config, "tta_pipeline": [LOAD, TTA], **more})


def unscoped(value: object) -> object:
    """Without the ``_scope_`` that mmengine notes in what it inherits by a host's name."""
    if isinstance(value, dict):
        return {key: unscoped(item) for key, item in value.items() if key != "_scope_"}
    return [unscoped(item) for item in value] if isinstance(value, (list, tuple)) else value


def test_wraps_what_moves_pixels_and_keeps_the_hosts_arguments():
    config = toy()
    before = config.to_dict()
    changed = insert(config, where="preprocessor", compress=20, strength=0.5, splits=SPLITS)
    assert config.to_dict() == before
    expected = [LOAD, dict(type="JPEGCompress", quality=20), later(RESIZE), LABELS, later(PACK)]
    for split in ("val", "test"):
        assert changed[f"{split}_dataloader"].dataset.pipeline == expected
    assert changed.train_dataloader.dataset.pipeline[2:] == [LABELS, later(RESIZE), later(FLIP), later(PACK)]
    assert changed.tta_pipeline[2].transforms == [[later(RESIZE)] * 2, [later(FLIP)], [later(PACK)]]
    restorer = dict(model="dagn-xs", strength=0.5)
    assert changed.model.data_preprocessor == {**PREPROCESSOR, "type": "DAGNDetDataPreprocessor", "restorer": restorer}
    assert changed.custom_imports == dict(imports=[MODULE], allow_failed_imports=False)


def test_inserting_again_replaces_either_way():
    once = insert(toy(), where="preprocessor", strength=0.5)
    assert insert(once, where="preprocessor", strength=0.5).to_dict() == once.to_dict()
    assert insert(once, where="preprocessor").to_dict() == insert(toy(), where="preprocessor").to_dict()
    back, forth = insert(once), insert(insert(toy(), compress=10), where="preprocessor", strength=0.5)
    expected = insert(toy())
    expected.model.data_preprocessor.type = "DetDataPreprocessor"
    assert back.to_dict() == expected.to_dict() and forth.to_dict() == once.to_dict()
    only_jpeg = insert(once, compress=10, restore=False)
    assert only_jpeg.val_dataloader.dataset.pipeline == [LOAD, dict(type="JPEGCompress", quality=10), RESIZE, LABELS, PACK]
    # The preprocessor stays while another split hands images to it.
    assert insert(once, splits=["test"]).model.data_preprocessor.type == "DAGNDetDataPreprocessor"


def test_the_loading_steps_backend_is_kept():
    loader = dict(LOAD, backend_args=dict(backend="http"))
    changed = insert(toy(test=[loader, RESIZE, PACK]), where="preprocessor", splits=["test"])
    pipeline = changed.test_dataloader.dataset.pipeline
    assert pipeline[1:] == [later(step, backend_args=dict(backend="http")) for step in (RESIZE, PACK)]


def test_the_preprocessor_at_the_top_level_is_changed_too():
    """mmseg's configs name theirs twice; mmengine gives the model the top-level one where it has none."""
    seg = dict(type="SegDataPreProcessor", size=(8, 8))
    ours = dict(seg, type="DAGNSegDataPreProcessor", restorer=dict(model="dagn-xs"))
    both = insert(toy(data_preprocessor=seg, model=dict(type="A", data_preprocessor=seg)), where="preprocessor")
    assert both.data_preprocessor == both.model.data_preprocessor == ours
    above = insert(toy(data_preprocessor=seg, model=dict(type="A")), where="preprocessor")
    assert above.data_preprocessor == ours and above.model == dict(type="A")


@pytest.mark.parametrize(
    ("config", "splits", "words"),
    [
        (toy(test=[LOAD, CROP, PACK]), ["test"], r"test_dataloader\.dataset\.pipeline\[1\] is RandomCrop.*where='transform'"),
        (toy(test=[LOAD, dict(RESIZE, interpolation="area"), PACK]), ["val"], "bilinear by cv2.*where='transform'"),
        (toy(test=[LOAD, RESIZE]), ["test"], "no step that packs"),
        (toy(test=[LOAD, dict(type="TransformBroadcaster", transforms=[RESIZE]), PACK]), ["test"], "TransformBroadcaster"),
        (toy(train_pipeline=[dict(type="Mosaic"), PACK]), ["train"], "works on images that other pipelines load"),
        (toy(model=dict(type="A")), ["test"], "no model.data_preprocessor"),
        (
            toy(model=dict(data_preprocessor=dict(type="MultiBranchDataPreprocessor", data_preprocessor=PREPROCESSOR))),
            ["test"],
            "model.data_preprocessor is a MultiBranchDataPreprocessor.*where='transform'",
        ),
    ],
)
def test_what_cannot_move_is_named_with_the_way_out(config, splits, words):
    with pytest.raises(ConfigError, match=words):
        insert(config, where="preprocessor", splits=splits)
    insert(config, where="transform", splits=["train"])  # and the way out is open


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(device="cpu"), "takes no device, it restores where the model is"),
        (dict(on_error="pass"), "takes no on_error"),
        (dict(strength=7), "strength"),
        (dict(model="nope"), "known: dagn-s"),
        (dict(where="model"), "where must be one of transform, preprocessor, auto"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(UsageError, match=words):
        insert(toy(), **{"where": "preprocessor", **options})


def test_auto_picks_by_device_and_falls_back(monkeypatch):
    def chosen(config: Config, **options) -> str:
        names = outlines(insert(config, where="auto", splits=["test"], **options), ["test"])
        assert ("DAGNRestore" in str(names)) != ("DAGNDet" in str(names))
        return "preprocessor" if "DAGNDet" in str(names) else "transform"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen(toy()) == "transform" and chosen(toy(), device="cuda") == "preprocessor"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen(toy()) == "preprocessor" and chosen(toy(), device="cpu") == "transform"
    assert chosen(toy(test=[LOAD, CROP, PACK])) == "transform" and chosen(toy(), on_error="pass") == "transform"
    with pytest.raises(UsageError, match="strength"):
        insert(toy(), where="auto", strength=7)


# -- on files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [FASTER_RCNN, PSPNET, "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"])
def test_written_config_inherits_and_can_be_undone(source, tmp_path, weights):
    out, back = tmp_path / "out.py", tmp_path / "back.py"
    insert_file(source, out, where="preprocessor", compress=10, model=weights)
    original, written = load(find(source)), Config.fromfile(out)
    expected = insert(original, where="preprocessor", compress=10, model=weights)
    for key in ("test_pipeline", "tta_pipeline", "test_dataloader", "val_dataloader", "model", "data_preprocessor"):
        assert unscoped(written.get(key)) == unscoped(expected.get(key))
    insert_file(out, back, model=weights)
    undone, plain = Config.fromfile(back), insert(original, model=weights)
    for key in ("test_pipeline", "tta_pipeline", "test_dataloader", "val_dataloader", "model", "data_preprocessor"):
        assert unscoped(undone.get(key)) == unscoped(plain.get(key))


def test_pure_python_original(tmp_path, weights):
    source = tmp_path / "configs" / "lazy.py"
    source.parent.mkdir()
    source.write_text(
        "from mmcv.transforms import LoadImageFromFile, RandomFlip, Resize, TestTimeAug\n"
        "from mmdet.datasets.transforms import PackDetInputs\n"
        "from mmdet.models import DetDataPreprocessor\n"
        "test_pipeline = [dict(type=LoadImageFromFile), dict(type=Resize, scale=(96, 64)), dict(type=PackDetInputs)]\n"
        "tta_pipeline = [dict(type=LoadImageFromFile), dict(type=TestTimeAug, transforms=[\n"
        "    [dict(type=Resize, scale=s) for s in ((96, 64), (48, 32))], [dict(type=RandomFlip, prob=1.0)],\n"
        "    [dict(type=PackDetInputs)]])]\n"
        "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n"
        "model = dict(data_preprocessor=dict(type=DetDataPreprocessor, pad_size_divisor=32))\n"
    )
    out = tmp_path / "out" / "lazy_dagn.py"
    insert_file(source, out, where="preprocessor", compress=10, model=weights)
    insert(Config.fromfile(source), where="preprocessor", compress=10, model=weights).dump(tmp_path / "dumped.py")
    for path in (out, tmp_path / "dumped.py"):
        config = Config.fromfile(path)
        steps = Compose(config.test_pipeline).transforms
        assert [type(step).__name__ for step in steps] == ["LoadImageFromFile", "JPEGCompress", "DAGNDefer", "DAGNDefer"]
        assert str(Compose(config.tta_pipeline)).count("DAGNDefer(") == 6  # three steps for each of two scales
        assert isinstance(MODELS.build(config.model.data_preprocessor), DAGNDetDataPreprocessor)
    insert_file(out, tmp_path / "out" / "again.py", model=weights)
    undone = Config.fromfile(tmp_path / "out" / "again.py")
    assert "DAGNDefer" not in str(outlines(undone, SPLITS)) and "restorer" not in undone.model.data_preprocessor


def test_command(tmp_path, capsys):
    out = tmp_path / "out.py"
    arguments = ["insert", FASTER_RCNN, "-o", str(out), "--where", "preprocessor", "--max-quality", "80", "--splits", "test"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "LoadImageFromFile -> DAGNDefer(Resize) -> LoadAnnotations -> DAGNDefer(PackDetInputs)" in printed
    assert "model.data_preprocessor\n  before: DetDataPreprocessor\n  after:  DAGNDetDataPreprocessor(restorer=" in printed
    assert Config.fromfile(out).model.data_preprocessor.restorer == dict(model="dagn-xs", max_quality=80)
    assert len(out.read_text()) < 1500
    assert main([*arguments[:-1], "train", "--device", "cpu", "--overwrite"]) == 2
    assert "takes no device" in capsys.readouterr().err
    crop = ["insert", PSPNET, "-o", str(out), "--where", "preprocessor", "--splits", "train", "--overwrite"]
    assert main(crop) == 1
    assert "RandomCrop" in capsys.readouterr().err
