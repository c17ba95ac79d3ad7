"""The images in folders, and what else is there."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dagn_pre.images import SUFFIXES


@dataclass(frozen=True)
class Found:
    """The images of a folder.

    Attributes:
        paths: sorted.
        left_out: what else is there, by reason; hidden files and folders are passed over in silence.
    """

    paths: tuple[Path, ...]
    left_out: dict[str, tuple[Path, ...]]


@dataclass
class Examples:
    """How many files there are of a kind, and the first of them."""

    count: int = 0
    first: list[Path] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """One more."""
        self.count += 1
        bisect.insort(self.first, path)
        del self.first[3:]


def told_with_examples(what: str, found: Mapping[str, Sequence[Path] | Examples]) -> str:
    """"left out: links to folders (2: a, b)": how many there are of each kind, and the names of the first."""
    kinds = []
    for kind, paths in found.items():
        some = paths if isinstance(paths, Examples) else Examples(len(paths), list(paths[:3]))
        names = [path.name for path in some.first] + ["..."] * (some.count > 3)
        kinds.append(f"{kind} ({some.count}: {', '.join(names)})")
    return f"{what}: {'; '.join(kinds)}"


def walk(folder: Path, suffixes: frozenset[str] = SUFFIXES) -> Iterator[tuple[Path, str | None]]:
    """What :func:`search` finds, as the file system lists it: each path and why it is left out, None for an image."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = here / entry.name
                    kind = _kind(entry)
                    if kind == "folder" and not entry.is_symlink():
                        waiting.append(path)
                    elif kind == "folder":
                        yield path, "links to folders"
                    elif path.suffix.lower() not in suffixes:
                        yield path, "files of other formats"
                    else:
                        yield path, None if kind == "file" else kind
        except OSError as error:
            yield here, f"folders that cannot be read ({error.strerror})"


def _kind(entry: os.DirEntry) -> str:
    """"file", "folder", or why it is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link that leads to itself, or to where one may not look
        return "links to nothing"
    return "no regular files" if os.path.exists(entry) else "links to nothing"


def search(folder: Path, suffixes: frozenset[str] = SUFFIXES) -> Found:
    """The images below ``folder``: files with one of these suffixes. Links to folders are not followed.

    Hidden files and folders are passed over, among them ``._*``, what macOS leaves on other file systems.
    """
    paths: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    for path, reason in walk(folder, suffixes):
        (paths if reason is None else left_out.setdefault(reason, [])).append(path)
    return Found(tuple(sorted(paths)), {reason: tuple(sorted(found)) for reason, found in sorted(left_out.items())})


def find_images(folder: Path) -> list[Path]:
    """The images below ``folder``, sorted; :func:`search` also says what was left out."""
    return list(search(folder).paths)
