"""``dagn-pre restore --cluster``: a data set in folders, buckets, shards or Parquet files, by Ray."""

from __future__ import annotations

import argparse
from typing import Any

from dagn_pre.cli.extras import needed
from dagn_pre.errors import UsageError, printable

OPTIONS = ("layout", "column", "gpus_per_worker", "block", "item_timeout")  # that do nothing without a cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that can go to a cluster."""
    group = parser.add_argument_group("on a cluster of Ray", "SRC and DST are then folders that all machines see, or URLs")
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="local (this machine alone), auto (the cluster that this machine belongs to), HOST:PORT or ray://HOST:PORT",
    )
    group.add_argument(
        "--layout",
        choices=("tree", "shards", "parquet"),
        help="of SRC: files in folders, WebDataset's tar shards, Parquet files (default: by the suffix of one file, else tree)",
    )
    group.add_argument("--column", metavar="NAME", help="of the images in Parquet files (default: image)")
    group.add_argument("--gpus-per-worker", type=float, metavar="G", help="such as 0.5 (default: 1 where the cluster has some)")
    group.add_argument("--block", type=int, metavar="N", help="images that a worker takes at a time (default: 64)")
    group.add_argument("--item-timeout", type=float, metavar="S", help="seconds after which one image counts as failed")


def check_unused(options: argparse.Namespace) -> None:
    """Raises UsageError for options that do nothing without ``--cluster``."""
    for name in OPTIONS:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for clusters: give --cluster as well")
    if options.format == "same":
        raise UsageError("--format same is for clusters: give --cluster as well")


def restore(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    """Run it, and say what was done; ``settings`` are the restorer's.

    Returns:
        1 if any image failed, else 0.
    """
    if len(options.sources) > 1:
        raise UsageError(f"--cluster takes one SRC, not {len(options.sources)}: run it for each, or give the folder above them")
    with needed("restore --cluster", "Ray", "ray"):
        import ray  # noqa: F401

        from dagn_pre.integrations.ray import restore_dataset
    done = restore_dataset(
        options.sources[0],
        options.target,
        options.cluster,
        layout=options.layout,
        format=options.format,
        full_names=options.full_names,
        column=options.column,
        workers=options.workers,
        gpus=options.gpus_per_worker,
        overwrite=options.overwrite,
        item_timeout=options.item_timeout,
        **({} if options.block is None else {"block": options.block}),
        **settings,
    )
    counts = [f"{count} {state}" for state, count in sorted(done.states.items())]
    counts += [f"{done.copied} other files copied"] * bool(done.copied)
    counts += [f"{done.skipped} done before (--overwrite to redo all)"] * bool(done.skipped)
    print(", ".join(counts))
    for reason, count in done.untouched.most_common():
        print(printable(f"left as they are: {reason} ({count})"))
    if done.copied and options.format != "same":
        print("annotations among the other files that name images need --format same, which keeps the images' names")
    return 1 if done.states["failed"] else 0
