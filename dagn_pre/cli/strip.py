"""``dagn-pre strip``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli import batch, listing

HELP = "Remove side information from JPEG files; everything else stays, byte for byte."
EXAMPLE = "dagn-pre strip photos/ plain/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from dagn_pre.files import write_atomic
    from dagn_pre.images import JPEG_SUFFIXES, content
    from dagn_pre.side_information import segment

    def work(source: Path, target: Path) -> batch.Done:
        write_atomic(target, segment.strip(content(source)))
        return batch.Done()

    # Names stay, and other formats have nothing to strip.
    readable = frozenset(JPEG_SUFFIXES)
    planned = listing.plan(options.sources, options.target, lambda path: path.name, JPEG_SUFFIXES, readable)
    return batch.run(planned, work, options.overwrite)
