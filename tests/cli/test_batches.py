"""Batches: no file ends one, every output is one input's alone, nothing is left out or lost in silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from dagn_pre import codec, evidence, images, progress
from dagn_pre.cli import batch, listing
from dagn_pre.cli.main import main
from dagn_pre.errors import ImageWarning, UsageError, failure, printable
from dagn_pre.files import atomic_path, write_atomic
from dagn_pre.inference import Inference
from dagn_pre.manifest import FOLDER
from dagn_pre.metadata import Metadata
from tests.support import odd_files, photograph
from tests.support.content import text, textured


@pytest.fixture
def model(tiny_weights):
    return ["--model", str(tiny_weights), "--device", "cpu"]


@pytest.fixture
def restore(model):
    def run(*words, **options) -> int:
        return main(["restore", *map(str, words), *model])

    return run


def files(folder: Path) -> set[str]:
    """But for the manifest."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if FOLDER not in path.parts}


def filled(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


GOOD = odd_files.jpeg(20)


# -- no file ends a batch -------------------------------------------------------------------------------------------------


@pytest.fixture
def some_damaged(tmp_path):
    damaged = odd_files.damaged()
    return filled(tmp_path / "in", damaged | {"aaa.jpg": GOOD, "zzz.jpg": GOOD}), set(damaged)


def failed(text: str) -> set[str]:
    lines = [line for line in text.splitlines() if line.startswith("failed: ")]
    return {Path(line.split(": ")[1]).name for line in lines}


def test_restore_and_compress_report_damaged_files_and_do_the_others(some_damaged, tmp_path, restore, capsys):
    folder, damaged = some_damaged
    for format in ("PNG", "JPEG"):
        if format == "PNG":
            assert restore(folder, tmp_path / "out", "--full-names") == 1
        else:
            assert main(["compress", str(folder), str(tmp_path / "out"), "--qf", "10", "--full-names"]) == 1
        captured = capsys.readouterr()
        assert failed(captured.err) == damaged and f"{len(damaged)} failed" in captured.out and "2 written" in captured.out
    assert files(tmp_path / "out") == {"aaa.jpg.png", "zzz.jpg.png", "aaa.jpg.jpg", "zzz.jpg.jpg"}


def test_inspect_and_evaluate_report_damaged_files_and_do_the_others(some_damaged, tmp_path, model, capsys):
    folder, damaged = some_damaged
    assert main(["inspect", str(folder), "--json", *model]) == 1
    captured = capsys.readouterr()
    rows = {Path(row["file"]).name: row for row in json.loads(captured.out)}
    assert {name for name, row in rows.items() if "error" in row} == damaged == failed(captured.err)
    assert rows["zzz.jpg"]["header_quality"] == 20
    for words in (["--data", str(folder), "--qf", "10"], ["--real-world", str(folder)]):
        target = tmp_path / "rows.json"
        assert main(["evaluate", *words, "--json", str(target), *model]) == 1
        captured = capsys.readouterr()
        assert failed(captured.err) == damaged and f"{len(damaged)} files could not be measured" in captured.out


def test_strip_reports_what_is_no_jpeg_and_does_the_others(tmp_path, capsys):
    contents = {"a.jpg": b"no picture", "b.jpg": b"", "c.jpg": b"\xff\xd8\xff", "d.jpg": GOOD, "e.png": b"x"}
    folder = filled(tmp_path / "in", contents)
    assert main(["strip", str(folder), str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert failed(captured.err) == {"a.jpg", "b.jpg", "c.jpg"} and files(tmp_path / "out") == {"d.jpg"}
    assert "left out: files of other formats (1: e.png)" in captured.out


@pytest.mark.parametrize("error", [KeyError(3), AssertionError(), MemoryError(), RecursionError("deep"), AttributeError("x")])
def test_an_exception_of_any_kind_is_one_bad_file(tmp_path, capsys, error):
    pairs = [(tmp_path / name, tmp_path / f"{name}.out") for name in "abc"]

    def work(source: Path, target: Path) -> batch.Done:
        if source.name == "b":
            raise error
        return batch.Done()

    assert batch.run(listing.Batch(pairs), work, False) == 1
    captured = capsys.readouterr()
    assert "2 written" in captured.out and f"failed: {tmp_path / 'b'}: {type(error).__name__}" in captured.err


def test_a_picture_too_wide_for_a_jpeg_is_left_out_of_a_measurement(tmp_path, model, capsys):
    Image.new("RGB", (65_600, 12)).save(tmp_path / "wide.png")
    Image.fromarray(photograph()).save(tmp_path / "fine.png")
    assert main(["evaluate", "--data", str(tmp_path), "--qf", "10", *model]) == 1
    assert "wide.png: 65600x12 pixels; JPEG holds at most 65535" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "prune"])
def test_an_entry_that_cannot_be_read_or_removed_is_named_and_the_others_are_done(tmp_path, capsys, command):
    from dagn_pre.cache import Cache

    cache = Cache(tmp_path / "cache")
    for digit in "012":
        cache.put(digit * 64, "jpg", b"content")
    bad = cache.path("1" * 64, "jpg")
    bad.unlink(), bad.mkdir()
    assert main(["cache", command, str(tmp_path / "cache"), *(["--all"] if command == "prune" else [])]) == 1
    captured = capsys.readouterr()
    assert f"failed: {bad}: Is a directory" in captured.err
    assert ("2 entries are whole" if command == "verify" else "removed 2 entries") in captured.out


@pytest.mark.parametrize("kind", odd_files.ODD_EXIF)
def test_odd_exif_ends_no_batch_and_turns_the_picture(tmp_path, restore, kind, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD, "b.jpg": odd_files.jpeg(exif=odd_files.ODD_EXIF[kind]), "c.jpg": GOOD})
    assert restore(folder, tmp_path / "out") == 0
    assert files(tmp_path / "out") == {"a.png", "b.png", "c.png"} and "3 written" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / "b.png").size == (64, 96)
    assert main(["compress", str(folder), str(tmp_path / "jpegs"), "--qf", "10"]) == 0


