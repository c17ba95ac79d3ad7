"""Parquet files with a column of images."""

from __future__ import annotations

import io
import posixpath
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dagn_pre import files
from dagn_pre.errors import DagnPreError, UsageError, failure
from dagn_pre.images import FORMATS, content
from dagn_pre.layouts.base import Part, Restoring, since
from dagn_pre.layouts.containers import BATCH, Container
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile, attempt

# Beginnings of files; else .png.
SIGNATURES = {b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}


@dataclass(frozen=True)
class Parquet(Container):
    """Parquet files with a column of images: bytes, or structures of ``bytes`` and ``path`` as Hugging Face's data sets have.

    All columns, types, metadata, row groups and ways to compress are kept; a failed image becomes null, which the column may
    hold even where it was declared not to. A structure without bytes is of the local file at its path.
    """

    SUFFIX = ".parquet"
    LACKS = "no .parquet files in it; --layout tree for single files"
    column: str = "image"

    def check(self) -> None:
        """Raises UsageError where the first file lacks the column."""
        entry = self.first().entry
        with files.unnamed() as file:
            self.source.download(entry.path, file)
            with _opened(file, self.source.url(entry.path)) as opened:
                self._check_column(opened.schema_arrow, self.source.url(entry.path))

    def _check_column(self, schema: Any, name: str) -> None:
        """Raises UsageError where there is none, or it holds no images."""
        import pyarrow

        if self.column not in schema.names:
            raise UsageError(f"{name}: no column {self.column!r}; it has {', '.join(schema.names)}: name one by --column")
        if schema.names.count(self.column) > 1:
            raise UsageError(f"{name}: more than one column {self.column!r}: rename one, or name another by --column")
        kind = schema.field(self.column).type
        inner = kind
        if pyarrow.types.is_struct(kind):
            names = [kind.field(i).name for i in range(kind.num_fields)]
            inner = kind.field("bytes").type if "bytes" in names else kind
        if not (pyarrow.types.is_binary(inner) or pyarrow.types.is_large_binary(inner)):
            raise UsageError(
                f"{name}: column {self.column!r} is of {kind}, not of bytes or structures with bytes: name another by --column"
            )

    def rewrite(self, part: Part, before: Path, after: Path, restoring: Restoring) -> list[Row]:
        """Batch by batch of rows; memory holds a group of rows."""
        import pyarrow

        url, rows, number = self.source.url(part.entry.path), list[Row](), 0
        with _opened(before, url) as file:
            try:
                self._check_column(file.schema_arrow, url)
            except UsageError as error:  # of this file among others
                raise DagnPreError(str(error)) from error
            position = file.schema_arrow.names.index(self.column)
            field = file.schema_arrow.field(position).with_nullable(True)
            schema = file.schema_arrow.set(position, field)
            with _parquet().ParquetWriter(after, schema, compression=_compression(file, schema)) as writer:
                for group in range(file.num_row_groups):
                    done = []
                    for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
                        values, found = self._restored(part, batch[self.column].to_pylist(), number, restoring)
                        rows, number = rows + found, number + batch.num_rows
                        done.append(batch.set_column(position, field, pyarrow.array(values, type=field.type)))
                    table = pyarrow.Table.from_batches(done, schema)
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
        return rows

    def _restored(self, part: Part, values: list[Any], first: int, restoring: Restoring) -> tuple[list[Any], list[Row]]:
        """The column's new values, and the rows; ``first`` is the number of the first value."""
        started = time.perf_counter()
        inputs: dict[int, InputFile] = {}
        results: dict[int, RestoredFile] = {}
        for i, value in enumerate(values):
            if value is not None:
                name = self.inner(part, first + i)
                data = attempt(partial(_content, value))
                if isinstance(data, Exception):
                    results[i] = RestoredFile("failed", None, failure(name, data))
                    data = b""
                inputs[i] = InputFile(data, name, self._name(value, data))
        read = [i for i in inputs if i not in results]
        results |= zip(read, restoring([inputs[i] for i in read]))
        each = since(started) / max(1, len(inputs))
        rows = [self.inner_row(part, first + i, one, results[i], each) for i, one in inputs.items()]
        given = list(values)
        for i, result in results.items():
            value = values[i]
            if result.data is None:
                given[i] = None
            elif isinstance(value, dict):
                path = value.get("path")
                given[i] = value | {"bytes": result.data} | ({"path": self.renamed(path)} if path else {})
            else:
                given[i] = result.data
        return given, rows

    def _name(self, value: Any, data: bytes) -> str:
        """A name with the suffix of an image's output."""
        path = (value.get("path") or "") if isinstance(value, dict) else ""
        known = posixpath.splitext(path)[1].lower() in FORMATS
        return self.renamed(path if known else f"image{suffix_of(data)}")


def suffix_of(data: bytes) -> str:
    """Of a file's bytes, one that can be written."""
    return next((suffix for head, suffix in SIGNATURES.items() if data.startswith(head)), ".png")


def _content(value: Any) -> bytes:
    """The file in a value; b"" where there should be some. Raises ImageError, OSError for one that is only named."""
    if not isinstance(value, dict):
        return value
    data, path = value["bytes"], value.get("path")
    return content(path) if data is None and path else data or b""


def _compression(file: Any, schema: Any) -> dict[str, str]:
    """Of each column that holds values, by its name in the output: writers differ in what they call the elements of lists."""
    if not file.num_row_groups:
        return {}
    buffer = io.BytesIO()
    _parquet().write_table(schema.empty_table(), buffer)
    names, group = _parquet().ParquetFile(buffer).schema, file.metadata.row_group(0)
    given = [group.column(i).compression for i in range(group.num_columns)]
    return {names.column(i).path: "NONE" if one == "UNCOMPRESSED" else one for i, one in enumerate(given)}


def _opened(path: Path, name: str) -> Any:
    """A local Parquet file; raises DagnPreError, which calls it ``name``."""
    try:
        return _parquet().ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own are of these
        raise DagnPreError(f"{name}: damaged or cut short ({error}); get it again") from error


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DagnPreError(f'Parquet files need pyarrow ({error}): pip install "dagn-pre[ray]"') from error
    return pyarrow.parquet
