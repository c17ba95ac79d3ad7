"""``dagn-pre bench recompressed``: restoring what was compressed twice, shifted, resized."""

from __future__ import annotations

import argparse

from dagn_pre.cli.bench import psnr

HELP = "score restoring pictures that were compressed twice, with two grids, other subsamplings, or resized after it"
EXAMPLE = "dagn-pre bench recompressed LIVE1 --model dagn-s dagn-s-psnr --json rows.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    psnr.add_arguments(parser, [10, 30, 50], "of both compressions, 1..100")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows where asked; returns 0."""
    return psnr.run(args, "recompressed")
