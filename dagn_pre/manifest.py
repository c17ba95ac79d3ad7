"""The manifest of an output folder: one row for each input, so that a rerun does only what is missing.

``DST/.dagn-pre/manifest.jsonl`` holds JSON lines, not Parquet: a line can be appended once its output exists, and a file that a
kill cut short lacks at most its last line, which is recognised and ignored. Parquet needs a footer, so that a killed run would
leave nothing readable; ``pandas.read_json(path, lines=True)`` makes a table of it.

Each run begins with a header, ``{"dagn_pre": version, "options": {...}, "begun": seconds, "overwrite": bool}``, and its rows
follow. Objects of a store cannot be appended to: there a run writes parts, ``manifest-<run>-<n>.jsonl``, each with its header.
Reading merges all ``manifest*.jsonl``; of two rows of one source that of the later run counts, within a run the later one.

Folders are those of any :class:`dagn_pre.storage.Store`; :meth:`Manifest.append_to` alone is for local ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from dagn_pre import __version__
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.storage import Store

FOLDER = ".dagn-pre"
NAME = "manifest"
LOCK = "lock"
EXAMPLES = 3  # of failed inputs, in a summary

Line = str | bytes
State = Literal["restored", "untouched", "compressed", "failed"]


@dataclass(frozen=True)
class Row:
    """What became of one input.

    Attributes:
        source: absolute path or URL of the input.
        output: its output, below the folder, with "/"; None where it failed.
        bytes: size of the input.
        digest: SHA-256 of the input's bytes, as hexadecimal digits; "" where it could not be read.
        quality: the QF that was gone by, 1..100; None where none was known or needed.
        quality_source: where that is from, as :class:`dagn_pre.codec.Quality` has it.
        state: what was done.
        reason: why it was left untouched or failed; None otherwise.
        milliseconds: how long it took, from reading to writing; of images of one batch the mean.
        modified: when the input was last written, in seconds of its file system's clock; None where that is not known.
    """

    source: str
    output: str | None
    bytes: int
    digest: str
    quality: int | None
    quality_source: str | None
    state: State
    reason: str | None
    milliseconds: float
    modified: float | None = None

    def to_json(self) -> str:
        """One line, ASCII, without its end; names that are no UTF-8 survive."""
        return json.dumps(asdict(self) | {"milliseconds": round(self.milliseconds, 3)})

    @classmethod
    def from_json(cls, line: Line) -> Row:
        """Raises ValueError or TypeError for what is no row."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Header:
    """What a run says of itself before its rows.

    Attributes:
        version: of dagn-pre.
        options: all that decides what outputs are, as JSON has it.
        begun: seconds since 1970.
        overwrite: whether it replaced a run of other options, or goes on with one that did: outputs without a row are the
            former one's.
    """

    version: str
    options: dict[str, Any]
    begun: float
    overwrite: bool = False

    @classmethod
    def now(cls, options: Mapping[str, Any], overwrite: bool = False) -> Header:
        """Of a run that begins."""
        return cls(__version__, json.loads(json.dumps(dict(options))), time.time(), overwrite)

    def to_json(self) -> str:
        """One line, without its end."""
        named = {"dagn_pre": self.version, "options": self.options, "begun": self.begun, "overwrite": self.overwrite}
        return json.dumps(named)

    @classmethod
    def from_json(cls, line: Line) -> Header | None:
        """None for a row; raises ValueError, TypeError or KeyError for what is neither."""
        found = json.loads(line)
        if "dagn_pre" not in found:
            return None
        return cls(found["dagn_pre"], found["options"], found["begun"], found["overwrite"])


