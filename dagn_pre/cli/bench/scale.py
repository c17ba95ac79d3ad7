"""``dagn-pre bench scale``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dagn_pre.cli.bench import tables
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL

HELP = "measure how dagn-pre restore grows with processes and images: images per second, memory, Ray's overhead"
EXAMPLE = "dagn-pre bench scale photos/ --model dagn-xs --workers 2 --memory 10000 100000 --ray 1 16 64 --output scale"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of the images for throughput, some hundreds of one size")
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="a name, or a weights file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], metavar="N", help="numbers of processes (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that medians are taken of (default: 3)")
    parser.add_argument("--memory", type=int, nargs="+", default=[], metavar="N", help="also memory with so many tiny images")
    parser.add_argument("--ray", type=int, nargs="+", default=[], metavar="N", help="also Ray's cost, in blocks of N images")
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets scale.json and scale.md")


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, write what was asked for; returns 0."""
    with needed("bench scale", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import scale

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    found = scale.measure(args.folder, args.model, args.device, args.workers, args.rounds, args.memory, args.ray, log)
    return tables.show(found, scale.markdown(found), "scale", args.output)
