"""``dagn-pre restore``."""

from __future__ import annotations

import argparse
from pathlib import Path

from dagn_pre.cli import batch

HELP = "Remove JPEG artifacts from images."
EXAMPLE = "dagn-pre restore photos/ restored/ --max-quality 80"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser)
    parser.add_argument("--model", default="dagn-s", help="a name that `dagn-pre models` lists, or a checkpoint file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--max-quality", type=int, default=90, metavar="QF", help="leave images of this QF or more untouched")
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
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--side-weights", type=Path, metavar="F", help="weights of your own for the files' side information")
    side.add_argument("--no-side-info", action="store_true", help="ignore the files' side information")
    parser.add_argument("--strength", type=float, default=1.0, help="0..1, scales the correction")
    parser.add_argument("--tile", type=int, help="side of the tiles; 0 never tiles; default: tiles large images")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--format", default="png", choices=("png", "webp", "tiff", "jpg"), help="of outputs in a folder")


def run(options: argparse.Namespace) -> int:
    from PIL import ImageOps

    from dagn_pre.errors import ImageError
    from dagn_pre.files import atomic_path
    from dagn_pre.images import JPEG_SUFFIXES, WRITABLE_SUFFIXES, Pixels, metadata, open_image, writer_options
    from dagn_pre.restorer import Restorer
    from dagn_pre.side_information import adapter

    pairs = batch.plan(options.source, options.target, f".{options.format}", WRITABLE_SUFFIXES)
    names = ("model", "device", "max_quality", "strength", "tile", "dtype", "strict", "assume_tables")
    side = options.side_weights or not options.no_side_info
    settings = {name: getattr(options, name) for name in names}
    restorer = Restorer(**settings, quality=options.assume_quality, side_information=side)

    def work(source: Path, target: Path) -> str | None:
        image = open_image(source)
        image.filename = str(source)  # errors name it
        restored = restorer(image)
        restored_at_all = restored is not image
        if not restored_at_all:  # untouched: write the kind that a restored one would have
            pixels = Pixels.of(image, str(source))
            restored = pixels.rebuild(pixels.rgb)
            restored.info = metadata(image)
        if "A" in restored.mode and target.suffix.lower() in JPEG_SUFFIXES:
            raise ImageError(f"{source}: has an alpha channel, which JPEG cannot hold; choose another --format")
        upright = ImageOps.exif_transpose(restored)
        settings = writer_options(target) | {key: upright.info[key] for key in ("exif", "icc_profile") if key in upright.info}
        with atomic_path(target) as path:
            upright.save(path, **settings)
        used = restored_at_all and not options.no_side_info and adapter.carries(image)
        side = adapter.describe(source, restorer.adapters) if used else None
        return side and ("without the side information it has" if side["error"] else "with side information")

    return batch.run(pairs, work, options.overwrite)
