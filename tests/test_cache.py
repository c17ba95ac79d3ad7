"""The cache: what it gives back, what it bounds, and what kills, damage and full disks do to it."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dagn_pre import cache as module
from dagn_pre import codec
from dagn_pre.cache import CHECKSUM, Cache, digest, parse_size, to_png
from dagn_pre.errors import UsageError
from tests.support import photograph


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def total(cache: Cache) -> int:
    return sum(entry.size for entry in cache.entries())


def leftovers(cache: Cache) -> list[Path]:
    """Everything that is not an entry nor one of the three files that a cache has of its own."""
    files = {path for path in cache.folder.rglob("*") if path.is_file()}
    own = {cache.folder / name for name in (".lock", "usage.json", "CACHEDIR.TAG")}
    return sorted(files - {entry.path for entry in cache.entries()} - own)


def python(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


# -- what goes in comes out --------------------------------------------------------------------------------------------


def test_bytes_come_back_in_any_process(tmp_path):
    cache, data = Cache(tmp_path / "new" / "cache"), os.urandom(1000)
    assert cache.get(key(1), "png") is None
    cache.put(key(1), "png", data)
    cache.put(key(1), "untouched", b"")
    assert cache.get(key(1), "png") == data and cache.get(key(1), "untouched") == b"" and cache.get(key(1), "jpg") is None
    assert pickle.loads(pickle.dumps(cache)).get(key(1), "png") == data and len(pickle.dumps(cache)) < 500
    code = "import sys; from dagn_pre.cache import Cache; print(Cache(sys.argv[1]).get(sys.argv[2], 'png').hex())"
    assert python(code, cache.folder, key(1)).communicate()[0].strip() == data.hex()
    assert total(cache) == len(data) + 2 * CHECKSUM and leftovers(cache) == []


def test_png_is_lossless_and_a_viewer_reads_the_entry(tmp_path):
    image, cache = photograph(33, 47, noise=30), Cache(tmp_path)
    cache.put(key(1), "png", to_png(image))
    np.testing.assert_array_equal(codec.decode(cache.get(key(1), "png")), image)
    np.testing.assert_array_equal(codec.decode(cache.path(key(1), "png").read_bytes()), image)


def test_key_tells_everything_apart():
    image = photograph(16, 16)
    other = image.copy()
    other[3, 5, 1] ^= 1
    keys = [digest(image, quality=10), digest(image, quality=11), digest(image, quality=None), digest(image)]
    keys += [digest(image, quality=10, tile=0), digest(other, quality=10), digest(image.reshape(8, 32, 3), quality=10)]
    assert len(set(keys)) == len(keys)
    flipped = np.ascontiguousarray(image[..., ::-1])[..., ::-1]  # same pixels, other strides
    assert digest(flipped, tile=0, quality=10) == digest(image, quality=10, tile=0)


def test_format_is_part_of_the_key(monkeypatch):
    before = digest(photograph(16, 16))
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert digest(photograph(16, 16)) != before


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, expected", [(1, 1), ("10GB", 10**10), ("500 MB", 5 * 10**8), ("1.5tb", 15 * 10**11), ("7b", 7)])
def test_sizes(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None, "", "GB", "10", "10 GiB", "-1GB", "0GB", "ten"])
def test_bad_sizes_name_the_allowed_form(size, tmp_path):
    with pytest.raises(UsageError, match='"10GB" or "500 MB"'):
        Cache(tmp_path / "cache", size)
    assert not (tmp_path / "cache").exists()


# -- the bound ---------------------------------------------------------------------------------------------------------


def test_least_recently_used_go_first(tmp_path):
    cache = Cache(tmp_path, 20 * (100 + CHECKSUM))
    for number in range(20):
        cache.put(key(number), "jpg", bytes(100))
        os.utime(cache.path(key(number), "jpg"), (1000 + number,) * 2)
    assert cache.get(key(0), "jpg")  # now the most recently used
    cache.put(key(20), "jpg", bytes(100))
    kept = [number for number in range(21) if cache.path(key(number), "jpg").exists()]
    assert kept == [0, *range(3, 21)]  # to nine tenths, so that not each entry evicts one


def test_bound_holds_after_every_entry_and_large_ones_stay_out(tmp_path):
    cache, sizes = Cache(tmp_path, 5000), np.random.default_rng(0).integers(1, 2000, 60)
    for number, size in enumerate(sizes.tolist()):
        cache.put(key(number), "png", bytes(size))
        assert cache.get(key(number), "png") == bytes(size) and total(cache) <= 5000
    before = total(cache)
    cache.put(key("large"), "png", bytes(5000))
    assert cache.get(key("large"), "png") is None and total(cache) == before
    cache.put(key("just"), "png", bytes(5000 - CHECKSUM))
    assert total(cache) == 5000


def test_lost_or_damaged_count_is_counted_anew(tmp_path):
    cache = Cache(tmp_path, 1000)
    for content in (None, b"", b"[]", b'{"bytes": "many", "bound": 1000}', b"x" * 500):
        usage = tmp_path / "usage.json"
        usage.unlink(missing_ok=True) if content is None else usage.write_bytes(content)
        for number in range(8):
            cache.put(key((content, number)), "jpg", bytes(200))
            assert total(cache) <= 1000


WRITER = """
import hashlib, sys
from dagn_pre.cache import Cache
folder, size, first, last = sys.argv[1], *map(int, sys.argv[2:])
cache = Cache(folder, size)
for number in range(first, last):
    key = hashlib.sha256(str(number).encode()).hexdigest()
    data = number.to_bytes(4, "big") * 500
    found = cache.get(key, "png")
    assert found in (None, data)
    cache.put(key, "png", data)
