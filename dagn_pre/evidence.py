"""Whether pixels alone show that they were once a JPEG.

In the blocks of one grid, and of no other, a JPEG's luma has most DCT coefficients at zero and the others at multiples of a
step. So at many places of a picture all 64 positions of a block are tried, and the place votes for the one with most zeros,
if it is a single one. In pictures that were never a JPEG the votes scatter, and a periodic drawing gives several grids much
the same number; a JPEG's go to one. That zeros tell the grid is from Nikoukhah et al., "ZERO: a local JPEG grid origin
detector based on the number of DCT zeros", IPOL 2021; what is made of the votes differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dagn_pre import codec

# Chosen by tools/lossless.py while looking at all pictures of its seed 0; docs/lossless.md reports seeds 1 and 2.
LOOKED_AT = 3200  # places, at most
PLACES = 400  # of these, at most, that vote
ENOUGH_PLACES = 6  # fewer could not be significant if all agreed
CONTRAST = 2  # levels by which some pixel of a place must differ from its first one, in some channel
FEW_COLOURS = 16  # at all places together: nothing that a JPEG has been through
FLAT_PLACE = 0.4  # a share of its pixels that equal their neighbours: an exactly flat block says nothing there
SIGNIFICANCE = 2.0  # as a power of ten: how improbable the votes must be by chance
MAJORITY = 0.6  # of the votes on one grid, or else
LATTICE = 14.0  # how strongly that grid's coefficients must lie on multiples of steps, in standard deviations
ONE_SIDED = 0.6  # by how much one sign may outweigh the other, of 1: cells that are drawn alike come to 1
ENOUGH_SIGNS, ENOUGH_FREQUENCIES = 20, 3  # coefficients of a frequency, and such frequencies, for that to tell

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
ROWS_COLUMNS: Any = (-2, -1)  # an axis that NumPy's types do not know
_k = np.arange(8)
_DCT = np.sqrt(np.where(_k == 0, 1, 2) / 8)[:, None] * np.cos((2 * _k + 1) * _k[:, None] * np.pi / 16)
BLOCK_DCT = np.ascontiguousarray(np.kron(_DCT, _DCT).T, np.float32)  # (64 pixels, 64 coefficients), orthonormal
ZERO = 1.0  # below that a coefficient counts as zero: rounding to 8 bits moves it by 0.35 (standard deviation)
NONZERO = 1.5
LOW = [8 * row + column for row in range(6) for column in range(6 - row) if row or column]  # frequencies with coefficients left
STRAY, SPREAD = 0.05, 0.45  # share of coefficients anywhere, and standard deviation of the others about a multiple
STEPS = np.arange(2, 121, dtype=np.float32)  # of quantisation, times the DCT's scale, which is 1


@dataclass(frozen=True)
class Evidence:
    """What pixels tell of their past.

    Attributes:
        found: whether they were once a JPEG, as far as can be told.
        reason: in plain words, why or why not.
        quality: the QF of which the steps are, where they are those of IJG's table for luma; 1..100.
    """

    found: bool
    reason: str
    quality: int | None = None


def of(rgb: np.ndarray) -> Evidence:
    """The evidence in (H, W, 3) uint8 RGB pixels, in any order of the channels but for a little precision.

    A JPEG that was resized, or whose picture is all but flat, is not told; one that was cropped or lies in a larger picture is.
    """
    height, width = rgb.shape[:2]
    rows, columns = (height - 7) // 8, (width - 7) // 8
    if height < 15 or width < 15 or rows * columns < ENOUGH_PLACES:
        return Evidence(False, f"too small to tell: {width} x {height}")
    patches = _patches(rgb, rows, columns)
    if len(patches) < ENOUGH_PLACES:
        return Evidence(False, "all but flat, so nothing tells what it was")
    colours = len(np.unique(patches.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)))
    if colours <= FEW_COLOURS:
        return Evidence(False, f"drawn, not photographed: {colours} colours")
    votes, voted = _votes(patches)
    grid = int(votes.argmax())
    count, total = int(votes[grid]), int(votes.sum())
    chance = (int(np.partition(votes, -2)[-2]) + 1) / max(total, 1)
    if _improbable(count, total, chance) - math.log10(64) < SIGNIFICANCE:
        return Evidence(False, "no 8x8 grid in the pixels")
    top, left = divmod(grid, 8)
    blocks = patches[voted][:, top : top + 8, left : left + 8] @ LUMA
    signed = (blocks.reshape(-1, 64) @ BLOCK_DCT)[:, LOW]
    low = np.abs(signed)
    if count < MAJORITY * total and _on_lattice(low) < LATTICE:
        return Evidence(False, "an 8x8 grid, but no steps of quantisation on it")
    if _one_sided(signed):
        return Evidence(False, "an 8x8 grid, but of cells that are drawn alike")
    return Evidence(True, f"an 8x8 grid from ({left}, {top}), by {count} of {total} places", _quality(low))


def _patches(rgb: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(n, 15, 15, 3) uint8: places that are not flat, evenly spread; those without black or white, where clipping has moved the
    coefficients, before the others."""
    tops, lefts = np.divmod(_spread(np.arange(rows * columns), LOOKED_AT), columns)
    windows = sliding_window_view(rgb.transpose(2, 0, 1), (15, 15), ROWS_COLUMNS)
    places = windows[:, 8 * tops, 8 * lefts].transpose(1, 2, 3, 0)
    values = places.reshape(len(places), -1)
    varied = (_relative(places).reshape(values.shape) + np.uint8(CONTRAST - 1) > 2 * CONTRAST - 2).any(1)
    clipped = (values + np.uint8(1) <= 1).any(1)  # 255 wraps to 0
    first = _spread(np.flatnonzero(varied & ~clipped), PLACES)
    return places[np.concatenate([first, _spread(np.flatnonzero(varied & clipped), PLACES - len(first))])]


