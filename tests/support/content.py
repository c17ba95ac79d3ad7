"""Pictures of kinds that were never a JPEG, (height, width, 3) uint8 RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.support import photograph

SIZE = (320, 240)  # width, height


def textured(height: int = 256, width: int = 256, seed: int = 0) -> np.ndarray:
    """Waves with detail that fades to the right, and grain: (height, width, 3) uint8 RGB, unclipped."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    detail = sum(np.sin(x * rng.uniform(-1.5, 1.5) + y * rng.uniform(-1.5, 1.5)) for _ in range(12))
    waves = np.stack([128 + 60 * np.sin(x / (19 + c) + y / 31) for c in range(3)], 2)
    grain = rng.normal(0, 3, waves.shape)
    return (waves + 8 * (detail * (1 - x / width))[..., None] + grain).clip(3, 252).astype(np.uint8)


def text(advance: int | None = None) -> np.ndarray:
    """Black on white; with an advance, each letter in a cell of that width and twice that height."""
    picture = Image.new("RGB", SIZE, "white")
    draw, font, words = ImageDraw.Draw(picture), ImageFont.load_default(12), "for row in rows: print(row, sum(row)) # done " * 3
    for line, top in enumerate(range(0, SIZE[1] - 16, 2 * advance if advance else 15)):
        if advance:
            for column, letter in enumerate(words[line : line + SIZE[0] // advance]):
                draw.text((column * advance, top), letter, fill="black", font=font)
        else:
            draw.text((5 + line % 4, top), words[line : line + 50], fill="black", font=font)
    return np.asarray(picture)


def chart() -> np.ndarray:
    picture = Image.new("RGB", SIZE, "white")
    draw, rng = ImageDraw.Draw(picture), np.random.default_rng(0)
    for bar in range(12):
        box = [20 + 24 * bar, int(rng.integers(20, 200)), 36 + 24 * bar, 220]
        draw.rectangle(box, fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
    for level in range(20, 221, 25):
        draw.line([15, level, 310, level], fill="gray")
        draw.text((1, level), str(level), fill="black")
    return np.asarray(picture)


def interface() -> np.ndarray:
    """Rounded boxes on a grid of 8 pixels, on a gradient."""
    shade = np.linspace(200, 240, SIZE[1]).round().astype(np.uint8)[:, None, None]
    picture = Image.fromarray(np.broadcast_to(shade, (SIZE[1], SIZE[0], 3)).copy())
    draw, rng = ImageDraw.Draw(picture), np.random.default_rng(1)
    for top in range(8, 208, 40):
        for left in range(8, 280, 64):
            draw.rounded_rectangle([left, top, left + 55, top + 31], 6, fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
            draw.text((left + 8, top + 8), "Save as", fill="white")
    return np.asarray(picture)


def line_art() -> np.ndarray:
    picture = Image.new("RGB", (3 * SIZE[0], 3 * SIZE[1]), "white")
    draw, rng = ImageDraw.Draw(picture), np.random.default_rng(2)
    for _ in range(40):
        draw.line([tuple(point) for point in (rng.random((4, 2)) * picture.size).tolist()], fill="black", width=4)
    return np.asarray(picture.reduce(3))


def pixel_art(scale: int, colours: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    palette = rng.integers(1, 255, (colours, 3)).astype(np.uint8)
    return palette[rng.integers(colours, size=(30, 30))].repeat(scale, 0).repeat(scale, 1)


def gradient(dither: float = 0) -> np.ndarray:
    """Over exactly 8 pixels for each level."""
    ramp = np.arange(400) / 8 + 40
    pixels = np.broadcast_to(ramp[None, :, None] + ramp[:200, None, None], (200, 400, 3))
    return (pixels + dither * np.random.default_rng(4).random(pixels.shape)).astype(np.uint8)


def dithered(levels: int) -> np.ndarray:
    """By Bayer's matrix of 8x8."""
    matrix = np.zeros((1, 1))
    for _ in range(3):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    threshold = np.tile(matrix / 64, (32, 32))[..., None]
    return (np.floor(textured() / 255 * (levels - 1) + threshold) / (levels - 1) * 255).clip(0, 255).astype(np.uint8)


def enlarged(by: int, how: Image.Resampling) -> np.ndarray:
    small = Image.fromarray(textured(40, 40))
    return np.asarray(small.resize((40 * by, 40 * by), how))


def cells(kind: str) -> np.ndarray:
    """Each of 8x8 pixels in a colour of its own, drawn alike: with white gaps, as round lamps, bevelled or shaded."""
    colours = np.random.default_rng(5).integers(20, 200, (30, 40, 3)).repeat(8, 0).repeat(8, 1)
    y, x = (np.tile(axis, (30, 40))[..., None] for axis in np.mgrid[:8, :8])
    edge = (x % 7 == 0) | (y % 7 == 0)
    lamp = (1 - np.hypot(x - 3.5, y - 3.5) / 5).clip(0, 1)
    bevel = 0.6 + 0.4 * (1 - y / 7) * (1 - x / 7)
    gaps, shades = np.where(edge, 255, colours), colours + 4 * x
    drawn = {"gaps": gaps, "lamps": colours * lamp, "bevels": colours * bevel, "shades": shades}
    return drawn[kind].clip(0, 255).astype(np.uint8)


LOSSLESS = {
    "photograph": textured(),
    "smooth photograph": photograph(256, 256, noise=2),
    "night": (textured() * 0.15 + np.random.default_rng(0).normal(4, 1.5, (256, 256, 3))).clip(0, 255).astype(np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8),
    "text": text(),
    "text in cells of 8x16": text(8),
    "chart": chart(),
    "interface on 8 pixels": interface(),
    "line art": line_art(),
    "pixel art by 8": pixel_art(8, 60),
    "pixel art by 16": pixel_art(16, 60),
    "pixel art by 6": pixel_art(6, 60),
    "gradient": gradient(),
    "dithered gradient": gradient(1),
    "ordered dither": dithered(6),
    "enlarged by 8, bilinear": enlarged(8, Image.Resampling.BILINEAR),
    "enlarged by 8, nearest": enlarged(8, Image.Resampling.NEAREST),
    "enlarged by 2": enlarged(4, Image.Resampling.BICUBIC),
    **{f"cells of 8, {kind}": cells(kind) for kind in ("gaps", "lamps", "bevels", "shades")},
}
