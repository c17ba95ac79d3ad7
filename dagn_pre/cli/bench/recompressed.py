"""``dagn-pre bench recompressed``: restoring what was compressed twice, shifted, resized."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "score restoring pictures that were compressed twice, with two grids, other subsamplings, or resized after it"
EXAMPLE = "dagn-pre bench recompressed LIVE1 --model dagn-s dagn-s-psnr --json rows.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K")
    parser.add_argument("--model", nargs="+", default=["dagn-s"], metavar="NAME", help="names, or checkpoint files")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 30, 50], help="of both compressions, 1..100")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--json", type=Path, metavar="F", help="write the rows there")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows where asked; returns 0."""
    with needed("bench recompressed", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import recompressed
    from dagn_pre.files import write_atomic

    rows = recompressed.measure(args.folder, args.model, args.qf, args.device, args.dtype, args.limit)
    print(recompressed.markdown(rows))
    if args.json:
        write_atomic(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0
