"""Trees of files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dagn_pre import storage
from dagn_pre.errors import failure
from dagn_pre.layouts.base import Layout, Part, Restoring, row_of, since
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile
from dagn_pre.storage import Entry

AT_ONCE = 8  # files read or written at a time


@dataclass(frozen=True)
class Tree(Layout):
    """Images as files in folders; other files are copied, so that annotations find what they name (with the format "same")."""

    def part(self, entry: Entry) -> Part:
        """Every file has one."""
        image = self.is_image(entry.path or self.source.root)
        name = entry.path or self.source.root.rpartition("/")[2]
        return Part(entry, self.renamed(name) if image else name, image)

    def restore(self, parts: Sequence[Part], restoring: Restoring) -> list[Row]:
        """Several files at a time are read and written."""
        started = time.perf_counter()
        rows: list[Row] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            copied = [(part, pool.submit(self._copy, part)) for part in parts if not part.is_image]
            reading = [(part, pool.submit(self.source.read, part.entry.path)) for part in parts if part.is_image]
            read: list[tuple[Part, InputFile]] = []
            for part, data in reading:
                try:
                    read.append((part, InputFile(data.result(), self.source.url(part.entry.path), part.output)))
                except Exception as error:
                    rows.append(self.failed(part, error, started))
            restored = restoring([one for _, one in read])
            each = since(started) / max(1, len(read))
            done = [pool.submit(self._write, part, one, result, each) for (part, one), result in zip(read, restored)]
            rows += [row.result() for row in done]
            for part, copy in copied:
                try:
                    copy.result()
                except Exception as error:
                    rows.append(self.failed(part, error, started))
        return rows

    def _copy(self, part: Part) -> None:
        storage.copy(self.source, part.entry.path, self.target, part.output)

    def _write(self, part: Part, one: InputFile, result: RestoredFile, milliseconds: float) -> Row:
        started = time.perf_counter()
        try:
            if result.data is not None:
                self.target.write(part.output, result.data)
        except Exception as error:
            result = RestoredFile("failed", None, failure(part.output, error))
        return row_of(one.name, part.output, one.data, result, milliseconds + since(started), part.entry.modified)
