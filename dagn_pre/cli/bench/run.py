"""``dagn-pre bench run``: what JPEG costs a host's model, and what restoring in front of it wins back."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli.arguments import max_quality
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MAX_QUALITY, MODEL
from dagn_pre.errors import DagnPreError, UsageError

HELP = "score a host's model on original, compressed and restored images"
EXAMPLE = "dagn-pre bench run pspnet_r50_d8_voc --data-root VOCdevkit/VOC2012 --qf 10 40 --work-dir work_dirs/voc"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="a config file, the name of one in benchmarks/configs, mmdet::... or mmseg::..., or demo: our own data "
        "and models for both tasks",
    )
    parser.add_argument(
        "--host-config",
        action="append",
        default=[],
        metavar="CONFIG",
        help="the same as CONFIG: any config of mmdet or mmseg, such as mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    )
    parser.add_argument("--checkpoint", metavar="F", help="weights, a file or URL (default: the config's `checkpoint`)")
    parser.add_argument("--data-root", metavar="D", help="where the data lie (default: the config's data root)")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 20, 30, 40, 75, 90], help="JPEG quality factors, 1..100")
    parser.add_argument(
        "--inputs",
        nargs="+",
        default=["original", "jpeg", MODEL],
        metavar="INPUT",
        help="original, jpeg, and restorers by name or checkpoint file, with +side behind it where the JPEGs shall carry side "
        "information, such as dagn-s-psnr+side, and with a strength such as dagn-s@0.5 (default: original jpeg "
        f"{MODEL})",
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--subset", type=int, metavar="N", help="only N images, chosen so that all kinds of them are there")
    images.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of --subset (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="for the intervals (default: %(default)s)")
    caches = parser.add_mutually_exclusive_group()
    caches.add_argument("--cache-dir", metavar="D", help="keeps compressed and restored images (default: cache in --work-dir)")
    caches.add_argument("--no-cache", action="store_true", help="keep none, for timing")
    parser.add_argument("--work-dir", metavar="DIR", help="for results and logs (default: work_dirs/bench-CONFIG)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="for model and restorer")
    parser.add_argument("--dtype", default="auto", help="of the restorer: auto, float32, bfloat16, float16 or int8")
    parser.add_argument("--engine", default="torch", help="of the restorer: auto, torch, openvino, onnxruntime or tensorrt")
    parser.add_argument(
        "--max-quality",
        type=max_quality,
        default=MAX_QUALITY,
        metavar="QF",
        help="restore below this QF; none: at every QF (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that restore ahead, on the CPU (default: %(default)s)"
    )
    launchers = ("none", "pytorch", "slurm")
    parser.add_argument("--launcher", choices=launchers, default="none", help="who started the processes that share a cell")
    parser.add_argument("--overwrite", action="store_true", help="throw away the results in DIR and start anew")


def run(args: argparse.Namespace) -> int:
    """Measure what is missing, print the table, where the files are, and the advice; returns 0."""
    with needed("bench run", "OpenMMLab", "openmmlab,benchmarks"):
        from dagn_pre.benchmarks.downstream import report
        from dagn_pre.benchmarks.downstream import run as benchmark
        from dagn_pre.benchmarks.downstream.hosts import processes

    configs = [*args.configs, *args.host_config]
    if not configs:
        raise UsageError("give a CONFIG or --host-config: a config file, mmdet::... or mmseg::..., or demo")
    work_dir = Path(args.work_dir or f"work_dirs/bench-{Path(configs[0]).stem}")
    try:
        benchmark.run(
            configs,
            work_dir,
            checkpoint=args.checkpoint,
            data_root=args.data_root,
            qualities=args.qf,
            inputs=args.inputs,
            limit=args.limit,
            subset=args.subset,
            seed=args.seed,
            resamples=args.resamples,
            cache_dir=None if args.no_cache else Path(args.cache_dir).absolute() if args.cache_dir else "cache",
            device=args.device,
            dtype=args.dtype,
            engine=args.engine,
            max_quality=args.max_quality,
            workers=args.workers,
            overwrite=args.overwrite,
            launcher=args.launcher,
        )
    except (DagnPreError, OSError):
        if processes.tells():
            raise
        return 1  # another process of the launcher has said why
    if processes.is_main_process():
        print((work_dir / "results.md").read_text(encoding="utf-8"))
        print(*(work_dir / name for name in ("results.json", *report.FILES)), sep="\n")
        print("", *report.advice(work_dir), sep="\n")
    processes.leave()
    return 0
