"""``dagn-pre adapt`` as a user types it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dagn_pre import models
from dagn_pre.cli.main import main
from tests.support import write_photographs

pytestmark = pytest.mark.openmmlab  # dagn_pre.training, which the command imports when it runs

QUICK = ["--cfg-options", "workers=0", "batch=2", "patch=48", "validation_size=48"]
TOY = ["--module", "tests.training.toys:scoring"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight small photographs."""
    return write_photographs(tmp_path_factory.mktemp("domain"), 8, noise=9)


@pytest.fixture
def adapt(folder, tiny_weights, tmp_path):
    """Runs the command: its status."""

    def run(*arguments: str, output: str = "mine.safetensors") -> int:
        given = ["--images", str(folder), "-o", str(tmp_path / output), "--model", str(tiny_weights), "--amp", "none"]
        return main(["adapt", *arguments, *given, "--steps", "2", *QUICK])

    return run


def test_it_tells_how_far_it_is_and_what_was_won(adapt, tmp_path, capsys):
    assert adapt(*TOY, "--module-args", "seed=3", "--qf", "10", "40") == 0
    out, err = capsys.readouterr()
    assert err.startswith("8 images, 4 of them held out; patches of 48 pixels, QF 10 to 40; float32 on ")
    line = r"step 2 of 2, 0\.0 min left, loss \d+\.\d+, held-out agreement -?[\d.]+% \(-?[\d.]+% at first\)"
    assert re.fullmatch(line, err.splitlines()[-1])
    lines = out.splitlines()
    assert lines[0].split() == ["held", "out", "agreement", "before", "after", "class", "scores", "JPEG", "before", "after"]
    assert [row.split()[:2] for row in lines[1:4]] == [["QF", "10"], ["QF", "20"], ["QF", "40"]]
    assert all(row.count("%") == 5 for row in lines[1:4])
    assert lines[4].startswith("2 steps in 0.") and "all steps are done; written: the weights of step" in lines[4]
    assert lines[-1] == f'in a pipeline: dict(type="DAGNRestore", model="{tmp_path / "mine.safetensors"}")'
    card = models.load(tmp_path / "mine.safetensors").card
    assert card["training"]["semantic"]["teachers"]["model"]["arguments"] == {"seed": 3}


def test_it_continues_and_overwrites_when_asked(adapt, capsys):
    assert adapt(*TOY) == 0
    assert adapt(*TOY) == 2 and "exists already; choose another file, or replace it with --overwrite" in capsys.readouterr().err
    assert adapt(*TOY, "--resume", "--overwrite") == 0  # nothing is left to do
    assert adapt(*TOY, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ([], 2, "give either a CONFIG of mmdet or mmseg or --module"),
        (["a.py", *TOY], 2, "give either a CONFIG"),
        ([*TOY, "--checkpoint", "w.pth"], 2, "--checkpoint goes with a CONFIG"),
        (["demo_pspnet", "--mean", "0", "0", "0"], 2, "--mean goes with --module"),
        (["no_config.py"], 2, "no_config.py: there is no such config"),
        ([*TOY, "--layers", "stem"], 1, "makes a Teacher, which names its layers itself"),
        (["--module", "tests.training.toys:plain", "--layers", "neck"], 1, "no layer 'neck'; it has stem"),
        (["--module", "no_package:teacher"], 1, "no_package:teacher cannot be imported"),
        ([*TOY, "--qf", "40", "10"], 2, "must rise"),
        ([*TOY, "--minutes", "0", "--steps", "0"], 2, "steps must be positive"),
        ([*TOY, "--images", "no/folder"], 2, "no/folder: no such folder"),
        ([*TOY, "--model", "identity"], 2, "identity is not one of our networks"),
        (["demo_pspnet", "--checkpoint", "no.pth"], 1, "checkpoint no.pth does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, status, reason, folder, tiny_weights, tmp_path, capsys):
    given = ["--images", str(folder), "-o", str(tmp_path / "mine.safetensors"), "--model", str(tiny_weights)]
    assert main(["adapt", *QUICK, *given, *arguments]) == status
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("dagn-pre adapt: ") and reason in err
    assert not (tmp_path / "mine.safetensors").exists()


def test_a_module_beside_the_user_is_found(adapt, tmp_path, monkeypatch):
    source = "from torch import nn\n\n\ndef net(channels):\n    return nn.Conv2d(3, channels, 3)\n"
    (tmp_path / "my_network.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    assert adapt("--module", "my_network:net", "--module-args", "channels=6", "--mean", "127", "127", "127") == 0


def test_a_segmenter_of_mmseg_by_its_config(adapt, tmp_path, capsys):
    assert adapt("demo_pspnet") == 0
    out = capsys.readouterr().out
    assert "class scores JPEG" in out and "OneDL" not in out
    teacher = models.load(tmp_path / "mine.safetensors").card["training"]["semantic"]["teachers"]["model"]
    assert re.fullmatch(r"demo_pspnet\.py [0-9a-f]{16}", teacher["config"])
    assert re.fullmatch(r"demo_pspnet\.pth [0-9a-f]{16}", teacher["checkpoint"]) and teacher["scale"] == 3.0
