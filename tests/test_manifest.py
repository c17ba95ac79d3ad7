"""Manifests: what a kill leaves is readable, later rows count, other options are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.manifest import FOLDER, Appender, Header, Manifest, Row, Rows, Summary

ROW = Row("/in/caf\udce9.jpg", "caf\udce9.png", 300, "ab" * 32, 20, "header", "restored", None, 12.3456, 1e9 + 0.1)
OPTIONS = {"max_quality": 80, "format": "png"}


def write(folder: Path, *rows: Row, options=OPTIONS, overwrite=False) -> Path:
    with Manifest(folder).append_to(options, overwrite) as log:
        for row in rows:
            log.append(row)
    return folder / FOLDER / "manifest.jsonl"


def test_a_row_comes_back_as_it_was():
    assert Row.from_json(ROW.to_json()) == replace(ROW, milliseconds=12.346) and ROW.to_json().isascii()


def test_rows_are_there_as_soon_as_they_are_written(tmp_path):
    with Manifest(tmp_path).append_to(OPTIONS) as log:
        log.append(ROW)
        assert Manifest(tmp_path).latest()[ROW.source].quality == 20


@pytest.mark.parametrize("cut", [1, 40, "header"])
def test_a_last_line_that_a_kill_cut_is_passed_over_and_then_cut_off(tmp_path, cut):
    path = write(tmp_path, ROW, replace(ROW, source="/in/b.jpg"))
    whole = path.read_bytes()
    path.write_bytes(whole[:50] if cut == "header" else whole[:-cut])
    assert [row.source for row in Manifest(tmp_path).latest()] == ([] if cut == "header" else [ROW.source])
    write(tmp_path, replace(ROW, source="/in/c.jpg"))
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert {row.source for row in Manifest(tmp_path).latest()} == {"/in/c.jpg", *([] if cut == "header" else [ROW.source])}


WHOLE = json.loads(ROW.to_json()), json.loads(Header("0", OPTIONS, 1.0).to_json())
WRONG = [{"source": 5}, {"output": 1}, {"bytes": "300"}, {"bytes": -1}, {"bytes": True}, {"bytes": 10**300}, {"digest": None}]
WRONG += [{"quality": 2.5}, {"state": None}, {"state": []}, {"reason": 1}, {"milliseconds": "1"}, {"modified": float("nan")}]
WRONG_HEADERS = [{"dagn_pre": 1}, {"options": 3}, {"begun": "now"}, {"begun": float("inf")}, {"overwrite": 0}]
DAMAGED = ["x", "{}", "[1]", "null", '{"source": 3}', '{"dagn_pre": "0"}', "[" * 100_000, '"dagn_pre"', "9" * 5000]
DAMAGED += [json.dumps(WHOLE[0] | wrong) for wrong in WRONG] + [json.dumps(WHOLE[1] | wrong) for wrong in WRONG_HEADERS]


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: line[-40:])
def test_a_damaged_line_within_is_an_error_that_names_it(tmp_path, line):
    path = write(tmp_path, ROW)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, lines[1], ""]))
    with pytest.raises(DagnPreError, match=r"manifest\.jsonl: line 2 is no row"):
        Manifest(tmp_path).latest()
    write(tmp_path, ROW, overwrite=True)
    assert len(Manifest(tmp_path).latest()) == 1


def test_a_row_before_any_header_is_an_error(tmp_path):
    path = write(tmp_path, ROW)
    path.write_text(path.read_text().splitlines()[1] + "\n")
    with pytest.raises(DagnPreError, match="line 1 comes before any header"):
        Manifest(tmp_path).latest()


def test_other_options_are_refused_and_named_unless_begun_anew(tmp_path):
    write(tmp_path, ROW)
    with pytest.raises(UsageError, match="written with max_quality 80, not 90: .*--overwrite"):
        write(tmp_path, options=OPTIONS | {"max_quality": 90})
    assert len(Manifest(tmp_path).latest()) == 1
    write(tmp_path, options=OPTIONS | {"max_quality": 90}, overwrite=True)
    found = Manifest(tmp_path)
    assert len(found.latest()) == 0 and found.last.overwrite and found.last.options["max_quality"] == 90
    write(tmp_path, ROW, options=OPTIONS | {"max_quality": 90})
    assert Manifest(tmp_path).last.overwrite  # outputs without a row are still those of 80


def test_the_same_options_keep_rows_though_outputs_are_overwritten(tmp_path):
    write(tmp_path, ROW)
    write(tmp_path, overwrite=True)
    assert len(Manifest(tmp_path).latest()) == 1 and not Manifest(tmp_path).last.overwrite


def test_an_overwriting_run_is_unfinished_until_it_says_that_it_came_to_its_end(tmp_path):
    """Also one of the same options, and one that goes on with it; rows before it do not count until then."""
    other = replace(ROW, source="/in/b.jpg")
    write(tmp_path, ROW, other)
    write(tmp_path, ROW, overwrite=True)
    assert Manifest(tmp_path).last.overwrite and [row.source for row in Manifest(tmp_path).latest()] == [ROW.source]
    write(tmp_path, replace(ROW, source="/in/c.jpg"))
    assert Manifest(tmp_path).last.overwrite and len(Manifest(tmp_path).latest()) == 2
    with Manifest(tmp_path).append_to(OPTIONS) as log:
        log.finish()
    assert not Manifest(tmp_path).last.overwrite and len(Manifest(tmp_path).latest()) == 3
    write(tmp_path, ROW)
    assert not Manifest(tmp_path).last.overwrite


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_did_nothing_binds_to_no_options(tmp_path, overwrite):
    write(tmp_path, overwrite=overwrite)
    assert Manifest(tmp_path).last is None
    write(tmp_path, ROW)
    write(tmp_path, options=OPTIONS | {"max_quality": 90}, overwrite=True)  # which may have replaced an output
    write(tmp_path, replace(ROW, source="/in/b.jpg"))
    found = Manifest(tmp_path)
    assert [row.source for row in found.latest()] == ["/in/b.jpg"] and found.last.overwrite


def test_it_is_known_whose_an_output_is_whatever_became_of_that_input_since(tmp_path):
    write(tmp_path, ROW, replace(ROW, output=None, state="failed"))
    assert Manifest(tmp_path).latest().owner(ROW.output) == (replace(ROW, milliseconds=12.346), False)
    write(tmp_path, replace(ROW, source="/in/b.jpg"), options={}, overwrite=True)
    rows = Manifest(tmp_path).latest()
    assert rows.owner(ROW.output)[0].source == "/in/b.jpg" and rows.get(ROW.source) is None and rows.owner("x") is None
    write(tmp_path, options=OPTIONS, overwrite=True)
    assert Manifest(tmp_path).latest().owner(ROW.output)[1]  # outdated


def test_a_full_disk_names_what_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    rows = Rows()
    rows._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(DagnPreError, match=rf"^{tmp_path}: no temporary file .*is full.*TMPDIR"):
        for number in range(1000):
            rows.add(replace(ROW, source=str(number)), Header.now(OPTIONS))
    with open("/dev/full", "ab", buffering=0) as file, pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Appender(file, Header.now(OPTIONS)).append(ROW)


def test_one_process_writes_at_a_time(tmp_path):
    with Manifest(tmp_path).append_to(OPTIONS), pytest.raises(UsageError, match="another dagn-pre writes there"):
        write(tmp_path)
    write(tmp_path, ROW)


def test_of_several_files_the_row_of_the_later_run_counts(tmp_path):
    """In a store, where nothing can be appended to: parts of three runs, of which the file name does not tell the order."""
    manifest = Manifest("memory://bucket/out")
    for begun, run, state in ((3, "a", "restored"), (1, "b", "failed"), (2, "c", "untouched")):
        rows = [replace(ROW, state=state), replace(ROW, source=f"s3://b/{run}.jpg")]
        manifest.write_part(run, 0, Header("0", OPTIONS, begun), rows)
    manifest.write_part("a", 1, Header("0", OPTIONS, 3), [replace(ROW, state="compressed")])
    found = Manifest("memory://bucket/out")
    assert len(found.files()) == 4 and len(found.latest()) == 4 and found.last.begun == 3
    assert found.latest()[ROW.source].state == "compressed" and found.latest().get("s3://b/x.jpg") is None
    with pytest.raises(KeyError):
        found.latest()["s3://b/x.jpg"]
    manifest.begin_anew(OPTIONS)
    assert [Path(path).name for path in Manifest("memory://bucket/out").files()] == ["manifest.jsonl"]


def test_folders_of_any_name(tmp_path):
    for name in ("a[1]*", "b::c", "file:x", "caf\udce9"):
        write(tmp_path / name, ROW)
        assert len(Manifest(tmp_path / name).latest()) == 1


def test_a_summary_adds_up():
    failed = replace(ROW, state="failed", output=None, reason="a.jpg: empty", quality=None, quality_source=None)
    rows = [ROW, ROW, replace(ROW, state="untouched", reason="QF 90"), *[failed] * 5]
    text = Summary.of(rows).text()
    assert "8 inputs" in text and "5 failed, 2 restored, 1 untouched" in text and "untouched: QF 90 (1)" in text
    assert text.count("failed: a.jpg: empty") == 3 and "and 2 more" in text and "3 header" in text


def test_without_a_manifest_there_is_no_summary(tmp_path):
    with pytest.raises(UsageError, match="no manifest in it"):
        Manifest(tmp_path).summary()
    with pytest.raises(UsageError, match="nowhere://bucket: "):
        Manifest("nowhere://bucket").summary()
