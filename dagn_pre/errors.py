"""Every error a user can cause: one sentence that names the file or key, the reason and, where there is one, the remedy."""

from __future__ import annotations

import contextlib
import io
import unicodedata
import warnings
from collections.abc import Iterator


class DagnPreError(Exception):
    """Base of all errors that dagn-pre raises on purpose; the CLI prints it without a traceback and exits with 1."""


class UsageError(DagnPreError, ValueError):
    """A value the caller chose is outside its range or contradicts another; the CLI exits with 2."""


class ImageError(DagnPreError, ValueError):
    """An image that cannot be read, or whose kind is refused by name."""


class ImageWarning(RuntimeWarning):
    """An image that is taken although something about it is not as it should be; the message is one sentence, as an error's."""


class WeightsError(DagnPreError):
    """Weights that are missing, unsafe to load, or do not fit the network."""


class ConfigError(DagnPreError, ValueError):
    """A host config that lacks what is needed (a loading step, a data root, a checkpoint)."""


class TrainingError(DagnPreError):
    """A training run that had to stop; its last checkpoint stays."""


def failure(name: object, error: Exception) -> str:
    """Why one file failed, in a line that names it, whatever was raised."""
    if isinstance(error, OSError) and error.strerror:
        message = f"{name if error.filename is None else error.filename}: {error.strerror}"
    elif isinstance(error, (DagnPreError, OSError, SyntaxError, ValueError)):  # their messages are made for people
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error}"
    return printable(message if str(name) in message else f"{name}: {message}")


def printable(text: str) -> str:
    """``text`` with what would break a line, or stands for no character, escaped: names of files may hold any byte."""
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep prints and warnings of hosts and trainings off the console, but for warnings about images."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", ImageWarning)
        yield
