"""Progress of long work: a bar on a terminal, and lines now and then where the output goes to a file or a log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from dagn_pre.errors import failure

EVERY = 30.0  # seconds between two lines
PLAIN = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_fmt}]{postfix}"
COUNT = "{desc} {n_fmt} [{elapsed}, {rate_fmt}]{postfix}"  # where nobody knows how many there are


class Lines:
    """A stream that gets what tqdm draws over and over in one place as lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.last = stream, ""

    def write(self, text: str) -> None:
        text = text.strip()  # of carriage returns and padding
        if text and text.partition("[")[0] != self.last:  # tqdm draws the end twice
            self.stream.write(text + "\n")
            self.last = text.partition("[")[0]

    def flush(self) -> None:
        self.stream.flush()


def bar(*arguments, **options) -> tqdm:
    """A ``tqdm`` of the same arguments on stderr; where that is no terminal, a line at the start, every 30 s and at the end."""
    if not sys.stderr.isatty():
        options |= {"file": Lines(sys.stderr), "mininterval": EVERY, "maxinterval": EVERY, "leave": True}
        options.setdefault("bar_format", PLAIN if arguments or options.get("total") else COUNT)
    return tqdm(*arguments, **options)


def skip(shown: tqdm) -> None:
    """One more of a bar's that needed nothing: it does not count as speed."""
    if not shown.disable:  # then it has no counters
        shown.initial += 1
        shown.update()


def report_failure(source: Path, error: Exception) -> str:
    """Say on stderr that a file failed, in one line; returns what is said of it."""
    message = failure(source, error)
    tqdm.write(f"failed: {message}", file=sys.stderr)
    return message
