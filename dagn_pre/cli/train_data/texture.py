"""``dagn-pre train-data texture``: the teacher of stage semantic that lives on fine texture."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "train the texture teacher on photographs: a small network that tells which one a crop is of"
EXAMPLE = "dagn-pre train-data texture photos/ -o texture.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", nargs="+", type=Path, metavar="DIR", help="folders of photographs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument(
        "--steps", type=int, default=1600, help="of 64 crops each (default: %(default)s, six minutes of a core)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the crops and the first weights (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train, write the weights and say how many held-out crops are told; returns 0."""
    with needed("train-data texture", "mmengine", "train"):
        from dagn_pre.training import texture
        from dagn_pre.training.data import load_photographs

    photographs, skipped = load_photographs(args.data, texture.SMALLEST)
    network, told = texture.train(photographs, args.steps, args.seed, progress=True)
    texture.save(network, args.output)
    print(f"{len(photographs)} photographs, {len(skipped)} left out; of held-out crops {told:.0%} are told")
    return 0
