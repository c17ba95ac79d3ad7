"""``dagn-pre bench rate-distortion``: what side information is worth and what it costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "measure what side information is worth: rate-distortion curves, Bjontegaard's numbers, milliseconds"
EXAMPLE = "dagn-pre bench rate-distortion LIVE1 --qf 5 10 20 30 40 50 --output work_dirs/side"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K")
    parser.add_argument("--model", default="dagn-s-psnr", metavar="NAME", help="the restorer without side information")
    parser.add_argument(
        "--weights",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="a restorer and side information's weights for it, several times for several (default: all that are shipped)",
    )
    parser.add_argument("--qf", type=int, nargs="+", default=[5, 10, 20, 30, 40], help="JPEG quality factors, 1..100")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--times", action="store_true", help="also milliseconds of sender and receiver")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the table, the plot and the rows")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print the tables; returns 0."""
    with needed("bench rate-distortion", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import rate_distortion

    options = {"limit": args.limit, "dtype": args.dtype, "timed": args.times}
    print(rate_distortion.evaluate(args.folder, args.output, args.model, args.weights, args.qf, **options))
    return 0