@pytest.mark.parametrize("kind", odd_files.UNREADABLE_EXIF)
def test_unreadable_exif_refuses_no_picture(tmp_path, restore, kind):
    (tmp_path / "a.jpg").write_bytes(odd_files.jpeg(exif=odd_files.UNREADABLE_EXIF[kind]))
    assert restore(tmp_path / "a.jpg", tmp_path / "b.png") == 0
    assert main(["compress", str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), "--qf", "10"]) == 0
    assert Image.open(tmp_path / "b.png").size == Image.open(tmp_path / "b.jpg").size == (96, 64)


# -- one output for each input --------------------------------------------------------------------------------------------

CLASHES = [
    {"a.jpg", "a.png"},
    {"a.jpg", "a.jpeg"},
    {"a.jpg", "a.JPG"},
    {"sub/a.bmp", "sub/a.gif"},
    {"a.b.jpg", "a.b.webp"},
    {"a.jpg", "a.png/b.jpg"},  # a folder
    {"a.heic", "a.heic.jpg"},
]


@pytest.mark.parametrize("names", CLASHES, ids=str)
def test_a_clash_is_an_error_that_names_both_before_anything_is_written(tmp_path, restore, names, capsys):
    folder = filled(tmp_path / "in", dict.fromkeys({*names, "other.jpg"}, GOOD))
    assert restore(folder, tmp_path / "out", "--overwrite") == 2
    error = capsys.readouterr().err
    assert all(str(folder / name) in error for name in names) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", CLASHES[:5], ids=str)
def test_full_names_never_clash(tmp_path, restore, names):
    folder = filled(tmp_path / "in", dict.fromkeys(names, GOOD))
    assert restore(folder, tmp_path / "out", "--full-names") == 0
    assert files(tmp_path / "out") == {f"{name}.png" for name in names}


def test_a_clash_through_links_among_the_outputs(tmp_path, restore, capsys):
    folder = filled(tmp_path / "in", {"x/a.jpg": GOOD, "y/a.jpg": GOOD})
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "y").symlink_to("x")
    assert restore(folder, tmp_path / "out") == 2
    assert "would both be written" in capsys.readouterr().err and not files(tmp_path / "out")