@dataclass
class Summary:
    """What the latest rows add up to: how many inputs by state, why some were left or failed, by QF, bytes, milliseconds."""

    states: Counter[str] = field(default_factory=Counter)
    untouched: Counter[str] = field(default_factory=Counter)
    qualities: Counter[str] = field(default_factory=Counter)
    failed: list[Row] = field(default_factory=list)  # the first
    bytes: int = 0
    milliseconds: float = 0.0

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Summary:
        """Reads the rows once and keeps none but some failed ones."""
        summary = cls()
        for row in rows:
            summary.states[row.state] += 1
            summary.bytes += row.bytes
            summary.milliseconds += row.milliseconds
            if row.quality_source:
                summary.qualities[row.quality_source] += 1
            if row.state == "untouched":
                summary.untouched[row.reason or "not said"] += 1
            if row.state == "failed" and len(summary.failed) < EXAMPLES:
                summary.failed.append(row)
        return summary

    def text(self) -> str:
        """For people, several lines."""
        count = sum(self.states.values())
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.states.items()))
        lines = [f"{count} inputs, {self.bytes / 1e6:.1f} MB: {states}"]
        if count:
            lines.append(f"{self.milliseconds / 1000:.1f} s of work, {self.milliseconds / count:.1f} ms per input")
        if self.qualities:
            lines.append("quality: " + ", ".join(f"{n} {source}" for source, n in self.qualities.most_common()))
        lines += [f"untouched: {reason} ({n})" for reason, n in self.untouched.most_common()]
        lines += [f"failed: {row.reason or row.source}" for row in self.failed]
        more = self.states["failed"] - len(self.failed)
        return "\n".join([*lines, *([f"failed: ... and {more} more"] if more > 0 else [])])


class Rows:
    """The latest row of each source, in a temporary database on disk: memory does not grow with them.

    ``rows[source]`` raises KeyError; ``rows.get(source)`` gives None; iterating gives the rows in the order of their sources.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # "": a file of its own, which is gone once it is closed, however that happens
        self._database.execute("CREATE TABLE rows (source BLOB PRIMARY KEY, begun REAL, line TEXT) WITHOUT ROWID")

    def add(self, row: Row, begun: float) -> None:
        """Keep it, unless a later run's is there."""
        self._database.execute(
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET begun = excluded.begun, line = excluded.line "
            "WHERE excluded.begun >= rows.begun",
            (_key(row.source), begun, row.to_json()),
        )

    def get(self, source: str) -> Row | None:
        found = self._database.execute("SELECT line FROM rows WHERE source = ?", (_key(source),)).fetchone()
        return Row.from_json(found[0]) if found else None

    def __getitem__(self, source: str) -> Row:
        found = self.get(source)
        if found is None:
            raise KeyError(source)
        return found

    def __iter__(self) -> Iterator[Row]:
        for (line,) in self._database.execute("SELECT line FROM rows ORDER BY source"):
            yield Row.from_json(line)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM rows").fetchone()[0]


def _key(source: str) -> bytes:
    return source.encode("utf-8", "surrogatepass")


