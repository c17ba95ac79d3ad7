"""Data leakage: are there test images among the training images? Perceptual hashes tell, and a line for the model card says so
(``dagn-pre train-data leakage``).

An image is told by its 256-bit pHash (Zauner 2010, from the ``imagehash`` library), which recompression, resizing and small
changes of colour hardly move. Every test image is compared in its eight flips and quarter turns. Two unrelated photographs
differ in about half of the bits; a pair within ``threshold`` is reported, to be looked at by eye. Measured on 53 photographs,
bits that differ at most: JPEG at QF 10 18, half the size 4, 1.3 times as bright 24, 2 % of the sides cut off 26, 5 % 56,
10 % 104; and at least 94 between 319 photographs and LIVE1.

What this does not find: an image that shows a part of another (a crop by more than about 5 % of the sides), other
photographs of one scene, rotations by other angles, collages. And an image that is nearly one colour may look like another
such one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from dagn_pre.errors import ImageError, UsageError
from dagn_pre.folders import find_images
from dagn_pre.images import Pixels, open_image
from dagn_pre.progress import bar

HASH_SIDE = 16
BITS = HASH_SIDE**2
THRESHOLD = 64  # between copies and unrelated photographs, as measured above


@dataclass(frozen=True)
class Match:
    """A training and a test image, and in how many of the BITS their hashes differ in the best of the eight orientations."""

    train: Path
    test: Path
    distance: int


@dataclass(frozen=True)
class Report:
    """What :func:`compare` found: ``matches`` within ``threshold``, nearest first; ``nearest`` is the nearest pair of all."""

    n_train: int
    n_test: dict[str, int]
    threshold: int
    matches: list[Match]
    nearest: Match

    def line(self) -> str:
        """The result in one sentence, for the model card."""
        count = len(self.matches)
        found = "no pair is" if not count else "1 pair is" if count == 1 else f"{count} pairs are"
        tests = ", ".join(f"{name} ({images})" for name, images in self.n_test.items())
        return (
            f"Data leakage: of {self.n_train} training images against {tests}, {found} within {self.threshold} of "
            f"{BITS} bits of pHash over flips and quarter turns; the nearest pair differs in "
            f"{self.nearest.distance}. Crops are not found."
        )


TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def orientations(image: Image.Image) -> list[Image.Image]:
    """The eight flips and quarter turns."""
    turned = [image, *(image.transpose(turn) for turn in TURNS)]
    return turned + [each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in turned]


def fingerprint(image: Image.Image) -> np.ndarray:
    """pHash as (BITS,) float32 of 0 and 1."""
    return imagehash.phash(image, hash_size=HASH_SIDE).hash.ravel().astype(np.float32)


def compare(train: Sequence[Path], test: Sequence[Path], threshold: int = THRESHOLD) -> Report:
    """Compare all images below the ``train`` folders with all below the ``test`` folders.

    Training images that cannot be read are named on stderr and left out, as in training.

    Raises:
        UsageError: a threshold outside 0..BITS, a folder without images, or no training image that can be read.
        ImageError: a test image that cannot be read.
    """
    if not 0 <= threshold <= BITS:
        raise UsageError(f"threshold must lie in 0..{BITS}, not {threshold}")
    train_paths, train_hashes = [], []
    for path in bar([path for folder in train for path in _images(folder)], desc="train", unit="image", leave=False):
        try:
            train_hashes.append(fingerprint(_read(path)))
            train_paths.append(path)
        except ImageError as error:
            tqdm.write(f"left out: {error}", file=sys.stderr)
    if not train_paths:
        raise UsageError(f"no training image in {', '.join(map(str, train))} can be read")
    hashes = np.stack(train_hashes)
    pairs, counts = [], {}
    for folder in test:
        paths = _images(folder)
        counts[folder.resolve().name] = len(paths)
        for path in bar(paths, desc=folder.name, unit="image", leave=False):
            turned = np.stack([fingerprint(image) for image in orientations(_read(path))])
            distances = (hashes @ (1 - turned.T) + (1 - hashes) @ turned.T).min(1)
            pairs += [Match(found, path, int(distance)) for found, distance in zip(train_paths, distances)]
    pairs.sort(key=lambda pair: pair.distance)
    matches = [pair for pair in pairs if pair.distance <= threshold]
    return Report(len(train_paths), counts, threshold, matches, pairs[0])


def _images(folder: Path) -> list[Path]:
    paths = find_images(folder)
    if not paths:
        raise UsageError(f"{folder}: no images in it")
    return paths


def _read(path: Path) -> Image.Image:
    return Image.fromarray(Pixels.of(open_image(path), str(path)).rgb)
