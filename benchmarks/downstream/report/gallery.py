"""The gallery's pictures and boxes, ready for the page: each picture once, small enough together for one file."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dagn_pre.benchmarks.downstream.panels import Panel, Run
from dagn_pre.errors import ConfigError

BUDGET = 7_000_000  # bytes of pictures; a third more as base64
QUALITIES = (None, 95, 90, 80, 60)  # of WebP, the first that keeps the budget; None is lossless
WEBP_SIDE = 16383
VIEWS = ("original", "jpeg", "restored")
OVERLAP = 0.5  # IoU from which a box agrees with one of the truth


@dataclass
class Gallery:
    """What the page's script draws.

    Attributes:
        entries: per panel, JSON-ready; pictures by their key in ``pictures``.
        pictures: data URIs.
        encoding: how originals and restored images are stored, in words.
        left_out: how many entries the budget did not hold.
    """

    entries: list[list[dict]]
    pictures: dict[str, str] = field(default_factory=dict)
    encoding: str = "lossless WebP"
    left_out: int = 0


def prepare(run: Run) -> Gallery:
    """Read and pack what the galleries name.

    Raises:
        ConfigError: a file is missing, is no image, lies outside the run's folder or has another size than stated.
    """
    entries = [[entry(run, panel, one) for one in panel.gallery] for panel in run.panels]
    gallery = Gallery(entries)
    cache: dict[tuple[str, int | None], tuple[str, str, int]] = {}
    for quality in QUALITIES:
        total = pack(gallery, run.folder, quality, cache)
        gallery.encoding = "lossless WebP" if quality is None else f"WebP quality {quality}"
        if total <= BUDGET:
            return gallery
    while total > BUDGET and any(len(found) > 1 for found in gallery.entries):
        shortened = max(gallery.entries, key=len)
        shortened.remove(min(shortened, key=change))
        gallery.left_out += 1
        total = pack(gallery, run.folder, QUALITIES[-1], cache)
    return gallery


def change(one: dict) -> float:
    """How far an entry's score moves; 0 where it has none."""
    jpeg, restored = one["scores"]["jpeg"], one["scores"]["restored"]
    return 0.0 if jpeg is None or restored is None else abs(restored - jpeg)


def pack(gallery: Gallery, folder: Path, quality: int | None, cache: dict) -> int:
    """Set the gallery's pictures, encoded with ``quality``, and return their bytes together."""
    gallery.pictures, total = {}, 0
    for one in (one for found in gallery.entries for one in found):
        for place, encode in pictures(one, quality):
            file = one["files"][place]
            key = (file, quality if encode is webp else None)
            if key not in cache:
                data, kind = encode(inside(folder, file), quality)
                name = hashlib.sha256(data).hexdigest()[:16]
                cache[key] = name, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", len(data)
            name, uri, size = cache[key]
            if name not in gallery.pictures:
                gallery.pictures[name] = uri
                total += size
            one["shown"][place] = name
    return total


def pictures(one: dict, quality: int | None) -> Iterator[tuple[str, Callable]]:
    """Each picture of an entry, and how it is encoded."""
    for place in one["files"]:
        yield place, as_is if place == "jpeg" else mask if place.startswith("mask ") else webp


def as_is(path: Path, quality: int | None) -> tuple[bytes, str]:
    """The JPEG that was scored, to the byte."""
    return path.read_bytes(), "jpeg"


def webp(path: Path, quality: int | None) -> tuple[bytes, str]:
    """An image as WebP, or as the PNG that it is where WebP takes none so large."""
    with Image.open(path) as image:
        if max(image.size) > WEBP_SIDE:
            return path.read_bytes(), "png"
        return encoded(image.convert("RGB"), quality), "webp"


def mask(path: Path, quality: int | None) -> tuple[bytes, str]:
    """A palette PNG with its black transparent: background hides nothing."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    seen = (pixels.any(axis=2) * 255).astype(np.uint8)
    return encoded(Image.fromarray(np.dstack([pixels, seen])), None), "webp"


def encoded(image: Image.Image, quality: int | None) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", **({"lossless": True} if quality is None else {"quality": quality}))
    return out.getvalue()


def inside(folder: Path, file: str) -> Path:
    """The path of a file that the gallery names, below the run's folder."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"results.json is damaged: its gallery names {file}, which lies outside {folder}")
    return path


