"""How data sets lie in folders and buckets: trees of files, WebDataset's tar shards, Parquet files with a column of images.

What is restored from a layout is written in the same one. A layout gives its parts folder by folder, so that the list of all is
never held, and restores some of them with whatever it is handed for that: :data:`Restoring`. Each output is written whole
before its rows are given; rows name an image of a shard or of a Parquet file as ``shard.tar#member``, ``part.parquet#row``.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from dagn_pre import files, storage
from dagn_pre.errors import DagnPreError, UsageError, failure
from dagn_pre.images import FORMATS, JPEG_SUFFIXES, KEPT_SUFFIXES, SUFFIXES
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile
from dagn_pre.storage import Entry, Store

SAME = "same"  # the format that is each input's own
MARK = "#"  # between a container and the image in it
AT_ONCE = 8  # files read or written at a time
BATCH = 64  # images of a container at a time
SIGNATURES = {b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif", b"BM": ".bmp"}  # else .png

Restoring = Callable[[Sequence[InputFile]], list[RestoredFile]]


@dataclass(frozen=True)
class Part:
    """A file of a layout, and what becomes of it.

    Attributes:
        entry: the input.
        output: its path below the target.
        is_image: whether it is restored; otherwise it is copied.
    """

    entry: Entry
    output: str
    is_image: bool = True


@dataclass(frozen=True)
class Layout:
    """What all layouts have.

    Args:
        source, target: where from, where to; pickle with it.
        format: "png", "webp", "tiff", "jpg", or "same": each image's own name and format; then what is left untouched keeps its
            bytes.
        full_names: a.jpg becomes a.jpg.png, not a.png.
        jpeg_only: take only what is named as a JPEG for an image.
    """

    source: Store
    target: Store
    format: str = "png"
    full_names: bool = False
    jpeg_only: bool = False

    LACKS: ClassVar[str] = "no images in it; those that are packed need --layout shards or --layout parquet"

    @property
    def keep_untouched(self) -> bool:
        """Whether what is not restored keeps its bytes."""
        return self.format == SAME

    def is_image(self, name: str) -> bool:
        """Whether a file of that name is one to be restored; hidden ones, such as what macOS puts into archives, are not."""
        if posixpath.basename(name).startswith("."):
            return False
        return posixpath.splitext(name)[1].lower() in (JPEG_SUFFIXES if self.jpeg_only else SUFFIXES)

    def renamed(self, path: str) -> str:
        """The output's path of an image's."""
        if self.format == SAME:
            return path
        stem, suffix = posixpath.splitext(path)
        return (path if self.full_names or suffix.lower() in KEPT_SUFFIXES else stem) + f".{self.format}"

    def check(self) -> None:
        """See that the source has what the layout needs, by looking for the first one; raises UsageError."""
        self.first()

    def first(self) -> Part:
        """The first part that is restored; raises UsageError where there is none."""
        for parts in self.folders():
            for part in parts:
                if part.is_image:
                    return part
        raise UsageError(f"{self.source}: {self.LACKS}")

    def folders(self) -> Iterator[list[Part]]:
        """The parts, folder by folder.

        Raises:
            UsageError: two inputs of one output.
            StorageError: what cannot be listed.
        """
        if self.source.kind() == "file":
            yield self._parts([self.source.entry()])
            return
        inside = f"{self.target.root}/".startswith(f"{self.source.root}/") and self.target.fs == self.source.fs
        for _, entries in self.source.folders(without=self.target.root if inside else None):
            yield self._parts(entries)

    def _parts(self, entries: list[Entry]) -> list[Part]:
        parts = [part for entry in entries if (part := self.part(entry)) is not None]
        owners: dict[str, Part] = {}
        for part in parts:
            other = owners.setdefault(part.output, part)
            if other is not part:
                both = f"{self.source.url(other.entry.path)} and {self.source.url(part.entry.path)}"
                raise UsageError(f"{both} would both be written to {part.output}: rename one, or give --full-names")
        return parts

    def part(self, entry: Entry) -> Part | None:
        """What becomes of a file; None for one that is left out."""
        raise NotImplementedError

    def name(self, part: Part) -> str:
        """The path of a part below the source; of a source that is one file, its name."""
        return part.entry.path or self.source.root.rpartition("/")[2]

    def restore(self, parts: Sequence[Part], restoring: Restoring) -> list[Row]:
        """Restore some parts, and write their outputs.

        Returns:
            A row for each image; none for what was only copied. What could not be read or written is a failed row.
        """
        raise NotImplementedError

    def remove_temporary(self, parts: Sequence[Part]) -> None:
        """Remove what writers of these outputs left that were killed, where the target is a local folder."""
        if self.target.local:
            names: defaultdict[str, list[str]] = defaultdict(list)
            for part in parts:
                folder, _, name = part.output.rpartition("/")
                names[folder].append(name)
            for folder, several in names.items():
                files.remove_temporary_of(self.target.full(folder), several)

    def failed(self, part: Part, error: Exception, started: float) -> Row:
        """The row of a part that failed as a whole."""
        entry, source = part.entry, self.source.url(part.entry.path)
        reason = failure(source, error)
        return Row(source, None, entry.size, "", None, None, "failed", reason, _since(started), entry.modified)


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
            each = _since(started) / max(1, len(read))
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
        return _row(one.name, part.output, one.data, result, milliseconds + _since(started), part.entry.modified)


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
        return _row(one.name, f"{part.output}{MARK}{name}", one.data, result, milliseconds, part.entry.modified)


@dataclass(frozen=True)
class Shards(Container):
    """WebDataset's tar files, in which files of one name but for what follows its first dot are a sample.

    A sample whose image fails is left out, so that readers find no half ones; its row says so. A link to an image follows
    the image's new name, and is left out with it.
    """

    SUFFIX = ".tar"
    LACKS = "no .tar files in it; --layout tree for single files"

    def rewrite(self, part: Part, before: Path, after: Path, restoring: Restoring) -> list[Row]:
        """Sample by sample, in batches."""
        rows: list[Row] = []
        seen: dict[str, str] = {}
        lost: set[str] = set()
        with open(before, "rb") as raw, tarfile.open(after, "w", format=tarfile.PAX_FORMAT) as output:
            samples: list[list[tuple[tarfile.TarInfo, bytes | None]]] = []
            images = 0
            for sample in _samples(raw, self.source.url(part.entry.path)):
                for member, _ in sample:
                    name = self.renamed(member.name) if self.is_image(member.name) else member.name
                    if name in seen:
                        raise DagnPreError(
                            f"{self.source.url(part.entry.path)}: {seen[name]} and {member.name} in it would both become "
                            f"{name}: rename one, or give --full-names"
                        )
                    seen[name] = member.name
                samples.append(sample)
                images += sum(data is not None and self.is_image(member.name) for member, data in sample)
                if images >= BATCH:
                    rows += self._write_samples(part, samples, output, restoring, lost)
                    samples, images = [], 0
            rows += self._write_samples(part, samples, output, restoring, lost)
        return rows

    def _write_samples(
        self,
        part: Part,
        samples: list[list[tuple[tarfile.TarInfo, bytes | None]]],
        output: tarfile.TarFile,
        restoring: Restoring,
        lost: set[str],
    ) -> list[Row]:
        started = time.perf_counter()
        inputs = {
            member.name: InputFile(data, self.inner(part, member.name), self.renamed(member.name))
            for sample in samples
            for member, data in sample
            if data is not None and self.is_image(member.name)
        }
        results = dict(zip(inputs, restoring(list(inputs.values()))))
        each = _since(started) / max(1, len(inputs))
        for sample in samples:
            if any(results[member.name].data is None for member, _ in sample if member.name in results):
                for member, _ in sample:
                    if member.name in results and results[member.name].data is not None:
                        reason = f"{self.inner(part, member.name)}: another image of its sample failed"
                        results[member.name] = RestoredFile("failed", None, reason)
                lost.update(member.name for member, _ in sample)
                continue
            for member, data in sample:
                if member.islnk() and member.linkname in lost:
                    continue
                if data is None and self.is_image(member.linkname):
                    member.linkname, member.pax_headers = self.renamed(member.linkname), {}
                    if self.is_image(member.name):
                        member.name = self.renamed(member.name)
                if member.name in results:
                    data = results[member.name].data
                    member.name, member.pax_headers = self.renamed(member.name), {}
                _add(output, member, data)
        return [
            self.inner_row(part, self.renamed(name), inputs[name], result, each) for name, result in results.items()
        ]


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
        each = _since(started) / max(1, len(inputs))
        rows = [self.inner_row(part, first + i, inputs[i], result, each) for i, result in results.items()]
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


CONTAINERS: dict[str, type[Container]] = {"shards": Shards, "parquet": Parquet}
LAYOUTS: dict[str, type[Layout]] = {"tree": Tree, **CONTAINERS}


def layout_of(source: Store, chosen: str | None) -> str:
    """The layout's name: what was chosen, or of one file by its suffix, else a tree."""
    if chosen:
        return chosen
    return next((name for name, kind in CONTAINERS.items() if source.root.lower().endswith(kind.SUFFIX)), "tree")


