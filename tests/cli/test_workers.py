"""Several processes, and the manifest: nothing lost, nothing twice, whoever dies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from dagn_pre import Restorer, codec, images
from dagn_pre.cli import batch, listing
from dagn_pre.cli.main import main
from dagn_pre.files import write_atomic
from dagn_pre.manifest import FOLDER, Manifest, Row
from tests.support import odd_files, photograph


@pytest.fixture
def model(tiny_weights):
    return ["--model", str(tiny_weights), "--device", "cpu"]


@pytest.fixture
def tree(tmp_path):
    """40 images of three sizes in two folders, one of too good a quality and one that is none."""
    for number in range(40):
        path = tmp_path / "in" / str(number % 2) / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codec.encode(photograph(48 + 16 * (number % 3), 64, number), 97 if number == 7 else 20))
    (tmp_path / "in" / "0" / "bad.jpg").write_bytes(b"no image")
    return tmp_path / "in"


def rows(folder: Path, name: str = "manifest") -> dict[str, Row]:
    return {Path(row.source).name: row for row in Manifest(folder, name).latest()}


def started(words: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "dagn_pre.cli.main", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def outputs(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if FOLDER not in path.parts}


def test_two_processes_write_what_one_writes_with_a_row_for_each_input(tree, tmp_path, model, tiny_weights, capsys):
    for count in ("1", "2"):
        assert main(["restore", str(tree), str(tmp_path / count), *model, "--workers", count]) == 1
        captured = capsys.readouterr()
        assert "39 written" in captured.out.replace("38 written, 1 written as they are", "39 written")
        assert "1 failed" in captured.out and captured.err.count("bad.jpg: not an image") == 1 and "\r" not in captured.err
    assert outputs(tmp_path / "1") == outputs(tmp_path / "2") and len(outputs(tmp_path / "2")) == 40
    found = rows(tmp_path / "2")
    assert set(found) == {path.name for path in tree.rglob("*.jpg")}
    for path in tree.rglob("*.jpg"):
        row = found[path.name]
        assert row.source == str(path) and row.bytes == path.stat().st_size and row.modified == path.stat().st_mtime
        assert row.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["bad.jpg"].state == "failed" and found["bad.jpg"].output is None and "not an image" in found["bad.jpg"].reason
    assert (found["07.jpg"].state, found["07.jpg"].quality) == ("untouched", 97) and "97" in found["07.jpg"].reason
    some = found["03.jpg"]
    assert (some.state, some.output, some.quality, some.quality_source) == ("restored", "1/03.png", 20, "header")
    alone = Restorer(tiny_weights, "cpu")(tree / "1" / "03.jpg")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "2" / "1" / "03.png")), alone)  # also in a batch of several


def test_a_rerun_does_what_is_missing_what_has_changed_and_what_failed(tree, tmp_path, model, capsys):
    out = tmp_path / "out"
    run = ["restore", str(tree), str(out), *model]
    assert main([*run, "--workers", "2"]) == 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (out / "0" / "00.png").unlink()
    (tree / "0" / "bad.jpg").write_bytes(codec.encode(photograph(), 20))
    (tree / "0" / "02.jpg").write_bytes(codec.encode(photograph(64, 64, 99), 20))
    os.utime(tree / "0" / "04.jpg")  # touched, not changed
    capsys.readouterr()
    assert main(run) == 0
    assert "3 written" in (printed := capsys.readouterr().out) and "38 skipped" in printed
    anew = {path.name for path in out.rglob("*.png") if path.stat().st_mtime_ns != before.get(path)}
    assert anew == {"00.png", "02.png", "bad.png"} and rows(out)["bad.jpg"].state == "restored"
    assert main(run) == 0 and "41 skipped" in capsys.readouterr().out


def test_an_output_whose_row_a_kill_took_gets_one_and_is_not_made_again(tree, tmp_path, model, capsys):
    out = tmp_path / "out"
    run = ["restore", str(tree), str(out), *model]
    assert main(run) == 1
    path = out / FOLDER / "manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    left = [line for line in lines if "01.jpg" not in line and "07.jpg" not in line]
    path.write_text("".join(left[:-1]) + left[-1][:30])
    (out / "1" / "03.png").write_bytes(b"mine")
    before = outputs(out)
    assert main(run) == 1 and outputs(out) == before
    found = rows(out)
    assert len(found) == 41 and found["01.jpg"].state == "restored" and found["07.jpg"].state == "untouched"
    assert found["01.jpg"].reason == "its output was there already" and len(found["01.jpg"].digest) == 64


def test_other_options_are_refused_unless_overwritten(tree, tmp_path, model, capsys):
    out = tmp_path / "out"
    run = ["restore", str(tree), str(out), *model]
    assert main(run) == 1
    before = outputs(out)
    assert main([*run, "--strength", "0.5"]) == 2
    assert "manifest.jsonl: written with strength 1.0, not 0.5" in capsys.readouterr().err and outputs(out) == before
    assert main([*run, "--strength", "0.5", "--overwrite"]) == 1 and outputs(out) != before
    assert main(run) == 2


def test_overwriting_with_other_options_goes_on_where_it_was_ended(tree, tmp_path, model, capsys):
    """Outputs of the former options are not taken for done."""
    out, reference = tmp_path / "out", tmp_path / "reference"
    assert main(["restore", str(tree), str(out), *model]) == 1
    half = ["--strength", "0.5"]
    assert main(["restore", str(tree), str(reference), *model, *half]) == 1
    former = outputs(out)
    assert main(["restore", str(tree), str(out), *model, *half, "--overwrite"]) == 1
    path = out / FOLDER / "manifest.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:10]))  # as if it had been ended there
    for name in set(former) - {row.output for row in rows(out).values()}:
        (out / name).write_bytes(former[name])
    assert main(["restore", str(tree), str(out), *model, *half]) == 1
    assert outputs(out) == outputs(reference)


def test_a_report_adds_up_what_the_manifest_tells(tree, tmp_path, model, capsys):
    main(["restore", str(tree), str(tmp_path / "out"), *model])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["restore", "--report", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "41 inputs" in printed and "1 failed, 39 restored, 1 untouched" in printed and "bad.jpg: not an image" in printed
    with pytest.raises(SystemExit, match="2"):
        main(["restore", "--report", str(tree)])
    assert "no manifest in it" in capsys.readouterr().err


def test_a_single_file_has_no_manifest(tree, tmp_path, model):
    assert main(["restore", str(tree / "0" / "00.jpg"), str(tmp_path / "one.png"), *model]) == 0
    assert not (tmp_path / FOLDER).exists()


def test_compress_and_inspect_on_two_processes(tree, tmp_path, model, capsys):
    assert main(["compress", str(tree), str(tmp_path / "out"), "--qf", "10", "--workers", "2"]) == 1
    found = rows(tmp_path / "out", "compressed")
    assert len(found) == 41 and found["03.jpg"].state == "compressed" and found["bad.jpg"].state == "failed"
    assert images.header(tmp_path / "out" / "1" / "03.jpg").quality.value == 10
    shown = []
    for count in ("1", "2"):
        capsys.readouterr()
        assert main(["inspect", str(tree), "--json", "--workers", count, *model]) == 1
        shown.append(sorted(json.loads(capsys.readouterr().out), key=lambda row: row["file"]))
    assert shown[0] == shown[1] and len(shown[0]) == 41
    assert main(["inspect", str(tree), "--features", "--workers", "2", *model]) == 2


def test_less_than_one_process_is_wrong_usage(tree, tmp_path, model, capsys):
    assert main(["restore", str(tree), str(tmp_path / "out"), *model, "--workers", "0"]) == 2
    assert "--workers must be 1 or more" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_few_images_take_no_process_and_many_all_cores(monkeypatch):
    monkeypatch.setattr(batch.pool, "cores", lambda: 8)
    work = batch.Work()
    assert [batch.processes(None, count, work) for count in (1, batch.FEW - 1, batch.FEW)] == [1, 1, 8]
    assert batch.processes(3, 2, work) == 2 and batch.processes(3, 1000, work) == 3
    work.parallel = False
    assert batch.processes(None, 1000, work) == 1 and batch.processes(2, 1000, work) == 2


class Deadly(batch.Work):
    """Copies files; some of them kill its process, once or whenever they come, and leave half an output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, source: Path, target: Path) -> batch.Done:
        again = self.folder / source.name
        if source.stem.startswith("deadly") or (source.stem.startswith("unlucky") and not again.exists()):
            again.touch()
            target.parent.mkdir(parents=True, exist_ok=True)
            (target.parent / f".{target.stem}-0123abcd{target.suffix}").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomic(target, source.read_bytes())
        return batch.Done()


