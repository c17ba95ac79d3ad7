"""``dagn-pre export``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Turn a checkpoint into a weights file: batch norm folded, half precision, with its card."
EXAMPLE = "dagn-pre export work_dirs/dagn-s/dagn -o dagn-s.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="checkpoint, its folder, or a .safetensors file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--dtype", default="float16", choices=("float16", "bfloat16", "float32"))


def run(options: argparse.Namespace) -> int:
    from dagn_pre.training.export import export

    print(export(options.weights, options.output, options.dtype))
    return 0
