"""What a command does where the packages that it needs are not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dagn_pre.errors import DagnPreError


@contextlib.contextmanager
def needed(command: str, what: str, extras: str) -> Iterator[None]:
    """Around the imports of what a command needs: ``dagn-pre[extras]`` brings it.

    Raises:
        DagnPreError: one of the imports failed; says which, and what to install.
    """
    try:
        yield
    except ImportError as error:
        raise DagnPreError(f'{command} needs {what} ({error}): pip install "dagn-pre[{extras}]"') from error