def test_a_killed_process_costs_at_most_the_image_that_kills_it(tmp_path, capsys):
    source, out, notes = tmp_path / "in", tmp_path / "out", tmp_path / "notes"
    source.mkdir(), notes.mkdir()
    for name in [f"{number:02}" for number in range(50)] + ["deadly", "unlucky1", "unlucky2"]:
        (source / f"{name}.jpg").write_bytes(name.encode())
    planned = listing.plan([source], out, lambda path: path.name, images.JPEG_SUFFIXES)
    assert batch.run(planned, Deadly(notes), False, {"a": 1}, workers=2) == 1
    captured = capsys.readouterr()
    assert "52 written" in captured.out and "1 failed" in captured.out
    assert captured.err.count("failed: ") == 1 and "deadly.jpg: 2 worker processes died of it" in captured.err
    assert {name: data.decode() for name, data in outputs(out).items()} == {
        path.name: path.stem for path in source.iterdir() if path.stem != "deadly"
    }  # and no half output
    found = rows(out)
    assert len(found) == 53 and found["deadly.jpg"].state == "failed" and "SIGKILL" in found["deadly.jpg"].reason
    assert sum('"source"' in line for line in (out / FOLDER / "manifest.jsonl").read_text().splitlines()) == 53


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.slow
def test_an_ended_run_leaves_whole_files_and_no_process_and_a_rerun_goes_on(tmp_path, model, number, capsys):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    for name in range(12):
        Image.fromarray(noise).save(tmp_path / "in" / f"{name}.png", compress_level=0)
    out = tmp_path / "out"
    words = ["restore", str(tmp_path / "in"), str(out), *model, "--strength", "0", "--workers", "2"]
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # else a child in the background ignores Ctrl-C
    process = started(words)
    signal.signal(signal.SIGINT, former)
    while process.poll() is None and len(list(out.glob("[!.]*.png"))) < 3:
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    assert process.poll() is None and len(family) >= 2
    if number == signal.SIGINT:  # as a terminal sends it, to all of them
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number and b"interrupted; what was finished is kept" in error
    assert b"Traceback" not in error and not psutil.wait_procs(family, timeout=30)[1]
    done = outputs(out)
    assert 3 <= len(done) < 12 and not any(name.startswith(".") for name in done)
    for name in done:
        Image.open(out / name).load()
    assert main(words) == 0 and len(outputs(out)) == len(rows(out)) == 12
    assert all(outputs(out)[name] == data for name, data in done.items())


