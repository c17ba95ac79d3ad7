"""``dagn-pre restore``."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from dagn_pre.cli import batch, cluster
from dagn_pre.cli.arguments import max_quality
from dagn_pre.defaults import LOSSLESS_MODES, MAX_QUALITY, RESTORE_LOSSLESS

HELP = "Remove JPEG artifacts from images."
EXAMPLE = "dagn-pre restore photos/ restored/ --max-quality 80"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--for",
        dest="viewer",
        choices=("models", "eyes"),
        default="models",
        help="who looks at the result (default: models, which takes dagn-s; eyes takes dagn-s-psnr)",
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
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--engine", default="torch", help="what computes it: torch, openvino, onnxruntime, or auto")
    parser.add_argument(
        "--format",
        default="png",
        choices=("png", "webp", "tiff", "jpg", "same"),
        help="of outputs in a folder; same, on a cluster: the input's name and format, so that annotations find it",
    )
    cluster.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    from dagn_pre import images, models
    from dagn_pre.errors import ImageError, ImageWarning
    from dagn_pre.metadata import Metadata, is_marked, orientation
    from dagn_pre.restorer import Restorer
    from dagn_pre.side_information import adapter

    options.model = options.model or models.FOR[options.viewer]
    names = (
        "model", "device", "max_quality", "restore_lossless", "strength", "tile", "dtype", "engine", "strict", "assume_tables",
        "strict_files", "again",
    )  # fmt: skip
    side = options.side_weights or not options.no_side_information
    settings = {name: getattr(options, name) for name in names}
    settings |= {"assume_quality": options.assume_quality, "side_information": side}
    if options.cluster is not None:
        return cluster.restore(options, settings)
    cluster.check_unused(options)
    name = batch.exchanged(f".{options.format}", options.full_names)
    planned = batch.plan(options.sources, options.target, name, images.WRITABLE_SUFFIXES)
    restorer = Restorer(**settings)

    def work(source: Path, target: Path) -> batch.Done:
        image = images.open_image(source)
        image.filename = str(source)  # errors name it
        outcome: Any = restorer.restore(image)  # whose image is one of PIL's, too
        for note in outcome.notes:
            warnings.warn(note, ImageWarning, stacklevel=1)
        restored, before = outcome.image, False
        if not outcome.restored:  # write the kind that a restored one would have
            pixels = images.Pixels.of(image, str(source))
            restored, before = pixels.rebuild(pixels.rgb), is_marked(image, pixels.rgb)
        if "A" in restored.mode and images.FORMATS[target.suffix.lower()] in images.OPAQUE:
            raise ImageError(f"{source}: has an alpha channel, which {target.suffix} cannot hold; choose another format")
        upright = images.turned(restored, orientation(image))
        lost = images.save(upright, target, Metadata.of(image).upright(), mark=outcome.restored or before)
        if before:
            return batch.Done("written as they are (restored before; --again to restore again)", lost)
        if not outcome.restored:
            return batch.Done("written as they are", lost, outcome.reason)
        if outcome.side is not None:
            return batch.Done("written with side information", lost)
        left = not options.no_side_information and adapter.carries(image)
        return batch.Done("written without the side information it has" if left else "written", lost)

    return batch.run(planned, work, options.overwrite)
