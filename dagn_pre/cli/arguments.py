"""Values of arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path


def max_quality(text: str) -> int | None:
    """A QF, or "none": no image is left alone; raises ValueError, which argparse turns into a message."""
    return None if text.lower() == "none" else int(text)


def written_file(text: str) -> Path:
    """A file that is written once the work is done; raises ArgumentTypeError where none can be."""
    path = Path(text)
    if path.is_dir() or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text} is a folder; give a file")
    for above in path.parents:
        if above.is_file():
            raise argparse.ArgumentTypeError(f"{text}: {above} is a file, not a folder")
    return path
