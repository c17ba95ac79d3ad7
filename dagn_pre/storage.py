"""Files wherever fsspec reaches: local folders, ``s3://``, ``gs://``, ``hf://``, ``memory://``. Each is written whole or not.

Where a store is and who one is (endpoints, regions, keys) stands where its library looks for it: its environment variables,
its configuration files, and fsspec's own (``FSSPEC_S3_ENDPOINT_URL``, ``~/.config/fsspec``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dagn_pre import files
from dagn_pre.errors import DagnPreError, UsageError

EXTRAS = {"s3": "s3", "s3a": "s3", "hf": "hf"}  # protocol -> ours that brings its library
WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory"}  # an object there appears once all of it has arrived
RETRIES = 5  # of an operation that failed for a reason that may pass
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0  # seconds between them, doubled each time
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG}
NO_RIGHTS = {"NoCredentialsError", "PartialCredentialsError"}  # botocore's, which are no OSErrors

Given = TypeVar("Given")


class StorageError(DagnPreError):
    """A store that cannot be reached, or refuses; what was asked for is named."""


class NotThereError(StorageError):
    """No such file or bucket."""


@dataclass(frozen=True)
class Entry:
    """A file of a store.

    Attributes:
        path: below the store's root, with "/".
        size: in bytes.
        modified: when it was last written, in seconds of the store's clock; None where it does not say.
        is_link: whether it is a link to a file, whose are the size and the time.
    """

    path: str
    size: int
    modified: float | None
    is_link: bool = False


def is_url(text: object) -> bool:
    """Whether it names a store rather than a local path."""
    return "://" in str(text)


class Store:
    """A folder of a file system, or one file of it; pickles to its URL.

    Args:
        url: a URL that fsspec knows, or a local path, whatever is in its name.

    Attributes:
        fs: the file system.
        root: the path there, without an end of "/".

    Raises:
        UsageError: a protocol that fsspec does not know.
        DagnPreError: its library is not installed.
    """

    def __init__(self, url: str | os.PathLike) -> None:
        self.location = os.fspath(url)
        protocol = self.location.partition("://")[0] if is_url(url) else "file"
        try:
            if protocol == "file" and not is_url(url):
                self.fs, root = LocalFileSystem(), os.path.abspath(self.location)
            else:  # what others write meanwhile is to be seen
                self.fs, root = url_to_fs(self.location, use_listings_cache=False)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            remedy = f'pip install "dagn-pre[{extra}]"' if extra else "install what it names"
            raise DagnPreError(f"{self.location}: {protocol}:// needs a library ({error}): {remedy}") from error
        except ValueError as error:
            raise UsageError(f"{self.location}: {error}") from error
        self.root = root.rstrip("/")
        self.local = isinstance(self.fs, LocalFileSystem)
        self._whole, self._is_s3 = protocol in WHOLE, EXTRAS.get(protocol) == "s3"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url(),)

    def __str__(self) -> str:
        return self.url()

    def url(self, path: str = "") -> str:
        """Of a file below the root: a URL, or a local path."""
        full = self.full(path)
        return full if self.local else self.fs.unstrip_protocol(full)

    def full(self, path: str = "") -> str:
        """The same as its file system calls it."""
        return f"{self.root}/{path}" if path else self.root

    def place(self, path: str = "") -> str:
        """The same, one for all names that links give a local file or folder."""
        return os.path.realpath(self.full(path)) if self.local else self.url(path)

    # -- looking ------------------------------------------------------------------------------------------------------

    def kind(self) -> str | None:
        """"file", "directory" or None for what the root is; of a bucket that does not exist None as well.

        Raises:
            StorageError: no rights, or it cannot be reached.
        """
        try:
            return self._retried("", self.fs.info, self.root)["type"]
        except FileNotFoundError:
            return None

    def entry(self) -> Entry:
        """The root, which is a file; its path is "". Raises StorageError."""
        info = self.kept("", self.fs.info, self.root)
        return Entry("", info.get("size") or 0, _modified(info))

    def folder(self, path: str = "") -> tuple[list[str], list[Entry]]:
        """Names of the folders, and the files, directly below a folder; sorted, without those that are hidden.

        A link to a file is one; other links, devices and pipes are passed over, as is a folder that is not there.

        Raises:
            StorageError: no rights, or it cannot be reached; in a bucket, keys with an empty name between two "/".
        """
        try:
            found = self._retried(path, self.fs.ls, self.full(path), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        folders, entries = [], []
        for info in found:
            name = info["name"].rstrip("/").rpartition("/")[2]
            if self._is_s3 and info["type"] == "directory" and info["name"].endswith("/"):
                raise StorageError(f"{self.url(path)}//...: keys with // in them are no paths of files: rename them")
            if name.startswith(".") or info["name"].rstrip("/") == self.full(path):  # some stores list a folder in itself
                continue
            below = f"{path}/{name}" if path else name
            if info["type"] == "directory":
                if not info.get("islink"):
                    folders.append(name)
            elif info["type"] == "file":
                entries.append(Entry(below, info.get("size") or 0, _modified(info)))
            elif info.get("islink") and (linked := self._linked(below)):
                entries.append(linked)
        return sorted(folders), sorted(entries, key=lambda entry: entry.path)

    def _linked(self, path: str) -> Entry | None:
        """What a local link leads to, if that is a file."""
        try:
            found = os.stat(self.full(path))
        except OSError:  # to nothing, to itself, or to where one may not look
            return None
        return Entry(path, found.st_size, found.st_mtime, is_link=True) if stat.S_ISREG(found.st_mode) else None

    def folders(self, path: str = "", without: str | None = None) -> Iterator[tuple[str, list[Entry]]]:
        """Each folder below one, itself first, with its files; one listing at a time is held.

        Args:
            without: the full path of a folder that is passed over.
        """
        below, entries = self.folder(path)
        yield path, entries
        for name in below:
            inner = f"{path}/{name}" if path else name
            if self.full(inner) != without:
                yield from self.folders(inner, without)

    # -- reading and writing ------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        """All of a file; raises StorageError."""
        return self.kept(path, self.fs.cat_file, self.full(path))

    def download(self, path: str, file: Path) -> None:
        """Copy a file to a local one; raises StorageError."""
        self.kept(path, self.fs.get_file, self.full(path), str(file))

    def write(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all; raises StorageError."""
        if self.local:
            self.kept(path, files.write_atomic, self.full(path), data)
        else:
            self._put(path, lambda full: self.fs.pipe_file(full, data))

    def upload(self, file: Path, path: str) -> None:
        """Write a file from a local one, whole or not at all; raises StorageError."""
        if self.local:
            self.kept(path, _copied, file, self.full(path))
        else:
            self._put(path, lambda full: self.fs.put_file(str(file), full))

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no fault. Raises StorageError."""
        with contextlib.suppress(FileNotFoundError):
            self._retried(path, self.fs.rm_file, self.full(path))

    def _put(self, path: str, put: Callable[[str], Any]) -> None:
        full = self.full(path)
        if self._whole:
            self.kept(path, put, full)
            return
        folder, _, name = full.rpartition("/")
        temporary = f"{folder}/.{uuid.uuid4().hex[:8]}-{name}"

        def moved() -> None:
            self.fs.makedirs(folder, exist_ok=True)
            try:
                put(temporary)
                self.fs.mv(temporary, full)
            finally:
                if self.fs.exists(temporary):
                    self.fs.rm_file(temporary)

        self.kept(path, moved)

    def kept(self, path: str, call: Callable[..., Given], *arguments: Any) -> Given:
        """What a call gives, which is made again where it fails for a reason that may pass.

        Raises:
            NotThereError, StorageError: it names ``path``.
            DagnPreError: of the call itself.
        """
        try:
            return self._retried(path, call, *arguments)
        except FileNotFoundError as error:
            raise NotThereError(f"{self.url(path)}: no such file or bucket") from error

    def _retried(self, path: str, call: Callable[..., Given], *arguments: Any, **named: Any) -> Given:
        """What a call gives; one that fails for a reason that may pass is made again, up to RETRIES times.

        Raises:
            FileNotFoundError, NotADirectoryError, DagnPreError: as they come.
            StorageError: all others, the last one's reason.
        """
        wait, left = FIRST_WAIT, RETRIES
        while True:
            try:
                return call(*arguments, **named)
            except (FileNotFoundError, NotADirectoryError, DagnPreError):
                raise
            except Exception as error:  # a library's own, as those of botocore
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                if isinstance(error, PermissionError) or type(error).__name__ in NO_RIGHTS:
                    remedy = "give this process the rights, or another place"
                    raise StorageError(f"{self.url(path)}: no rights ({reason}); {remedy}") from error
                if getattr(error, "errno", None) in LASTING or left == 0:
                    raise StorageError(f"{self.url(path)}: {reason}") from error
            time.sleep(wait)
            wait, left = min(2 * wait, LONGEST_WAIT), left - 1


def copy(source: Store, path: str, target: Store, output: str) -> None:
    """Copy a file from one store to another, whole or not at all; raises StorageError."""
    with files.unnamed() as file:
        source.download(path, file)
        target.upload(file, output)


def _copied(file: Path, full: str) -> None:
    with files.atomic_path(full) as temporary:
        shutil.copyfile(file, temporary)


def _modified(info: dict[str, Any]) -> float | None:
    """Seconds since 1970 from what the libraries call it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        found = info.get(name)
        if isinstance(found, (int, float)):
            return float(found)
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, str):
            try:
                return datetime.fromisoformat(found.replace("Z", "+00:00")).timestamp()
            except ValueError:
                continue
    return None
