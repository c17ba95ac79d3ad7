"""The manifest of an output folder: one row for each input, so that a rerun does only what is missing.

``DST/.dagn-pre/manifest.jsonl`` holds JSON lines, not Parquet: a line can be appended once its output exists, and a file that a
kill cut short lacks at most its last line, which is recognised and ignored. Parquet needs a footer, so that a killed run would
leave nothing readable; ``pandas.read_json(path, lines=True)`` makes a table of it.

Each run that did something begins with a header, ``{"dagn_pre": version, "options": {...}, "begun": seconds, "overwrite":
bool}``, and its rows follow; one that overwrites ends with the same header of ``"overwrite": false``, if it came to its end.
Objects of a store cannot be appended to: there a run writes parts, ``manifest-<run>-<n>.jsonl``, each with its header. Reading
merges all ``manifest*.jsonl``; of two rows of one source that of the later run counts, within a run the later one.

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
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, get_args

from filelock import FileLock, Timeout

from dagn_pre import __version__
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.storage import Store

FOLDER = ".dagn-pre"
NAME = "manifest"
LOCK = "lock"
TABLES = "sources", "outputs"
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
        digest: SHA-256 of the input's bytes, as hexadecimal digits; "" where it could not be read, or changed meanwhile.
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
        row = cls(**_loaded(line))
        for name in ("source", "digest"):
            _see(isinstance(getattr(row, name), str), name)
        for name in ("output", "quality_source", "reason"):
            _see(isinstance(getattr(row, name), (str, NoneType)), name)
        _see(row.state in get_args(State), "state")
        _see(_is_number(row.bytes, int) and row.bytes >= 0, "bytes")
        _see(row.quality is None or _is_number(row.quality, int), "quality")
        _see(_is_number(row.milliseconds), "milliseconds")
        _see(row.modified is None or _is_number(row.modified), "modified")
        return row


@dataclass(frozen=True)
class Header:
    """What a run says of itself before its rows.

    Attributes:
        version: of dagn-pre.
        options: all that decides what outputs are, as JSON has it.
        begun: seconds since 1970; of a run that goes on with one that overwrites, that one's.
        overwrite: whether it writes all outputs anew, or goes on with a run that did: what is older is not done yet.
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
        """None for a row; raises ValueError for what is neither."""
        found = _loaded(line)
        if "dagn_pre" not in found:
            return None
        _see(isinstance(found["dagn_pre"], str), "dagn_pre")
        _see(isinstance(found.get("options"), dict), "options")
        _see(_is_number(found.get("begun")), "begun")
        _see(isinstance(found.get("overwrite"), bool), "overwrite")
        return cls(found["dagn_pre"], found["options"], found["begun"], found["overwrite"])

    def differs(self, options: Mapping[str, Any]) -> str | None:
        """The first option, by its name, that is another one there; None where all are the same."""
        return next((name for name in sorted({*self.options, *options}) if self.options.get(name) != options.get(name)), None)


NoneType = type(None)


def _loaded(line: Line) -> dict[str, Any]:
    """The object of a line; raises ValueError."""
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _see(fits: bool, name: str) -> None:
    if not fits:
        raise ValueError(f"its {name} is missing, or not what belongs there")


def _is_number(value: Any, kind: Any = (int, float)) -> bool:
    """Whether it is one of that kind, and of a size that can be added up."""
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < 2**53  # which no NaN is


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


class Scratch(sqlite3.Connection):
    """A database in a temporary file of its own, which is gone once it is closed, however that happens.

    Raises:
        DagnPreError: in place of SQLite's error: that file cannot grow.
    """

    def __init__(self) -> None:
        super().__init__("")

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError as error:
            places = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]
            folder = next((place for place in places if place and os.access(place, os.W_OK)), ".")
            room = "make room there, or name another folder in SQLITE_TMPDIR or TMPDIR"
            raise DagnPreError(f"{folder}: no temporary file for the lists of inputs and outputs ({error}); {room}") from error


