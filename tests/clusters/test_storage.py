"""Stores: local folders, memory and S3 over HTTP give the same; what may pass is tried again, what stays is one clear error."""

from __future__ import annotations

import errno
import os
import pickle
import threading

import fsspec
import pytest
from local_s3 import LocalS3

from dagn_pre import storage
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.storage import NotThereError, StorageError, Store


@pytest.fixture(scope="module")
def s3():
    with LocalS3() as server:
        yield server


@pytest.mark.parametrize("name", ["a[1]*", "b::c", "file:x", "~", "caf\udce9", "%41 ?#"])
def test_local_folders_of_any_name(tmp_path, name):
    """What would be a chain of stores, a pattern or a home elsewhere."""
    store = pickle.loads(pickle.dumps(Store(tmp_path / name)))
    store.write("x/1.jpg", b"1")
    assert (tmp_path / name / "x" / "1.jpg").read_bytes() == store.read("x/1.jpg") == b"1"
    assert store.folder("x") == ([], [storage.Entry("x/1.jpg", 1, (tmp_path / name / "x" / "1.jpg").stat().st_mtime)])


def test_a_link_to_a_file_is_one(tmp_path):
    """Of the size and the time of what it leads to; links to folders and to nothing, and pipes, are none."""
    (tmp_path / "in/folder").mkdir(parents=True)
    (tmp_path / "in/0.jpg").write_bytes(b"0")
    (tmp_path / "1.jpg").write_bytes(b"four")
    os.utime(tmp_path / "1.jpg", (5, 5))
    for name, leads in {"1.jpg": "../1.jpg", "2.jpg": "nowhere", "3.jpg": "3.jpg", "other": "folder"}.items():
        (tmp_path / "in" / name).symlink_to(leads)
    os.mkfifo(tmp_path / "in/4.jpg")
    for url in (tmp_path / "in", f"file://{tmp_path}/in"):
        folders, entries = Store(url).folder()
        assert folders == ["folder"] and [entry.path for entry in entries] == ["0.jpg", "1.jpg"]
        assert [entry.is_link for entry in entries] == [False, True]
        assert (entries[1].size, entries[1].modified) == (4, 5) and Store(url).read("1.jpg") == b"four"


def test_keys_that_are_no_paths_are_named(s3):
    fs = fsspec.filesystem("s3")
    fs.mkdir("slashes")
    for key in ("top/p/", "top/p/a.jpg", "top/q//b.jpg"):
        fs.call_s3("put_object", Bucket="slashes", Key=key, Body=b"")
    assert [entry.path for _, entries in Store("s3://slashes/top/p").folders() for entry in entries] == ["a.jpg"]
    with pytest.raises(StorageError, match="s3://slashes/top/q//...: keys with // in them are no paths of files: rename them"):
        list(Store("s3://slashes/top").folders())
    fs.call_s3("put_object", Bucket="slashes", Key="/a.jpg", Body=b"")
    with pytest.raises(StorageError, match="s3://slashes//"):
        Store("s3://slashes").folder()


@pytest.fixture(params=["local", "memory", "s3"])
def root(request, tmp_path):
    """An empty folder in each kind of store."""
    if request.param == "local":
        yield str(tmp_path / "root")
    elif request.param == "memory":
        fsspec.filesystem("memory").rm("/", recursive=True)
        yield "memory://root"
    else:
        request.getfixturevalue("s3")
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        yield "s3://bucket/root"
        fs.rm("bucket", recursive=True)


