"""How the command line tells warnings about images. Imported with every command, so it imports next to nothing."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from dagn_pre.errors import ImageWarning, printable


@contextlib.contextmanager
def told_warnings(source: Path | None = None) -> Iterator[None]:
    """Say each warning about an image in one line that names the file, which is ``source`` where the warning does not."""
    usual = warnings.formatwarning

    def line(message, category, *where, **more) -> str:
        if not issubclass(category, ImageWarning):
            return usual(message, category, *where, **more)
        text = str(message) if source is None or str(source) in str(message) else f"{source}: {message}"
        return printable(f"warning: {text}") + "\n"

    with warnings.catch_warnings():
        warnings.simplefilter("once", ImageWarning)
        warnings.formatwarning = line
        try:
            yield
        finally:
            warnings.formatwarning = usual
