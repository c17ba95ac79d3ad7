"""``dagn-pre compress``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli import batch

HELP = "Compress images to JPEG at a quality factor, with side information for the restorer if wanted."
EXAMPLE = "dagn-pre compress originals/ jpeg-qf10/ --qf 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)
    parser.add_argument("--qf", type=int, required=True, help="quality factor, 1..100")
    parser.add_argument("--subsampling", default="4:2:0", help="of the chroma: 4:4:4, 4:2:2 or 4:2:0")
    parser.add_argument("--side-information", action="store_true", help="add what lets dagn-pre restore it better")
    parser.add_argument(
        "--lambda", dest="lambda_rate", type=float, metavar="L", help="of --side-information: higher is smaller"
    )
    parser.add_argument("--model", help="of --side-information: the restorer that it is for (default: dagn-s-psnr)")
    parser.add_argument("--side-weights", type=Path, metavar="F", help="of --side-information: weights of your own instead")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import codec
    from dagn_pre.errors import ImageError, UsageError
    from dagn_pre.files import write_atomic
    from dagn_pre.images import JPEG_SUFFIXES, Pixels, open_image
    from dagn_pre.metadata import Metadata

    codec.check_quality(options.qf)
    codec.check_subsampling(options.subsampling)
    encode = codec.encode
    if options.side_information:
        from dagn_pre.side_information import SideInformationEncoder, adapter

        encode = SideInformationEncoder(options.model or adapter.TRUNK, options.lambda_rate, options.side_weights).encode
    elif (options.lambda_rate, options.model, options.side_weights) != (None, None, None):
        raise UsageError("--lambda, --model and --side-weights are about --side-information, which is not given")

    planned = batch.plan(options.sources, options.target, batch.exchanged(".jpg", options.full_names), JPEG_SUFFIXES)

    def work(source: Path, target: Path) -> batch.Done:
        image = open_image(source)
        pixels = Pixels.of(image, str(source), options.strict_files)
        if pixels.alpha is not None:
            raise ImageError(f"{source}: has an alpha channel, which JPEG cannot hold; remove it first")
        plane = pixels.rgb[..., 0] if pixels.colour == "L" else pixels.rgb
        kept, lost = Metadata.of(image).settings("JPEG", pixels.colour)
        write_atomic(target, encode(plane, options.qf, options.subsampling, **kept))
        return batch.Done(lost=lost)

    return batch.run(planned, work, options.overwrite)
