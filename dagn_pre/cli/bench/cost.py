"""``dagn-pre bench cost``: what restorers cost, beside the paper's Table III."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagn_pre.cli.arguments import written_file
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL

HELP = "count a restorer's parameters and operations, and measure its time and memory"
EXAMPLE = "dagn-pre bench cost --model dagn-s arcnn --size 256 512"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--model", nargs="+", default=[MODEL], metavar="NAME", help="names, or checkpoint files")
    parser.add_argument("--size", type=int, nargs="+", default=[256, 512], help="sides of the square images, in pixels")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="timed calls of each model, in turns")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the table there, as cost.md")
    parser.add_argument("--json", type=written_file, metavar="F", help="write the rows there")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for; returns 0."""
    with needed("bench cost", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import cost
    from dagn_pre.files import write_atomic

    rows = cost.measure(args.model, args.size, args.device, args.dtype, args.runs)
    print(cost.markdown(rows))
    if args.output:
        write_atomic(args.output / "cost.md", (cost.markdown(rows) + "\n").encode())
    if args.json:
        write_atomic(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0