def test_an_output_whose_place_is_a_folder(tmp_path, restore, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD})
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert restore(folder, tmp_path / "out") == 2
    assert "a.png, which is a folder" in capsys.readouterr().err


def test_names_do_not_depend_on_what_else_is_there():
    every = ["a.jpg", "a.JPEG", "a.png", "b.tif", "c.avif", "c.jp2", "c.HEIC", "c.mpo", "d.e.webp"]
    names = {name: listing.exchanged(".png", False)(Path(name)) for name in every}
    assert names["a.jpg"] == "a.png" and names["d.e.webp"] == "d.e.png" and names["c.HEIC"] == "c.HEIC.png"
    assert len({names[name] for name in ("a.jpg", "c.avif", "c.jp2", "c.HEIC", "c.mpo")}) == 5


@pytest.mark.parametrize("target", ["in", "in/../in", "link", ".", "in/sub/..", "./in"])
def test_a_folder_is_not_restored_into_itself(tmp_path, restore, monkeypatch, target, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD, "b.jpg": GOOD, "in/c.jpg": GOOD})
    (folder / "sub").mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert restore("in", target) == 2 and main(["compress", "in", target, "--qf", "10"]) == 2
    error = capsys.readouterr().err
    assert "among the inputs" in error and files(tmp_path) == before


def test_an_output_folder_among_the_inputs_is_no_input(tmp_path, restore, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD, "b.jpg": GOOD})
    for _ in range(2):
        assert restore(folder, folder / "restored") == 0
        assert files(folder) == {"a.jpg", "b.jpg", "restored/a.png", "restored/b.png"}
    assert "2 skipped" in capsys.readouterr().out


def test_inspect_opens_and_decodes_a_file_once(tmp_path, model, monkeypatch, capsys):
    (tmp_path / "a.jpg").write_bytes(GOOD)
    calls = []
    for owner, name in ((images, "open_image"), (images.Pixels, "of")):
        call = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, name=name, call=call: calls.append(name) or call(*given))
    words = ["inspect", str(tmp_path / "a.jpg"), "--features", "-o", str(tmp_path), *model]
    assert main(words) == 0 and calls == ["open_image", "of"]


def test_inspect_reads_the_quality_of_pixels_once(tmp_path, model, monkeypatch, capsys):
    """Also of a picture without header, of which the estimate decides whether it would be left alone."""
    Image.fromarray(codec.compress(textured(), 30)).save(tmp_path / "once.png")
    calls = []
    guide = Inference.guide
    monkeypatch.setattr(Inference, "guide", lambda *given: calls.append(given) or guide(*given))
    monkeypatch.setattr(evidence, "_quality", lambda low: None)  # the steps do not tell it
    assert main(["inspect", str(tmp_path / "once.png"), "--json", *model]) == 0 and len(calls) == 1
    assert json.loads(capsys.readouterr().out)[0]["blind_quality"]


# -- several sources ------------------------------------------------------------------------------------------------------


def test_files_and_folders_together(tmp_path, restore, capsys):
    """Each input once, though it is named twice; what a folder holds keeps its place below it."""
    filled(tmp_path, dict.fromkeys(("a.jpg", "x/b.jpg", "x/sub/c.jpg", "y/sub/d.jpg", "x/no.txt", "y/no.txt"), GOOD))
    sources = [tmp_path / name for name in ("a.jpg", "x", "y", "x/b.jpg", "x/../a.jpg")]
    assert restore(*sources, tmp_path / "out") == 0
    assert files(tmp_path / "out") == {"a.png", "b.png", "sub/c.png", "sub/d.png"}
    printed = capsys.readouterr().out
    assert "4 written" in printed and "files of other formats (2:" in printed
    assert main(["compress", *map(str, sources), str(tmp_path / "jpegs"), "--qf", "10"]) == 0
    assert main(["strip", *map(str, sources), str(tmp_path / "plain")]) == 0
    assert files(tmp_path / "jpegs") == files(tmp_path / "plain") == {"a.jpg", "b.jpg", "sub/c.jpg", "sub/d.jpg"}