assert cache.writes
"""


def test_processes_write_the_same_and_different_keys_at_once(tmp_path):
    writers = [python(WRITER, tmp_path, 10**9, first, last) for first, last in ((0, 150), (0, 150), (100, 250))]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    cache = Cache(tmp_path)
    assert cache.verify() == (250, [], []) and leftovers(cache) == []
    assert module._read_usage(tmp_path)["bytes"] == total(cache) == 250 * (2000 + CHECKSUM)
    assert all(cache.get(key(number), "png") == number.to_bytes(4, "big") * 500 for number in range(250))


def test_bound_holds_among_processes(tmp_path):
    bound, cache, most = 20_000, Cache(tmp_path), 0
    writers = [python(WRITER, tmp_path, bound, start, start + 70) for start in (0, 1000, 2000)]
    while any(writer.poll() is None for writer in writers):
        with cache._locked():
            most = max(most, total(cache))
        time.sleep(0.02)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert 0.7 * bound < most <= bound and cache.verify()[1:] == ([], [])


def test_threads(tmp_path):
    cache = Cache(tmp_path)
    threads = [threading.Thread(target=lambda: [cache.put(key(n), "jpg", bytes(50)) for n in range(40)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.writes and cache.verify() == (40, [], [])


# -- kills and damage --------------------------------------------------------------------------------------------------


STOPPED = """
import os, sys, time
from dagn_pre.cache import Cache

def stop(source, target):
    if target.suffix != ".png":
        return replace(source, target)
    print(target, flush=True)
    time.sleep(60)

