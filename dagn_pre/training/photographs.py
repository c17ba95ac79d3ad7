"""Photographs to learn from: reduced, so that their own compression is gone, and kept without loss.

    python -m dagn_pre.training.photographs PHOTOS... OUTPUT --by 2

Photographs from the web are JPEGs themselves; reduced by 2, better 3, what is left of their blocks is below notice
(blockiness 1.29, 1.014 and 1.011 at 1, 1/2 and 1/3 of the size, measured on wallpapers).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from dagn_pre.errors import DagnPreError, ImageError, UsageError
from dagn_pre.files import atomic_path
from dagn_pre.images import Pixels, find_images, open_image


def reduce(source: Path, output: Path, by: float) -> None:
    """Write ``source`` at 1/``by`` of its sides (Lanczos) as lossless WebP, whole or not at all.

    Raises:
        ImageError: it cannot be read.
    """
    image = Image.fromarray(Pixels.of(open_image(source), str(source)).rgb)
    size = [max(round(side / by), 1) for side in image.size]
    with atomic_path(output) as temporary:
        image.resize(size, Image.Resampling.LANCZOS).save(temporary, "WEBP", lossless=True, quality=0, method=0)


def main(arguments: list[str] | None = None) -> int:
    """Reduce all images below the folders; returns 1 where one could not be read, else 0."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path, metavar="PHOTOS", help="folders of photographs")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="a folder; what is there already is left as it is")
    parser.add_argument("--by", type=float, default=2.0, help="of each side (default: %(default)s)")
    options = parser.parse_args(arguments)
    failed = 0
    try:
        if not options.by >= 1:
            raise UsageError(f"--by must be 1 or more, not {options.by}")
        found = [(folder, path) for folder in options.sources for path in find_images(folder)]
        if not found:
            raise UsageError(f"no images in {', '.join(map(str, options.sources))}")
        for folder, path in tqdm(found, unit="image", disable=not sys.stderr.isatty()):
            target = options.output / folder.name / path.relative_to(folder).with_suffix(f"{path.suffix}.webp")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                continue
            try:
                reduce(path, target, options.by)
            except ImageError as error:
                failed += 1
                print(f"failed: {error}", file=sys.stderr)
    except DagnPreError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(found) - failed} of {len(found)} photographs are in {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