@pytest.mark.parametrize("sources", [("a.jpg", "x/a.jpg"), ("x", "a.jpg"), ("x", "y"), ("y/a.png", "x")], ids=str)
def test_a_clash_of_two_sources_names_both_before_anything_is_written(tmp_path, restore, sources, capsys):
    filled(tmp_path, {"a.jpg": GOOD, "x/a.jpg": GOOD, "y/a.png": GOOD, "z.jpg": GOOD})
    assert restore(tmp_path / "z.jpg", *(tmp_path / name for name in sources), tmp_path / "out", "--overwrite") == 2
    error = capsys.readouterr().err
    first, second = (tmp_path / {"x": "x/a.jpg", "y": "y/a.png"}.get(name, name) for name in sources)
    assert f"{first} and {second} would both be written to" in error and not (tmp_path / "out").exists()


def test_several_sources_need_a_folder(tmp_path, restore, capsys):
    filled(tmp_path, {"a.jpg": GOOD, "b.jpg": GOOD, "c.jpg": GOOD, "x/d.jpg": GOOD, "file": b""})
    before = files(tmp_path)
    for target in ("c.jpg", "new.png", "file"):
        assert restore(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / target) == 2
        assert f"{target}: several inputs need a folder" in capsys.readouterr().err
    assert restore(tmp_path / "a.jpg", tmp_path / "gone.jpg", tmp_path / "out") == 2
    assert "gone.jpg: no such file or folder" in capsys.readouterr().err
    assert restore(tmp_path / "a.jpg", tmp_path / "x", tmp_path / "x") == 2
    assert "among the inputs of" in capsys.readouterr().err
    assert restore(tmp_path / "x", tmp_path / "file" / "out") == 2
    assert f"{tmp_path / 'file'} is a file, not a folder" in capsys.readouterr().err
    assert files(tmp_path) == before


# -- inputs that stay as they are -----------------------------------------------------------------------------------------


def test_strip_does_not_write_over_its_inputs(tmp_path, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD})
    assert main(["strip", str(folder), str(folder), "--overwrite"]) == 2
    assert main(["strip", str(folder / "a.jpg"), str(folder / "a.jpg"), "--overwrite"]) == 2


def test_drawings_of_two_files_of_one_name_are_not_one(tmp_path, model, capsys):
    filled(tmp_path, {"x/a.jpg": GOOD, "y/a.jpg": GOOD})
    words = ["inspect", str(tmp_path / "x"), str(tmp_path / "y"), "--features", "-o", str(tmp_path / "drawn"), *model]
    assert main(words) == 2
    assert "would both be drawn to" in capsys.readouterr().err and not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("words", [["restore"], ["compress", "--qf", "20"], ["strip"]], ids=lambda words: words[0])
def test_links_that_lead_to_themselves_and_empty_names_are_wrong_usage(tmp_path, monkeypatch, words, capsys):
    filled(tmp_path, {"in/a.jpg": GOOD})
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    looping = [("in", "loop"), ("in", "loop/x"), ("in/a.jpg", "loop/x.jpg"), ("loop", "out")]
    for source, target in [*looping, ("", "out"), ("in", "")]:
        assert main([words[0], source, target, *words[1:]]) == 2
        error = capsys.readouterr().err
        told = "leads to itself" if "loop" in target else "no such file" if "loop" in source else "an argument is empty"
        assert error.count("\n") == 1 and told in error
    for source, target in (("in/a.jpg", "new.jpg/"), ("in/a.jpg/", "out")):
        with pytest.raises(SystemExit, match="2"):
            main([words[0], source, target, *words[1:]])
        assert "jpg/: no such folder" in capsys.readouterr().err
    assert files(tmp_path) == {"in/a.jpg"}


# -- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["a" * 251, "a" * 246, "a" * 242, "a" * 230, "日" * 83, "é" * 125, "\udce9" * 251], ids=len)
def test_names_as_long_as_they_may_be(tmp_path, restore, stem, capsys):
    folder = filled(tmp_path / "in", {f"{stem}.jpg": GOOD, "ok.jpg": GOOD})
    assert restore(folder, tmp_path / "out") == 0
    assert files(tmp_path / "out") == {f"{stem}.png", "ok.png"}
    assert main(["compress", str(folder), str(tmp_path / "jpegs"), "--qf", "10"]) == 0
    write_atomic(tmp_path / ("b" * 255), b"content")
    assert (tmp_path / ("b" * 255)).read_bytes() == b"content"


