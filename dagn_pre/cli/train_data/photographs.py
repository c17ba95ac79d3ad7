"""``dagn-pre train-data photographs``: reduced, so that their own compression is gone."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "reduce photographs, so that their own compression is gone, and keep them without loss"
EXAMPLE = "dagn-pre train-data photographs wallpapers/ photos/ --by 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", type=Path, metavar="DIR", help="folders of photographs")
    parser.add_argument("output", type=Path, metavar="OUT", help="a folder; what is there already is left as it is")
    parser.add_argument("--by", type=float, default=2.0, help="of each side (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    """Reduce all images below the folders; returns 1 where one could not be read, else 0."""
    from dagn_pre.training.photographs import reduce_all

    count, failures = reduce_all(args.sources, args.output, args.by)
    print(f"{count - len(failures)} of {count} photographs are in {args.output}")
    return 1 if failures else 0
