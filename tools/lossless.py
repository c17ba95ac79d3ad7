"""What becomes of pictures without a JPEG header: those that were never a JPEG must stay, those that were must be restored.

    DAGN_PRE_DATA=... python tools/lossless.py [--seed N] [--half choice|report] [--no-network]

Photographs are from the real data: lossless ones (CamVid, LIVE1, McMaster; Urban100 and T91, of which this test says that
most were JPEGs before, so they are told apart) and BSDS500's reduced by 2 or 3, so that their own artifacts vanish. All else
is drawn here. The JPEGs are photographs of BSDS500, CamVid, LIVE1 and Urban100 and drawn pictures, compressed by libjpeg and
decoded to pixels; a quarter of the photographs lose up to 7 rows and columns, which shifts the grid.

Of each kind and size every second picture is in one half and the others in the other. Thresholds of dagn_pre/evidence.py were
chosen while looking at both halves of seed 0; other seeds draw new crops and drawings, of the same photographs in part. Prints
a table per kind and size, and what was decided wrongly.
"""

from __future__ import annotations

import argparse
import io
import os
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dagn_pre import Restorer, codec, evidence
from dagn_pre.defaults import MAX_QUALITY

SIZES = (32, 64, 128, 256, None)  # of photographs; None: as they are
JPEG_SIZES = (64, 128, 256, None)
QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 75, 80)
SUBSAMPLINGS = ("4:2:0", "4:4:4", "4:2:2", "gray")
DRAWN = 50  # of each kind
PHOTOGRAPHS = 60  # of each size
JPEGS = 160  # of each size
DRAWN_SIZES = ((320, 240), (640, 480), (800, 600), (200, 150), (129, 201))  # width, height
WORDS = (
    "the of and to in is that it was for on are with as be at by this had not but from or have an they which one "
    "you were all her would there their we him been has when who will no more if out so up said what its about than "
    "into them can only other time new some could these two may first then do any like my now over such our man me "
    "even most made after also did many off before must well back through years much where your way down should "
    "because long each just state those people too how mr little good "
).split()
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")


@dataclass(frozen=True)
class Case:
    """One picture: kind and size, for the table; (H, W, 3) uint8 RGB; the QF it was compressed with, None for never; and the
    file it was made of."""

    kind: str
    size: str
    pixels: np.ndarray
    quality: int | None
    report: bool
    source: str


@cache
def read(path: Path, reduction: int = 1) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    return np.asarray(image if reduction == 1 else image.reduce(reduction))


def sources(root: Path) -> list[tuple[Path, int]]:
    """Lossless photographs as (file, reduction), the kinds mixed."""
    folders = [
        (root / "CamVid/val", 1), (root / "restoration/Urban100", 1), (root / "restoration/McMaster", 1),
        (root / "restoration/T91", 1), (root / "restoration/BSDS500-val", 2), (root / "restoration/BSDS500-train", 3),
        (root / "LIVE1", 1), (root / "CamVid/train", 1),
    ]  # fmt: skip
    lists = [[(path, by) for path in sorted(folder.iterdir())] for folder, by in folders]
    return [files[i % len(files)] for i in range(60) for files in lists]


def named(path: Path, reduction: int = 1) -> str:
    """Folder and file, and by what it was reduced."""
    return f"{path.parts[-2]}/{path.name}" + (f" /{reduction}" if reduction > 1 else "")


def crop(pixels: np.ndarray, side: int | None, rng: np.random.Generator) -> np.ndarray | None:
    """A square of that side at any place; None where the picture is smaller."""
    height, width = pixels.shape[:2]
    if side is None:
        return pixels
    if min(height, width) < side:
        return None
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def photographs(root: Path, rng: np.random.Generator) -> Iterator[tuple[str, str, np.ndarray, str]]:
    """Crops, and reductions of the whole picture to the size of one."""
    for side in SIZES:
        found, candidates = 0, sources(root)
        rng.shuffle(candidates)
        for path, by in candidates:
            pixels = read(path, by)
            if found % 3 == 2 and side and max(pixels.shape[:2]) > 1.5 * side:
                image = Image.fromarray(pixels)
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
                pixels = np.asarray(image)
            else:
                pixels = crop(pixels, side, rng)
            if pixels is None:
                continue
            yield "photograph", f"{side} px" if side else "whole", pixels, named(path, by)
            found += 1
            if found == PHOTOGRAPHS:
                break


def font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS[rng.integers(len(FONTS))], size)


def colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, ...]:
    return tuple(int(one) for one in rng.integers(low, high, 3))


def sentence(rng: np.random.Generator, count: int) -> str:
    return " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=count))


