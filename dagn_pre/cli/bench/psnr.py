"""What the commands share that score restorers by the PSNR of folders of originals, in one table."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from dagn_pre.cli.arguments import written_file
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL


def add_arguments(parser: argparse.ArgumentParser, qualities: list[int], about: str) -> None:
    """Declare the arguments; ``qualities`` are the default ones, ``about`` says what of."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K")
    parser.add_argument("--model", nargs="+", default=[MODEL], metavar="NAME", help="names, or checkpoint files")
    parser.add_argument("--qf", type=int, nargs="+", default=qualities, help=about)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--json", type=written_file, metavar="F", help="write the rows there")


def run(args: argparse.Namespace, name: str) -> int:
    """Measure with ``benchmarks/restoration/<name>.py``, print the table, write the rows where asked; returns 0."""
    with needed(f"bench {name}", "the benchmarks extra", "benchmarks"):
        benchmark = importlib.import_module(f"dagn_pre.benchmarks.restoration.{name}")
    from dagn_pre.files import write_atomic

    rows = benchmark.measure(args.folder, args.model, args.qf, args.device, args.dtype, args.limit)
    print(benchmark.markdown(rows))
    if args.json:
        write_atomic(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0
