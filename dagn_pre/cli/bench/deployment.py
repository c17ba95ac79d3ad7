"""``dagn-pre bench deployment``: where to restore, in milliseconds and memory."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL
from dagn_pre.errors import DagnPreError

HELP = "time restoring in the pipeline (with and without workers and cache) and in the model's preprocessor"
EXAMPLE = "dagn-pre bench deployment demo --output work_dirs/times"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", metavar="CONFIG", help="as of dagn-pre bench run; demo takes its detector")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets deployment.json and deployment.md")
    parser.add_argument("--data-root", type=Path, metavar="D", help="where the data lie (default: the config's data root)")
    parser.add_argument("--checkpoint", metavar="F", help="weights, a file or URL (default: the config's `checkpoint`)")
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="the restorer (default: %(default)s)")
    parser.add_argument("--qf", type=int, default=10, help="JPEG quality factor, 1..100 (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="medians are taken of (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="for model and restorer")
    parser.add_argument("--dtype", default="auto", help="of the restorer: auto, float32, bfloat16, float16 or int8")
    parser.add_argument("--engine", default="torch", help="of the restorer: auto, torch, openvino, onnxruntime or tensorrt")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print the table; returns 0."""
    from concurrent.futures.process import BrokenProcessPool

    with needed("bench deployment", "OpenMMLab", "openmmlab,benchmarks"):
        from dagn_pre.benchmarks.downstream import deployment

    try:
        deployment.compare(
            args.config,
            args.output,
            args.data_root,
            args.checkpoint,
            args.model,
            args.qf,
            args.limit,
            args.device,
            args.dtype,
            args.engine,
            args.rounds,
        )
    except BrokenProcessPool as error:
        raise DagnPreError("an arrangement's process was killed, perhaps for its memory: free some") from error
    print((args.output / "deployment.md").read_text(encoding="utf-8"))
    return 0
