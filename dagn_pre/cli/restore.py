"""``dagn-pre restore``."""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagn_pre.cli import batch, cluster, listing
from dagn_pre.cli.arguments import max_quality
from dagn_pre.cli.warned import told_warnings
from dagn_pre.defaults import LOSSLESS_MODES, MAX_QUALITY, MODEL, RESTORE_LOSSLESS
from dagn_pre.errors import ImageError, ImageWarning

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile as Image

    from dagn_pre.restorer import Outcome, Restorer
    from dagn_pre.sources import Source

HELP = "Remove JPEG artifacts from images."
EXAMPLE = "dagn-pre restore photos/ restored/ --max-quality 80"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser, "manifest")
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--for",
        dest="viewer",
        choices=("models", "eyes"),
        default="models",
        help=f"who looks at the result (default: models, which takes {MODEL}; eyes takes dagn-s-psnr)",
    )
    who.add_argument("--model", help="a name that `dagn-pre models` lists, or a checkpoint file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--max-quality",
        type=max_quality,
        default=MAX_QUALITY,
        metavar="QF",
        help="leave images of this QF or more untouched (default: %(default)s; none: restore all)",
    )
    parser.add_argument(
        "--restore-lossless",
        choices=LOSSLESS_MODES,
        default=RESTORE_LOSSLESS,
        help="of what is not known to be a JPEG, such as PNGs: blind (default) restores it where its pixels show that it was "
        "one, always as if it had been, never leaves it untouched",
    )
    parser.add_argument(
        "--assume-quality",
        type=int,
        metavar="QF",
        help="restore every image as one of this QF, 1..100, whatever its header says (compressed more than once, resized)",
    )
    parser.add_argument(
        "--assume-tables",
        action="store_true",
        help="for models that need a JPEG's tables: go by an estimate of the quality for images without any",
    )
    parser.add_argument(
        "--strict", action="store_true", help="with one model per QF, refuse images of a QF that none was trained for"
    )
    parser.add_argument("--again", action="store_true", help="restore also what says that dagn-pre has restored it")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--side-weights", type=Path, metavar="F", help="weights of your own for the files' side information")
    side.add_argument("--no-side-information", action="store_true", help="ignore the files' side information")
    parser.add_argument("--strength", type=float, default=1.0, help="0..1, scales the correction")
    parser.add_argument("--tile", type=int, help="side of the tiles; 0 never tiles; default: tiles large images")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 or int8")
    parser.add_argument("--engine", default="torch", help="what computes it: torch, openvino, onnxruntime, tensorrt, or auto")
    parser.add_argument(
        "--format",
        default="png",
        choices=("png", "webp", "tiff", "jpg", "same"),
        help="of outputs in a folder; same, on a cluster: the input's name and format, so that annotations find it",
    )
    cluster.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from dagn_pre import images, models
    from dagn_pre.options import DECISIVE

    options.model = options.model or models.FOR[options.viewer]
    options.side_information = str(options.side_weights) if options.side_weights else not options.no_side_information
    decisive = {name: getattr(options, name) for name in DECISIVE}
    settings = decisive | {"device": options.device, "engine": options.engine}
    if options.cluster is not None:
        return cluster.restore(options, settings)
    cluster.check_unused(options)
    name = listing.exchanged(f".{options.format}", options.full_names)
    planned = listing.plan(options.sources, options.target, name, images.WRITABLE_SUFFIXES)
    work = Restoring(settings)
    # Where and how it is computed moves roundings alone, and weights are known by their content.
    written = {"command": "restore", "format": options.format, **decisive, "model": models.fingerprint(options.model)}
    return batch.run(planned, work, options.overwrite, written, options.workers)


class Restoring(batch.Work):
    """Restores files; the options travel to processes, where the restorer is made.

    Args:
        settings: of a :class:`dagn_pre.Restorer`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        from dagn_pre.options import check_options

        self.options = check_options(**settings)
        self.parallel = self.options.resolved_device().type == "cpu"
        self.restorer: Restorer | None = None

    def prepare(self) -> None:
        from dagn_pre.restorer import Restorer

        self.restorer = Restorer(**asdict(self.options))

    def each(self, pairs: Sequence[listing.Pair]) -> Iterator[list[tuple[int, batch.Done | Exception]]]:
        """On a GPU images of one padded size together, as long as they are small."""
        from dagn_pre import images
        from dagn_pre.options import STRIDE

        assert self.restorer is not None  # once it is prepared
        waiting: defaultdict[tuple[int, int], dict[int, Image]] = defaultdict(dict)
        for index, (source, _) in enumerate(pairs):
            try:
                opened = images.open_image(source)
            except Exception as error:  # whatever a decoder runs into
                yield [(index, error)]
                continue
            opened.filename = str(source)  # errors name it
            size = -(-opened.height // STRIDE), -(-opened.width // STRIDE)
            group = waiting[size]
            group[index] = opened
            if (len(group) + 1) * size[0] * size[1] * STRIDE**2 > self.restorer.batch_pixels:
                yield self._together(pairs, waiting.pop(size))
        for group in waiting.values():
            yield self._together(pairs, group)

    def _together(self, pairs: Sequence[listing.Pair], group: dict[int, Image]) -> list[tuple[int, batch.Done | Exception]]:
        """Restore opened images of one padded size, and write them."""
        from dagn_pre.restored_files import attempt, restore_each

        assert self.restorer is not None  # once it is prepared
        ended: list[tuple[int, batch.Done | Exception]] = []
        opening = [partial(self._decoded, image, pairs[index][0]) for index, image in group.items()]
        for index, result in zip(group, restore_each(self.restorer, opening)):
            done = result if isinstance(result, Exception) else attempt(partial(self._write, *result, *pairs[index]))
            ended.append((index, done))
        return ended

    def _decoded(self, image: Image, name: Path) -> Source:
        assert self.restorer is not None  # once it is prepared
        with told_warnings(name):
            return self.restorer.open(image, str(name))

    def _write(self, source: Source, outcome: Outcome, name: Path, target: Path) -> batch.Done:
        from dagn_pre import images
        from dagn_pre.restored_files import rebuilt
        from dagn_pre.side_information import adapter

        assert source.opened is not None  # as of every file
        with told_warnings(name):
            for note in outcome.notes:
                warnings.warn(note, ImageWarning, stacklevel=1)
            picture, metadata, mark = rebuilt(source, outcome, target)
            lost = images.save(picture, target, metadata, mark)
        value, told = (outcome.quality.value, outcome.quality.source) if outcome.quality else (None, None)
        done = partial(batch.Done, lost=lost, quality=value, quality_source=told)
        if source.marked and not outcome.restored:
            words = "restored before; --again to restore again"
            return done(f"written as they are ({words})", state="untouched", reason="restored before")
        if not outcome.restored:
            return done("written as they are", untouched=outcome.reason, state="untouched")
        if outcome.side is not None:
            return done("written with side information")
        left = self.options.side_information is not False and adapter.carries(source.opened)
        return done("written without the side information it has" if left else "written")

    def found(self, target: Path) -> batch.Done:
        from dagn_pre.sources import Source

        try:
            marked = Source.of(target).marked
        except ImageError:  # somebody else's file
            marked = False
        return batch.Done(state="restored" if marked else "untouched", reason="its output was there already")
