"""``dagn-pre inspect``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = "Show format, size, subsampling, and the quality that header and pixels tell."
EXAMPLE = "dagn-pre inspect photo.jpg --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images or folders")
    parser.add_argument("--model", default="dagn-s", help="whose quality predictor estimates blind")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per file")


def run(options: argparse.Namespace) -> int:
    from dagn_pre.errors import DagnPreError, UsageError
    from dagn_pre.images import find_images, header
    from dagn_pre.restorer import Restorer

    restorer = Restorer(options.model, options.device)
    paths = [path for given in options.files for path in (find_images(given) if given.is_dir() else [given])]
    if not paths:
        raise UsageError(f"no images in {', '.join(map(str, options.files))}")
    rows, failed = [], 0
    for path in paths:
        try:
            info = header(path)
            row = {
                "file": str(path),
                "format": info.format,
                "width": info.width,
                "height": info.height,
                "mode": info.mode,
                "subsampling": info.subsampling,
                "header_quality": info.quality.value if info.quality else None,
                "standard_tables": info.quality.standard if info.quality else None,
                "blind_quality": restorer.quality(path, blind=True).value,
            }
        except DagnPreError as error:
            failed += 1
            row = {"file": str(path), "error": str(error)}
            print(f"failed: {error}", file=sys.stderr)
        rows.append(row)
        if not options.json and "error" not in row:
            print(_line(row))
    if options.json:
        print(json.dumps(rows, indent=1))
    return 1 if failed else 0


def _line(row: dict) -> str:
    parts = [row["format"], f"{row['width']}x{row['height']}", row["mode"]]
    if row["subsampling"]:
        parts.append(row["subsampling"])
    if row["header_quality"] is not None:
        tables = "" if row["standard_tables"] else " (nearest; tables are not IJG's)"
        parts.append(f"header QF {row['header_quality']}{tables}")
    parts.append(f"blind QF {row['blind_quality']}")
    return f"{row['file']}: {', '.join(parts)}"
