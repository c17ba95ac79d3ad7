#!/usr/bin/env python
"""The README's picture: one image of the demo as JPEG, restored and original, with what a detector finds in each.

    dagn-pre bench run demo --qf 10 --work-dir DIR
    python tools/before_after.py DIR docs/images/before-after.webp

It is not the best one: by how much restoring raises an image's own score, a quarter of all gain more. Boxes have a score of at
least 0.5.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO

from dagn_pre import Restorer, codec
from dagn_pre.benchmarks import demo
from dagn_pre.benchmarks.downstream import cells
from dagn_pre.benchmarks.downstream.report.gallery import judge
from dagn_pre.errors import quiet
from dagn_pre.files import write_atomic

MODEL, QUALITY, RESTORER, LEAST_SCORE = "demo_faster_rcnn", 10, "dagn-s", 0.5
CELLS = {
    f"JPEG, QF {QUALITY}": f"jpeg-qf{QUALITY}",
    f"restored by {RESTORER}": f"{RESTORER}-qf{QUALITY}",
    "original": "original",
}
ZOOM, LINE, GAP = 2, 26, 8  # of the pictures, pixels of a caption and between pictures
RIGHT, WRONG = (0, 190, 80), (235, 40, 40)


def upper_quartile(work_dir: Path) -> int:
    """The index of the image whose restored minus JPEG score a quarter of the images exceed."""
    jpeg, restored = (
        cells.read(work_dir / "cells" / f"{MODEL}-{cell}.npz")[0].per_image() for cell in list(CELLS.values())[:2]
    )
    gains = np.nan_to_num(restored - jpeg)
    return int(np.argsort(gains, kind="stable")[len(gains) * 3 // 4])


def found(work_dir: Path, cell: str, truth: COCO, image: int) -> list[dict]:
    """The detections of one image in a cell, each with whether it is ``right``."""

    def corners(box: list[float]) -> list[float]:
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

    there = [{"box": corners(one["bbox"]), "label": one["category_id"]} for one in truth.imgToAnns[image]]
    detections = json.loads((work_dir / "detections" / f"{MODEL}-{cell}.bbox.json").read_text())
    ours = [one for one in detections if one["image_id"] == image and one["score"] >= LEAST_SCORE]
    boxes = [{"box": corners(one["bbox"]), "label": one["category_id"], "score": one["score"]} for one in ours]
    return judge(boxes, there)


def drawn(pixels: np.ndarray, title: str, boxes: list[dict]) -> Image.Image:
    """One panel: the caption, and the picture with its boxes."""
    height, width = pixels.shape[:2]
    panel = Image.new("RGB", (width * ZOOM, height * ZOOM + LINE), "white")
    panel.paste(Image.fromarray(pixels).resize((width * ZOOM, height * ZOOM), Image.Resampling.NEAREST), (0, LINE))
    draw = ImageDraw.Draw(panel)
    right = sum(one["right"] for one in boxes)
    draw.text((2, 2), f"{title}: {right} right, {len(boxes) - right} wrong", "black", ImageFont.load_default(18))
    for one in sorted(boxes, key=lambda one: one["right"]):
        colour = RIGHT if one["right"] else WRONG
        left, top, *rest = (round(side * ZOOM) + (LINE if index % 2 else 0) for index, side in enumerate(one["box"]))
        draw.rectangle([left, top, *rest], outline=colour, width=3)
        place = left + 3, max(LINE, top - 18)
        name, font = demo.CLASSES[one["label"] - 1], ImageFont.load_default(15)
        draw.rectangle(draw.textbbox(place, name, font), fill=colour)
        draw.text(place, name, "white", font)
    return panel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", type=Path, help="of a finished dagn-pre bench run")
    parser.add_argument("output", type=Path, help="a .webp")
    parser.add_argument("--data-root", type=Path, help="the demo's data (default: data in the work dir)")
    args = parser.parse_args()
    root = args.data_root or args.work_dir / "data"
    with quiet():
        truth = COCO(str(root / "annotations" / "val.json"))
    image = truth.loadImgs(truth.getImgIds())[upper_quartile(args.work_dir)]
    original = codec.decode((root / "images" / image["file_name"]).read_bytes())
    jpeg = codec.encode(original, QUALITY)
    pixels = codec.decode(jpeg), Restorer(RESTORER)(jpeg), original
    panels = [
        drawn(one, title, found(args.work_dir, cell, truth, image["id"])) for one, (title, cell) in zip(pixels, CELLS.items())
    ]
    width, height = panels[0].size
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for index, panel in enumerate(panels):
        sheet.paste(panel, (index * (width + GAP), 0))
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=85, method=6)
    write_atomic(args.output, data.getvalue())
    print(f"{args.output}: {image['file_name']}, {len(data.getvalue())} bytes")


if __name__ == "__main__":
    main()
