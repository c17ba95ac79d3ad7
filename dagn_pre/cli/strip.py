"""``dagn-pre strip``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli import batch

HELP = "Remove side information from JPEG files; everything else stays, byte for byte."
EXAMPLE = "dagn-pre strip photos/ plain/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from dagn_pre.files import write_atomic
    from dagn_pre.images import JPEG_SUFFIXES
    from dagn_pre.side_information import segment

    def work(source: Path, target: Path) -> None:
        write_atomic(target, segment.strip(source.read_bytes()))

    pairs = batch.plan(options.source, options.target, ".jpg", JPEG_SUFFIXES)
    if options.source.is_dir():  # names stay, and other formats have nothing to strip
        pairs = [(source, target.with_name(source.name)) for source, target in pairs if source.suffix.lower() in JPEG_SUFFIXES]
    return batch.run(pairs, work, options.overwrite)