def _relative(places: np.ndarray) -> np.ndarray:
    """By how much pixels differ from the first one of their place; wraps, in uint8."""
    return places - places[:, :1, :1]


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most so many of them, evenly."""
    return indices if len(indices) <= count else indices[np.arange(count) * len(indices) // count]


def _zeros(patches: np.ndarray) -> np.ndarray:
    """How many coefficients of the luma are zero in each position of a block within a place, (n, 64 grids)."""
    found = []
    for part in np.array_split(patches, -(-len(patches) // 25)):  # that stay in a processor's cache
        blocks = sliding_window_view(part @ LUMA, (8, 8), ROWS_COLUMNS)
        coefficients = (blocks.reshape(-1, 64) @ BLOCK_DCT).reshape(len(part), 64, 64)
        found.append(np.count_nonzero(np.abs(coefficients[..., 1:]) < ZERO, axis=2))
    return np.concatenate(found)


def _votes(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes by grid, (64,), and which places have one, (n,) bool: each kind of place has a single one."""
    zeros = _zeros(patches)
    most = zeros.max(1)
    voted = (zeros == most[:, None]).sum(1) == 1
    flat = np.flatnonzero(voted & (most == 63))
    voted[flat] = _flat(patches[flat]) < FLAT_PLACE
    first = {place.tobytes(): index for index, place in enumerate(_relative(patches))}
    distinct = np.zeros(len(patches), bool)
    distinct[list(first.values())] = True
    voted &= distinct
    return np.bincount(zeros.argmax(1)[voted], minlength=64), voted


def _flat(patches: np.ndarray) -> np.ndarray:
    """The share of pixels that equal all four neighbours, (n,)."""
    inner = patches[:, 1:-1, 1:-1]
    neighbours = patches[:, :-2, 1:-1], patches[:, 2:, 1:-1], patches[:, 1:-1, :-2], patches[:, 1:-1, 2:]
    return np.logical_and.reduce([(inner == other).all(-1) for other in neighbours]).mean((1, 2))


def _improbable(count: int, total: int, chance: float) -> float:
    """How improbable so many of so many are, each with that chance, as a power of ten: Chernoff's bound."""
    share = count / max(total, 1)
    if share <= chance:
        return 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0
    return total * (share * math.log(share / chance) + rest) / math.log(10)


def _on_lattice(low: np.ndarray) -> float:
    """How much nearer to multiples of a step, one for each frequency, magnitudes, (n, len(LOW)), lie than by chance, in
    standard deviations."""
    found = []
    for magnitudes in low.T:
        magnitudes = magnitudes[magnitudes > NONZERO, None]
        above = magnitudes > STEPS / 2  # those below lie near zero, a multiple of every step
        counts = above.sum(0)
        scores = (np.cos(2 * np.pi * magnitudes / STEPS) * above).sum(0) / np.sqrt(np.maximum(counts, 1) / 2)
        if (counts >= 3).any():
            found.append(scores[counts >= 3].max())
    return float(np.sum(found) / math.sqrt(len(found))) if found else 0.0


def _one_sided(signed: np.ndarray) -> bool:
    """Whether coefficients, (n, len(LOW)), have nearly all the same sign within each frequency: those of cells that are drawn
    alike, such as round lamps or bevelled tiles, do; a photograph's have either."""
    signs = np.where(np.abs(signed) > NONZERO, np.sign(signed), 0)
    counts = np.count_nonzero(signs, axis=0)
    enough = counts >= ENOUGH_SIGNS
    shares = np.abs(signs.sum(0)[enough]) / counts[enough]
    return len(shares) >= ENOUGH_FREQUENCIES and float(shares.mean()) > ONE_SIDED


def _quality(low: np.ndarray) -> int | None:
    """The QF whose steps in IJG's table make magnitudes, (n, len(LOW)), most probable; None where they are more so without,
    or too few."""
    places, frequencies = np.nonzero(low > NONZERO)
    chosen = _spread(np.arange(len(places)), 2000)
    if len(chosen) < 20:
        return None
    magnitudes = low[places[chosen], frequencies[chosen]]
    steps = codec.standard_tables()[:, 0][:, LOW][:, frequencies[chosen]].astype(np.float32)  # (100, n)
    distance = (magnitudes - np.round(magnitudes / steps) * steps) / SPREAD
    density = steps * np.exp(-(distance**2) / 2) / (SPREAD * math.sqrt(2 * math.pi))
    gains = np.log((1 - STRAY) * density + STRAY).sum(1)
    best = int(gains.argmax())
    return best + 1 if gains[best] > 0 else None
