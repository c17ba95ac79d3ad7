"""dagn-pre bench scale: what it sees of a run, and what it says of it."""

from __future__ import annotations

import pytest

from dagn_pre import codec
from dagn_pre.benchmarks.restoration import scale
from dagn_pre.benchmarks.restoration.ray_overhead import Overhead
from dagn_pre.cli.main import main
from dagn_pre.errors import DagnPreError
from tests.support import photograph


@pytest.mark.slow
def test_a_run_is_watched_by_its_manifest_and_memory(tmp_path, tiny_weights):
    scale.write_tiny(tmp_path / "in", 1200)
    assert len(list((tmp_path / "in" / "00001").iterdir())) == 200
    words = [str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(tiny_weights), "--device", "cpu", "--workers", "2"]
    seen = scale.watch(words, tmp_path / "out", 1)
    assert seen.images == len(list((tmp_path / "out").rglob("[!.]*.png"))) == 1200
    assert seen.start > 0 and seen.rate > 0 and min(seen.parent, seen.worker) > 50 * scale.MIB
    assert max(seen.parent, seen.worker) < seen.together < seen.parent + 4 * seen.worker


def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(DagnPreError, match="ended with status 2: .*no such file or folder"):
        scale.watch([str(tmp_path / "none"), str(tmp_path / "out")], tmp_path / "out", 1)


def test_the_command_prints_and_writes_tables(tmp_path, monkeypatch, capsys):
    calls = []

    def watch(words, out, threads):
        calls.append((words, threads))
        return scale.Watched(int(words[-1]) * 10, 2.0, 50.0 / threads, 300 * scale.MIB, 400 * scale.MIB, 900 * scale.MIB)

    monkeypatch.setattr(scale, "watch", watch)
    monkeypatch.setattr(scale.os, "sched_getaffinity", lambda process: range(4))
    monkeypatch.setattr(scale.ray_overhead, "ray_overhead", lambda blocks: [Overhead(block, 12.5, 4.25) for block in blocks])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    words = ["bench", "scale", str(tmp_path / "in"), "--workers", "2", "4", "--rounds", "1", "--memory", "20", "--ray", "16"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "scale.md").read_text() and (tmp_path / "out" / "scale.json").exists()
    assert [threads for _, threads in calls] == [4, 2, 1, 1, 4, 2, 1, 1, 1]
    assert sum("--strength" in words for words, _ in calls) == 4
    assert "| restoring, 2 x 2 threads" in printed and "25.00" in printed
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert ["40", "300", "400", "900"] in rows and rows[-1] == ["16", "12.50", "4.25", "8.25"]
    assert main(["bench", "scale", str(tmp_path / "in"), "--workers", "0"]) == 2
    assert main(["bench", "scale", str(tmp_path / "out")]) == 2 and "no images" in capsys.readouterr().err
