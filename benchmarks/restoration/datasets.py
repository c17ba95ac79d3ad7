"""Folders of originals: where a release keeps its test images, and which files can be measured."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dagn_pre.errors import ImageError, UsageError, printable
from dagn_pre.folders import search, told_with_examples
from dagn_pre.images import Pixels, header, open_image
from dagn_pre.progress import bar, report_failure

MIN_SIDE = 11  # the window of SSIM
MAX_SIDE = 65535  # of a JPEG

# Name in the tables -> where a release keeps its test images, from the release's root; the first that exists is taken.
LAYOUTS = {
    "LIVE1": ("databaserelease2/refimgs", "LIVE1/refimgs"),
    "BSD500": ("BSR/BSDS500/data/images/test", "BSDS500/data/images/test", "BSDS500/test", "BSD500/test", "BSDS500"),
    "LIU4K": ("LIU4K/valid", "LIU4K/validation"),
    "DIV2K": ("DIV2K/DIV2K_valid_HR", "DIV2K_valid_HR"),  # its public test images have no originals: validation it is
}


@dataclass(frozen=True)
class Dataset:
    """The images of one folder that can be measured.

    Attributes:
        name: in the tables: a preset's, else the folder's.
        folder: where the images lie; all of its sub-folders are searched.
        paths: the images, sorted.
        jpegs: how many of them are JPEG files themselves, so that every QF is a second compression.
        digest: SHA-256 over names and bytes of the images: tells results on other data apart.
        failures: what was left out, each with its reason.
    """

    name: str
    folder: Path
    paths: tuple[Path, ...]
    jpegs: int
    digest: str
    failures: tuple[str, ...]

    def label(self, path: Path) -> str:
        """An image's name in the results: its path below the folder, as it can be printed."""
        return printable(path.relative_to(self.folder).as_posix())


def locate(folder: Path) -> tuple[str, Path]:
    """(name, folder of the test images) of a flat folder, or of any folder on the way into a release of :data:`LAYOUTS`.

    Raises:
        UsageError: no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    own = folder.resolve().parts
    for name, places in LAYOUTS.items():
        for steps in (Path(place).parts for place in places):
            for taken in range(len(steps) == 1, len(steps) + 1):  # so many steps into the release is `folder` already
                inside = folder.joinpath(*steps[taken:])
                if own[len(own) - taken :] == steps[:taken] and inside.is_dir():
                    return name, inside
    return printable(own[-1]), folder


def read(path: Path) -> np.ndarray:
    """The pixels of an original as stored, (H, W, 3) uint8 RGB; an alpha channel is left out.

    Raises:
        ImageError: unreadable, of a refused kind (:mod:`dagn_pre.images`), too small to be scored, or too large for a JPEG; the
            file is named.
    """
    rgb = Pixels.of(open_image(path), str(path)).rgb
    if min(rgb.shape[:2]) < MIN_SIDE:
        raise ImageError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels; SSIM needs at least {MIN_SIDE} a side")
    if max(rgb.shape[:2]) > MAX_SIDE:
        raise ImageError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels; JPEG holds at most {MAX_SIDE} a side")
    return rgb


def scan(folder: Path, limit: int | None = None) -> Dataset:
    """Read every image of ``folder`` once: what cannot be measured is reported on stderr and left out.

    Args:
        folder: flat, or the root of a release that :data:`LAYOUTS` knows.
        limit: the first images only.

    Raises:
        UsageError: no such folder, or no images in it.
        ImageError: none of its images can be measured.
    """
    name, place = locate(Path(folder))
    inside = search(place)
    found = inside.paths[:limit]
    if not found:
        raise UsageError(f"{place}: no images in it")
    if inside.left_out:
        print(printable(told_with_examples(f"{place}: left out", inside.left_out)), file=sys.stderr)
    good, failures, jpegs, digest = [], [], 0, hashlib.sha256()
    for path in bar(found, desc=f"reading {name}", unit="image", leave=False):
        try:
            read(path)
            is_jpeg, content = header(path).format in ("JPEG", "MPO"), path.read_bytes()
        except Exception as error:  # whatever a decoder runs into
            failures.append(report_failure(path, error))
            continue
        good.append(path)
        jpegs += is_jpeg
        digest.update(os.fsencode(path.relative_to(place).as_posix()) + b"\0" + hashlib.sha256(content).digest())
    if not good:
        raise ImageError(f"{place}: none of its {len(found)} images can be measured")
    return Dataset(name, place, tuple(good), jpegs, digest.hexdigest(), tuple(failures))


def scan_all(folders: Sequence[str | Path], limit: int | None = None) -> list[Dataset]:
    """:func:`scan` each folder.

    Raises:
        UsageError: also a limit below 1, and two folders of one name.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1 image, not {limit}")
    names = [locate(Path(folder))[0] for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two of the folders are both called {name}: rename one")
    return [scan(Path(folder), limit) for folder in folders]