def test_the_kernel_may_kill_any_process_at_any_time(tree, tmp_path, model):
    """From outside: each of a run's processes in turn; only what two died under may fail."""
    out = tmp_path / "out"
    words = ["restore", str(tree), str(out), *model, "--workers", "2"]
    process = started(words)
    killed = 0
    while process.poll() is None:
        if len(list(out.rglob("[!.]*.png"))) > 8 * killed and killed < 3:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                workers = [one for one in psutil.Process(process.pid).children(recursive=True) if not one.children()]
                victims = [one for one in workers if one.is_running() and "resource_tracker" not in " ".join(one.cmdline())]
                if len(victims) >= 2:
                    # one at work: three that were not would end the run
                    min(victims, key=psutil.Process.create_time).kill()
                    killed += 1
        time.sleep(0.01)
    printed, error = process.communicate(timeout=60)
    assert killed and process.returncode == 1 and b"Traceback" not in error
    found = rows(out)
    assert len(found) == 41 and set(outputs(out)) == {row.output for row in found.values() if row.output}
    assert main(words) == 1 and len(outputs(out)) == 40 and rows(out)["bad.jpg"].state == "failed"


def test_a_list_is_in_no_memory(tmp_path):
    """Names of what is left out are counted, and some of them kept."""
    for number in range(500):
        (tmp_path / f"{number:03}.txt").touch()
    (tmp_path / "a.jpg").write_bytes(odd_files.jpeg(20))
    planned = listing.plan([tmp_path], tmp_path / "out", listing.exchanged(".png", False), images.WRITABLE_SUFFIXES)
    kept = planned.left_out["files of other formats"]
    assert kept.count == 500 and [path.name for path in kept.first] == ["000.txt", "001.txt", "002.txt"]
    assert list(planned.pairs) == [(tmp_path / "a.jpg", tmp_path / "out" / "a.png")]
