"""``dagn-pre insert``: put the restoring into an mmdet or mmseg config."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.arguments import max_quality, written_file
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MAX_QUALITY, MODEL
from dagn_pre.errors import UsageError

HELP = "put the restoring into an mmdet or mmseg config and write a short config that inherits from it"
EXAMPLE = "dagn-pre insert mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py -o faster_rcnn_dagn.py --compress 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", metavar="CONFIG", help="a config file, or one of the host's own as mmdet::... or mmseg::...")
    parser.add_argument("-o", "--output", required=True, type=written_file, metavar="OUT.py", help="the config to write")
    parser.add_argument(
        "--where", choices=("transform", "preprocessor", "auto"), default="transform",
        help="restore in the pipeline, or on the model's device in its preprocessor; auto: the latter where there is CUDA and "
        "the config allows it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--compress", type=int, metavar="QF", help="compress as JPEG at this quality first, 1..100")
    parser.add_argument("--no-restore", dest="restore", action="store_false", help="only compress")
    parser.add_argument(
        "--advice", type=Path, metavar="WORKDIR",
        help="restore as dagn-pre bench advises in that folder: model, max_quality and strength, unless given here",
    )  # fmt: skip
    parser.add_argument(
        "--advice-for", metavar="NAME", help="the model in WORKDIR that is meant (default: whose config has the same file name)"
    )
    parser.add_argument("--model", help=f"a model's name, or a checkpoint file (default: {MODEL})")
    parser.add_argument("--device", help="of a transform: cpu, cuda, cuda:N or auto (default: cpu)")
    parser.add_argument(
        "--max-quality",
        type=max_quality,
        metavar="QF",
        default=argparse.SUPPRESS,
        help=f"leave images of this quality or better (default: {MAX_QUALITY}; none: restore all)",
    )
    parser.add_argument("--assume-quality", type=int, metavar="QF", help="restore every image as one of this quality, 1..100")
    parser.add_argument("--strength", type=float, help="scale of the correction (default: 1)")
    parser.add_argument(
        "--splits", nargs="+", default=["val", "test", "tta"], metavar="SPLIT",
        help="of train, val, test and tta (default: val test tta)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.py if it exists")


def run(args: argparse.Namespace) -> int:
    """Write the config and print each pipeline before and after; returns 0."""
    with needed("insert", "OpenMMLab", "openmmlab"):
        from dagn_pre.integrations.openmmlab.insert import insert_file

    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists already; choose another file, or replace it with --overwrite")
    given = {key: getattr(args, key) for key in ("model", "device", "assume_quality", "strength")}
    given = {key: value for key, value in given.items() if value is not None}
    if hasattr(args, "max_quality"):  # None is a value of it
        given["max_quality"] = args.max_quality
    changes = insert_file(
        args.config,
        args.output,
        where=args.where,
        compress=args.compress,
        restore=args.restore,
        splits=args.splits,
        **{**advised(args), **given},
    )
    same: dict[tuple, list[str]] = {}
    for path, *change in changes:  # most configs name one pipeline in several places
        same.setdefault(tuple(change), []).append(path)
    for (before, after), paths in same.items():
        print("\n".join([*paths, f"  before: {before}", f"  after:  {after}"]))
    print(f"wrote {args.output}")
    return 0


def advised(args: argparse.Namespace) -> dict:
    """What --advice says, as options of the insertion; {} without it."""
    if args.advice is None:
        if args.advice_for is not None:
            raise UsageError("--advice-for chooses among the models of --advice: give that, too")
        return {}
    if not args.restore:
        raise UsageError("--advice is about restoring, and --no-restore inserts none: give one of them")
    if args.assume_quality is not None:
        raise UsageError("--assume-quality restores every image, and --advice says which: give one of them")
    with needed("--advice", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.downstream import advice

    return advice.arguments(args.advice, args.config, args.advice_for, args.model)
