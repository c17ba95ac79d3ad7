"""Where the transform's time goes: that every step is seen and they add up; times are never asserted."""

from __future__ import annotations

import json
import time

import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.downstream import profiling
from dagn_pre.cli.main import main
from dagn_pre.inference import Inference
from tests.support import photograph


@pytest.fixture
def files(tmp_path):
    data = codec.encode(photograph(96, 128), 10)
    (tmp_path / "a.jpg").write_bytes(data)
    Image.fromarray(codec.decode(data)).save(tmp_path / "a.png")
    (tmp_path / "good.jpg").write_bytes(codec.encode(photograph(96, 128), 97))
    return tmp_path


def test_steps_add_up(files, tiny_weights, capsys):
    words = ["bench", "profile", str(files / "a.jpg"), str(files / "a.png"), "--model", str(tiny_weights), "--runs", "3"]
    assert main([*words, "--output", str(files / "out")]) == 0
    found = json.loads((files / "out" / "profile.json").read_text())
    for file in ("a.jpg", "a.png"):
        rows = {row["step"]: row for row in found["rows"] if row["file"] == file}
        beside = ["rest", "all outside the network", "DAGNRestore.transform", "loading, before it"]
        assert list(rows) == [*profiling.STEPS, *beside]
        assert all(row["ms"] > 0 and (row["height"], row["width"]) == (96, 128) for row in rows.values())
        assert rows["DAGNRestore.transform"]["share"] == 1
        assert rows["all outside the network"]["share"] == pytest.approx(1 - rows["network"]["share"])
    table = capsys.readouterr().out
    assert table.endswith((files / "out" / "profile.md").read_text())  # after what hosts print
    assert "a.jpg 128x96, a.png 128x96" in table and "torch, float32" in table


def test_a_step_has_its_own_time(files, tiny_weights, monkeypatch):
    convert = Inference.tensor

    def slow(self, rgbs):
        time.sleep(0.2)
        return convert(self, rgbs)

    monkeypatch.setattr(Inference, "tensor", slow)
    monkeypatch.setitem(profiling.STEPS, "pixels to tensor", (slow,))
    rows = {row["step"]: row["ms"] for row in profiling.profile([files / "a.jpg"], tiny_weights, runs=1)["rows"]}
    assert rows["pixels to tensor"] > 200 and rows["rest"] < rows["pixels to tensor"]
    sums = sum(rows[step] for step in (*profiling.STEPS, "rest"))
    assert rows["DAGNRestore.transform"] == pytest.approx(sums)
    assert rows["all outside the network"] == pytest.approx(sums - rows["network"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["good.jpg"], "good.jpg: is not restored, so there is nothing to measure: its QF is 97"),
        (["a.jpg", "a.jpg"], "files of one name"),
        (["a.jpg", "--runs", "0"], "runs must be at least 1"),
        (["a.jpg", "--engine", "abacus"], "engine must be one of"),
    ],
)
def test_what_cannot_be_split_is_refused(words, said, files, tiny_weights, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert main(["bench", "profile", *words, "--model", str(tiny_weights)]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_missing_is_named(files, tiny_weights, capsys):
    assert main(["bench", "profile", str(files / "none.jpg"), "--model", str(tiny_weights)]) == 1
    assert "none.jpg" in capsys.readouterr().err
