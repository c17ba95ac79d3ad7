"""``dagn-pre evaluate``: the paper's restoration tables, on your folders and models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagn_pre.cli.arguments import written_file
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL
from dagn_pre.errors import UsageError

HELP = "Score restoring: PSNR, SSIM and PSNR-B against originals, and the blind quality."
EXAMPLE = "dagn-pre evaluate --data LIVE1 BSDS500 --qf 10 20 30 40 --model dagn-s --output work_dirs/restoration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured (one or more)")
    what.add_argument(
        "--data", type=Path, nargs="+", metavar="DIR", help="of originals, also releases of LIVE1, BSDS500, LIU4K, DIV2K"
    )
    what.add_argument("--real-world", type=Path, metavar="DIR", help="pictures without originals: qualities and a crop sheet")
    parser.add_argument("--model", nargs="+", default=[MODEL], metavar="NAME", help="names, or checkpoint files")
    parser.add_argument("--qf", type=int, nargs="+", default=[10, 20, 30, 40], help="JPEG quality factors, 1..100")
    parser.add_argument("--blind-sweep", action="store_true", help="also the error of the blind QF over QF 5, 10, ..., 95")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write tables, pictures and per-image values there, resume")
    told = "write the rows there: a list, or one per kind of measurement"
    parser.add_argument("--json", type=written_file, metavar="F", help=told)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images of a folder")
    parser.add_argument("--crops", type=int, default=3, metavar="N", help="images on a crop sheet, worst to best; 0 for none")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or int8")
    parser.add_argument("--engine", default="torch", help="auto, torch, openvino, onnxruntime or tensorrt")
    parser.add_argument("--overwrite", action="store_true", help="throw away results of other settings in --output")


def run(options: argparse.Namespace) -> int:
    if not (options.data or options.real_world):
        raise UsageError("nothing to measure: give --data DIR or --real-world DIR")
    with needed("evaluate", "the benchmarks extra", "benchmarks"):
        from dagn_pre.benchmarks.restoration import evaluation, real_world, report
    from dagn_pre.files import write_atomic

    measured: dict[str, list[dict]] = {}
    failures: list[str] = []
    computing = {"device": options.device, "dtype": options.dtype, "engine": options.engine}
    if options.data:
        settings = {"limit": options.limit, "crops": options.crops, "blind_sweep": options.blind_sweep}
        settings |= {"overwrite": options.overwrite, **computing}
        content, failed = evaluation.evaluate(options.data, options.model, options.qf, options.output, **settings)
        measured["restoration"] = content["rows"]
        failures += failed
        print(report.markdown(content))
    if options.real_world:
        rows, failed = real_world.examine(options.real_world, options.model, options.output, limit=options.limit, **computing)
        measured["real_world"] = rows
        failures += failed
        print(real_world.markdown(rows))
    if options.json:
        kept: object = measured if len(measured) > 1 else next(iter(measured.values()))
        write_atomic(options.json, (json.dumps(kept, indent=1) + "\n").encode())
    if failures:
        print(f"{len(failures)} files could not be measured (named above)")
    return 1 if failures else 0