def test_an_output_of_a_longer_name_than_there_may_be_is_one_bad_file(tmp_path, restore, capsys):
    folder = filled(tmp_path / "in", {"a" * 251 + ".jpg": GOOD, "ok.jpg": GOOD})
    assert restore(folder, tmp_path / "out", "--format", "webp") == 1
    captured = capsys.readouterr()
    assert "File name too long" in captured.err and "1 written" in captured.out


UNPRINTABLE = {  # a name and how it is shown
    "caf\udce9.jpg": r"caf\udce9.jpg",
    "a\nb.jpg": r"a\nb.jpg",
    "\x1b[31m.jpg": r"\x1b[31m.jpg",
    "\u2028.jpg": r"\u2028.jpg",
}


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "cp1252:strict", "latin-1"])
@pytest.mark.slow
def test_names_that_cannot_be_printed(tmp_path, model, encoding):
    folder = filled(tmp_path / "in", dict.fromkeys([*UNPRINTABLE, "日本.jpg", "ok.jpg"], GOOD) | {"bad\udcff\t.jpg": b"x"})
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    calls = [["inspect", folder, *model], ["restore", folder, tmp_path / "out", *model]]
    calls += [["compress", folder, tmp_path / "jpegs", "--qf", "10"], ["strip", folder, tmp_path / "plain"]]
    for call in calls:
        run = subprocess.run([sys.executable, "-m", "dagn_pre.cli.main", *call], capture_output=True, env=environment)
        output = run.stdout + run.stderr
        assert run.returncode == 1 and b"Traceback" not in output and b"\\udcff\\t.jpg" in run.stderr
        assert b"\x1b[31m" not in output
    inspected = subprocess.run([sys.executable, "-m", "dagn_pre.cli.main", *calls[0]], capture_output=True, env=environment)
    shown = inspected.stdout.decode("latin-1").splitlines()
    assert len(shown) == 6 and all(any(name in line for line in shown) for name in UNPRINTABLE.values())
    assert len(files(tmp_path / "out")) == 6


def test_measuring_files_whose_names_cannot_be_printed(tmp_path, model, capsys):
    folder = filled(tmp_path / "in", {"caf\udce9.jpg": GOOD, "a\nb.jpg": GOOD})
    words = ["--data", str(folder), "--real-world", str(folder), "--qf", "10", "--output", str(tmp_path / "out")]
    assert main(["evaluate", *words, *model]) == 0
    assert "caf\\udce9.jpg" in (tmp_path / "out" / "real-world.md").read_text()


def test_printable_leaves_letters_and_escapes_the_rest():
    assert printable("日本 ü 🙂 a-b_c") == "日本 ü 🙂 a-b_c"
    assert printable("\0\x7f\udc80") == "\\x00\\x7f\\udc80"
    assert failure("a.jpg", OSError(28, "No space left on device", "b.png")) == "a.jpg: b.png: No space left on device"
    assert failure("a.jpg", ValueError("a.jpg: reason")) == "a.jpg: reason" and failure("a", KeyError(1)) == "a: KeyError: 1"


# -- interruption, leftovers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_a_terminated_command_leaves_no_partial_file(tmp_path, model, number):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for number_of_image in range(12):  # more than are done before a busy machine looks
        Image.fromarray(noise).save(tmp_path / "in" / f"{number_of_image:02}.png", compress_level=0)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dagn_pre.cli.main", "restore", str(tmp_path / "in"), str(out), *model, "--strength", "0"]
    former = signal.signal(number, signal.default_int_handler)  # else a child in the background ignores Ctrl-C
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(number, former)
    while process.poll() is None and not list(out.glob(".*.png")):
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"interrupted; what was finished is kept" in error and b"Traceback" not in error
    for path in set(out.iterdir()) - {out / FOLDER}:
        assert not path.name.startswith(".")
        Image.open(path).load()


