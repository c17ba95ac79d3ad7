"""``dagn-pre bench profile``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.bench import tables
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL

HELP = "split the time of DAGNRestore.transform on image files into its steps: what is outside the network"
EXAMPLE = "dagn-pre bench profile photo.jpg --model dagn-xs --dtype bfloat16 --output work_dirs/profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="images, each a column of the table")
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="a name, or a weights file")
    parser.add_argument("--engine", default="torch", metavar="E", help="torch, openvino, onnxruntime or auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="that medians are taken of (default: 15)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets profile.json and profile.md")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for; returns 0."""
    with needed("bench profile", "OpenMMLab", "openmmlab,benchmarks"):
        from dagn_pre.benchmarks.downstream import profiling

    found = profiling.profile(args.files, args.model, args.engine, args.dtype, args.runs)
    return tables.show(found, profiling.markdown(found), "profile", args.output)
