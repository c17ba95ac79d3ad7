"""What all layouts have: parts, and how one that failed is told."""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dagn_pre import files
from dagn_pre.errors import UsageError, failure
from dagn_pre.images import JPEG_SUFFIXES, KEPT_SUFFIXES, SUFFIXES
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile
from dagn_pre.storage import Entry, Store

SAME = "same"  # the format that is each input's own

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

        A target inside the source is passed over.

        Raises:
            UsageError: two inputs of one output, an output among the inputs.
            StorageError: what cannot be listed.
        """
        if self.source.kind() == "file":
            yield self._parts([self.source.entry()])
            return
        source, target = self.source.place(), self.target.place()
        inside = self.source.full(target[len(source) + 1 :]) if _lies_in(target, source) else None
        for _, entries in self.source.folders(without=inside):
            yield self._parts(entries)

    def _parts(self, entries: list[Entry]) -> list[Part]:
        parts = [part for entry in entries if (part := self.part(entry)) is not None]
        owners: dict[str, Part] = {}
        for part in parts:
            other = owners.setdefault(part.output, part)
            if other is not part:
                both = f"{self.source.url(other.entry.path)} and {self.source.url(part.entry.path)}"
                raise UsageError(f"{both} would both be written to {part.output}: rename one, or give --full-names")
        self._check_outputs(parts)
        return parts

    def _check_outputs(self, parts: list[Part]) -> None:
        """Raises UsageError for an output that would replace an input, or be one itself the next time."""
        source, target = self.source.place(), self.target.place()
        folders = {folder: self.target.place(folder) for folder in {posixpath.dirname(part.output) for part in parts}}
        outputs = {posixpath.join(folders[posixpath.dirname(part.output)], posixpath.basename(part.output)) for part in parts}
        for part in parts:
            url, folder = self.source.url(part.entry.path), folders[posixpath.dirname(part.output)]
            if _lies_in(folder, source) and not (_lies_in(target, source) and _lies_in(folder, target)):
                among = f"{url} would be written to {self.target.url(part.output)}, among the inputs of {self.source}"
                raise UsageError(f"{among}: choose a folder outside it")
            if part.entry.is_link or not part.entry.path:  # an input that may lie anywhere
                place = self.source.place(part.entry.path)
                if place in outputs or place == self.target.place(part.output):
                    raise UsageError(f"{url} would be replaced by an output in {self.target}: choose another folder")

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
        return Row(source, None, entry.size, "", None, None, "failed", reason, since(started), entry.modified)


def _lies_in(place: str, folder: str) -> bool:
    """Whether a place is a folder's or below it."""
    return f"{place}/".startswith(f"{folder}/")


def row_of(source: str, output: str, data: bytes, result: RestoredFile, milliseconds: float, modified: float | None) -> Row:
    """Of what became of an image's file, ``data``."""
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


def since(started: float) -> float:
    """Milliseconds since a ``time.perf_counter()``."""
    return 1000 * (time.perf_counter() - started)