@pytest.mark.slow
def test_terminating_is_as_before_once_a_command_has_ended(tmp_path):
    former = signal.getsignal(signal.SIGTERM)
    assert main(["models", "--json"]) == 0
    assert signal.getsignal(signal.SIGTERM) is former


def test_what_a_killed_writer_left_is_no_input(tmp_path, restore, model, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD})
    with atomic_path(folder / "b.png") as temporary:
        left = temporary.name
    filled(folder, {left: b"half a picture", "._a.jpg": b"\0\5\x16\7", ".thumbs/c.jpg": GOOD})
    assert restore(folder, tmp_path / "out", "--full-names", "--overwrite") == 1  # b.png, which is empty
    assert files(tmp_path / "out") == {"a.jpg.png"}
    capsys.readouterr()
    assert main(["inspect", str(folder), "--json", *model]) == 1
    assert {Path(row["file"]).name for row in json.loads(capsys.readouterr().out)} == {"a.jpg", "b.png"}


# -- what is left out -----------------------------------------------------------------------------------------------------


def test_every_format_is_taken_and_what_is_left_out_is_counted_and_named(tmp_path, restore, model, capsys):
    picture = Image.fromarray(photograph())
    contents = {"a.jpg": GOOD, "b.avif": odd_files.saved(picture, "AVIF"), "b.jp2": odd_files.saved(picture, "JPEG2000")}
    contents |= {"b.mpo": odd_files.mpo(), "notes.txt": b"x", "one.psd": b"x", "two.psd": b"x", "three.psd": b"x"}
    folder = filled(tmp_path / "in", contents)
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert restore(folder, tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "2 written, 2 written as they are" in out  # AVIF and JPEG 2000 were never a JPEG
    assert "links to folders (1: linked)" in out
    assert "files of other formats (4: notes.txt, one.psd, three.psd, ...)" in out
    assert files(tmp_path / "out") == {"a.png", "b.avif.png", "b.jp2.png", "b.mpo.png"}
    assert main(["inspect", str(folder), *model]) == 0
    assert "left out: files of other formats" in capsys.readouterr().err
    assert main(["evaluate", "--data", str(folder), "--qf", "10", *model]) == 0
    assert "left out: files of other formats" in capsys.readouterr().err


def test_heic_beside_jpeg_as_phones_write_them(tmp_path, restore):
    pillow_heif.register_heif_opener()
    folder = filled(tmp_path / "in", {"IMG_1.JPG": GOOD, "IMG_1.HEIC": odd_files.saved(Image.fromarray(photograph()), "HEIF")})
    assert restore(folder, tmp_path / "out") == 0
    assert files(tmp_path / "out") == {"IMG_1.png", "IMG_1.HEIC.png"}


# -- metadata, the end marker, what was restored before -------------------------------------------------------------------


def test_every_command_says_a_warning_about_an_image_in_one_line(monkeypatch):
    told = []

    def run(options) -> int:
        told.append(warnings.formatwarning(ImageWarning("a\nb.jpg: is odd"), ImageWarning, "code.py", 1))
        return 0

    monkeypatch.setattr("dagn_pre.cli.models.run", run)
    usual = warnings.formatwarning
    assert main(["models"]) == 0 and told == ["warning: a\\nb.jpg: is odd\n"] and warnings.formatwarning is usual


def test_a_stream_that_is_closed_takes_what_is_said(monkeypatch):
    def run(options) -> int:
        print("a row")
        with progress.bar(total=2):
            return int(progress.report_failure(Path("a.jpg"), ValueError("odd")) != "a.jpg: odd")

    monkeypatch.setattr("dagn_pre.cli.models.run", run)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["models"]) == 0 and main(["models", ""]) == 2


