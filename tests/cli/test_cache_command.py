"""``dagn-pre cache``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dagn_pre.cache import CHECKSUM, Cache
from dagn_pre.cli.main import main


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two JPEGs, not used for 40 and 2 days, and an untouched marker from now."""
    cache = Cache(tmp_path / "cache", "2MB")
    for name, kind, data, days in (("a", "jpg", bytes(3000), 40), ("b", "jpg", bytes(1000), 2), ("c", "untouched", b"", 0)):
        key = name * 64
        cache.put(key, kind, data)
        os.utime(cache.path(key, kind), (time.time() - days * 86400,) * 2)
    return cache.folder


def left(folder: Path) -> set[str]:
    return {entry.path.name[0] for entry in Cache(folder).entries()}


def test_info(folder, capsys):
    assert main(["cache", "info", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["entries"] == 3 and found["bytes"] == 4000 + 3 * CHECKSUM and found["bound"] == 2_000_000
    assert found["kinds"]["jpg"] == {"entries": 2, "bytes": 4000 + 2 * CHECKSUM} and found["kinds"]["png"]["entries"] == 0
    age = time.time() - time.mktime(time.strptime(found["oldest_use"], "%Y-%m-%d %H:%M:%S"))
    assert 39.9 < age / 86400 < 40.1
    assert main(["cache", "info", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "3 entries, 4.1 KB of at most 2.0 MB" in text and found["newest_use"] in text


def test_info_of_a_cache_without_entries(tmp_path, capsys):
    Cache(tmp_path)
    assert main(["cache", "info", str(tmp_path)]) == 0 and "0 entries, 0 B" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, kept",
    [(["--size", "1.5KB"], "bc"), (["--size", "1064"], "bc"), (["--size", "1063"], "c"), (["--older-than", "30d"], "bc")]
    + [(["--older-than", "36h"], "c"), (["--older-than", "8w"], "abc"), (["--all"], "")]
    + [(["--size", "3KB", "--older-than", "1d"], "c")],
)
def test_prune(folder, capsys, arguments, kept):
    assert main(["cache", "prune", str(folder), "--dry-run", *arguments]) == 0
    would = capsys.readouterr().out
    assert left(folder) == set("abc") and f"would remove {3 - len(kept)} entries" in would
    assert main(["cache", "prune", str(folder), *arguments]) == 0
    assert capsys.readouterr().out == would.replace("would remove", "removed")
    assert left(folder) == set(kept)


@pytest.mark.parametrize("size, bound", [(1, 0), (1, True), (-1, 9), (1.5, 9)])
def test_a_damaged_usage_file_is_as_none(folder, capsys, size, bound):
    (folder / "usage.json").write_text(json.dumps({"bytes": size, "bound": bound}))
    assert main(["cache", "info", str(folder), "--json"]) == 0 and json.loads(capsys.readouterr().out)["bound"] is None
    assert main(["cache", "info", ""]) == 2 and "an argument is empty (after info)" in capsys.readouterr().err


def test_verify(folder, capsys):
    assert main(["cache", "verify", str(folder)]) == 0 and "3 entries are whole, 0 were damaged" in capsys.readouterr().out
    path = Cache(folder).path("b" * 64, "jpg")
    path.write_bytes(path.read_bytes()[:-5])
    leftover = path.with_name(f".{'d' * 64}-x1y2.png")
    leftover.write_bytes(b"half")
    assert main(["cache", "verify", str(folder)]) == 1
    text = capsys.readouterr().out
    assert str(path) in text and "2 entries are whole, 1 were damaged" in text and "killed writers, removed: 1" in text
    assert not path.exists() and not leftover.exists()
    assert main(["cache", "verify", str(folder)]) == 0


@pytest.mark.parametrize("action", [["info"], ["verify"], ["prune", "--all"]])
def test_folders_that_are_no_cache(tmp_path, capsys, action):
    (tmp_path / "photo.png").write_bytes(b"mine")
    missing = "no such folder"
    for folder, reason in ((tmp_path, "not a cache"), (tmp_path / "none", missing), (tmp_path / "photo.png", missing)):
        assert main(["cache", action[0], str(folder), *action[1:]]) == 2
        assert f"{folder}" in (error := capsys.readouterr().err) and reason in error
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    "arguments, reason",
    [([], "--older-than or --all"), (["--size", "big"], "'big'"), (["--size", "0"], "number of bytes")]
    + [(["--older-than", "30"], "30d"), (["--older-than", "-3d"], "30d"), (["--older-than", "3y", "--all"], "'3y'")]
    + [(["--all", "--size", "1KB"], "give it alone"), (["--all", "--older-than", "1d"], "give it alone")]
    + [(["--size", "\u0661\u0660KB"], "number of bytes"), (["--size", "\u0661\u0660"], "number of bytes")]
    + [(["--older-than", "\u0663d"], "30d"), (["--size", "9" * 400 + "GB"], "number of bytes"), (["--size", ""], "is empty")],
)
def test_bad_prunes_remove_nothing(folder, capsys, arguments, reason):
    try:
        status = main(["cache", "prune", str(folder), *arguments])
    except SystemExit as error:  # argparse takes -3d for an option
        status, reason = error.code, "expected one argument"
    assert status == 2 and reason in capsys.readouterr().err and left(folder) == set("abc")


def test_damage_that_cannot_be_removed_is_an_error_without_traceback(folder, capsys, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["cache", "prune", str(folder), "--all"]) == 1 and "Permission denied" in capsys.readouterr().err
