"""Photographs to learn from: reduced, so that their own compression is gone, and kept without loss
(``dagn-pre train-data photographs``).

Photographs from the web are JPEGs themselves; reduced by 2, better 3, what is left of their blocks is below notice
(blockiness 1.29, 1.014 and 1.011 at 1, 1/2 and 1/3 of the size, measured on wallpapers).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dagn_pre.errors import ImageError, UsageError
from dagn_pre.files import atomic_path
from dagn_pre.folders import find_images
from dagn_pre.images import Pixels, open_image
from dagn_pre.progress import bar, report_failure


def reduce(source: Path, output: Path, by: float) -> None:
    """Write ``source`` at 1/``by`` of its sides (Lanczos) as lossless WebP, whole or not at all.

    Raises:
        ImageError: it cannot be read.
    """
    image = Image.fromarray(Pixels.of(open_image(source), str(source)).rgb)
    size = [max(round(side / by), 1) for side in image.size]
    with atomic_path(output) as temporary:
        image.resize(size, Image.Resampling.LANCZOS).save(temporary, "WEBP", lossless=True, quality=0, method=0)


def reduce_all(folders: Sequence[Path], output: Path, by: float) -> tuple[int, list[Path]]:
    """:func:`reduce` all images below the folders into folders of the same names; what is there already stays as it is.

    Returns:
        How many images there are, and those that cannot be read; these are named on stderr.

    Raises:
        UsageError: ``by`` below 1, or no images.
    """
    if not by >= 1:
        raise UsageError(f"--by must be 1 or more, not {by}")
    found = [(folder, path) for folder in folders for path in find_images(folder)]
    if not found:
        raise UsageError(f"no images in {', '.join(map(str, folders))}")
    failures = []
    for folder, path in bar(found, unit="image", disable=not sys.stderr.isatty()):
        target = output / folder.name / path.relative_to(folder).with_suffix(f"{path.suffix}.webp")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            continue
        try:
            reduce(path, target, by)
        except ImageError as error:
            report_failure(path, error)
            failures.append(path)
    return len(found), failures
