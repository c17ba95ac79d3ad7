"""``dagn-pre compress``."""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagn_pre.cli import batch, listing
from dagn_pre.errors import ImageError, ImageWarning, UsageError

if TYPE_CHECKING:
    from dagn_pre.side_information import SideInformationEncoder

HELP = "Compress images to JPEG at a quality factor, with side information for the restorer if wanted."
EXAMPLE = "dagn-pre compress originals/ jpeg-qf10/ --qf 10"
MANIFEST = "compressed"  # beside that of restore, which may have the same folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    batch.add_arguments(parser, MANIFEST)
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
    from dagn_pre.images import JPEG_SUFFIXES

    codec.check_quality(options.qf)
    codec.check_subsampling(options.subsampling)
    about_side = {name: getattr(options, name) for name in ("model", "lambda_rate", "side_weights")}
    if not options.side_information and any(value is not None for value in about_side.values()):
        raise UsageError("--lambda, --model and --side-weights are about --side-information, which is not given")
    work = Compressing(options.qf, options.subsampling, options.strict_files, about_side if options.side_information else None)
    work.prepare()
    planned = listing.plan(options.sources, options.target, listing.exchanged(".jpg", options.full_names), JPEG_SUFFIXES)
    written = {"command": "compress", **{name: getattr(options, name) for name in ("qf", "subsampling", "strict_files")}}
    written |= {"side_information": options.side_information, **{k: v and str(v) for k, v in about_side.items()}}
    return batch.run(planned, work, options.overwrite, written, options.workers, MANIFEST)


@dataclass
class Compressing(batch.Work):
    """Compresses files.

    Attributes:
        qf, subsampling, strict_files: as the command has them.
        side: model, lambda_rate and side_weights of the side information; None for none.
    """

    qf: int
    subsampling: str
    strict_files: bool
    side: dict[str, Any] | None

    def prepare(self) -> None:
        self.encode()

    def encode(self) -> Callable[..., bytes]:
        """What encodes, in this process."""
        from dagn_pre import codec

        return codec.encode if self.side is None else _side_encoder(*self.side.values()).encode

    def __call__(self, source: Path, target: Path) -> batch.Done:
        from dagn_pre.files import write_atomic
        from dagn_pre.images import Pixels, open_image
        from dagn_pre.metadata import Metadata

        image = open_image(source)
        pixels = Pixels.of(image, str(source), self.strict_files)
        for note in pixels.notes:
            warnings.warn(note, ImageWarning, stacklevel=1)
        if pixels.alpha is not None:
            raise ImageError(f"{source}: has an alpha channel, which JPEG cannot hold; remove it first")
        plane = pixels.rgb[..., 0] if pixels.colour == "L" else pixels.rgb
        kept, lost = Metadata.of(image).settings("JPEG", pixels.colour)
        write_atomic(target, self.encode()(plane, self.qf, self.subsampling, **kept))
        return batch.Done(lost=lost, state="compressed")

    def found(self, target: Path) -> batch.Done:
        return batch.Done(state="compressed", reason="its output was there already")


@functools.lru_cache(maxsize=1)
def _side_encoder(model: str | None, lambda_rate: float | None, side_weights: Path | None) -> SideInformationEncoder:
    from dagn_pre.side_information import SideInformationEncoder, adapter

    return SideInformationEncoder(model or adapter.TRUNK, lambda_rate, side_weights)
