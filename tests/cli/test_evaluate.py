"""``dagn-pre evaluate`` as a user calls it."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.cli.main import main
from tests.support import BLOCK_HOSTS, photograph, python


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "toys"
    root.mkdir()
    for seed in range(2):
        Image.fromarray(photograph(40, 56, seed)).save(root / f"{seed}.png")
    return root


def evaluate(*words) -> int:
    return main(["evaluate", "--device", "cpu", *map(str, words)])


def test_rows_table_and_files(folder, tmp_path, tiny_weights, capsys):
    out, target = tmp_path / "out", tmp_path / "rows.json"
    words = ["--data", folder, "--qf", 10, 40, "--model", tiny_weights, "--output", out, "--json", target]
    assert evaluate(*words, "--blind-sweep") == 0
    rows = json.loads(target.read_text())
    assert [(row["qf"], row["method"]) for row in rows] == [(qf, method) for qf in (10, 40) for method in ("jpeg", "tiny")]
    assert set(rows[0]) == {"dataset", "qf", "method", "psnr", "ssim", "psnrb", "n_images", "blind_qf_error"}
    assert f"{rows[0]['psnr']:.2f} | " in capsys.readouterr().out
    assert (out / "crops-toys.png").is_file() and (out / "results.csv").is_file()
    assert evaluate(*words) == 0  # everything is there already
    assert json.loads(target.read_text()) == rows
    assert evaluate(*words, "--limit", 1) == 2
    assert "other settings" in capsys.readouterr().err
    assert evaluate(*words, "--limit", 1, "--overwrite") == 0
    assert {row["n_images"] for row in json.loads(target.read_text())} == {1}


def test_a_bad_file_is_named_the_others_are_measured_and_the_status_is_1(folder, tmp_path, tiny_weights, capsys):
    (folder / "bad.png").write_bytes(b"no image")
    target = tmp_path / "rows.json"
    assert evaluate("--data", folder, "--qf", 10, "--model", tiny_weights, "--json", target) == 1
    captured = capsys.readouterr()
    assert "bad.png: not an image" in captured.err and "1 files could not be measured" in captured.out
    assert {row["n_images"] for row in json.loads(target.read_text())} == {2}


def test_several_measurements_at_once(folder, tmp_path, tiny_weights, capsys):
    (folder / "b.jpg").write_bytes(codec.encode(photograph(), 30))
    target = tmp_path / "all.json"
    words = ["--real-world", folder, "--data", folder, "--qf", 10]
    assert evaluate(*words, "--model", tiny_weights, "--json", target, "--output", tmp_path / "out") == 0
    content = json.loads(target.read_text())
    assert set(content) == {"restoration", "real_world"}
    assert {row["header_qf"] for row in content["real_world"]} == {None, 30}
    assert "are JPEG files themselves" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "nothing to measure"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", ".", "--qf", "0"], "quality must be an integer from 1 to 100"),
        (["--data", ".", "--model", "nobody"], "unknown model 'nobody'"),
    ],
)
def test_wrong_usage_is_one_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate(*words) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


@pytest.mark.slow
def test_no_host_is_needed(folder, tmp_path, tiny_weights):
    """Neither OpenMMLab nor OpenCV; without the benchmarks extra one sentence names it."""
    words = ["evaluate", "--data", str(folder), "--qf", "10", "--model", str(tiny_weights), "--device", "cpu"]
    call = f"from dagn_pre.cli.main import main\nsys.stderr = sys.stdout\nprint(main({words!r}))\n"
    assert python(BLOCK_HOSTS + call, cwd=tmp_path).splitlines()[-1] == "0"
    told = python(BLOCK_HOSTS + "sys.modules['matplotlib'] = None\n" + call, cwd=tmp_path)
    assert "dagn-pre[benchmarks]" in told and told.splitlines()[-1] == "1"


@pytest.mark.parametrize("command", ["evaluate --data .", "bench cost", "bench features .", "bench grey ."])
def test_rows_that_cannot_be_written_are_refused_before_anything_is_measured(tmp_path, capsys, command):
    (tmp_path / "file").touch()
    for place, told in ((tmp_path, "is a folder; give a file"), (tmp_path / "file" / "rows.json", "is a file, not a folder")):
        with pytest.raises(SystemExit, match="2"):
            main([*command.split(), "--json", str(place)])
        assert told in capsys.readouterr().err
