"""``dagn-pre bench train``: train the host models that the benchmark measures."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "train the host models of benchmarks/configs, such as the demo's, and write slim checkpoints"
EXAMPLE = "dagn-pre bench train demo_faster_rcnn demo_pspnet --work-dir work_dirs/train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="names of configs in benchmarks/configs, in this order")
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="gets checkpoints, and logs by config")
    parser.add_argument("--resume", action="store_true", help="go on where a training in DIR was cut off")
    parser.add_argument("--data-root", type=Path, metavar="D", help="instead of the config's")


def run(args: argparse.Namespace) -> int:
    """Train one after the other and print each checkpoint's path; returns 0."""
    with needed("bench train", "OpenMMLab", "openmmlab,benchmarks"):
        from dagn_pre.benchmarks.downstream.hosts.train import train

    for source in args.configs:
        print(train(source, args.work_dir, args.data_root, args.resume))
    return 0
