"""``dagn-pre bench`` and those of its commands that have no tests of their own beside what they call."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from dagn_pre.cli.main import COMMANDS, main
from tests.support import BLOCK_HOSTS, photograph, python


def test_bare_it_shows_its_commands(capsys):
    assert main(["bench"]) == 2
    shown = capsys.readouterr().out
    words = [name.removeprefix("bench ") for name in COMMANDS if name.startswith("bench ")]
    assert "run" in words and set(words) <= set(re.findall(r"^    ([a-z-]+)", shown, re.MULTILINE))


def test_cost(tmp_path, tiny_weights, capsys):
    target = tmp_path / "rows.json"
    words = ["bench", "cost", "--model", str(tiny_weights), "--size", "32", "--device", "cpu", "--runs", "1"]
    assert main([*words, "--json", str(target), "--output", str(tmp_path / "out")]) == 0
    assert [row["method"] for row in json.loads(target.read_text()) if not row["quoted"]] == ["tiny"]
    assert "FBCNN*" in (tmp_path / "out" / "cost.md").read_text()
    assert "| tiny " in capsys.readouterr().out


def test_features(tmp_path, tiny_weights, capsys):
    Image.fromarray(photograph(48, 64)).save(tmp_path / "a.png")
    target = tmp_path / "rows.json"
    words = ["bench", "features", str(tmp_path), "--model", str(tiny_weights), "--qf", "20", "--device", "cpu"]
    assert main([*words, "--json", str(target)]) == 0
    assert [(row["qf"], row["features"]) for row in json.loads(target.read_text())] == [(20, "insensitive"), (20, "sensitive")]
    assert "| insensitive " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["cost", "--model", "nobody"], "dagn-pre bench cost: unknown model 'nobody'"),
        (["cost", "--size", "30"], "multiple of 16"),
        (["features", "nowhere"], "dagn-pre bench features: nowhere: no such folder"),
        pytest.param(
            ["deployment", "demo", "--output", "out", "--limit", "4"],
            "dagn-pre bench deployment: limit must be at least 8",
            marks=pytest.mark.openmmlab,
        ),
        pytest.param(["train", "nothing.py", "--work-dir", "out"], "nothing.py", marks=pytest.mark.openmmlab),
    ],
)
def test_wrong_usage_is_one_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_what_is_missing_is_named(tmp_path):
    """Commands on host models name both extras, the others that of the benchmarks."""
    commands = (
        ["deployment", "demo", "--output", "o"],
        ["train", "demo_pspnet", "--work-dir", "o"],
        ["grey", "."],
        ["recompressed", "."],
        ["features", "."],
        ["rate-distortion", ".", "--output", "o"],
    )
    code = "from dagn_pre.cli.main import main\nsys.stderr = sys.stdout\n"
    code += f"for words in {commands!r}: print(main(['bench', *words]))\n"
    missing = "for name in ('matplotlib', 'skimage'): sys.modules[name] = None\n"
    printed = python(BLOCK_HOSTS + missing + code, cwd=tmp_path).splitlines()
    assert printed[1::2] == ["1"] * 6
    assert all("dagn-pre[openmmlab,benchmarks]" in line for line in printed[0:4:2])
    assert all("dagn-pre[benchmarks]" in line for line in printed[4::2])