def suffix_of(data: bytes) -> str:
    """Of a file's bytes, one that can be written."""
    return next((suffix for head, suffix in SIGNATURES.items() if data.startswith(head)), ".png")


def _column(batch: Any, name: str, values: list[Any]) -> tuple[int, Any, Any]:
    """Position, field and array of a column with other values, of the same type."""
    import pyarrow

    position = batch.schema.names.index(name)
    field = batch.schema.field(position)
    return position, field if field.nullable else field.with_nullable(True), pyarrow.array(values, type=field.type)


def _samples(raw: IO[bytes], name: str) -> Iterator[list[tuple[tarfile.TarInfo, bytes | None]]]:
    """The members of a shard with their bytes (None of what is no regular file), sample by sample.

    Raises:
        DagnPreError: it is cut short, or no tar file.
    """
    size = raw.seek(0, 2)
    raw.seek(max(0, size - 2 * tarfile.BLOCKSIZE))
    if size < 2 * tarfile.BLOCKSIZE or raw.read().strip(b"\0"):
        raise DagnPreError(f"{name}: cut short, or no tar file (it has no end mark); get it again")
    raw.seek(0)
    sample: list[tuple[tarfile.TarInfo, bytes | None]] = []
    key = None
    try:
        with tarfile.open(fileobj=raw, mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                folder, _, base = member.name.rpartition("/")
                this = (folder, base.partition(".")[0])
                if sample and this != key:
                    yield sample
                    sample = []
                key = this
                sample.append((member, None if file is None else file.read()))
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
    except tarfile.TarError as error:
        raise DagnPreError(f"{name}: damaged ({error}); get it again") from error
    if sample:
        yield sample


def _add(output: tarfile.TarFile, member: tarfile.TarInfo, data: bytes | None) -> None:
    if data is None:
        output.addfile(member)
    else:
        member.size = len(data)
        output.addfile(member, io.BytesIO(data))


def _row(source: str, output: str, data: bytes, result: RestoredFile, milliseconds: float, modified: float | None) -> Row:
    quality = result.quality
    return Row(
        source,
        None if result.data is None else output,
        len(data),
        hashlib.sha256(data).hexdigest(),
        None if quality is None else quality.value,
        None if quality is None else quality.source,
        result.state,
        result.reason,
        milliseconds,
        modified,
    )


def _since(started: float) -> float:
    """Milliseconds."""
    return 1000 * (time.perf_counter() - started)


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
