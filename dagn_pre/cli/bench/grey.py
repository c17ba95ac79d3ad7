"""``dagn-pre bench grey``: PSNR on Y alone, as most papers before colour measure it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "score restoring grey images: PSNR on Y (ITU-R BT.601, 16..235) alone"
EXAMPLE = "dagn-pre bench grey LIVE1 --model dncnn3.npz --json dncnn3.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K")
    parser.add_argument("--model", nargs="+", default=["dagn-s"], metavar="NAME", help="names, or checkpoint files")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 20, 30, 40], help="JPEG quality factors, 1..100")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--json", type=Path, metavar="F", help="write the rows there")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows where asked; returns 0."""
    with needed("bench grey", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import grey
    from dagn_pre.files import write_atomic

    rows = grey.measure(args.folder, args.model, args.qf, args.device, args.dtype, args.limit)
    print(grey.markdown(rows))
    if args.json:
        write_atomic(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0
