"""``dagn-pre compress``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli import batch

HELP = "Compress images to JPEG at a quality factor."
EXAMPLE = "dagn-pre compress originals/ jpeg-qf10/ --qf 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)
    parser.add_argument("--qf", type=int, required=True, help="quality factor, 1..100")
    parser.add_argument("--subsampling", default="4:2:0", help="of the chroma: 4:4:4, 4:2:2 or 4:2:0")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import codec
    from dagn_pre.errors import ImageError
    from dagn_pre.files import write_atomic
    from dagn_pre.images import JPEG_SUFFIXES, Pixels, metadata, open_image

    codec.check_quality(options.qf)
    codec.check_subsampling(options.subsampling)

    def work(source: Path, target: Path) -> None:
        image = open_image(source)
        pixels = Pixels.of(image, str(source))
        if pixels.alpha is not None:
            raise ImageError(f"{source}: has an alpha channel, which JPEG cannot hold; remove it first")
        plane = pixels.rgb[..., 0] if pixels.colour == "L" else pixels.rgb
        kept = {key: value for key, value in metadata(image).items() if key != "dpi"}
        write_atomic(target, codec.encode(plane, options.qf, options.subsampling, **kept))

    return batch.run(batch.plan(options.source, options.target, ".jpg", JPEG_SUFFIXES), work, options.overwrite)
