"""Entry point of ``dagn-pre``: subcommands, errors, exit status (0 fine, 1 failed work, 2 wrong usage)."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator

from dagn_pre import __version__
from dagn_pre.errors import DagnPreError, UsageError, printable

COMMANDS = (
    "restore",
    "compress",
    "strip",
    "inspect",
    "insert",
    "bench",
    "bench report",
    "bench compare",
    "evaluate",
    "models",
    "train",
    "adapt",
    "export",
    "cache",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dagn-pre", description="Restores JPEGs in front of detectors and segmenters.")
    parser.add_argument("--version", action="version", version=f"dagn-pre {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"dagn_pre.cli.{name.replace(' ', '_')}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if " ".join(words[:2]) in COMMANDS:  # a command of two words
        words[:2] = [" ".join(words[:2])]
    options = build_parser().parse_args(words)
    for stream in (sys.stdout, sys.stderr):  # names hold what an encoding, or every encoding, lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _terminated_as_interrupted():
            return options.run(options)
    except (DagnPreError, OSError) as error:
        if options.debug:
            raise
        print(printable(f"dagn-pre {options.command}: {error}"), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(f"dagn-pre {options.command}: interrupted; what was finished is kept", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which docker and slurm send, ends the work as Ctrl-C does, so that no half-written file stays."""
    process = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
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