@pytest.mark.parametrize("at_once", [False, True])
def test_an_output_that_nobody_reads_ends_quietly_and_a_full_one_with_a_line(monkeypatch, capsys, at_once):
    def run(options) -> int:
        print("a row", flush=at_once)
        return 1

    monkeypatch.setattr("dagn_pre.cli.models.run", run)
    reader, writer = os.pipe()
    os.close(reader)
    for output, status, told in ((writer, 141 if at_once else 1, ""), ("/dev/full", 1, "dagn-pre models: standard output: ")):
        with open(output, "w") as stream, monkeypatch.context() as patch:  # closing it says nothing either
            patch.setattr(sys, "stdout", stream)
            assert main(["models"]) == status
        error = capsys.readouterr().err
        assert error.startswith(told) and error.count("\n") == bool(told)


def test_metadata_is_kept_and_what_is_not_is_said_once(tmp_path, restore, capsys):
    data = odd_files.jpeg(comment=b"hello", dpi=(300, 300), icc_profile=b"profile")
    folder = filled(tmp_path / "in", {"a.jpg": data, "b.jpg": data, "c.jpg": GOOD})
    assert restore(folder, tmp_path / "png") == 0
    assert "not kept" not in capsys.readouterr().out
    metadata = Metadata.of(Image.open(tmp_path / "png" / "a.png"))
    assert (metadata.comments, metadata.icc_profile) == ((b"hello",), b"profile")
    assert restore(folder, tmp_path / "webp", "--format", "webp") == 0
    out = capsys.readouterr().out
    assert "metadata not kept: resolution (2: a.jpg, b.jpg); comments (2: a.jpg, b.jpg)" in out
    assert main(["compress", str(folder), str(tmp_path / "jpegs"), "--qf", "10"]) == 0
    assert Metadata.of(Image.open(tmp_path / "jpegs" / "a.jpg")) == Metadata(
        icc_profile=b"profile", dpi=(300, 300), comments=(b"hello",)
    )


@pytest.mark.parametrize("part", ["exif", "icc_profile"])
def test_metadata_too_long_for_a_jpeg_refuses_no_picture(tmp_path, restore, part, capsys):
    data = {"exif": odd_files.exif(odd_files.TURNED) + bytes(70_000), "icc_profile": bytes(70_000)}[part]
    Image.fromarray(photograph()).save(tmp_path / "a.png", **{part: data})
    assert main(["compress", str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), "--qf", "50"]) == 0
    assert restore(tmp_path / "a.png", tmp_path / "c.jpg") == 0
    assert ("metadata not kept: " in capsys.readouterr().out) == (part == "exif")
    turned = part == "exif"
    assert images.orientation(Image.open(tmp_path / "b.jpg")) == (6 if turned else 1)
    assert Image.open(tmp_path / "c.jpg").size == ((64, 96) if turned else (96, 64))


def test_a_missing_end_marker_is_a_warning_or_with_strict_files_a_failure(tmp_path, restore, model):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD[:-2], "b.jpg": GOOD})
    run = subprocess.run(
        [sys.executable, "-m", "dagn_pre.cli.main", "restore", folder, tmp_path / "out", *model], capture_output=True, text=True
    )
    assert run.returncode == 0 and "2 written" in run.stdout
    assert f"warning: {folder / 'a.jpg'}: has no end marker" in run.stderr and "Warning" not in run.stderr
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a.png", "b.png")))
    assert restore(folder, tmp_path / "strict", "--strict-files") == 1
    assert main(["compress", str(folder), str(tmp_path / "jpegs"), "--qf", "9", "--strict-files"]) == 1
    assert files(tmp_path / "strict") == {"b.png"} and files(tmp_path / "jpegs") == {"b.jpg"}


