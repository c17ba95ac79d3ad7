"""``dagn-pre insert``: put the restoring into an mmdet or mmseg config."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.errors import DagnPreError, UsageError

HELP = "put the restoring into an mmdet or mmseg config and write a short config that inherits from it"
EXAMPLE = "dagn-pre insert mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py -o faster_rcnn_dagn.py --compress 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config", metavar="CONFIG", help="a config file, or one of the host's own as mmdet::... or mmseg::..."
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.py", help="the config to write")
    parser.add_argument(
        "--where", choices=("transform", "preprocessor", "auto"), default="transform",
        help="restore in the pipeline, or on the model's device in its preprocessor; auto: the latter where there is CUDA and "
        "the config allows it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--compress", type=int, metavar="QF", help="compress as JPEG at this quality first, 1..100")
    parser.add_argument("--no-restore", dest="restore", action="store_false", help="only compress")
    parser.add_argument(
        "--model", default="dagn-s", help="a model's name, or a checkpoint file (default: %(default)s)"
    )
    parser.add_argument("--device", help="of a transform: cpu, cuda, cuda:N or auto (default: cpu)")
    parser.add_argument(
        "--max-quality", type=int, metavar="QF", help="leave images of this quality or better (default: 90)"
    )
    parser.add_argument(
        "--assume-quality", dest="quality", type=int, metavar="QF", help="restore every image as one of this quality, 1..100"
    )
    parser.add_argument("--strength", type=float, help="scale of the correction (default: 1)")
    parser.add_argument(
        "--splits", nargs="+", default=["val", "test", "tta"], metavar="SPLIT",
        help="of train, val, test and tta (default: val test tta)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.py if it exists")


def run(args: argparse.Namespace) -> int:
    """Write the config and print each pipeline before and after; returns 0."""
    try:
        from dagn_pre.integrations.openmmlab.insert import insert_file
    except ImportError as error:
        raise DagnPreError(f'insert needs OpenMMLab ({error}): pip install "dagn-pre[openmmlab]"') from error

    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} exists already; choose another file, or replace it with --overwrite")
    options = {key: getattr(args, key) for key in ("device", "max_quality", "quality", "strength")}
    changes = insert_file(
        args.config,
        args.output,
        where=args.where,
        compress=args.compress,
        restore=args.restore,
        model=args.model,
        splits=args.splits,
        **{key: value for key, value in options.items() if value is not None},
    )
    same = {}
    for path, *change in changes:  # most configs name one pipeline in several places
        same.setdefault(tuple(change), []).append(path)
    for (before, after), paths in same.items():
        print("\n".join([*paths, f"  before: {before}", f"  after:  {after}"]))
    print(f"wrote {args.output}")
    return 0