def entry(run: Run, panel: Panel, one: dict) -> dict:
    """What the page needs of one entry: boxes judged, a place to look at found."""
    boxes = isinstance(one["truth"], list)
    files = {view: one["files"][view] for view in VIEWS}
    if not boxes:
        files |= {"mask truth": one["truth"], **{f"mask {view}": one["predictions"][view] for view in VIEWS}}
    height, width = one["size"]
    pixels = {view: read(run.folder, file, (width, height)) for view, file in files.items()}
    predictions = {view: judge(one["predictions"][view], one["truth"]) for view in VIEWS} if boxes else None
    where = None if predictions is None else changed_box(predictions)
    if where is None:
        pair = ("jpeg", "restored") if boxes else ("mask jpeg", "mask restored")
        changes = np.abs(pixels[pair[0]].astype(np.int16) - pixels[pair[1]]).sum(axis=2)
        if not changes.any():  # the same mask: where the pixels differ most
            changes = np.abs(pixels["jpeg"].astype(np.int16) - pixels["restored"]).sum(axis=2)
        where = busiest(changes, *window(width, height))
    return {
        "restorer": one["input"],
        "qf": one["qf"],
        "kind": one["kind"],
        "image": one["image"],
        "size": [width, height],
        "scores": {view: one["scores"].get(view) for view in VIEWS},
        "crop": crop_around(where, width, height),
        "truth": [{"box": box["box"], "label": box["label"]} for box in one["truth"]] if boxes else None,
        "predictions": predictions,
        "classes": one.get("classes", {}),
        "files": files,
        "shown": {},
    }


def read(folder: Path, file: str, size: tuple[int, int]) -> np.ndarray:
    """A picture's pixels, (H, W, 3) uint8."""
    path = inside(folder, file)
    try:
        with Image.open(path) as image:
            found = image.size
            pixels = np.array(image.convert("RGB"))
    except OSError as error:
        reason = "is missing" if not path.is_file() else f"is damaged ({error})"
        remedy = "run dagn-pre bench run again with --overwrite"
        raise ConfigError(f"{path} {reason}, a picture of the gallery: {remedy}") from error
    if found != size:
        raise ConfigError(
            f"{path} is damaged: {found[0]}x{found[1]} pixels, results.json says {size[0]}x{size[1]}; "
            "run dagn-pre bench run again with --overwrite"
        )
    return pixels


def judge(predictions: list[dict], truth: list[dict]) -> list[dict]:
    """Each prediction with ``right``: whether it takes a box of the truth of its class, the surest first, each once."""
    free, judged = list(truth), []
    for one in sorted(predictions, key=lambda one: -one["score"]):
        overlaps = [iou(one["box"], box["box"]) if box["label"] == one["label"] else 0.0 for box in free]
        top = max(overlaps, default=0.0)
        if top >= OVERLAP:
            del free[overlaps.index(top)]
        judged.append({**one, "score": round(one["score"], 3), "right": top >= OVERLAP})
    return judged


def iou(one: list[float], other: list[float]) -> float:
    """Intersection over union of [x1, y1, x2, y2]."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - width * height
    return width * height / area


def changed_box(predictions: dict[str, list[dict]]) -> tuple[float, float] | None:
    """The centre of the surest box that JPEG has and restored lacks or the other way round; right ones first."""
    lone = []
    for view, other in (("jpeg", "restored"), ("restored", "jpeg")):
        for one in predictions[view]:
            partners = (box for box in predictions[other] if box["label"] == one["label"])
            if not any(iou(one["box"], box["box"]) >= OVERLAP for box in partners):
                lone.append((one["right"], one["score"], one["box"]))
    if not lone:
        return None
    left, top, right, bottom = max(lone, key=lambda found: found[:2])[2]
    return (left + right) / 2, (top + bottom) / 2


def window(width: int, height: int) -> tuple[int, int]:
    """Size of a crop: a quarter of the image each way, at least 64 pixels, at most the image."""
    side = max(64, width // 4, height // 4)
    return min(width, side), min(height, side * 3 // 4)


def busiest(changes: np.ndarray, width: int, height: int) -> tuple[float, float]:
    """The centre of the window with the largest sum of changes."""
    sums = np.zeros((changes.shape[0] + 1, changes.shape[1] + 1))
    sums[1:, 1:] = changes.cumsum(0, dtype=np.float64).cumsum(1)
    held = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(held.argmax(), held.shape)
    return float(left + width / 2), float(top + height / 2)


def crop_around(centre: tuple[float, float], width: int, height: int) -> list[int]:
    """x, y, width and height of a crop, moved into the image."""
    wide, high = window(width, height)
    left = min(max(0, round(centre[0] - wide / 2)), width - wide)
    top = min(max(0, round(centre[1] - high / 2)), height - high)
    return [left, top, wide, high]