def test_what_was_restored_is_left_alone_unless_told_otherwise(tmp_path, restore, model, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": odd_files.jpeg(20, comment=b"hello"), "b.jpg": odd_files.jpeg(20, exif=TURNED)})
    assert restore(folder, tmp_path / "first", "--max-quality", "none") == 0
    assert main(["inspect", str(tmp_path / "first"), "--json", *model]) == 0
    rows = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert [row["restored"] for row in rows] == [True, True]
    assert restore(tmp_path / "first", tmp_path / "second", "--max-quality", "none") == 0
    assert "2 written as they are (restored before" in capsys.readouterr().out
    assert restore(tmp_path / "second", tmp_path / "third", "--max-quality", "none") == 0
    assert restore(tmp_path / "first", tmp_path / "again", "--max-quality", "none", "--again") == 0
    for name in ("a.png", "b.png"):
        first, second, third = ((tmp_path / run / name).read_bytes() for run in ("first", "second", "third"))
        assert first == second == third != (tmp_path / "again" / name).read_bytes()


TURNED = odd_files.exif(odd_files.TURNED)


def test_inspect_names_rare_layouts_and_how_far_tables_are(tmp_path, model, capsys):
    nudged = [(table.astype(int) + 3).tolist() for table in codec.standard_tables()[29]]
    contents = {"far.jpg": odd_files.jpeg(qtables=nudged), "deep.jpg": odd_files.with_tables(odd_files.jpeg(10), deep=True)}
    folder = filled(tmp_path, contents)
    assert main(["inspect", str(folder), *model]) == 0
    deep, far = capsys.readouterr().out.splitlines()
    assert "header QF 10, blind" in deep
    assert "nearest; tables are not IJG's, their steps differ by" in far and "%" in far
    assert main(["inspect", str(folder), "--json", *model]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["table_distance"] == 0 and rows[0]["standard_tables"] and 0 < rows[1]["table_distance"] < 0.3


def test_compress_and_restore_mind_a_colour_key(tmp_path, restore, capsys):
    rgb = photograph()
    rgb[:20, :30] = 200
    Image.fromarray(rgb).save(tmp_path / "a.png", transparency=(200, 200, 200))
    assert restore(tmp_path / "a.png", tmp_path / "b.png") == 0
    assert Image.open(tmp_path / "b.png").getchannel("A").getextrema() == (0, 255)
    assert main(["compress", str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), "--qf", "50"]) == 1
    assert restore(tmp_path / "a.png", tmp_path / "b.bmp") == 1
    assert capsys.readouterr().err.count("alpha channel") == 2


def test_outputs_are_whole_or_not_there(tmp_path, restore, monkeypatch, capsys):
    folder = filled(tmp_path / "in", {"a.jpg": GOOD, "b.jpg": GOOD})
    write = Path.write_bytes

    def full(self, data):
        write(self, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert restore(folder, tmp_path / "out") == 1
    assert files(tmp_path / "out") == set() and "a.png: No space left on device" in capsys.readouterr().err


def test_a_wrong_option_ends_a_batch_at_once(tmp_path):
    def work(source: Path, target: Path) -> batch.Done:
        raise UsageError("wrong for all")

    with pytest.raises(UsageError, match="wrong for all"):
        batch.run(listing.Batch([(tmp_path / "a", tmp_path / "b")]), work, False)


def test_what_was_never_a_jpeg_is_left_and_said(tmp_path, restore, model, capsys):
    once = codec.compress(textured(), 30)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, pixels in (("text.png", text()), ("once.png", once), ("tiny.png", once[:12, :20])):
        Image.fromarray(pixels).save(folder / name)
    changed = {"blind": {"once.png"}, "always": {"once.png", "text.png", "tiny.png"}, "never": set()}
    for mode, names in changed.items():
        assert restore(folder, tmp_path / mode, "--restore-lossless", mode) == 0
        out = capsys.readouterr().out
        pairs = [(Image.open(folder / name), Image.open(tmp_path / mode / name)) for name in sorted(files(folder))]
        assert {Path(before.filename).name for before, after in pairs if not np.array_equal(before, after)} == names
        if mode == "blind":
            assert "1 written" in out and "2 written as they are" in out
            assert "no 8x8 grid in the pixels (1: text.png)" in out and "too small to tell: 20 x 12 (1: tiny.png)" in out
    assert main(["inspect", str(folder), *model, "--json"]) == 0
    rows = {Path(row["file"]).name: row["untouched"] for row in json.loads(capsys.readouterr().out)}
    assert rows == {"text.png": "no 8x8 grid in the pixels", "once.png": None, "tiny.png": "too small to tell: 20 x 12"}
    assert main(["inspect", str(folder / "text.png"), *model]) == 0
    assert "left as it is: no 8x8 grid in the pixels" in capsys.readouterr().out
