"""``dagn-pre bench grey``: PSNR on Y alone, as most papers before colour measure it."""

from __future__ import annotations

import argparse

from dagn_pre.cli.bench import psnr

HELP = "score restoring grey images: PSNR on Y (ITU-R BT.601, 16..235) alone"
EXAMPLE = "dagn-pre bench grey LIVE1 --model dncnn3.npz --json dncnn3.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    psnr.add_arguments(parser, [10, 20, 30, 40], "JPEG quality factors, 1..100")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows where asked; returns 0."""
    return psnr.run(args, "grey")