class Rows:
    """The latest row of each source, in a temporary database on disk: memory does not grow with them.

    ``rows[source]`` raises KeyError; ``rows.get(source)`` gives None; iterating gives the rows in the order of their sources.
    Rows of runs with other options, and those older than an overwriting run that has not come to its end, are outdated: they
    tell whose an output is, and nothing else.
    """

    def __init__(self) -> None:
        self._database = Scratch()
        for table in TABLES:  # a source's latest row, and the latest that names an output
            columns = "name BLOB PRIMARY KEY, begun REAL, line TEXT, options INTEGER, outdated INTEGER DEFAULT 0"
            self._database.execute(f"CREATE TABLE {table} ({columns}) WITHOUT ROWID")
        self._options: list[dict[str, Any]] = []  # of all runs, each once

    def add(self, row: Row, header: Header) -> None:
        """Keep it, unless a later run's is there."""
        if header.options not in self._options:
            self._options.append(header.options)
        for table, name in zip(TABLES, (row.source, row.output)):
            if name is not None:
                self._database.execute(
                    f"INSERT INTO {table} (name, begun, line, options) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "begun = excluded.begun, line = excluded.line, options = excluded.options "
                    f"WHERE excluded.begun >= {table}.begun",
                    (_key(name), header.begun, row.to_json(), self._options.index(header.options)),
                )

    def date(self, last: Header | None) -> None:
        """Say which are outdated, once all are there and it is known which run was the last."""
        if last is None:
            return
        for table in TABLES:
            for number, options in enumerate(self._options):
                if last.differs(options):
                    self._database.execute(f"UPDATE {table} SET outdated = 1 WHERE options = ?", (number,))
            if last.overwrite:
                self._database.execute(f"UPDATE {table} SET outdated = 1 WHERE begun < ?", (last.begun,))

    def get(self, source: str) -> Row | None:
        find = "SELECT line FROM sources WHERE name = ? AND NOT outdated"
        found = self._database.execute(find, (_key(source),)).fetchone()
        return Row.from_json(found[0]) if found else None

    def owner(self, output: str) -> tuple[Row, bool] | None:
        """The row that named an output last, and whether it is outdated; None for one that no row has named."""
        found = self._database.execute("SELECT line, outdated FROM outputs WHERE name = ?", (_key(output),)).fetchone()
        return (Row.from_json(found[0]), bool(found[1])) if found else None

    def __getitem__(self, source: str) -> Row:
        found = self.get(source)
        if found is None:
            raise KeyError(source)
        return found

    def __iter__(self) -> Iterator[Row]:
        for (line,) in self._database.execute("SELECT line FROM sources WHERE NOT outdated ORDER BY name"):
            yield Row.from_json(line)

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM sources WHERE NOT outdated").fetchone()[0]


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


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
                    except (ValueError, TypeError) as error:
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
                rows.add(row, header)
            elif last is None or header.begun >= last.begun:
                last = header
        rows.date(last)
        return last, rows

    def check(self, options: Mapping[str, Any]) -> None:
        """See that earlier runs had these options; one that was to overwrite them, and did nothing, does not count.

        Raises:
            UsageError: they had others; the first that differs is named.
            DagnPreError: as :meth:`read`.
        """
        last, now = self.last, Header.now(options).options
        if last is None or (last.overwrite and not len(self.latest())):
            return
        if (name := last.differs(now)) is not None:
            others = f"written with {name} {_told(last.options.get(name))}, not {_told(now.get(name))}"
            remedy = "give another folder, or --overwrite to write all outputs anew"
            raise UsageError(f"{self.store.url(self.path)}: {others}: {remedy}")

    @contextlib.contextmanager
    def append_to(self, options: Mapping[str, Any], overwrite: bool = False) -> Iterator[Appender]:
        """Begin a run in a local folder, which is made; what an earlier one left of a last line is cut off.

        Args:
            overwrite: it writes all outputs anew, whatever options earlier runs had, and also if their manifest cannot be read.

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
            header, other = self._header(options, overwrite)
            path = Path(self.store.full(self.path))
            if other and path.exists():  # its rows still tell whose the outputs are
                path.rename(folder / f"{self.name}-{time.time_ns()}.jsonl")
            with open(path, "ab+", buffering=0) as file:
                _cut_torn_line(file)
                log = Appender(file, header)
                if other:  # from now on outputs may be of these options
                    log.begin()
                yield log
        finally:
            lock.release()

    def _header(self, options: Mapping[str, Any], overwrite: bool) -> tuple[Header, bool]:
        """That of a run that begins, and whether it replaces one of other options; raises as :meth:`check`."""
        header = Header.now(options, overwrite)
        if not overwrite:
            self.check(options)
            going_on = self.last is not None and self.last.overwrite
            return (replace(header, begun=self.last.begun, overwrite=True) if self.last and going_on else header), False
        try:
            return header, self.last is not None and self.last.differs(header.options) is not None
        except DagnPreError:  # that it cannot be read is what is to be overcome
            self.begin_anew(options)
            return header, False

    def begin_anew(self, options: Mapping[str, Any]) -> None:
        """Replace what is there by the header of a run that writes all outputs anew."""
        header = replace(Header.now(options, overwrite=True), begun=0.0)  # before the run's own, which may be made already
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
    """Writes the rows of one run, each at once: what is killed afterwards does not take it along.

    Args:
        file: unbuffered.
        header: written before the first row, so that a run that does nothing leaves nothing.
    """

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file, self._header, self._begun = file, header, False

    def begin(self) -> None:
        """Write the header, unless it is there."""
        if not self._begun:
            self._write(self._header)
        self._begun = True

    def append(self, row: Row) -> None:
        """Write it; its output exists by then."""
        self.begin()
        self._write(row)

    def finish(self) -> None:
        """Say that the run has come to its end: what an overwriting one left as it is stays so."""
        if self._header.overwrite:
            self._write(replace(self._header, overwrite=False))

    def _write(self, line: Row | Header) -> None:
        left = memoryview(line.to_json().encode() + b"\n")
        try:
            while left:  # a disk that is almost full takes a part
                left = left[self._file.write(left) :]
        except OSError as error:
            error.filename = self._file.name  # a full disk says no name at all
            raise


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
