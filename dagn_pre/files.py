"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LONG_NAME = 240  # bytes; 255 are the most, and a temporary name is ten longer


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix; rename it to ``path`` on success, remove it on failure.

    Missing parent folders are made. An OSError on the way, such as a full disk's, names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would lock out the user's group
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, name):  # a full disk says no name at all
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.stem if len(os.fsencode(path.name)) < LONG_NAME else path.stem[:40]}-"


def remove_temporary(path: str | Path) -> None:
    """Remove what a writer of ``path`` left that was killed; none may be at it now."""
    path = Path(path)
    remove_temporary_of(path.parent, [path.name])


def remove_temporary_of(folder: str | Path, names: Iterable[str]) -> None:
    """The same for several files of a folder, which is listed once; it need not exist."""
    wanted = {(_prefix(Path(name)), Path(name).suffix) for name in names}
    with contextlib.suppress(FileNotFoundError):
        for left in [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]:
            suffix = Path(left).suffix
            if (left[: len(left) - len(suffix) - 8], suffix) in wanted:  # mkstemp's eight characters
                Path(folder, left).unlink(missing_ok=True)


@contextmanager
def unnamed() -> Iterator[Path]:
    """The path of an empty file that is gone with the body, and with the process, however that ends; of Linux alone."""
    with tempfile.TemporaryFile(prefix="dagn-pre-") as file:
        yield Path(f"/proc/self/fd/{file.fileno()}")


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
