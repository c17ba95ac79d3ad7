"""``dagn-pre bench compare``: two runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "set two benchmark runs side by side: scores, differences, and what differs in their settings"
EXAMPLE = "dagn-pre bench compare work_dirs/before work_dirs/after -o work_dirs/before-after"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("first", metavar="A", help="a work dir of dagn-pre bench run, or its results.json")
    parser.add_argument("second", metavar="B", help="another; differences are B minus A")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="F", help="a file .md or .html, or a folder: both, as compare.md and compare.html"
    )


def run(args: argparse.Namespace) -> int:
    """Print the comparison as a Markdown table, write it where asked; returns 0."""
    with needed("bench compare", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.downstream.report import compare

    comparison = compare.compare(args.first, args.second)
    print(compare.markdown(comparison))
    if args.output:
        print(*compare.write(comparison, args.output), sep="\n")
    return 0
