"""``dagn-pre adapt``: a restorer for the model that one has."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dagn_pre.cli.arguments import written_file
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL
from dagn_pre.errors import UsageError, quiet

if TYPE_CHECKING:
    from dagn_pre.training.adapt import Adapted, Scale

HELP = "train the restorer on for a model of yours, from images without labels; the model stays as it is"
EXAMPLE = "dagn-pre adapt my_config.py --checkpoint my.pth --images photos/ --minutes 20 -o mine.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="of a detector or segmenter: a config file, mmdet::... or mmseg::..., or the name of one of the benchmark's",
    )
    parser.add_argument("--checkpoint", metavar="F", help="its weights, a file or URL (default: the config's `checkpoint`)")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="original images of the model's domain")
    told = "the .safetensors file to write"
    parser.add_argument("-o", "--output", type=written_file, required=True, metavar="FILE", help=told)
    parser.add_argument(
        "--qf", type=int, nargs=2, default=[10, 90], metavar=("LOW", "HIGH"),
        help="the QFs to expect, low ones drawn more often (default: 10 90)",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=20.0, help="how long it learns (default: %(default)g)")
    parser.add_argument("--steps", type=int, metavar="N", help="N steps instead, for runs that shall be the same everywhere")
    parser.add_argument("--model", default=MODEL, help="restorer to start from, a name or weights (default: %(default)s)")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="whose outputs count (default: backbone, neck, heads)")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="the run's state and log (default: FILE with .adapt)")
    parser.add_argument("--resume", action="store_true", help="continue what is in the work dir")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE, and without --resume the work dir's run")
    parser.add_argument(
        "--amp", choices=("auto", "bf16", "none"), default="auto", help="bfloat16; auto: where the device has it (default)"
    )
    parser.add_argument(
        "--scale", type=float, metavar="S", help="resize what the model is shown (default: as CONFIG's test pipeline does)"
    )
    other = parser.add_argument_group("any other torch model")
    other.add_argument(
        "--module", metavar="PACKAGE:FUNCTION", help="what makes it: a torch module, or a dagn_pre.training.teachers.Teacher"
    )
    other.add_argument("--module-args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of the function")
    for name, default in (("mean", 0), ("std", 255)):
        other.add_argument(
            f"--{name}", type=float, nargs=3, metavar=("R", "G", "B"), help=f"of its input, on 0..255 (default: {default})"
        )
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override keys of the training")


def run(args: argparse.Namespace) -> int:
    """Train, write the weights and print how well they do; returns 0."""
    with needed("adapt", "mmengine", "train"):
        from dagn_pre.training.adapt import adapt
        from dagn_pre.training.configuration import parse_options

    if (args.config is None) == (args.module is None):
        raise UsageError("give either a CONFIG of mmdet or mmseg or --module, the model that the restorer is for")
    teacher, scale = (of_config if args.config else of_module)(args)
    if args.layers:
        teacher["layers"] = args.layers
    with quiet():
        found = adapt(
            teacher,
            args.images,
            args.output,
            model=args.model,
            qualities=tuple(args.qf),
            minutes=args.minutes,
            steps=args.steps,
            work_dir=args.work_dir,
            resume=args.resume,
            overwrite=args.overwrite,
            amp=args.amp,
            scale=scale,
            options=parse_options(args.cfg_options),
        )
    print("\n".join(table(found)))
    print(f"{found.steps} steps in {found.minutes:.1f} min, until {found.ended}; written: the weights of step {found.best}")
    if not found.best:
        print("nothing was won: the file holds the weights that were there before")
    print(f'{found.output}\nin a pipeline: dict(type="DAGNRestore", model="{found.output}")')
    return 0


def of_config(args: argparse.Namespace) -> tuple[dict, Scale]:
    """The teacher that CONFIG describes, and what tells the scale of its images."""
    for name in ("module_args", "mean", "std"):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --module; a CONFIG says it itself")
    with needed("adapt CONFIG", "OpenMMLab", "train,openmmlab"):
        from dagn_pre.benchmarks.downstream.hosts import configs
        from dagn_pre.integrations.openmmlab import teachers

    with quiet():
        cfg = configs.load(args.config)
    checkpoint = configs.checkpoint(cfg, args.checkpoint)
    teacher = {"kind": f"{teachers.__name__}:model", "config": cfg.filename, "checkpoint": str(checkpoint)}
    fixed = args.scale
    return teacher, lambda sizes: teachers.test_scale(cfg, sizes) if fixed is None else fixed


def of_module(args: argparse.Namespace) -> tuple[dict, None]:
    """The teacher that --module describes; its images keep their size unless --scale says otherwise."""
    from dagn_pre.training.configuration import parse_options

    if args.checkpoint:
        raise UsageError("--checkpoint goes with a CONFIG; a --module loads its weights itself (--module-args)")
    sys.path.insert(0, os.getcwd())  # a module beside the user, as `python -m` finds it
    teacher = {"kind": "module", "function": args.module, "arguments": parse_options(args.module_args)}
    teacher |= {name: getattr(args, name) for name in ("mean", "std", "scale") if getattr(args, name) is not None}
    return teacher, None


def table(found: Adapted) -> list[str]:
    """The held-out figures in percent, per QF: before and after; of the class scores where there are any, also the JPEG's."""
    columns = {
        "agreement before": lambda qf: 1 - found.before[f"distance_model_{qf}"],
        "after": lambda qf: 1 - found.after[f"distance_model_{qf}"],
    }
    if f"same_model_{found.qualities[0]}" in found.after:
        columns |= {
            "class scores JPEG": lambda qf: found.after[f"same_JPEG_model_{qf}"],
            "before ": lambda qf: found.before[f"same_model_{qf}"],
            "after ": lambda qf: found.after[f"same_model_{qf}"],
        }
    lines = ["held out  " + "  ".join(title.strip().rjust(8) for title in columns)]
    for qf in found.qualities:
        figures = (f"{value(qf):.1%}".rjust(max(8, len(title.strip()))) for title, value in columns.items())
        lines.append(f"QF {qf:<5}  " + "  ".join(figures))
    return lines
