#!/usr/bin/env python
"""The README's picture: images of the demo as JPEG, restored and original, with what a detector and a segmenter find in each.

    dagn-pre bench run demo_faster_rcnn demo_pspnet --data-root DEMO --qf 10 --work-dir DIR
    python tools/before_after.py DIR docs/images/before-after.webp --data-root DEMO

They are not the best ones: by how much restoring raises an image's own score, a quarter of all gain more. Boxes have a score of
at least 0.5; of the segmenter's pixels, red are those that it calls something else than the truth.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dagn_pre.benchmarks.downstream import cases, cells
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.downstream.hosts.runner import HostRunner, Prediction
from dagn_pre.benchmarks.downstream.inputs import RestoredInput
from dagn_pre.benchmarks.downstream.report.gallery import judge
from dagn_pre.files import write_atomic

MODELS, QUALITY, RESTORER, LEAST_SCORE = ("demo_faster_rcnn", "demo_pspnet"), 10, "dagn-s", 0.5
ZOOM, LINE, GAP = 2, 26, 8  # of the pictures, pixels of a caption and between pictures
RIGHT, WRONG = (0, 190, 80), (235, 40, 40)
UNLABELLED = 255


def upper_quartile(case: cases.Case, work_dir: Path) -> int:
    """The index of the image whose restored minus JPEG score a quarter of the images exceed."""
    jpeg, restored = (cells.read(cells.path(case, label, QUALITY, work_dir))[0].per_image() for label in ("jpeg", RESTORER))
    gains = np.nan_to_num(restored - jpeg)
    return int(np.argsort(gains, kind="stable")[len(gains) * 3 // 4])


def row(source: str, work_dir: Path, data_root: Path) -> list[Image.Image]:
    """A model's three panels."""
    case = cases.prepare(source, data_root, None)
    host = HostRunner(configs.for_testing(case.cfg, None), case.checkpoint, "cpu", work_dir)
    index = upper_quartile(case, work_dir)
    views = {
        f"JPEG, QF {QUALITY}": host.predict(index, QUALITY, None),
        f"restored by {RESTORER}": host.predict(index, QUALITY, RestoredInput(RESTORER)),
        "original": host.predict(index, None, None),
    }
    print(f"{source}: {host.names[index]}")
    return [detected(one, title) if one.mask is None else segmented(one, title) for title, one in views.items()]


def panel(pixels: np.ndarray, caption: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """The picture, enlarged, below its caption."""
    height, width = pixels.shape[:2]
    sheet = Image.new("RGB", (width * ZOOM, height * ZOOM + LINE), "white")
    sheet.paste(Image.fromarray(pixels).resize((width * ZOOM, height * ZOOM), Image.Resampling.NEAREST), (0, LINE))
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 2), caption, "black", ImageFont.load_default(18))
    return sheet, draw


def detected(found: Prediction, title: str) -> Image.Image:
    """A panel with the boxes of a detector."""
    boxes = judge([one for one in found.boxes if one["score"] >= LEAST_SCORE], found.truth)
    right = sum(one["right"] for one in boxes)
    sheet, draw = panel(found.image, f"{title}: {right} right, {len(boxes) - right} wrong")
    for one in sorted(boxes, key=lambda one: one["right"]):
        colour = RIGHT if one["right"] else WRONG
        left, top, *rest = (round(side * ZOOM) + (LINE if index % 2 else 0) for index, side in enumerate(one["box"]))
        draw.rectangle([left, top, *rest], outline=colour, width=3)
        place = left + 3, max(LINE, top - 18)
        font = ImageFont.load_default(15)
        draw.rectangle(draw.textbbox(place, one["label"], font), fill=colour)
        draw.text(place, one["label"], "white", font)
    return sheet


def segmented(found: Prediction, title: str) -> Image.Image:
    """A panel with the pixels that a segmenter takes for something, in green where that is right and in red where it is not."""
    labelled = found.truth != UNLABELLED
    wrong = labelled & (found.mask != found.truth)
    right = labelled & ~wrong & (found.truth != 0)  # background that is called so needs no colour
    pixels = found.image.astype(np.float32)
    for where, colour in ((right, RIGHT), (wrong, WRONG)):
        pixels[where] = 0.5 * pixels[where] + 0.5 * np.float32(colour)
    share = 100 * (labelled & ~wrong).sum() / labelled.sum()
    return panel(pixels.round().astype(np.uint8), f"{title}: {share:.0f} % of the pixels right")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", type=Path, help="of a finished dagn-pre bench run")
    parser.add_argument("output", type=Path, help="a .webp")
    parser.add_argument("--data-root", type=Path, help="the demo's data (default: data in the work dir)")
    args = parser.parse_args()
    rows = [row(source, args.work_dir, args.data_root or args.work_dir / "data") for source in MODELS]
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (3 * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for y, panels in enumerate(rows):
        for x, one in enumerate(panels):
            sheet.paste(one, (x * (width + GAP), y * (height + GAP)))
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=85, method=6)
    write_atomic(args.output, data.getvalue())
    print(f"{args.output}: {len(data.getvalue())} bytes")


if __name__ == "__main__":
    main()
