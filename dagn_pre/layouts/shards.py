"""WebDataset's tar files."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dagn_pre.errors import DagnPreError
from dagn_pre.layouts.base import Part, Restoring, since
from dagn_pre.layouts.containers import BATCH, Container
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile


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
        each = since(started) / max(1, len(inputs))
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
            self.innerrow_of(part, self.renamed(name), inputs[name], result, each) for name, result in results.items()
        ]


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
