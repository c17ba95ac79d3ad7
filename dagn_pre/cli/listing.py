"""Which input becomes which output: every one known and checked before anything is written, on disk and not in memory."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dagn_pre.errors import UsageError
from dagn_pre.folders import Examples, walk
from dagn_pre.images import KEPT_SUFFIXES, SUFFIXES

Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Batch:
    """What a command is going to do.

    Attributes:
        pairs: (input, output).
        left_out: what of the folders is left out, by reason.
        folder: the output folder, which gets a manifest; None where the output is a single file.
    """

    pairs: Collection[Pair]
    left_out: Mapping[str, Examples] = field(default_factory=dict)
    folder: Path | None = None


def exchanged(suffix: str, full_names: bool) -> Callable[[Path], str]:
    """How outputs of that suffix are named: a.jpg becomes a.png, a.heic becomes a.heic.png, and so all with ``full_names``."""

    def name(path: Path) -> str:
        return (path.name if full_names or path.suffix.lower() in KEPT_SUFFIXES else path.stem) + suffix

    return name


def plan(
    sources: Sequence[Path],
    target: Path,
    name: Callable[[Path], str],
    writable: tuple[str, ...],
    readable: frozenset[str] = SUFFIXES,
) -> Batch:
    """Every output, known and checked before anything is written.

    Args:
        sources: images and folders; those that a folder holds keep their place below it.
        target: a file, where the one source is one; else a folder.
        name: of an output in a folder, by its input alone: which other files are there does not matter.
        writable: the suffixes that a single output may have.
        readable: suffixes of a folder's inputs.

    Raises:
        UsageError: no such input, a folder without images, a target of the other kind or of a suffix not in ``writable``, two
            inputs with one output, an output that would replace an input or be an input of the next run.
    """
    for given in (*sources, target):
        if isinstance(given, str):
            raise UsageError(f"{given}: dagn-pre restore goes to storage with --cluster, and no other command does")
    for source in sources:
        if not source.is_file() and not source.is_dir():
            raise UsageError(f"{source}: {'no regular file' if source.exists() else 'no such file or folder'}")
    for above in target.parents:
        if above.is_file():
            raise UsageError(f"{target}: {above} is a file, not a folder")
    several = len(sources) > 1
    if not several and sources[0].is_file() and not target.is_dir():
        if target.suffix.lower() not in writable:
            raise UsageError(f"{target}: give a folder that exists, or a file ending in {', '.join(writable)}")
        listing = Listing()
        listing.add(sources[0], target)
        listing.check()
        return Batch(listing)
    if several and not target.is_dir() and (target.exists() or target.suffix.lower() in writable):
        raise UsageError(f"{target}: several inputs need a folder, as the last argument")
    if target.is_file():
        raise UsageError(f"{target} is a file, but {sources[0]} is a folder")
    listing, left_out = Listing(), defaultdict[str, Examples](Examples)
    inside = resolved(target)
    # Folders of inputs in which no output may lie.
    others = {resolved(source): source for source in sources if source.is_dir() and resolved(source) not in inside.parents}
    for source in sources:
        if source.is_file():
            listing.add(source, target / name(source), others)
            continue
        count, own = 0, resolved(source) in inside.parents
        for path, reason in walk(source, readable):
            if reason is not None:
                left_out[reason].add(path)
            elif not own or not listing.below(path, inside):  # what an earlier run wrote is no input
                listing.add(path, target / path.parent.relative_to(source) / name(path), others)
                count += 1
        if not count:
            raise UsageError(f"{source}: no images in it ({', '.join(sorted(readable))})")
    listing.check()
    return Batch(listing, dict(sorted(left_out.items())), target)


def resolved(path: Path) -> Path:
    """The path without links; raises UsageError for one that leads to itself."""
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:  # the former up to Python 3.12
        raise UsageError(f"{path}: a link in it leads to itself; remove that link, or give another path") from error


def listed(given: Sequence[Path]) -> tuple[Listing, Mapping[str, Examples]]:
    """Inputs that have no outputs, each as its own: files as they are, and the images of folders; and what is left out."""
    listing, left_out = Listing(), defaultdict[str, Examples](Examples)
    for place in given:
        if not place.is_dir():
            listing.add_input(place)
            continue
        for path, reason in walk(place):
            if reason is None:
                listing.add_input(path)
            else:
                left_out[reason].add(path)
    return listing, dict(sorted(left_out.items()))


class Listing(Collection[Pair]):
    """(input, output) pairs in a temporary database on disk, in the order of the outputs; each output is one input's alone."""

    def __init__(self) -> None:
        from dagn_pre.manifest import Scratch  # fsspec, which it needs, takes a while

        self._database = Scratch()
        for line in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            # Beside the paths as they were given those that tell whether two are the same.
            "CREATE TABLE pairs (source BLOB, target BLOB, source_key BLOB, target_key BLOB PRIMARY KEY) WITHOUT ROWID",
            "CREATE INDEX sources ON pairs (source_key)",
            "CREATE TABLE folders (folder BLOB PRIMARY KEY, target_key BLOB) WITHOUT ROWID",
        ):
            self._database.execute(line)
        self._resolved_folder = functools.lru_cache(1024)(resolved)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM pairs").fetchone()[0]

    def __iter__(self) -> Iterator[Pair]:
        for source, target in self._database.execute("SELECT source, target FROM pairs ORDER BY target_key"):
            yield Path(os.fsdecode(source)), Path(os.fsdecode(target))

    def __contains__(self, pair: object) -> bool:
        return any(pair == other for other in self)

    def _resolved(self, path: Path) -> Path:
        """By its folder: a link in its place would be replaced, not followed."""
        return self._resolved_folder(path.parent) / path.name

    def below(self, path: Path, folder: Path) -> bool:
        """Whether ``path`` lies in ``folder``, which is resolved."""
        return folder in self._resolved(path).parents

    def add(self, source: Path, target: Path, others: Mapping[Path, Path] = {}) -> None:  # noqa: B006
        """One more pair, unless it is there; ``others``: folders of inputs, resolved, and as they were given.

        Raises:
            UsageError: the output is the input, a folder, another input's too, or among the inputs.
        """
        place = self._resolved(target)
        for root, other in others.items():
            if root in place.parents:
                among = f"{source} would be written to {target}, among the inputs of {other}"
                raise UsageError(f"{among}: choose a folder outside it")
        if os.path.exists(target):  # False also for names that are too long
            if os.path.samefile(source, target):
                raise UsageError(f"{source}: input and output are the same file")
            if target.is_dir():
                raise UsageError(f"{source} would be written to {target}, which is a folder")
        row = [os.fsencode(path) for path in (source, target, self._resolved(source), place)]
        if self._put(row):
            self._database.execute("INSERT OR IGNORE INTO folders VALUES (?, ?)", (os.fsencode(place.parent), row[3]))
            return
        found, key = self._database.execute("SELECT source, source_key FROM pairs WHERE target_key = ?", row[3:]).fetchone()
        if key != row[2]:
            other = Path(os.fsdecode(found))
            remedy = "rename one" if other.name == source.name else "rename one, or give --full-names"
            raise UsageError(f"{other} and {source} would both be written to {target}: {remedy}")

    def _put(self, row: Sequence[bytes]) -> bool:
        """Whether its key is new."""
        return self._database.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?)", row).rowcount > 0

    def add_input(self, source: Path) -> None:
        """One that has no output, whether or not it exists."""
        self._put([os.fsencode(source)] * 4)

    def check(self) -> None:
        """See that no output would replace an input, or need a folder where another one goes.

        Raises:
            UsageError: naming both inputs.
        """
        over = "SELECT a.source, b.source FROM pairs a JOIN pairs b ON a.target_key = b.source_key LIMIT 1"
        for first, second in self._database.execute(over):
            raise UsageError(f"{os.fsdecode(first)} would be written over {os.fsdecode(second)}, which is an input too")
        for folder, target in self._database.execute("SELECT folder, target_key FROM folders"):
            path = Path(os.fsdecode(folder))
            for above in (path, *path.parents):
                find = "SELECT source, target FROM pairs WHERE target_key = ?"
                for first in self._database.execute(find, (os.fsencode(above),)):
                    second = self._database.execute(find, (target,)).fetchone()
                    owner, output, needs = map(os.fsdecode, (*first, second[0]))
                    raise UsageError(f"{owner} would be written to {output}, where {needs} needs a folder")
