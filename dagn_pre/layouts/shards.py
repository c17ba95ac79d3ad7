"""WebDataset's tar files."""

from __future__ import annotations

import io
import posixpath
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dagn_pre.errors import DagnPreError, printable
from dagn_pre.layouts.base import Part, Restoring, since
from dagn_pre.layouts.containers import BATCH, Container
from dagn_pre.manifest import Row
from dagn_pre.restored_files import InputFile, RestoredFile

# Beginnings of the extended headers that tarfile writes anew where they are needed: what these tell may have changed.
STALE = ("GNU.sparse.", "hdrcharset", "linkpath", "path", "size")


@dataclass(frozen=True)
class Shards(Container):
    """WebDataset's tar files, in which files of one name but for what follows its first dot are a sample.

    A sample whose image fails is left out, so that readers find no half ones; its row says so. A link to an image follows
    the image's new name; one to what was left out before it fails as an image does.
    """

    SUFFIX = ".tar"
    LACKS = "no .tar files in it; --layout tree for single files"

    def rewrite(self, part: Part, before: Path, after: Path, restoring: Restoring) -> list[Row]:
        """Sample by sample, in batches."""
        url, rows, lost = self.source.url(part.entry.path), list[Row](), set[str]()
        with open(before, "rb") as raw, tarfile.open(after, "w", format=tarfile.PAX_FORMAT) as output:
            self._check_members(raw, url)  # all of them, before the first is restored
            samples: list[list[tuple[tarfile.TarInfo, bytes | None]]] = []
            images = 0
            for sample in _samples(raw, url):
                samples.append(sample)
                images += sum(data is not None and self.is_image(member.name) for member, data in sample)
                if images >= BATCH:
                    rows += self._write_samples(part, samples, output, restoring, lost)
                    samples, images = [], 0
            rows += self._write_samples(part, samples, output, restoring, lost)
        return rows

    def _check_members(self, raw: IO[bytes], url: str) -> None:
        """Raises DagnPreError: damaged, or members of one name; folders may come again, as ``tar -r`` leaves them."""
        seen: dict[str, str] = {}
        for _, member in _members(raw, url):
            name = self._new_name(member)
            other = seen.get(name)
            if other == member.name and not member.isdir():
                raise DagnPreError(f"{url}: {member.name} is in it more than once; unpack it and pack it anew")
            if other not in (None, member.name):
                raise DagnPreError(
                    f"{url}: {other} and {member.name} in it would both become {name}: rename one, or give --full-names"
                )
            seen[name] = member.name

    def _new_name(self, member: tarfile.TarInfo) -> str:
        """An image's name in the output, or that of a link to one; others stay."""
        named = member.linkname if _target(member) else member.name if _has_data(member) else ""
        return self.renamed(member.name) if self.is_image(named) and self.is_image(member.name) else member.name

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
            for member, _ in sample:
                if _target(member) in lost:
                    inputs[member.name] = InputFile(b"", self.inner(part, member.name), member.name)
                    reason = f"{inputs[member.name].name}: a link to {member.linkname}, which is left out"
                    results[member.name] = RestoredFile("failed", None, printable(reason))
            if any(results[member.name].data is None for member, _ in sample if member.name in results):
                for member, _ in sample:
                    if member.name in results and results[member.name].data is not None:
                        reason = f"{self.inner(part, member.name)}: another image of its sample failed"
                        results[member.name] = RestoredFile("failed", None, printable(reason))
                lost.update(posixpath.normpath(member.name) for member, _ in sample)
                continue
            for member, data in sample:
                if member.name in results:
                    data = results[member.name].data
                member.name = self._new_name(member)
                if _target(member) and self.is_image(member.linkname):
                    member.linkname = self.renamed(member.linkname)
                _add(output, member, data)
        return [self.inner_row(part, self.renamed(name), inputs[name], result, each) for name, result in results.items()]


def _members(raw: IO[bytes], name: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a shard, each with the archive to read it from.

    Raises:
        DagnPreError: cut short, damaged (behind which tarfile itself sees nothing more), or no tar file.
    """
    raw.seek(0)
    try:
        with tarfile.open(fileobj=raw, mode="r:") as archive:
            for member in archive:
                yield archive, member
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            end = archive.offset  # of the last member
    except (tarfile.TarError, ValueError) as error:  # the latter from numbers in extended headers
        raise DagnPreError(f"{name}: cut short, damaged, or no tar file ({error}); get it again") from error
    left = raw.seek(0, 2) - end
    raw.seek(end)
    while chunk := raw.read(1 << 20):
        if chunk.strip(b"\0"):
            raise DagnPreError(
                f"{name}: cut short or damaged (no member at byte {end}, and more behind it); get it again, "
                "or join tar files by tar -A, not by cat"
            )
    if left < 2 * tarfile.BLOCKSIZE:
        raise DagnPreError(f"{name}: cut short (it has no end mark); get it again")


def _samples(raw: IO[bytes], name: str) -> Iterator[list[tuple[tarfile.TarInfo, bytes | None]]]:
    """The members of a shard with their bytes (None of what has none), sample by sample; raises as :func:`_members`."""
    sample: list[tuple[tarfile.TarInfo, bytes | None]] = []
    key = None
    for archive, member in _members(raw, name):
        file = archive.extractfile(member) if _has_data(member) else None
        folder, _, base = member.name.rpartition("/")
        this = (folder, base.partition(".")[0])
        if sample and this != key:
            yield sample
            sample = []
        key = this
        sample.append((member, None if file is None else file.read()))
    if sample:
        yield sample


def _has_data(member: tarfile.TarInfo) -> bool:
    """Whether it is a file; those of unknown type are, to tarfile too."""
    return member.isreg() or member.type not in tarfile.SUPPORTED_TYPES


def _target(member: tarfile.TarInfo) -> str | None:
    """The member that a link is to; None of what is no link."""
    if member.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    return posixpath.normpath(member.linkname) if member.islnk() else None


def _add(output: tarfile.TarFile, member: tarfile.TarInfo, data: bytes | None) -> None:
    member.pax_headers = {key: value for key, value in member.pax_headers.items() if not key.startswith(STALE)}
    if data is None:
        output.addfile(member)
    else:
        if member.type == tarfile.GNUTYPE_SPARSE:
            member.type = tarfile.REGTYPE  # its holes are filled
        member.size = len(data)
        output.addfile(member, io.BytesIO(data))
