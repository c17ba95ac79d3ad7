"""``dagn-pre bench features``: how far JPEG moves the features of DAGN's two encoders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagn_pre.cli.arguments import written_file
from dagn_pre.cli.extras import needed

HELP = "measure how far JPEG moves the features of DAGN's two encoders (dagn-pre inspect --features draws them)"
EXAMPLE = "dagn-pre bench features LIVE1 --qf 10 20 30 40 --json distances.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K")
    parser.add_argument("--model", default="dagn-s", metavar="NAME", help="a name, or a .safetensors file")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 20, 30, 40], help="JPEG quality factors, 1..100")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=written_file, metavar="F", help="write the rows there")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the rows where asked; returns 0."""
    with needed("bench features", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import features
    from dagn_pre.files import write_atomic

    rows = features.feature_distances(args.model, args.folder, args.qf, args.device)
    if args.json:
        write_atomic(args.json, json.dumps(rows, indent=1).encode())
    print(features.markdown(rows))
    return 0
