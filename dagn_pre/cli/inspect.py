"""``dagn-pre inspect``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import textwrap
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

from dagn_pre.cli import batch, listing
from dagn_pre.cli.extras import needed
from dagn_pre.defaults import MODEL
from dagn_pre.errors import ImageWarning

HELP = "Show format, size, subsampling, the quality that header and pixels tell, and, drawn, the features behind it."
EXAMPLE = "dagn-pre inspect photo.jpg --json"
BOTH = "dagn-s"  # the shipped model of which both encoders can be drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="images or folders")
    parser.add_argument(
        "--model",
        help=f"whose quality predictor estimates blind (default: {MODEL}; {BOTH}, which has both encoders, with --features)",
    )
    parser.add_argument("--side-weights", type=Path, metavar="F", help="weights of your own for the files' side information")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per file")
    batch.add_workers(parser)
    parser.add_argument("--features", action="store_true", help="also draw both encoders' features of each file and its JPEG")
    parser.add_argument("--qf", type=int, default=10, help="of that JPEG, 1..100 (default: 10)")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="for the drawings (default: here)")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import codec
    from dagn_pre.errors import UsageError, printable
    from dagn_pre.folders import told_with_examples

    if options.features and (options.workers or 1) > 1:
        raise UsageError("--features are drawn by one process: give it without --workers")
    codec.check_quality(options.qf)
    model = options.model or (BOTH if options.features else MODEL)
    work = Inspecting(model, options.device, options.side_weights, options.features, options.qf, options.output)
    if options.features:
        work.prepare()  # says at once what is not installed
    given, left_out = listing.listed(options.files)
    if not len(given):
        raise UsageError(f"no images in {', '.join(map(str, options.files))}")
    if options.features:
        _check_drawings(given, work)
    count = 1 if options.features else batch.processes(options.workers, len(given), work)
    failed, printed = False, 0
    with contextlib.closing(_in_order(given, work, count)) as results:
        for source, result in results:
            failed |= result.done is None
            row = {"file": str(source), "error": result.failed} if result.done is None else result.done
            if options.json:  # one by one, since they may be many
                print(",\n" if printed else "[\n", textwrap.indent(json.dumps(row, indent=1), " "), sep="", end="")
            elif result.done is not None:
                print(printable(_line(row)))
            printed += 1
    if options.json:
        print("\n]")
    if left_out:
        print(printable(told_with_examples("left out", left_out)), file=sys.stderr)
    return 1 if failed else 0


def _in_order(given: listing.Listing, work: Inspecting, count: int) -> Generator[tuple[Path, batch.Result], None, None]:
    """Each file with its result, in the order of the list; what is done before its turn waits."""
    turns: deque[Path] = deque()
    waiting: dict[Path, batch.Result] = {}

    def tasks() -> Iterator[batch.Task]:
        for source, _ in given:
            turns.append(source)
            yield batch.Task(source, source)

    with contextlib.closing(batch.results(tasks(), work, False, count)) as results:
        for task, result in results:
            waiting[task.source] = result
            while turns and turns[0] in waiting:
                source = turns.popleft()
                yield source, waiting.pop(source)


class Inspecting(batch.Work):
    """Describes files; its results are the rows."""

    def __init__(self, model: str, device: str, side_weights: Path | None, features: bool, qf: int, output: Path) -> None:
        from dagn_pre.options import check_options

        self.model, self.device, self.side_weights, self.features = model, device, side_weights, features
        self.qf, self.output = qf, output
        self.parallel = check_options(model=model, device=device).resolved_device().type == "cpu"

    def prepare(self) -> None:
        from dagn_pre.restorer import Restorer
        from dagn_pre.side_information import adapter

        self.room = _drawing_room() if self.features else None
        self.restorer = self.room.load(self.model, self.device) if self.room else Restorer(self.model, self.device)
        self.known = self.restorer.adapters
        if self.side_weights:
            own = adapter.load(self.side_weights)
            self.known = {own.identity: own}

    def drawing(self, path: Path) -> Path:
        """Where its features are drawn: a.jpg and a.png have one each."""
        return self.output / f"{path.name}-features.png"

    def __call__(self, path: Path, _: Path) -> dict:
        from dagn_pre.images import Header, open_image
        from dagn_pre.side_information import adapter

        opened = open_image(path)
        info = Header.of(opened, str(path))
        source = self.restorer.open(opened, str(path))
        for note in source.notes:
            warnings.warn(note, ImageWarning, stacklevel=1)
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
            "blind_quality": self.restorer.estimate_quality(source, blind=True).value,
            "untouched": self.restorer.skipped(source),
            "restored": self.restorer.restored_before(source),
            "side_information": adapter.describe(opened, path, self.known),
        }
        if self.room:
            row["features"] = str(self.drawing(path))
            self.room.draw(self.restorer, source, self.qf, self.drawing(path))
        return row


def _check_drawings(given: listing.Listing, work: Inspecting) -> None:
    """See that no two files are drawn to one place; raises UsageError."""
    from dagn_pre.errors import UsageError

    owners: dict[Path, Path] = {}
    for path, _ in given:
        if (other := owners.setdefault(work.drawing(path), path)) != path:
            raise UsageError(f"{other} and {path} would both be drawn to {work.drawing(path)}: give them in two calls")


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
