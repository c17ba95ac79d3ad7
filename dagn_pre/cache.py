"""A folder of images that need not be computed twice: content-addressed, lossless, bounded, shared by processes.

An entry is one file, ``<first two digits>/<key>.<kind>``. The key is a SHA-256 of all that decides the content
(:func:`digest`), so an entry never grows stale: other weights, options or pixels have another key. Kinds: "jpg", the bytes
of a JPEG; "png", restored pixels; "untouched", why restoring leaves these pixels as they are. Each file ends with a
checksum of 32 bytes, which image viewers ignore.

A plain folder instead of the ``diskcache`` package: SQLite's write-ahead log does not work on network file systems, where
caches of data sets are, and killed writers left files there that count in no bound until a check of everything. It writes
faster (an entry of 160 KB with four writers at once: 2 ms against 2 to 4 ms here, 4 to 6 against 7 to 10 while evicting), which
is nothing beside restoring. ``filelock`` is torch's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from dagn_pre.errors import UsageError
from dagn_pre.files import write_atomic

FORMAT = 2  # part of every key; raise it when an entry's meaning changes
KINDS = ("jpg", "png", "untouched")
TAG = "CACHEDIR.TAG"  # the convention by which backup tools know caches, see bford.info/cachedir
TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of images made by dagn-pre.\n"
USAGE = "usage.json"
USAGE_LENGTH = 100
LOCK = ".lock"
CHECKSUM = 32  # bytes
LOCK_SECONDS = 60  # far more than evicting takes; a holder that is stopped must not stop the others for good
KEEP = 0.9  # of the bound stays when entries have to go, so that not every entry that comes counts all others
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

ENTRY = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(KINDS)})")
LEFTOVER = re.compile(rf"\.[0-9a-f]{{64}}-\w+\.({'|'.join(KINDS)})")  # of dagn_pre/files.py, if killed
SUBFOLDER = re.compile(r"[0-9a-f]{2}")

log = logging.getLogger(__name__)

Failed = Callable[[Path, OSError], object]  # told of a file that cannot be read or removed, so that the others go on


def parse_size(size: int | str) -> int:
    """Bytes of ``size``: a positive integer, or a number with B, KB, MB, GB or TB (powers of 1000) such as "10GB", "1.5 TB".

    Raises:
        UsageError: anything else.
    """
    found = 0
    if isinstance(size, int) and not isinstance(size, bool):
        found = size
    elif isinstance(size, str) and (match := re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([KMGT]?B)\s*", size.upper())):
        found = int(float(match[1]) * UNITS[match[2]])
    if found < 1:
        raise UsageError(f'a cache\'s size must be a number of bytes, or one like "10GB" or "500 MB", not {size!r}')
    return found


def digest(image: np.ndarray, **decides) -> str:
    """The key of what is computed from ``image``, any array, and of ``decides``, JSON values: all else that decides it.

    Pixels are hashed, not the file they were decoded from: decoders differ in the last bit, EXIF turns some images, and
    pipelines hand over pixels alone.
    """
    head = json.dumps([FORMAT, image.dtype.str, image.shape, decides], sort_keys=True)
    found = hashlib.sha256(head.encode())
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


def to_png(rgb: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as PNG; :func:`dagn_pre.codec.decode` gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", compress_level=3)  # from there on time grows more than size falls
    return buffer.getvalue()


@dataclass(frozen=True)
class Entry:
    """A file of the cache: its size in bytes, and when it was last used, in seconds since 1970."""

    path: Path
    size: int
    used: float

    @property
    def kind(self) -> str:
        return self.path.suffix[1:]


class Cache:
    """A folder of entries, at most ``size`` bytes of them; those least recently used go first.

    Any number of threads, processes and machines may use one folder at once. Writers take turns by a lock, readers need
    none: files appear whole, and a damaged one is found by its checksum, removed, logged, and a miss. A kill at any point
    leaves at most a temporary file, which goes when entries are evicted, or by :meth:`verify`. The bound holds at all times
    for whatever was written under it; processes with different bounds each keep to their own when they write.

    A folder that cannot be written, as on a full disk, stops no one: one warning names it, and this object goes on without
    writing (``writes`` is False then). It pickles small, and needs nothing of the process that made it.

    Args:
        folder: made if missing.
        size: bound, as :func:`parse_size` reads it.

    Raises:
        UsageError: a bad size, or a folder that holds other things than a cache.
    """

    def __init__(self, folder: str | Path, size: int | str = "10GB") -> None:
        self.folder = Path(folder)
        self.size = parse_size(size)
        self.writes = True
        try:
            check_folder(self.folder)
            if not is_cache(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomic(self.folder / TAG, TAG_TEXT.encode())
        except OSError as error:
            self._stop_writing(error)

    @classmethod
    def existing(cls, folder: str | Path) -> Cache:
        """The cache in ``folder``, with the bound it was last written under.

        Raises:
            UsageError: there is no such folder, or it is not a cache.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        if not is_cache(folder):
            raise UsageError(f"{folder} is not a cache of dagn-pre (it has no {TAG} of ours)")
        return cls(folder, _read_usage(folder).get("bound") or "10GB")

    def path(self, key: str, kind: str) -> Path:
        """Where an entry is, if it is there."""
        return self.folder / key[:2] / f"{key}.{kind}"

    def get(self, key: str, kind: str) -> bytes | None:
        """An entry's bytes, which makes it the most recently used one; None if it is not there."""
        path = self.path(key, kind)
        try:
            data = _checked(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._stop_writing(error)
            return None
        if data is None:
            log.warning("%s is damaged: it is removed and made anew", path)
        with contextlib.suppress(OSError):  # a folder mounted read-only can still be read from
            os.utime(path) if data is not None else path.unlink()
        return data

    def put(self, key: str, kind: str, data: bytes) -> None:
        """Add an entry, after evicting others if need be; nothing happens if it alone exceeds the bound."""
        size = len(data) + CHECKSUM
        if not self.writes or size > self.size:
            return
        path = self.path(key, kind)
        try:
            with self._locked():
                if path.exists():  # another process was faster
                    return
                usage = _read_usage(self.folder).get("bytes")
                if usage is None or usage + size > self.size:
                    usage = self._evict(min(int(self.size * KEEP), self.size - size))[1]
                # Counted before it is written: a kill in between makes the count too high, never too low.
                self._write_usage(usage + size)
                write_atomic(path, data + _checksum(path, data))
        except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
            self._stop_writing(error)

    def entries(self) -> Iterator[Entry]:
        """Every entry, in no order."""
        for path in self._files(ENTRY):
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                status = path.stat()
                yield Entry(path, status.st_size, status.st_mtime)

    def bound(self) -> int | None:
        """The bound under which the last entry was written; None before the first."""
        return _read_usage(self.folder).get("bound")

    def prune(
        self, size: int | None = None, older_than: float | None = None, dry_run: bool = False, failed: Failed | None = None
    ) -> list[Entry]:
        """Remove the entries least recently used until at most ``size`` bytes are left, and those not used for
        ``older_than`` seconds; returns what is removed, or would be with ``dry_run``. Raises OSError, for single files only
        without ``failed``."""
        with self._locked():
            if dry_run:
                return self._superfluous(size, older_than)[0]
            bound = self.bound()
            gone, total = self._evict(size, older_than, failed)
            self._write_usage(total, bound)
        return gone

    def verify(self, failed: Failed | None = None) -> tuple[int, list[Path], list[Path]]:
        """Read every entry; remove the damaged and what killed writers left: (number of whole entries, damaged, leftovers).
        Raises OSError, for single files only without ``failed``."""
        whole, damaged = 0, []
        for entry in self.entries():
            with _minded(entry.path, failed):
                if _checked(entry.path) is None:
                    damaged.append(entry.path)
                    entry.path.unlink()
                else:
                    whole += 1
        with self._locked():
            leftovers, bound = list(self._files(LEFTOVER)), self.bound()
            self._write_usage(self._evict(failed=failed)[1], bound)
        return whole, damaged, leftovers

    # -- the folder ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A new lock each time, since one that is held must not travel into other processes. Whoever may write in the folder
        # may lock it. Entries take a millisecond to write, so waiting polls often.
        with FileLock(self.folder / LOCK, mode=0o666).acquire(LOCK_SECONDS, poll_interval=0.002):
            yield

    def _superfluous(self, size: int | None, older_than: float | None) -> tuple[list[Entry], int]:
        """The entries that have to go, see :meth:`prune`, and the bytes of those that stay."""
        entries = sorted(self.entries(), key=lambda entry: entry.used)
        total, oldest, gone = sum(entry.size for entry in entries), time.time() - (older_than or 0), []
        for entry in entries:
            if (size is not None and total > size) or (older_than is not None and entry.used <= oldest):
                gone.append(entry)
                total -= entry.size
        return gone, total

    def _evict(
        self, size: int | None = None, older_than: float | None = None, failed: Failed | None = None
    ) -> tuple[list[Entry], int]:
        """Remove the superfluous, and leftovers of killed writers: whoever holds the lock knows that no one is writing."""
        superfluous, total = self._superfluous(size, older_than)
        for path in [*(entry.path for entry in superfluous), *self._files(LEFTOVER)]:
            with _minded(path, failed):
                path.unlink()
        gone = [entry for entry in superfluous if not entry.path.exists()]
        return gone, total + sum(entry.size for entry in superfluous) - sum(entry.size for entry in gone)

    def _write_usage(self, usage: int, bound: int | None = None) -> None:
        # In place, by one write of a fixed length: replacing a file makes ext4 flush it, which takes longer than all the rest.
        # What a crash could tear is no JSON, and then counted anew.
        text = json.dumps({"bytes": usage, "bound": bound or self.size}).ljust(USAGE_LENGTH).encode()
        descriptor = os.open(self.folder / USAGE, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.pwrite(descriptor, text, 0)
        finally:
            os.close(descriptor)

    def _files(self, pattern: re.Pattern) -> Iterator[Path]:
        """Files of ours whose names fit; whatever else lies in the folder is not looked at."""
        folders = [path for path in self.folder.iterdir() if SUBFOLDER.fullmatch(path.name) and path.is_dir()]
        for folder in (self.folder, *folders):
            with os.scandir(folder) as found:
                names = [item.name for item in found if pattern.fullmatch(item.name)]
            yield from (folder / name for name in names)

    def _stop_writing(self, error: Exception) -> None:
        if self.writes:
            log.warning("the cache %s takes no more images, and the work goes on without: %s", self.folder, error)
        self.writes = False

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r}, {self.size})"


