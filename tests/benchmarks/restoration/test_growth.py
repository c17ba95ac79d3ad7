"""How cost grows: that every cell is measured, resumed and told; times are never asserted."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from dagn_pre import models
from dagn_pre.benchmarks.restoration import growth
from dagn_pre.cli.main import main
from dagn_pre.errors import DagnPreError, UsageError

SIZE = (15, 20)  # of 0.0003 megapixels


def made_up(cell, options):
    ms = 1000.0 * cell.megapixels * cell.batch / cell.threads + 1
    return {"ms": ms, "calls": 3, "macs": 10**9, "gmacs": 20.0, "product": 80.0, "before_bytes": 1, "peak_bytes": 2**20 * 7,
            "reason": None}  # fmt: skip


def test_sizes():
    assert growth.size(12) == (3000, 4000) and growth.size(0.3072) == (480, 640)
    height, width = growth.size(50)
    assert height * width == pytest.approx(50e6, rel=1e-3) and growth.size(0.0003) == SIZE


def test_cells_are_every_size_alone_and_the_smallest_in_batches():
    found = growth.cells([0.3072, 0.0003], [1, 4], [1, 2])
    assert [(cell.width, cell.batch, cell.threads) for cell in found] == [
        (20, 1, 1), (640, 1, 1), (20, 1, 2), (640, 1, 2), (20, 4, 1), (20, 4, 2)
    ]  # fmt: skip


@pytest.mark.slow
def test_cells_are_measured_in_processes_of_their_own(tmp_path, tiny_weights, capsys):
    words = ["bench", "growth", "--model", str(tiny_weights), "--megapixels", "0.02", "--batch", "3"]
    words += ["--threads", "1", "--rounds", "1", "--output", str(tmp_path)]
    assert main(words) == 0
    content = json.loads((tmp_path / "results.json").read_text())
    assert [(row["width"], row["height"], row["batch"]) for row in content["rows"]] == [(163, 123, 1), (163, 123, 3)]
    for row in content["rows"]:
        assert min(row["ms"], row["gmacs"], row["product"], row["before_bytes"], row["peak_bytes"]) > 0
        assert row["reason"] is None and row["gmacs"] == pytest.approx(row["macs"] / row["ms"] / 1e6)
    macs = models.cost(tiny_weights, (128, 176))[1]
    assert [row["macs"] for row in content["rows"]] == [macs, 3 * macs]
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "growth.md").read_text() and "| 163x123 " in printed.out
    assert "100% " in printed.err and Image.open(tmp_path / "growth.png").width > 1000


@pytest.mark.slow
def test_what_does_not_fit_into_memory_is_a_row_with_its_reason(tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(growth, "free_memory", lambda: 400 * growth.MIB)
    told = growth.evaluate(tmp_path, tiny_weights, [0.0003, 40], [1], [1], rounds=2)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    found = [(row["width"], row["round"], row["ms"] is None) for row in rows]
    assert found == [(20, 0, False), (7303, 0, True), (20, 1, False)]
    assert "Not run: 7303x5477, batch 1, 1 thread(s): with 400 MiB free: can't allocate memory: " in told
    line = next(line for line in told.splitlines() if line.startswith("| 7303x5477"))
    assert [cell.strip() for cell in line.split("|")[5:-1]] == ["-"] * 6


def test_a_run_without_any_figure_is_an_error(tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(growth, "turn", lambda *rest: {**dict.fromkeys(made_up(*rest)), "reason": "no room"})
    with pytest.raises(DagnPreError, match="no cell could be run; the first: no room"):
        growth.evaluate(tmp_path, tiny_weights, [0.0003], [], [1])
    assert not (tmp_path / "growth.md").exists()


def test_a_run_goes_on_where_it_ended(tmp_path, tiny_weights, monkeypatch):
    calls = []

    def interrupted(cell, options):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(cell)
        return made_up(cell, options)

    monkeypatch.setattr(growth, "turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        growth.evaluate(tmp_path, tiny_weights, [0.0003, 0.3072], [], [1, 2], rounds=2)
    monkeypatch.setattr(growth, "turn", lambda cell, options: calls.append(cell) or made_up(cell, options))
    told = growth.evaluate(tmp_path, tiny_weights, [0.0003, 0.3072], [], [1, 2], rounds=2)
    assert calls == 2 * growth.cells([0.0003, 0.3072], [], [1, 2]) and "Medians of 2 round(s)" in told
    line = next(line for line in told.splitlines() if line.startswith("| 640x480 "))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["0.31", "1", "1", "308.2", "1003", "20.0", "80.0", "25", "7"]
    with pytest.raises(UsageError, match="was measured with other settings .dtype float32, now bfloat16"):
        growth.evaluate(tmp_path, tiny_weights, [0.0003], [], [1], dtype="bfloat16")
    growth.evaluate(tmp_path, tiny_weights, [0.0003], [], [1], dtype="bfloat16", rounds=1, overwrite=True)
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 1


def test_shares_are_of_the_same_round():
    rows = [{**dict(zip(("height", "width"), SIZE)), "batch": 1, "threads": 1, **made_up(growth.Cell(*SIZE, 1, 1), None)}]
    rows += [{**rows[0], "gmacs": 40.0, "product": 400.0, "peak_bytes": 2**20 * 9}, {**rows[0], "gmacs": 5.0, "product": 25.0}]
    (row,) = growth.medians({"rows": rows})
    assert (row["gmacs"], row["product"], row["share"], row["peak_bytes"], row["rounds"]) == (20, 80, 0.2, 2**20 * 9, 3)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--batch", "0"], "must be 1 or more"),
        (["--rounds", "0"], "must be 1 or more"),
        (["--megapixels", "-1"], "at least 0.0001 megapixels"),
        (["--engine", "abacus"], "engine must be one of"),
        (["--model", "libjpeg-plain"], "libjpeg-plain takes JPEG files"),
        (["--model", "ipt"], "ipt takes patches"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, said, tmp_path, capsys):
    assert main(["bench", "growth", *words, "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
