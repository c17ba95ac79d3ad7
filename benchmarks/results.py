"""results.json: what was measured with which settings, written anew with each finished cell, so that a run can be resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.files import write_atomic

LATER = {"dtype": "auto", "max_quality": 90}  # what files of earlier versions were measured with, which do not say so
SETTINGS = ("versions", "decoder", "threads", "device", "platform", "limit")


class Results:
    """results.json: opened, checked against the settings of this run, and written anew with each finished cell.

    Args:
        path: the file; None keeps the results in memory alone.
        environment: settings of this run, of ``environment.describe`` and the like; JSON-ready.
        settings: keys of ``environment`` that must be the same in all runs that share the file.
        parts: keys of ``environment`` that hold mappings: names may be added, but none changed.
        tables: names of the lists of rows; "rows" is one.
        overwrite: throw away results of other settings.

    Attributes:
        content: what the file holds: ``{table: rows, ..., "environment": {...}}``.

    Raises:
        UsageError: the file was measured with other settings, and ``overwrite`` is off.
        ConfigError: the file cannot be read.
    """

    def __init__(
        self,
        path: Path | None,
        environment: dict,
        settings: Sequence[str] = SETTINGS,
        parts: Sequence[str] = (),
        tables: Sequence[str] = ("rows",),
        overwrite: bool = False,
    ):
        self.path = path
        self.content: dict = {**{table: [] for table in tables}, "environment": environment}
        if overwrite or path is None or not path.is_file():
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            now = json.loads(json.dumps(environment))  # as it is read again: a tuple is no other setting than a list
            differences = list(conflicts(old["environment"], now, settings, parts))
            tables = [table for table in tables if table == "rows" or table in old]  # others may be of a later version
            self.content |= {table: list(old[table]) for table in tables}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} cannot be read ({error}): remove it or add --overwrite") from error
        if differences:
            raise UsageError(
                f"{path} was measured with other settings ({'; '.join(differences)}): choose another folder, "
                "or add --overwrite to start anew"
            )
        for part in parts:
            environment[part] = {**old["environment"][part], **environment[part]}
        commits = (old["environment"]["commit"] or "").split(", ")
        if environment["commit"] not in (None, *commits):  # an honest label for rows of several commits
            environment["commit"] = ", ".join(filter(None, (*commits, environment["commit"])))

    def holds(self, table: str = "rows", **wanted) -> bool:
        """Whether a row with these values is there."""
        return any(self.same(row, **wanted) for row in self.content[table])

    @staticmethod
    def same(row: dict, **wanted) -> bool:
        """Whether a row has these values."""
        return all(row[key] == value for key, value in wanted.items())

    def add(self, **rows: list[dict]) -> None:
        """Append rows to tables, and write the file."""
        for table, added in rows.items():
            self.content[table] += added
        self.write()

    def replace(self, table: str, rows: list[dict], **old) -> None:
        """Put ``rows`` into a table in place of those that have the values ``old``, and write the file."""
        self.content[table] = [row for row in self.content[table] if not self.same(row, **old)] + rows
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is not None:
            write_atomic(self.path, (json.dumps(self.content, indent=2) + "\n").encode())


def conflicts(old: dict, new: dict, settings: Sequence[str], parts: Sequence[str]) -> Iterator[str]:
    """What keeps rows of two environments out of one table. Commits may differ; to the parts names may be added."""
    for key in settings:
        before = old[key] if key not in LATER else old.get(key, LATER[key])
        if before != new[key]:
            yield f"{key} {different(before, new[key])}"
    for part in parts:
        for name in sorted(old[part].keys() & new[part].keys()):
            if old[part][name] != new[part][name]:
                yield f"{name} {different(old[part][name], new[part][name])}"


def different(old, new) -> str:
    """The two values, or of two mappings or long lists only what differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        return ", ".join(f"{k} {different(old.get(k), new.get(k))}" for k in {**old, **new} if old.get(k) != new.get(k))
    long = [value for value in (old, new) if isinstance(value, list) and len(value) > 3]
    if len(long) == 2:
        return f"{len(set(new) - set(old))} of {len(new)} are others"
    old, new = (f"{len(value)} of them" if value in long else value for value in (old, new))
    return f"{old}, now {new}"


def rounded(value: float | None, digits: int = 3) -> float | None:
    """A number as results.json keeps it; None for NaN."""
    return None if value is None or math.isnan(value) else round(float(value), digits)
