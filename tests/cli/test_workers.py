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


class Copying(batch.Work):
    """Copies files, with ``mark`` behind them; ``first`` is called with each input before its work ends."""

    def __init__(self, mark: bytes = b"", first=lambda source: None) -> None:
        self.mark, self.first = mark, first

    def __call__(self, source: Path, target: Path) -> batch.Done:
        data = source.read_bytes() + self.mark
        self.first(source)
        write_atomic(target, data)
        return batch.Done()

    def found(self, target: Path) -> batch.Done:
        return batch.Done(reason="there")


def copied(source: Path, out: Path, mark: bytes = b"", overwrite: bool = False, first=lambda source: None) -> int:
    planned = listing.plan([source], out, listing.exchanged(".png", False), images.WRITABLE_SUFFIXES)
    return batch.run(planned, Copying(mark, first), overwrite, {"mark": str(mark)})


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(str(folder / name).encode())
    return folder


class Stopping:
    """Ctrl-C at the N-th input."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, source: Path) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("cut", [False, True])
def test_after_an_overwriting_run_what_is_there_stays(tmp_path, cut):
    source, out = filled(tmp_path / "in", "a.jpg", "b.jpg"), tmp_path / "out"
    copied(source, out, b"1")
    if cut:
        with pytest.raises(KeyboardInterrupt):
            copied(source, out, b"2", overwrite=True, first=Stopping(2))
    copied(source, out, b"2", overwrite=not cut)
    filled(source, "c.jpg")
    (out / "c.png").write_bytes(b"mine")
    for _ in range(2):
        assert copied(source, out, b"2") == 0
    assert outputs(out)["c.png"] == b"mine" and {outputs(out)[name][-1:] for name in ("a.png", "b.png")} == {b"2"}


def test_overwriting_some_outputs_with_other_options_takes_none_of_the_others_for_done(tmp_path):
    source, out = filled(tmp_path / "in", "a.jpg", "b.jpg"), tmp_path / "out"
    copied(source, out, b"1")
    copied(source / "a.jpg", out, b"2", overwrite=True)
    assert copied(source, out, b"2") == 0
    assert {data[-1:] for data in outputs(out).values()} == {b"2"}


def test_overwriting_with_the_same_options_goes_on_where_it_was_ended(tmp_path, capsys):
    source, out = filled(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "out"
    copied(source, out)
    whole = outputs(out)
    for name in whole:
        (out / name).write_bytes(b"spoilt")
    with pytest.raises(KeyboardInterrupt):
        copied(source, out, overwrite=True, first=Stopping(2))
    capsys.readouterr()
    assert copied(source, out) == 0 and outputs(out) == whole
    assert "1 skipped" in (printed := capsys.readouterr().out) and "2 written" in printed


def test_a_run_that_wrote_nothing_binds_a_folder_to_nothing(tmp_path):
    source, out = filled(tmp_path / "in", "a.jpg"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        copied(source, out, b"1", first=Stopping(1))
    assert copied(source, out, b"2") == 0


def test_an_input_is_not_taken_for_done_by_the_output_of_another(tmp_path, capsys):
    """Not in whatever order they come, and not after one of them has failed or gone to another place."""
    source, out = filled(tmp_path / "in", "a.jpg", "sub/a.jpg"), tmp_path / "out"
    other = filled(tmp_path / "other", "a.jpeg")
    copied(source / "sub", out)
    for place, remedy in ((source, "give another folder, or --overwrite"), (other, "--full-names")) * 2:
        capsys.readouterr()
        assert copied(place, out) == 1
        captured = capsys.readouterr()
        told = f"{out / 'a.png'} is the output of {source / 'sub' / 'a.jpg'}: "
        assert "1 failed" in captured.out and told in captured.err and remedy in captured.err
    assert outputs(out)["a.png"] == outputs(out)["sub/a.png"] == (source / "sub" / "a.jpg").read_bytes()
    assert rows(out)["a.jpeg"].state == "failed" and "is the output of" in rows(out)["a.jpeg"].reason
    assert copied(other, out, overwrite=True) == 0 and copied(other, out) == 0 and copied(source, out) == 1
    assert outputs(out)["a.png"] == (other / "a.jpeg").read_bytes()


def test_inputs_that_have_moved_are_done(tmp_path, capsys):
    source, out = filled(tmp_path / "in", "a.jpg"), tmp_path / "out"
    copied(source, out)
    source.rename(tmp_path / "moved")
    capsys.readouterr()
    assert copied(tmp_path / "moved", out) == 0 and "1 skipped" in capsys.readouterr().out


def test_an_input_that_changes_while_it_is_worked_on_is_done_again(tmp_path):
    source, out = filled(tmp_path / "in", "a.jpg"), tmp_path / "out"
    copied(source, out, first=lambda path: path.write_bytes(b"another"))
    assert outputs(out)["a.png"] != b"another" and rows(out)["a.jpg"].digest == ""
    assert copied(source, out) == 0 and outputs(out)["a.png"] == b"another" and len(rows(out)["a.jpg"].digest) == 64


def test_inspect_prints_rows_in_the_order_of_its_list(tmp_path, monkeypatch, capsys):
    def backwards(tasks, work, told, count):
        yield from [(task, batch.Result({"file": task.source.name}, None)) for task in tasks][::-1]

    monkeypatch.setattr(batch, "results", backwards)
    filled(tmp_path, "b.jpg", "a.jpg", "sub/c.jpg")
    assert main(["inspect", str(tmp_path), "--json", "--device", "cpu"]) == 0
    assert [row["file"] for row in json.loads(capsys.readouterr().out)] == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("place, told", [("foo://x", "foo://x: Protocol not known"), ("", "an argument is empty")])
def test_a_report_of_no_place_is_one_error(place, told, capsys):
    try:
        status = main(["restore", "--report", place])
    except SystemExit as error:
        status = error.code
    error = capsys.readouterr().err
    assert status == 2 and told in error and error.count("\n") == 1


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
