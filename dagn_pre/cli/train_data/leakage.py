"""``dagn-pre train-data leakage``: test images among the training images."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "find test images among the training images, by perceptual hashes"
EXAMPLE = "dagn-pre train-data leakage --train photos --test LIVE1 KODAK BSDS500/test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--train", nargs="+", type=Path, required=True, metavar="DIR", help="folders of training images")
    parser.add_argument("--test", nargs="+", type=Path, required=True, metavar="DIR", help="folders of test images")
    parser.add_argument("--threshold", type=int, metavar="BITS", help="that differ between copies, of 256 (default: 64)")


def run(args: argparse.Namespace) -> int:
    """Print suspicious pairs and a line for the model card; returns 1 if there are any pairs, else 0."""
    with needed("train-data leakage", "imagehash", "train"):
        from dagn_pre.training.leakage import BITS, THRESHOLD, compare

    report = compare(args.train, args.test, THRESHOLD if args.threshold is None else args.threshold)
    for match in report.matches:
        print(f"{match.train} resembles {match.test}: {match.distance} of {BITS} bits differ")
    print(report.line())
    return 1 if report.matches else 0