@contextlib.contextmanager
def _minded(path: Path, failed: Failed | None) -> Iterator[None]:
    """A file that has gone, evicted by another process, is none; of other errors ``failed`` is told, if it is there."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        if failed is None:
            raise
        failed(path, error)


def is_cache(folder: Path) -> bool:
    """Whether ``folder`` has our tag."""
    try:
        return (folder / TAG).read_text(encoding="utf-8", errors="replace") == TAG_TEXT
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_folder(folder: str | Path) -> None:
    """Raise UsageError for a folder that holds other things than a cache of ours; one that is missing may be made."""
    folder = Path(folder)
    if not is_cache(folder) and folder.exists() and _foreign(folder) and not is_cache(folder):  # now made by another process
        raise UsageError(f"{folder} holds other things than a cache of ours; name a new or an empty folder")


def _foreign(folder: Path) -> bool:
    """Whether a folder without our tag is something else; another process may just be writing the tag."""
    return not folder.is_dir() or any(not name.startswith(f".{Path(TAG).stem}-") for name in os.listdir(folder))


def _checksum(path: Path, data: bytes) -> bytes:
    """Also of the name: a file under another's name is damaged too."""
    return hashlib.sha256(path.name.encode() + data).digest()


def _checked(path: Path) -> bytes | None:
    """An entry's bytes, None if they are damaged; raises OSError."""
    content = path.read_bytes()
    data, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    return data if checksum == _checksum(path, data) else None


def _read_usage(folder: Path) -> dict:
    """{"bytes": at least what the entries take, "bound"}; empty if no one has counted yet, or the file is damaged."""
    try:
        found = json.loads((folder / USAGE).read_bytes()[:USAGE_LENGTH])
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(found, dict) or any(type(found.get(key)) is not int for key in ("bytes", "bound")):
        return {}
    return found if found["bytes"] >= 0 and found["bound"] >= 1 else {}
