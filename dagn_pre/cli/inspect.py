"""``dagn-pre inspect``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from dagn_pre.cli.extras import needed

HELP = "Show format, size, subsampling, the quality that header and pixels tell, and, drawn, the features behind it."
EXAMPLE = "dagn-pre inspect photo.jpg --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images or folders")
    parser.add_argument("--model", default="dagn-s", help="whose quality predictor estimates blind")
    parser.add_argument("--side-weights", type=Path, metavar="F", help="weights of your own for the files' side information")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per file")
    parser.add_argument("--features", action="store_true", help="also draw both encoders' features of each file and its JPEG")
    parser.add_argument("--qf", type=int, default=10, help="of that JPEG, 1..100 (default: 10)")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="for the drawings (default: here)")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import codec
    from dagn_pre.cli import batch
    from dagn_pre.errors import UsageError, printable
    from dagn_pre.images import Header, open_image, report_failure, search, told_with_examples
    from dagn_pre.restorer import Restorer
    from dagn_pre.side_information import adapter

    features = _drawing_room() if options.features else None
    restorer = features.load(options.model, options.device) if features else Restorer(options.model, options.device)
    known = restorer.adapters
    if options.side_weights:
        known = {(own := adapter.load(options.side_weights)).identity: own}
    codec.check_quality(options.qf)
    found = [search(given) if given.is_dir() else None for given in options.files]
    paths = [path for given, inside in zip(options.files, found) for path in (inside.paths if inside else [given])]
    if not paths:
        raise UsageError(f"no images in {', '.join(map(str, options.files))}")
    drawings = {path: options.output / f"{path.name}-features.png" for path in paths if features}  # a.jpg, a.png: one each
    for path, drawing in drawings.items():
        if (other := next(one for one in drawings if drawings[one] == drawing)) != path:
            raise UsageError(f"{other} and {path} would both be drawn to {drawing}: give them in two calls")

    def describe(path: Path) -> dict:
        opened = open_image(path)
        info = Header.of(opened, str(path))
        source = restorer.open(opened, str(path))
        distance = info.quality.distance if info.quality else None
        row = {
            "file": str(path),
            "format": info.format,
            "width": info.width,
            "height": info.height,
            "mode": info.mode,
            "subsampling": info.subsampling,
            "header_quality": info.quality.value if info.quality else None,
            "standard_tables": info.quality.standard if info.quality else None,
            "table_distance": round(distance, 3) if distance is not None else None,
            "blind_quality": restorer.estimate_quality(source, blind=True).value,
            "untouched": restorer.skipped(source),
            "restored": restorer.restored_before(source),
            "side_information": adapter.describe(opened, path, known),
        }
        if features:
            row["features"] = str(drawings[path])
            features.draw(restorer, source, options.qf, drawings[path])
        return row

    rows, failed = [], 0
    for path in paths:
        try:
            with batch.told_warnings(path):
                row = describe(path)
        except UsageError:
            raise
        except Exception as error:  # whatever a decoder runs into
            failed += 1
            row = {"file": str(path), "error": report_failure(path, error)}
        rows.append(row)
        if not options.json and "error" not in row:
            print(printable(_line(row)))
    for inside in found:
        if inside and inside.left_out:
            print(printable(told_with_examples("left out", inside.left_out)), file=sys.stderr)
    if options.json:
        print(json.dumps(rows, indent=1))
    return 1 if failed else 0


def _drawing_room():
    with needed("inspect --features", "matplotlib", "benchmarks"):
        from dagn_pre.benchmarks.restoration import features
    return features


def _line(row: dict) -> str:
    parts = [row["format"], f"{row['width']}x{row['height']}", row["mode"]]
    if row["subsampling"]:
        parts.append(row["subsampling"])
    if row["header_quality"] is not None:
        far = f"{row['table_distance']:.0%}"
        tables = "" if row["standard_tables"] else f" (nearest; tables are not IJG's, their steps differ by {far} on average)"
        parts.append(f"header QF {row['header_quality']}{tables}")
    parts.append(f"blind QF {row['blind_quality']}")
    if row["untouched"]:
        parts.append(f"left as it is: {row['untouched']}")
    if row["restored"]:
        parts.append("restored by dagn-pre")
    side = row["side_information"]
    if side:
        found = "side information of {bytes} bytes, version {version} (weights {weights}, lambda {lambda:g}, {columns}x{rows})"
        parts.append(side["error"] or found.format(**side))
    drawn = f"; features in {row['features']}" if "features" in row else ""
    return f"{row['file']}: {', '.join(parts)}{drawn}"
