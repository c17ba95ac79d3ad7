"""Values of arguments that several commands take."""

from __future__ import annotations


def max_quality(text: str) -> int | None:
    """A QF, or "none": no image is left alone; raises ValueError, which argparse turns into a message."""
    return None if text.lower() == "none" else int(text)