cache = Cache(sys.argv[1])
cache.put("0" * 64, "png", b"whole")
replace, os.replace = os.replace, stop
cache.put("1" * 64, "png", bytes(10**6))
"""


def test_killed_right_before_the_rename(tmp_path):
    """The entry is not there, others are, no lock is left, and verify or the next eviction clears what is left."""
    cache = Cache(tmp_path)
    for clear in (cache.verify, lambda: cache.prune(size=10**9)):
        writer = python(STOPPED, tmp_path)
        assert "1" * 64 in writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        (left,) = leftovers(cache)
        assert left.stat().st_size == 10**6 + CHECKSUM
        assert cache.get("1" * 64, "png") is None and cache.get("0" * 64, "png") == b"whole"
        clear()
        assert leftovers(cache) == []
    cache.put("1" * 64, "png", b"again")
    assert cache.get("1" * 64, "png") == b"again" and cache.verify() == (2, [], [])


def test_killed_at_any_point(tmp_path):
    cache, rng = Cache(tmp_path, 20_000), np.random.default_rng(0)
    for round_ in range(6):
        writer = python(WRITER, tmp_path, 20_000, 10**6 * round_, 10**6 * (round_ + 1))
        while not any(entry.used > 0 for entry in cache.entries()):
            time.sleep(0.005)
        time.sleep(rng.uniform(0.2, 0.4))
        writer.kill()
        writer.wait()
        assert total(cache) <= 20_000
    whole, damaged, left = cache.verify()
    assert whole > 5 and damaged == [] and len(left) <= 6 and leftovers(cache) == []


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "swapped", "longer"])
def test_damage_is_a_miss_that_is_logged_and_mended(tmp_path, caplog, damage):
    cache = Cache(tmp_path)
    cache.put(key(1), "png", bytes(range(200)))
    cache.put(key(2), "png", b"other")
    path = cache.path(key(1), "png")
    data = path.read_bytes()
    flipped = data[:7] + bytes([data[7] ^ 4]) + data[8:]
    other = cache.path(key(2), "png").read_bytes()
    path.write_bytes(dict(cut=data[:-1], emptied=b"", flipped=flipped, swapped=other, longer=data + b"\0")[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.get(key(1), "png") is None
    assert "damaged" in caplog.text and str(path) in caplog.text and not path.exists()
    cache.put(key(1), "png", bytes(range(200)))
    assert cache.get(key(1), "png") == bytes(range(200)) and cache.get(key(2), "png") == b"other"


def test_verify_finds_what_is_damaged(tmp_path):
    cache = Cache(tmp_path)
    for number in range(5):
        cache.put(key(number), "jpg", bytes(10))
    path = cache.path(key(3), "jpg")
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert cache.verify() == (4, [path], []) and cache.verify() == (4, [], [])
    assert module._read_usage(tmp_path)["bytes"] == total(cache)


# -- folders that refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_takes_no_more_is_one_warning(tmp_path, monkeypatch, caplog, code):
    cache = Cache(tmp_path)
    cache.put(key(1), "jpg", b"there")

    def refuse(path, data):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(module, "write_atomic", refuse)
    with caplog.at_level(logging.WARNING):
        for number in range(2, 5):
            cache.put(key(number), "jpg", b"new")
    (record,) = caplog.records
    assert str(tmp_path) in record.getMessage() and os.strerror(code) in record.getMessage()
    assert cache.get(key(1), "jpg") == b"there" and cache.get(key(2), "jpg") is None
    assert leftovers(cache) == []


def test_a_disk_that_fills_while_an_entry_is_written(tmp_path, monkeypatch, caplog):
    """With the real write_atomic: no half entry and no temporary file stays."""
    cache, write = Cache(tmp_path), Path.write_bytes

    def fill(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        cache.put(key(1), "png", bytes(1000))
    assert "No space left" in caplog.text and cache.get(key(1), "png") is None and leftovers(cache) == []
    again = Cache(tmp_path)  # the next process tries again
    again.put(key(1), "png", bytes(1000))
    assert cache.get(key(1), "png") == bytes(1000)


def test_a_folder_that_cannot_be_made_or_locked(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    cache.put(key(1), "jpg", b"")
    assert cache.get(key(1), "jpg") is None and len(caplog.records) == 1 and "takes no more images" in caplog.text
    caplog.clear()

    def refuse(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr(module, "FileLock", refuse)
    cache.put(key(1), "jpg", b"")
    cache.put(key(2), "jpg", b"")
    assert len(caplog.records) == 1 and "flock" in caplog.text


def test_a_read_only_folder_still_gives_its_entries(tmp_path, monkeypatch, caplog):
    Cache(tmp_path).put(key(1), "jpg", b"there")

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "utime", refuse)
    cache = Cache(tmp_path)
    assert cache.get(key(1), "jpg") == b"there" and not caplog.records


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds other things.*empty folder"):
        Cache(tmp_path)
    with pytest.raises(UsageError, match="holds other things"):
        Cache(tmp_path / "photo.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n")
    with pytest.raises(UsageError, match="holds other things"):
        Cache(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "photo.png"]


def test_foreign_files_in_a_cache_survive(tmp_path):
    cache = Cache(tmp_path, 1000)
    cache.put(key(1), "png", b"")
    foreign = [tmp_path / "notes.txt", tmp_path / key(1)[:2] / "photo.png", tmp_path / key(1)[:2] / ".photo-abc.png"]
    for path in foreign:
        path.write_bytes(bytes(2000))
    for number in range(20):
        cache.put(key(number), "jpg", bytes(400))
    cache.prune(size=0)
    cache.verify()
    assert list(cache.entries()) == [] and all(path.exists() for path in foreign)


# -- pruning -----------------------------------------------------------------------------------------------------------


def test_prune_by_size_and_by_age(tmp_path):
    cache, now = Cache(tmp_path), time.time()
    for number in range(6):
        cache.put(key(number), "jpg", bytes(100))
        os.utime(cache.path(key(number), "jpg"), (now - 1000 * (6 - number),) * 2)
    oldest = [cache.path(key(number), "jpg") for number in range(6)]
    assert [entry.path for entry in cache.prune(older_than=4500, dry_run=True)] == oldest[:2]
    assert len(list(cache.entries())) == 6
    assert [entry.path for entry in cache.prune(older_than=4500)] == oldest[:2]
    assert [entry.path for entry in cache.prune(size=2 * (100 + CHECKSUM))] == oldest[2:4]
    assert cache.prune(size=10**6, older_than=10**6) == [] and cache.bound() == 10**10
    assert len(cache.prune(size=0)) == 2 and total(cache) == 0


def test_existing_keeps_the_bound_and_makes_nothing(tmp_path):
    Cache(tmp_path / "cache", "3MB").put(key(1), "jpg", b"")
    assert Cache.existing(tmp_path / "cache").size == 3 * 10**6
    with pytest.raises(UsageError, match="no such folder"):
        Cache.existing(tmp_path / "none")
    with pytest.raises(UsageError, match="not a cache"):
        Cache.existing(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
