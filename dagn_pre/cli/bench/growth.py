"""``dagn-pre bench growth``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL

HELP = "measure how a restorer's time and memory grow with pixels, batch and threads, beside the CPU's largest speed"
EXAMPLE = "dagn-pre bench growth --model dagn-s --megapixels 0.1 1 12 --threads 1 2 --output work_dirs/growth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="a name, or a weights file")
    parser.add_argument(
        "--megapixels",
        type=float,
        nargs="+",
        metavar="X",
        default=[0.1, 0.3072, 1, 3, 6, 12, 24, 50],
        help="sizes of images of 4:3; 12 are 4000x3000 (default: eight from 0.1 to 50)",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="images of the smallest size")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="numbers of threads (default: 1 2)")
    parser.add_argument("--engine", default="torch", metavar="E", help="torch, openvino, onnxruntime or auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of restorer and matrix product")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that medians are taken of (default: 3)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets results.json, growth.md and growth.png")
    parser.add_argument("--overwrite", action="store_true", help="throw away what DIR has of other settings")


def run(args: argparse.Namespace) -> int:
    """Measure what DIR lacks, write, print the table; returns 0."""
    with needed("bench growth", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import growth

    options = {"engine": args.engine, "dtype": args.dtype, "rounds": args.rounds, "overwrite": args.overwrite}
    print(growth.evaluate(args.output, args.model, args.megapixels, args.batch, args.threads, **options))
    return 0