class Manifest:
    """The rows that runs have left in an output folder.

    Args:
        target: the output folder: a store, or what one is made of.
        name: of its files, before ".jsonl".

    Attributes:
        path: of the file that :meth:`append_to` writes, below the target.
    """

    def __init__(self, target: Store | str | os.PathLike, name: str = NAME) -> None:
        self.store = target if isinstance(target, Store) else Store(target)
        self.name, self.path = name, f"{FOLDER}/{name}.jsonl"

    def files(self) -> list[str]:
        """Paths of its files below the target, sorted; none where there is no manifest. Raises StorageError."""
        part = re.compile(rf"{self.name}(-.*)?\.jsonl", re.DOTALL)
        return [entry.path for entry in self.store.folder(FOLDER)[1] if part.fullmatch(entry.path.rpartition("/")[2])]

    def read(self) -> Iterator[tuple[Header, Row | None]]:
        """Each header, with None, and each row with its run's header, file by file.

        A last line without its end, which a kill cut, is passed over.

        Raises:
            DagnPreError: a line that is no row; the file and the line are named.
        """
        for path in self.files():
            header: Header | None = None
            with self.store.fs.open(self.store.full(path), "rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break
                    try:
                        begun = Header.from_json(line)
                        row = None if begun else Row.from_json(line)
                    except (ValueError, TypeError, KeyError) as error:
                        damaged = f"{self.store.url(path)}: line {number} is no row of a manifest ({error}); remove that line"
                        raise DagnPreError(damaged) from error
                    header = begun or header
                    if header is None:
                        raise DagnPreError(f"{self.store.url(path)}: line {number} comes before any header; remove the file")
                    yield header, row

    @cached_property
    def last(self) -> Header | None:
        """The header of the run that began last; None without a manifest. Reads all files, once."""
        return self._read[0]

    def latest(self) -> Rows:
        """The row that counts of each source. Reads all files, once."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Header | None, Rows]:
        return self.store.kept(FOLDER, self._merged)

    def _merged(self) -> tuple[Header | None, Rows]:
        rows, last = Rows(), None
        for header, row in self.read():
            if row is not None:
                rows.add(row, header.begun)
            elif last is None or header.begun >= last.begun:
                last = header
        return last, rows

    def check(self, options: Mapping[str, Any]) -> None:
        """See that earlier runs had these options.

        Raises:
            UsageError: they had others; the first that differs is named.
            DagnPreError: as :meth:`read`.
        """
        if self.last is None:
            return
        now, before = Header.now(options).options, self.last.options
        for name in sorted({*now, *before}):
            if now.get(name) != before.get(name):
                others = f"written with {name} {_told(before.get(name))}, not {_told(now.get(name))}"
                remedy = "give another folder, or --overwrite to write all outputs anew"
                raise UsageError(f"{self.store.url(self.path)}: {others}: {remedy}")

    @contextlib.contextmanager
    def append_to(self, options: Mapping[str, Any], overwrite: bool = False) -> Iterator[Appender]:
        """Begin a run in a local folder, which is made; what an earlier one left of a last line is cut off.

        Args:
            overwrite: forget the rows of earlier runs that had other options, or of a manifest that cannot be read.

        Raises:
            UsageError: earlier runs had other options, without ``overwrite``; another process writes there now.
        """
        if not self.store.local:
            raise UsageError(f"{self.store}: only local files can be appended to")
        folder = Path(self.store.full(FOLDER))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / LOCK, timeout=0, mode=0o666)
            lock.acquire()
        except Timeout as error:
            busy = f"{self.store}: another dagn-pre writes there now; wait for its end, or give another folder"
            raise UsageError(busy) from error
        try:
            try:
                self.check(options)
            except DagnPreError:
                if not overwrite:
                    raise
                self.begin_anew(options)
            anew = self.last is not None and self.last.overwrite
            with open(self.store.full(self.path), "ab+") as file:
                _cut_torn_line(file)
                file.write(Header.now(options, anew).to_json().encode() + b"\n")
                file.flush()
                yield Appender(file)
        finally:
            lock.release()

    def begin_anew(self, options: Mapping[str, Any]) -> None:
        """Replace what is there by the header of a run that writes all outputs anew."""
        header = Header.now(options, overwrite=True)
        self.store.write(self.path, header.to_json().encode() + b"\n")
        for other in self.files():
            if other != self.path:
                self.store.remove(other)
        self.__dict__.pop("_read", None)
        self.__dict__.pop("last", None)

    def write_part(self, run: str, number: int, header: Header, rows: Iterable[Row]) -> None:
        """Write a part, ``manifest-<run>-<number>.jsonl``, whole or not at all; once the rows' outputs exist."""
        lines = [header.to_json(), *(row.to_json() for row in rows)]
        self.store.write(f"{FOLDER}/{self.name}-{run}-{number:06}.jsonl", "".join(f"{line}\n" for line in lines).encode())

    def summary(self) -> Summary:
        """Of the latest rows.

        Raises:
            UsageError: there is no manifest.
        """
        if self.last is None:
            raise UsageError(f"{self.store}: no manifest in it ({FOLDER}/{self.name}.jsonl)")
        return Summary.of(self.latest())


class Appender:
    """Writes the rows of one run, each at once: what is killed afterwards does not take it along."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def append(self, row: Row) -> None:
        """Write it; its output exists by then."""
        self._file.write(row.to_json().encode() + b"\n")
        self._file.flush()


def _told(value: object) -> str:
    return "none" if value is None else str(value)


def _cut_torn_line(file: IO[bytes]) -> None:
    """Cut off what follows the last end of a line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            file.truncate(start + found + 1)
            return
        end = start
    file.truncate(0)
