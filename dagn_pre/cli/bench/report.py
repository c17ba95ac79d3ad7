"""``dagn-pre bench report``: the report anew, from what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "draw a benchmark's tables, plots and page anew from its results.json"
EXAMPLE = "dagn-pre bench report work_dirs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folders", nargs="+", metavar="DIR", help="work dirs of dagn-pre bench run, each with a results.json")


def run(args: argparse.Namespace) -> int:
    """Write the report of each folder and print where its files are; returns 0."""
    with needed("bench report", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.downstream import report
        from dagn_pre.benchmarks.downstream.report import page, plot  # noqa: F401  the parts that need the extra

    for folder in map(Path, args.folders):
        report.write(folder)
        print(*(folder / name for name in report.FILES), sep="\n")
    return 0