def text(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A page, or code on a dark ground."""
    dark = rng.random() < 0.4
    ground, ink = ((colour(rng, 0, 50), colour(rng, 160)) if dark else ((255, 255, 255), colour(rng, 0, 70)))
    picture = Image.new("RGB", size, ground)
    draw, letter = ImageDraw.Draw(picture), int(rng.integers(8, 22))
    face, step = font(rng, letter), letter + int(rng.integers(2, 10))
    for top in range(6, size[1] - step, step):
        indent = int(rng.integers(4)) * 2 * letter if dark else 0
        line = textwrap.wrap(sentence(rng, 30), max(4, (size[0] - 16 - indent) * 2 // letter))[0]
        draw.text((8 + indent, top), line, font=face, fill=colour(rng, 120) if dark and rng.random() < 0.5 else ink)
    return picture


def chart(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """By matplotlib: lines, bars, points, an image, a pie."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    kind, count = int(rng.integers(5)), int(rng.integers(5, 40))
    if kind == 0:
        axes.plot(rng.normal(size=(count, 3)).cumsum(0), label=["a", "b", "c"])
        axes.legend()
    elif kind == 1:
        axes.bar(range(count), rng.random(count), color=rng.random((count, 3)))
    elif kind == 2:
        x, y, shade, size_of = rng.random((4, 10 * count))
        axes.scatter(x, y, c=shade, s=30 * size_of, alpha=0.6)
    elif kind == 3:
        axes.imshow(rng.normal(size=(count, count)).cumsum(0), cmap=("viridis", "gray", "magma")[rng.integers(3)])
    else:
        axes.pie(rng.random(6) + 0.1, labels=list("abcdef"))
    axes.set_title(sentence(rng, 4))
    file = io.BytesIO()
    figure.savefig(file)
    plt.close(figure)
    return Image.open(file).convert("RGB")


def interface(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Windows, shades, buttons, labels, rounded and flat, some on a gradient."""
    picture = Image.new("RGB", size, colour(rng, 180 if rng.random() < 0.6 else 20))
    if rng.random() < 0.4:
        picture = gradient(rng, size)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 14))):
        left, top = int(rng.integers(size[0] * 3 // 4)), int(rng.integers(size[1] * 3 // 4))
        box = [left, top, left + int(rng.integers(20, size[0] // 2)), top + int(rng.integers(14, size[1] // 3))]
        draw.rounded_rectangle(box, int(rng.integers(12)), fill=colour(rng), outline=colour(rng), width=int(rng.integers(1, 3)))
        for line in range(top + 4, box[3] - 12, 18):
            draw.text((left + 6, line), sentence(rng, 2), font=font(rng, 12), fill=colour(rng))
    for i in range(int(rng.integers(6))):
        draw.ellipse([8 + 28 * i, size[1] - 28, 28 + 28 * i, size[1] - 8], fill=colour(rng))
    return picture


def line_art(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Pen strokes, antialiased by reduction or not, or pixel art enlarged."""
    if rng.random() < 0.25:
        scale = int(rng.integers(2, 17))
        palette = rng.integers(0, 256, (int(rng.integers(3, 17)), 3)).astype(np.uint8)
        small = palette[rng.integers(len(palette), size=(-(-size[1] // scale), -(-size[0] // scale)))]
        return Image.fromarray(small.repeat(scale, 0).repeat(scale, 1)[: size[1], : size[0]])
    by = int(rng.integers(1, 4))
    picture = Image.new("RGB", (size[0] * by, size[1] * by), "white")
    draw, shade = ImageDraw.Draw(picture), rng.random() < 0.5
    for _ in range(int(rng.integers(10, 60))):
        points = (rng.random((int(rng.integers(2, 7)), 2)) * picture.size).tolist()
        points = [tuple(point) for point in points]
        if shade and len(points) > 2 and rng.random() < 0.3:
            draw.polygon(points, fill=colour(rng))
        draw.line(points, fill=(0, 0, 0) if not shade else colour(rng), width=int(rng.integers(1, 4)) * by, joint="curve")
    return picture.reduce(by) if by > 1 else picture


def gradient(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Linear, radial or by the angle, with and without dither."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    angle, (cx, cy) = rng.random() * 2 * np.pi, rng.random(2) * size
    if rng.random() < 0.3:
        angle = float(rng.integers(4)) * np.pi / 2
    kind = int(rng.integers(3))
    t = [x * np.cos(angle) + y * np.sin(angle), np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)][kind]
    t = (t - t.min()) / max(float(np.ptp(t)), 1e-9)
    first, second = rng.integers(0, 256, (2, 3))
    pixels = first + (second - first) * t[..., None]
    if rng.random() < 0.3:
        pixels = pixels + rng.random(pixels.shape) - 0.5
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def nights(root: Path, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, str]]:
    """Photographs darkened, with the noise of a sensor."""
    candidates = sources(root)
    rng.shuffle(candidates)
    for path, by in candidates[:DRAWN]:
        pixels = read(path, by).astype(np.float64) * rng.uniform(0.08, 0.35)
        pixels = pixels + rng.normal(0, rng.uniform(0, 4), pixels.shape)
        yield pixels.round().clip(0, 255).astype(np.uint8), named(path, by)


DRAWING = {"text": text, "chart": chart, "interface": interface, "line art": line_art, "gradient": gradient}


def jpegs(root: Path, rng: np.random.Generator) -> Iterator[tuple[str, str, np.ndarray, int, str]]:
    """Photographs of each size and drawn pictures as JPEGs in pixels, the QFs in turn."""
    folders = ("restoration/BSDS500-val", "CamVid/val", "LIVE1", "restoration/Urban100", "restoration/BSDS500-train")
    lists = [sorted((root / folder).iterdir()) for folder in folders]
    paths = [files[i % len(files)] for i in range(100) for files in lists]
    for side in JPEG_SIZES:
        rng.shuffle(paths)
        usable = (path for path in paths if side is None or min(read(path).shape[:2]) >= side + 7)
        for i, path in zip(range(JPEGS), usable):
            shifted = i % 4 == 3
            quality = QUALITIES[i // 2 % len(QUALITIES)]
            pixels = crop(read(path), side and side + 7 * shifted, rng)
            kind = "JPEG, grid shifted" if shifted else "JPEG"
            yield kind, f"{side} px" if side else "whole", compressed(pixels, quality, shifted, rng), quality, named(path)
    for name, draw in DRAWING.items():
        if name != "gradient":
            for i in range(40):
                quality = QUALITIES[i // 2 % len(QUALITIES)]
                pixels = np.asarray(draw(rng, DRAWN_SIZES[rng.integers(len(DRAWN_SIZES))]))
                yield f"JPEG of {name}", "as drawn", compressed(pixels, quality, False, rng), quality, ""


def compressed(pixels: np.ndarray, quality: int, shifted: bool, rng: np.random.Generator) -> np.ndarray:
    subsampling = SUBSAMPLINGS[rng.choice(4, p=(0.5, 0.25, 0.15, 0.1))]
    if subsampling == "gray":
        pixels = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, 2)
        subsampling = "4:4:4"
    found = codec.compress(np.ascontiguousarray(pixels), quality, subsampling)
    if not shifted:
        return found
    top, left = rng.integers(8, size=2)
    height, width = found.shape[0] - 7, found.shape[1] - 7
    return np.ascontiguousarray(found[top : top + height, left : left + width])


def cases(root: Path, seed: int) -> Iterator[Case]:
    """All pictures, those of one kind and size by turns for choosing and for the report."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)

    def case(kind: str, size: str, pixels: np.ndarray, quality: int | None = None, source: str = "") -> Case:
        counts[kind, size] += 1
        return Case(kind, size, pixels, quality, "LIVE1" in source or counts[kind, size] % 2 == 0, source)

    rng = np.random.default_rng(seed)
    for kind, size, pixels, source in photographs(root, rng):
        yield case(kind, size, pixels, None, source)
    for pixels, source in nights(root, rng):
        yield case("night", "whole", pixels, None, source)
    for name, draw in DRAWING.items():
        for _ in range(DRAWN):
            yield case(name, "as drawn", np.asarray(draw(rng, DRAWN_SIZES[rng.integers(len(DRAWN_SIZES))])))
    for kind, size, pixels, quality, source in jpegs(root, rng):
        yield case(kind, size, pixels, quality, source)


def row(case: Case) -> tuple[str, str]:
    """Its row of the table."""
    own = case.quality is None and case.source.startswith(("Urban100", "T91"))
    return f"{case.kind} of Urban100 and T91" if own else case.kind, case.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", choices=("choice", "report"), default="report", help="which pictures")
    parser.add_argument("--no-network", action="store_true", help="leave out the blind estimate: the evidence alone")
    options = parser.parse_args()
    restorer = None if options.no_network else Restorer(device="cpu")
    counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    wrong = []
    for case in cases(Path(os.environ["DAGN_PRE_DATA"]), options.seed):
        if case.report != (options.half == "report"):
            continue
        told, never = evidence.of(case.pixels), case.quality is None
        blind = None if restorer is None else restorer.estimate_quality(case.pixels, blind=True).value
        decisive = min(told.quality or 100, blind or 0)
        restored = told.found and decisive < MAX_QUALITY  # as planning.skip decides
        count = counts[row(case)]
        count[0] += 1
        if restored == never:
            count[1] += 1
            wrong.append(f"{', '.join(row(case))} {case.source} QF {case.quality}, blind {blind}: {told}")
        count[2] += blind is not None and (blind < MAX_QUALITY) == never
    print("| pictures | size | number | decided wrongly | by the blind QF alone |\n|---|---|---:|---:|---:|")
    for (kind, size), (number, decided, alone) in counts.items():
        print(f"| {kind} | {size} | {number} | {decided} | {alone if restorer else '-'} |")
    print(*wrong, sep="\n")


if __name__ == "__main__":
    main()
