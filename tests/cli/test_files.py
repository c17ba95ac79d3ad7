"""restore, compress, inspect and models, as a user calls them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.cli.main import COMMANDS, main
from dagn_pre.manifest import FOLDER
from tests.support import photograph


@pytest.fixture
def tree(tmp_path):
    """A folder with a sub-folder, two names that differ in suffix alone, and three bad files."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    (root / "sub" / "b.jpg").write_bytes(codec.encode(photograph(seed=1), 60))
    Image.fromarray(photograph(seed=2)).save(root / "same.png")
    (root / "same.jpg").write_bytes(codec.encode(photograph(seed=2), 30))
    (root / "bad.jpg").write_bytes(b"not a JPEG")
    (root / "empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("no image")
    return root


GOOD = {"a.jpg.png", "sub/b.jpg.png", "same.png.png", "same.jpg.png"}  # with --full-names


def files(folder):
    """But for the manifest."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if FOLDER not in path.parts}


def test_restore_a_tree_reports_bad_files_and_does_the_others(tree, tmp_path, tiny_weights, capsys):
    out = tmp_path / "out"
    arguments = ["--model", str(tiny_weights), "--device", "cpu", "--max-quality", "none", "--full-names"]
    assert main(["restore", str(tree), str(out), *arguments]) == 1
    assert files(out) == GOOD  # whole files alone: no temporary is left
    captured = capsys.readouterr()
    assert "bad.jpg: not an image" in captured.err and "empty.png: the file is empty" in captured.err
    assert "4 written" in captured.out and "2 failed" in captured.out
    restored = np.asarray(Image.open(out / "a.jpg.png"))
    assert (restored != codec.decode((tree / "a.jpg").read_bytes())).any()


def test_existing_outputs_are_skipped_unless_overwritten(tree, tmp_path, tiny_weights, capsys):
    (tree / "bad.jpg").unlink(), (tree / "empty.png").unlink()
    out = tmp_path / "out"
    arguments = ["restore", str(tree), str(out), "--model", str(tiny_weights), "--device", "cpu", "--full-names"]
    assert main(arguments) == 0
    (out / "a.jpg.png").write_bytes(b"mine")
    assert main(arguments) == 0
    assert (out / "a.jpg.png").read_bytes() == b"mine" and "4 skipped" in capsys.readouterr().out
    assert main([*arguments, "--overwrite"]) == 0
    assert (out / "a.jpg.png").read_bytes() != b"mine"


@pytest.mark.parametrize("words", [["restore"], ["compress", "--qf", "20"], ["strip"]], ids=lambda words: words[0])
def test_one_file_whose_output_is_there_is_skipped(tmp_path, tiny_weights, capsys, words):
    (tmp_path / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    model = ["--model", str(tiny_weights)] if words == ["restore"] else []
    target = tmp_path / ("b.png" if words == ["restore"] else "b.jpg")
    for told in ("1 written", "1 skipped"):
        assert main([*words, str(tmp_path / "a.jpg"), str(target), *model]) == 0
        assert told in capsys.readouterr().out


def test_restore_one_file_keeps_alpha_profile_and_turns_upright(tmp_path, tiny_weights):
    image = Image.fromarray(photograph(40, 60))
    image.putalpha(Image.fromarray(photograph(40, 60, 7)[..., 0]))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif, icc_profile=b"profile")
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", str(tiny_weights)]) == 0
    restored = Image.open(tmp_path / "b.png")
    assert restored.mode == "RGBA" and restored.size == (40, 60)
    assert restored.info["icc_profile"] == b"profile" and restored.getexif().get(0x0112, 1) == 1


def test_an_assumed_quality_outranks_the_header(tmp_path):
    (tmp_path / "a.jpg").write_bytes(codec.encode(photograph(), 97))
    restored = []
    for name, options in {"skipped": [], "low": ["--assume-quality", "10"], "high": ["--assume-quality", "90"]}.items():
        assert main(["restore", str(tmp_path / "a.jpg"), str(tmp_path / f"{name}.png"), "--device", "cpu", *options]) == 0
        restored.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(float))
    skipped, low, high = restored
    assert np.array_equal(skipped, codec.decode((tmp_path / "a.jpg").read_bytes()))
    assert 0 < np.abs(high - skipped).mean() < np.abs(low - skipped).mean()


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp"])
def test_restored_files_are_lossless(tmp_path, tiny_weights, suffix):
    (tmp_path / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    for target in ("reference.png", f"b.{suffix}"):
        assert main(["restore", str(tmp_path / "a.jpg"), str(tmp_path / target), "--model", str(tiny_weights)]) == 0
    first, second = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("reference.png", f"b.{suffix}"))
    assert np.array_equal(first, second)


def test_compress_a_tree(tree, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["compress", str(tree), str(out), "--qf", "15", "--subsampling", "4:4:4", "--full-names"]) == 1
    assert files(out) == {name[:-4] + ".jpg" for name in GOOD}
    image = Image.open(out / "sub" / "b.jpg.jpg")
    assert codec.header_quality(image).value == 15 and codec.header_subsampling(image) == "4:4:4"


def test_compress_refuses_alpha(tmp_path, capsys):
    image = Image.fromarray(photograph())
    image.putalpha(9)
    image.save(tmp_path / "a.png")
    assert main(["compress", str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), "--qf", "15"]) == 1
    assert "alpha" in capsys.readouterr().err and not (tmp_path / "a.jpg").exists()


def test_inspect_prints_and_gives_json(tree, tiny_weights, capsys):
    arguments = ["inspect", str(tree), "--model", str(tiny_weights), "--device", "cpu"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "a.jpg: JPEG, 96x64, RGB, 4:2:0, header QF 20, blind QF" in captured.out
    assert main([*arguments, "--json"]) == 1
    rows = {row["file"].rsplit("/", 1)[1]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["a.jpg"]["header_quality"] == 20 and rows["a.jpg"]["standard_tables"] is True
    assert rows["same.png"]["header_quality"] is None and 1 <= rows["same.png"]["blind_quality"] <= 100
    assert "not an image" in rows["bad.jpg"]["error"]


@pytest.mark.slow
def test_models(capsys):
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^dagn +109\.95 M +951\.6 +blind or told +pixels +not here", table, re.MULTILINE)
    assert re.search(r"^swinir +11\.49 M +- +one per QF", table, re.MULTILINE)
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows[:5]] == ["dagn-s", "dagn-s-psnr", "dagn-xs", "dagn-xs-psnr", "dagn"]
    assert rows[0]["ready"] and rows[0]["card"]["name"] == "dagn-s" and not rows[4]["ready"] and rows[4]["weights"] is None
    needs = {row["name"]: row["needs"] for row in rows}
    assert (needs["dagn-s"], needs["qgac"], needs["libjpeg"]) == ("pixels", "tables", "file")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["restore", "{tmp}/gone", "{tmp}/out"], "no such file or folder"),
        (["restore", "{tmp}", "{tmp}/out"], "no images in it"),
        (["restore", "{tmp}/in/a.jpg", "{tmp}/out.png", "--model", "nope"], "known: dagn-s"),
        (["restore", "{tmp}/in/a.jpg", "{tmp}/out.png", "--strength", "3"], "strength"),
        (["restore", "{tmp}/in/a.jpg", "{tmp}/in/a.jpg", "--overwrite"], "same file"),
        (["compress", "{tmp}/in/a.jpg", "{tmp}/out.jpg", "--qf", "0"], "1 to 100"),
        (["compress", "{tmp}/in/a.jpg", "{tmp}/out.jpg", "--qf", "10", "--subsampling", "4:1:1"], "subsampling"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_line(tmp_path, capsys, arguments, reason):
    if "no images" not in reason:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error and len(error.strip().splitlines()) == 1


def test_failed_work_exits_with_1_and_debug_shows_the_error(tmp_path, capsys):
    arguments = ["restore", str(tmp_path), str(tmp_path / "o"), "--model", str(tmp_path / "w.safetensors")]
    (tmp_path / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    assert main(arguments) == 1
    assert "w.safetensors: no such weights file" in capsys.readouterr().err
    with pytest.raises(Exception, match="no such weights file"):
        main([*arguments, "--debug"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "memory://b/a.jpg"],
        ["evaluate", "--data", ".", "s3://b/x"],
        ["evaluate", "--data", ".", "--output", "s3://b/x"],
        ["cache", "info", "gs://b/x"],
        ["bench", "scale", "hf://b/x"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_url_is_no_local_path(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert f"{arguments[-1]} is a URL, where only a local path works" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--help"])
    assert exit_.value.code == 0 and f"dagn-pre {command}" in capsys.readouterr().out.split("example:")[1]


@pytest.mark.parametrize("command", [["restore"], ["compress", "--qf", "20"]])
@pytest.mark.parametrize("target", ["folder-to-be/", "a.xyz"])
def test_a_target_that_cannot_be_written_is_refused_before_work(tmp_path, capsys, command, target):
    (tmp_path / "a.png").write_bytes(codec.encode(photograph(), 20))
    assert main([command[0], str(tmp_path / "a.png"), str(tmp_path / target), *command[1:]]) == 2
    assert "ending in" in capsys.readouterr().err


def test_an_error_of_pillows_writer_is_one_bad_file(tmp_path, tiny_weights, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16400, 1)).save(tmp_path / "in" / "wide.png")  # WebP ends at 16383
    Image.fromarray(photograph()).save(tmp_path / "in" / "fine.png")
    arguments = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(tiny_weights), "--format", "webp"]
    assert main(arguments) == 1
    assert "wide.png" in capsys.readouterr().err and files(tmp_path / "out") == {"fine.webp"}


def test_untouched_cmyk_is_written_as_rgb_without_its_profile(tmp_path, tiny_weights):
    Image.fromarray(photograph()).convert("CMYK").save(tmp_path / "a.jpg", quality=95, icc_profile=b"cmyk")
    for strength in ("0", "1"):
        target = tmp_path / f"{strength}.png"
        arguments = ["--model", str(tiny_weights), "--strength", strength, "--max-quality", "90"]
        assert main(["restore", str(tmp_path / "a.jpg"), str(target), *arguments]) == 0
        assert Image.open(target).mode == "RGB" and "icc_profile" not in Image.open(target).info


def test_restore_refuses_alpha_in_a_jpeg(tmp_path, tiny_weights, capsys):
    Image.fromarray(photograph()).convert("RGBA").save(tmp_path / "a.png")
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), "--model", str(tiny_weights)]) == 1
    assert "alpha" in capsys.readouterr().err and not (tmp_path / "b.jpg").exists()


def test_a_target_above_the_source_does_not_hide_the_images(tmp_path, tiny_weights):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(codec.encode(photograph(), 20))
    assert main(["restore", str(tmp_path / "photos"), str(tmp_path), "--model", str(tiny_weights)]) == 0
    assert (tmp_path / "a.png").exists()


def test_inspect_of_a_folder_without_images_is_wrong_usage(tmp_path, tiny_weights, capsys):
    assert main(["inspect", str(tmp_path), "--model", str(tiny_weights)]) == 2
    assert "no images" in capsys.readouterr().err
