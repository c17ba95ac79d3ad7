"""Files that hold many images each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dagn_pre import files, storage
from dagn_pre.errors import UsageError
from dagn_pre.layouts.base import Layout, Part, Restoring, row_of
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile
from dagn_pre.storage import Entry

MARK = "#"  # between a container and the image in it
BATCH = 64  # images of a container at a time


@dataclass(frozen=True)
class Container(Layout):
    """Files that hold many images each: one output for each, in which what is no image stays as it is."""

    SUFFIX: ClassVar[str] = ""

    def part(self, entry: Entry) -> Part | None:
        """Those with the layout's suffix; others are copied."""
        name = entry.path or self.source.root.rpartition("/")[2]
        is_container = name.lower().endswith(self.SUFFIX)
        if is_container and MARK in name:
            raise UsageError(f"{self.source.url(entry.path)}: rows name its images behind a {MARK}: rename the file")
        return Part(entry, name, is_container)

    def restore(self, parts: Sequence[Part], restoring: Restoring) -> list[Row]:
        """One after the other, each through local files, for which the machine needs room twice."""
        rows: list[Row] = []
        for part in parts:
            started = time.perf_counter()
            try:
                if part.is_image:
                    rows += self._contained(part, restoring)
                else:
                    storage.copy(self.source, part.entry.path, self.target, part.output)
            except UsageError:
                raise
            except Exception as error:
                rows.append(self.failed(part, error, started))
        return rows

    def _contained(self, part: Part, restoring: Restoring) -> list[Row]:
        with files.unnamed() as before, files.unnamed() as after:
            self.source.download(part.entry.path, before)
            rows = self.rewrite(part, before, after, restoring)
            self.target.upload(after, part.output)
        return rows

    def rewrite(self, part: Part, before: Path, after: Path, restoring: Restoring) -> list[Row]:
        """Restore the images of a local container into another; raises DagnPreError for one that cannot be read."""
        raise NotImplementedError

    def inner(self, part: Part, name: object) -> str:
        """The source of a row."""
        return f"{self.source.url(part.entry.path)}{MARK}{name}"

    def inner_row(self, part: Part, name: object, one: InputFile, result: RestoredFile, milliseconds: float) -> Row:
        """The row of an image; its ``modified`` is the container's."""
        return row_of(one.name, f"{part.output}{MARK}{name}", one.data, result, milliseconds, part.entry.modified)
