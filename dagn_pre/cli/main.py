"""Entry point of ``dagn-pre``: subcommands, errors, exit status (0 fine, 1 failed work, 2 wrong usage, 130 Ctrl-C, 141 work
that ended since nobody reads what it says, 143 SIGTERM)."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from dagn_pre import __version__
from dagn_pre.cli.warned import told_warnings
from dagn_pre.errors import DagnPreError, UsageError, printable

COMMANDS = (
    "restore",
    "compress",
    "strip",
    "inspect",
    "insert",
    "bench",
    "bench run",
    "bench report",
    "bench compare",
    "bench deployment",
    "bench speed",
    "bench profile",
    "bench cost",
    "bench growth",
    "bench features",
    "bench grey",
    "bench recompressed",
    "bench rate-distortion",
    "bench scale",
    "bench train",
    "evaluate",
    "models",
    "train",
    "train-data",
    "train-data photographs",
    "train-data texture",
    "train-data leakage",
    "adapt",
    "export",
    "cache",
)
UNREAD = 141  # what a shell says of a command that SIGPIPE ended


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dagn-pre", description="Restores JPEGs in front of detectors and segmenters.")
    parser.add_argument("--version", action="version", version=f"dagn-pre {__version__}")
    groups = {"": parser.add_subparsers(dest="command", required=True, metavar="COMMAND")}
    for name in COMMANDS:
        module = importlib.import_module(f"dagn_pre.cli.{name.replace(' ', '.').replace('-', '_')}")
        group, _, word = name.rpartition(" ")
        command = groups[group].add_parser(
            word,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if any(other.startswith(f"{name} ") for other in COMMANDS):
            groups[name] = command.add_subparsers(metavar="COMMAND")
            command.set_defaults(run=functools.partial(_show_commands, command))
            continue
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=module.run, command=name)
    return parser


def main(arguments: list[str] | None = None) -> int:
    _open_streams()
    options = argparse.Namespace(command=None, debug=False)
    status = None
    try:
        _check_empty(sys.argv[1:] if arguments is None else arguments)
        build_parser().parse_args(arguments, options)
        _check_paths(options)
        with _terminated_as_interrupted(), told_warnings():
            status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read what is said has enough of it
        return UNREAD if status is None else status
    except (DagnPreError, OSError) as error:
        if options.debug:
            raise
        unnamed = isinstance(error, OSError) and error.filename is None
        _say(options.command, f"standard output: {error}" if not _flushed(sys.stdout) and unnamed else str(error))
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as interruption:
        _say(options.command, "interrupted; what was finished is kept")
        return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flushed(stream)


def _open_streams() -> None:
    """Make both streams take whatever is said: one may be closed, and names hold what an encoding, or every encoding, lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(stream: TextIO) -> bool:
    """Write what is left for a stream; where that cannot be, drop it, since the interpreter would complain of it at its end."""
    try:
        stream.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError):  # a stream in memory has no number
            os.dup2(nowhere.fileno(), stream.fileno())
        return False
    return True


def _say(command: str | None, text: str) -> None:
    """Why a command ended, on stderr, if that can still be written to."""
    with contextlib.suppress(OSError):
        print(printable(f"dagn-pre {command}: {text}" if command else f"dagn-pre: {text}"), file=sys.stderr)


def _check_empty(arguments: Sequence[str]) -> None:
    """See that no argument is empty, which as a path would be the current folder; raises UsageError."""
    for before, given in zip([None, *arguments], arguments):
        if re.fullmatch(r"(--[a-z-]+=)?", given):
            where = given or (f"after {before}" if before else "the first")
            raise UsageError(f"an argument is empty ({where}); the current folder is .")


def _check_paths(options: argparse.Namespace) -> None:
    """See that no URL was given for a local path, which would have become a folder such as "s3:"; raises UsageError."""
    for given in vars(options).values():
        for path in given if isinstance(given, list) else [given]:
            if isinstance(path, Path) and (url := re.fullmatch(r"([A-Za-z][\w+.-]+):/(.*)", str(path))):
                raise UsageError(f"{url[1]}://{url[2]} is a URL, where only a local path works")


def _show_commands(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """A command that does nothing without a further word: says which there are; returns 2."""
    parser.print_help()
    return 2


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which docker and slurm send, ends the work as Ctrl-C does, so that no half-written file stays."""
    process = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == process:
            raise Terminated
        os._exit(128 + number)  # a forked worker, which inherits this

    try:
        former = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


if __name__ == "__main__":
    sys.exit(main())
