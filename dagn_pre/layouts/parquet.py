"""Parquet files with a column of images."""

from __future__ import annotations

import posixpath
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagn_pre import files
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.images import FORMATS
from dagn_pre.layouts.base import Part, Restoring, since
from dagn_pre.layouts.containers import BATCH, Container
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile

# Beginnings of files; else .png.
SIGNATURES = {b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}


@dataclass(frozen=True)
class Parquet(Container):
    """Parquet files with a column of images: bytes, or structures of ``bytes`` and ``path`` as Hugging Face's data sets have.

    All columns, types and metadata are kept; a failed image becomes null.
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
        """Batch by batch of rows."""
        url, rows = self.source.url(part.entry.path), list[Row]()
        with _opened(before, url) as file:
            try:
                self._check_column(file.schema_arrow, url)
            except UsageError as error:  # of this file among others
                raise DagnPreError(str(error)) from error
            groups, number = file.metadata, 0
            compression = groups.row_group(0).column(0).compression.lower() if groups.num_row_groups else "snappy"
            with _parquet().ParquetWriter(after, file.schema_arrow, compression=compression) as writer:
                for batch in file.iter_batches(batch_size=BATCH):
                    values, found = self._restored(part, batch[self.column].to_pylist(), number, restoring)
                    rows, number = rows + found, number + batch.num_rows
                    writer.write_batch(batch.set_column(*_column(batch, self.column, values)))
        return rows

    def _restored(self, part: Part, values: list[Any], first: int, restoring: Restoring) -> tuple[list[Any], list[Row]]:
        """The column's new values, and the rows; ``first`` is the number of the first value."""
        started = time.perf_counter()
        inputs: dict[int, InputFile] = {}
        for i, value in enumerate(values):
            data = value.get("bytes") if isinstance(value, dict) else value
            if value is not None:
                inputs[i] = InputFile(data or b"", self.inner(part, first + i), self._name(value, data or b""))
        results = dict(zip(inputs, restoring(list(inputs.values()))))
        each = since(started) / max(1, len(inputs))
        rows = [self.innerrow_of(part, first + i, inputs[i], result, each) for i, result in results.items()]
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


def _column(batch: Any, name: str, values: list[Any]) -> tuple[int, Any, Any]:
    """Position, field and array of a column with other values, of the same type."""
    import pyarrow

    position = batch.schema.names.index(name)
    field = batch.schema.field(position)
    return position, field if field.nullable else field.with_nullable(True), pyarrow.array(values, type=field.type)


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