def test_every_store_reads_what_was_written_and_lists_it(root, tmp_path):
    store = Store(root)
    assert store.kind() is None and store.folder() == ([], [])
    (tmp_path / "large").write_bytes(b"z" * 100)
    for path in ("b.jpg", "a/1.jpg", "a/x/2.jpg", ".hidden/3.jpg"):
        store.write(path, path.encode())
    store.upload(tmp_path / "large", "a/large")
    store.write("b.jpg", b"again")
    assert store.kind() == "directory" and Store(f"{root}/b.jpg").kind() == "file"
    found = {folder: [(entry.path, entry.size) for entry in entries] for folder, entries in store.folders()}
    assert found == {"": [("b.jpg", 5)], "a": [("a/1.jpg", 7), ("a/large", 100)], "a/x": [("a/x/2.jpg", 9)]}
    assert list(store.folders(without=store.full("a")))[1:] == []
    assert all(entry.modified and entry.modified > 1e9 for entry in store.folder("a")[1])
    assert store.read("b.jpg") == b"again"
    store.download("a/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"z" * 100
    storage.copy(store, "a/large", store, "copied")
    assert store.read("copied") == b"z" * 100
    for _ in range(2):  # what is gone already is no fault
        store.remove("copied")
    assert Store(f"{root}/copied").kind() is None
    again = pickle.loads(pickle.dumps(store))
    assert again.url("a/1.jpg") == store.url("a/1.jpg") and again.read("a/1.jpg") == b"a/1.jpg"
    with pytest.raises(NotThereError, match="nothing"):
        store.read("nothing")


def test_a_relative_path_means_the_same_in_other_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store("here").write("x", b"1")
    pickled = pickle.dumps(Store("here"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickled).read("x") == b"1"


class Flaky:
    """A call that fails so many times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "failures, error, calls, told",
    [
        (storage.RETRIES, ConnectionError("reset"), storage.RETRIES + 1, None),
        (99, ConnectionError("reset"), storage.RETRIES + 1, "x: reset"),
        (99, PermissionError("denied"), 1, "no rights"),
        (99, OSError(errno.ENOSPC, "No space left on device"), 1, "No space left"),
        (99, FileNotFoundError("x"), 1, "no such file"),
    ],
)
def test_what_may_pass_is_tried_again_with_a_bound(tmp_path, monkeypatch, failures, error, calls, told):
    waits: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", waits.append)
    call = Flaky(failures, error)
    if told is None:
        assert Store(tmp_path).kept("x", call) == "done"
    else:
        with pytest.raises(StorageError, match=told):
            Store(tmp_path).kept("x", call)
    assert call.calls == calls and len(waits) == calls - 1
    assert waits == sorted(waits)  # longer each time


def test_a_bucket_that_breaks_for_a_while_is_waited_for(s3):
    fs = fsspec.filesystem("s3")
    fs.mkdir("breaking")
    store = Store("s3://breaking")
    store.write("x", b"1")
    s3.broken.set()
    threading.Timer(1.5, s3.broken.clear).start()
    assert store.read("x") == b"1"


def test_no_rights_and_no_bucket_are_told_apart(s3):
    assert Store("s3://nowhere/x").kind() is None
    with pytest.raises(NotThereError, match="s3://nowhere/x/y: no such file or bucket"):
        Store("s3://nowhere/x").write("y", b"1")
    fsspec.filesystem("s3").mkdir("closed")
    with s3.breaking(s3.denied):
        with pytest.raises(StorageError, match="s3://closed/x: no rights .*; give this process the rights"):
            Store("s3://closed").read("x")


def test_other_file_systems_write_aside_and_move(tmp_path):
    """fsspec's local:// as one that is not known to write whole: the temporary file is gone, also after a failure."""
    store = Store(tmp_path / "root")
    store.local = False
    store.write("a/b", b"1")
    assert store.read("a/b") == b"1"
    store.fs.mv, moving = lambda *paths: (_ for _ in ()).throw(PermissionError("no")), store.fs.mv
    try:
        with pytest.raises(StorageError, match="no rights"):
            store.write("a/c", b"1")
    finally:
        store.fs.mv = moving
    assert sorted(path.name for path in (tmp_path / "root" / "a").iterdir()) == ["b"]


def test_what_fsspec_does_not_know_is_told():
    with pytest.raises(UsageError, match="nonsense"):
        Store("nonsense://x")
    with pytest.raises(DagnPreError, match="gs://.*: gs:// needs a library .*gcsfs"):
        Store("gs://bucket/x")
