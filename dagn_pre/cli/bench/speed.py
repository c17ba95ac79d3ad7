"""``dagn-pre bench speed``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.bench import tables
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL

DTYPES = "float32", "bfloat16", "int8"
HELP = "time restorers on inference engines beside host models' own steps"
EXAMPLE = "dagn-pre bench speed yolox_nano_coco_sample --model dagn-xs dagn-s --engine torch openvino"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="as of dagn-pre bench run; weights are random")
    parser.add_argument("--model", nargs="+", default=[MODEL], metavar="NAME", help="restorers: names, or weights files")
    parser.add_argument("--engine", nargs="+", default=["torch"], metavar="E", help="torch, openvino, onnxruntime or auto")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of restorers and hosts; int8 of restorers alone")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar=("H", "W"), help="of the picture in pixels")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="turns that medians are taken of")
    parser.add_argument("--output", type=Path, metavar="DIR", help="gets speed.json and speed.md")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for; returns 0."""
    with needed("bench speed", "OpenMMLab", "openmmlab,benchmarks"):
        from dagn_pre.benchmarks.downstream import speed

    found = speed.compare(args.configs, args.model, args.engine, args.dtype, tuple(args.size), args.rounds)
    return tables.show(found, speed.markdown(found), "speed", args.output)
