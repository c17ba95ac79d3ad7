"""Files and trees: which input becomes which output, and one loop that survives bad files."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.images import SUFFIXES, find_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every command from files to files has."""
    parser.add_argument("source", type=Path, metavar="SRC", help="an image or a folder")
    parser.add_argument("target", type=Path, metavar="DST", help="a file if SRC is one, else a folder; sub-folders are kept")
    parser.add_argument("--overwrite", action="store_true", help="write outputs that exist already anew")


def plan(source: Path, target: Path, suffix: str, writable: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """(input, output) pairs; within a folder outputs get ``suffix``, appended where two inputs differ in theirs alone.

    Raises:
        UsageError: no such input, a folder without images, a target of the other kind, or of a suffix not in ``writable``.
    """
    if source.is_file():
        if target.is_dir():
            return [(source, target / f"{source.stem}{suffix}")]
        if target.suffix.lower() not in writable:
            raise UsageError(f"{target}: give a folder that exists, or a file ending in {', '.join(writable)}")
        return [(source, target)]
    if not source.is_dir():
        raise UsageError(f"{source}: no such file or folder")
    if target.is_file():
        raise UsageError(f"{target} is a file, but {source} is a folder")
    inside = source.resolve() in target.resolve().parents  # what an earlier run wrote is no input
    inputs = [path for path in find_images(source) if not inside or target.resolve() not in path.resolve().parents]
    if not inputs:
        raise UsageError(f"{source}: no images in it ({', '.join(sorted(SUFFIXES))})")
    shared = Counter(path.with_suffix("") for path in inputs)
    pairs = []
    for path in inputs:
        name = path.name + suffix if shared[path.with_suffix("")] > 1 else path.stem + suffix
        pairs.append((path, target / path.parent.relative_to(source) / name))
    return pairs


def run(pairs: list[tuple[Path, Path]], work: Callable[[Path, Path], str | None], overwrite: bool) -> int:
    """Call ``work(input, output)`` for each pair, skipping outputs that exist; a bad file is reported and the others go on.

    What ``work`` returns, if anything, is said beside "written" in the summary.

    Returns:
        1 if any file failed, else 0.

    Raises:
        UsageError: an output is its own input.
    """
    for source, target in pairs:
        if target.exists() and os.path.samefile(source, target):
            raise UsageError(f"{source}: input and output are the same file")
    counts = Counter()
    for source, target in tqdm(pairs, unit="image", disable=len(pairs) == 1):
        if target.exists() and not overwrite:
            counts["skipped (exists already; --overwrite to redo)"] += 1
            continue
        try:
            note = work(source, target)
            counts[f"written {note}" if note else "written"] += 1
        except UsageError:
            raise
        except (DagnPreError, OSError, SyntaxError, ValueError) as error:  # Pillow's writers raise all of these
            message = str(error) if str(source) in str(error) else f"{source}: {error}"
            tqdm.write(f"failed: {message}", file=sys.stderr)
            counts["failed"] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] else 0
