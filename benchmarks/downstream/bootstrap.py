"""Intervals by bootstrap over the images, of a score and of differences between scores of the same images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from dagn_pre.benchmarks.downstream.scores import Scores
from dagn_pre.benchmarks.results import rounded

RESAMPLES = 1000


def resampled(scores: Scores, resamples: int = RESAMPLES) -> np.ndarray:
    """The score of each of ``resamples`` bootstrap samples of the images; (resamples,) float64 in percent, (0,) for a single
    image, which says nothing of others.

    The samples depend on the number of images alone, so that two cells of the same images are compared on the same samples.
    They are shifted to have the score itself as their mean: classes with few objects drop out of some samples and are easier
    in others, which lifts mAP by a point or two on a few hundred images.
    """
    count = len(scores.images)
    if count < 2:
        return np.zeros(0)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=resamples)
    samples = scores.weighted(weights)
    return samples + (scores.value() - samples.mean())


def interval(samples: np.ndarray) -> tuple[float | None, float | None]:
    """The middle 95 % of bootstrap samples; (None, None) for none, or where some have no score."""
    if not len(samples) or np.isnan(samples).any():
        return None, None
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)


def comparison(jpeg: tuple, restored: tuple, original: tuple | None) -> dict:
    """A restorer's cell against JPEG's of the same QF, each as ``cells.read`` gives them; keys: docs/benchmark.md."""
    (before, before_samples), (after, after_samples) = jpeg, restored
    low, high = interval(after_samples - before_samples)
    gains = after.per_image() - before.per_image()
    found = {
        "difference": rounded(after.value() - before.value()),
        "low": rounded(low),
        "high": rounded(high),
        "share": None,
        "share_low": None,
        "share_high": None,
        "images_better": int((gains > 1e-6).sum()),
        "images_worse": int((gains < -1e-6).sum()),
    }
    if original is not None:
        loss, losses = original[0].value() - before.value(), original[1] - before_samples
        if loss > 0:
            found["share"] = rounded(100 * (after.value() - before.value()) / loss, 1)
            if len(losses) and losses.min() > 0:  # else the share of some sample is of nothing, or of a gain
                ends = interval(100 * (after_samples - before_samples) / losses)
                found["share_low"], found["share_high"] = (rounded(end, 1) for end in ends)
    return found


def at_size(curve: Iterable[tuple[float, float, np.ndarray]], size: float) -> tuple[float, np.ndarray] | None:
    """An input's score, and its bootstrap samples, where its files take ``size`` bytes.

    Args:
        curve: (bytes, score, samples) at some QFs, in any order.

    Returns:
        Between the two sizes around it, linear in the logarithm of the size; None beyond the smallest and the largest.
    """
    curve = sorted(curve, key=lambda point: point[0])
    for (small, low, low_samples), (large, high, high_samples) in pairwise(curve):
        if small <= size <= large:
            share = math.log(size / small) / math.log(large / small) if large > small else 0.0
            return low + share * (high - low), low_samples + share * (high_samples - low_samples)
    return None
