"""``dagn-pre train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "Train a model, one stage or all three, from folders of photographs."
EXAMPLE = "dagn-pre train dagn-s/joint --data photos --validation held_out --work-dir work_dirs/dagn-s --amp bf16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a config file or a shipped one: dagn-s/ or dagn/ with insensitive, sensitive, dagn, joint (the three "
        "in a row); dagn-s/ablation",
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="checkpoints and logs (default: work_dirs/CONFIG)")
    parser.add_argument("--resume", action="store_true", help="continue what is in the work dir; finished stages are skipped")
    parser.add_argument("--amp", choices=("bf16",), help="autocast to bfloat16")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none", help="who started the processes")
    parser.add_argument("--data", nargs="+", metavar="DIR", help="folders of photographs to learn from")
    parser.add_argument("--validation", metavar="DIR", help="photographs to watch progress on")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override keys of the config")


def run(options: argparse.Namespace) -> int:
    with needed("train", "mmengine", "train"):
        from dagn_pre.training.configuration import parse_options
        from dagn_pre.training.run import train

    given = {"amp": options.amp, "data": options.data, "validation": options.validation}
    overrides = {key: value for key, value in given.items() if value} | parse_options(options.cfg_options)
    work_dir = options.work_dir or Path("work_dirs") / Path(options.config).with_suffix("")
    print(train(options.config, work_dir, overrides, options.resume, options.launcher))
    return 0
