"""The bootstrap over questions (Efron 1979): the one place where questions are resampled.

The questions are the sample: an interval says how far a figure could move with other questions of the same kind. It
says nothing about other models or prompts. A resample is written as **counts**, how often each question was drawn, so
that a weighted figure is computed for all resamples at once. The same seed draws the same questions, so that figures
that are to be compared are resampled in pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError
from flarekit.stats.arrays import Floats
from flarekit.stats.intervals import Interval

RESAMPLES = 4999
"""For figures that cost little to compute again."""
REFITTED = 1100
"""For figures that choose or fit anew in every resample: 1,000 remain where up to one in eleven is undefined."""


def resample_counts(n: int, resamples: int, seed: int | np.random.Generator = 0) -> Floats:
    """How often each of n questions is drawn. Shape (1 + resamples, n); the first row is the sample itself, all ones.

    `seed` may be a generator, which the draws then advance.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.vstack([np.ones(n), drawn])


def mean_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of `values`, shape (n,), n >= 1, with its percentile bootstrap interval.

    The bias-corrected interval (BCa) covers no better on means of F1-like values, and has no value at all on some.
    Values that are all equal give an interval of no width: the bootstrap sees no spread in them, and neither can we.
    `ConfigError` where there is no value.
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0:
        raise ConfigError(f"an interval needs at least one value in one dimension, not shape {sample.shape}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    if np.ptp(sample) == 0:
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), resamples)


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of `ours - theirs`, two arrays of shape (n,) over the same questions, with its bootstrap interval.

    Pairing takes the questions' own difficulty out, which differs far more between questions than policies do.
    `ConfigError` where the shapes differ or are empty.
    """
    left, right = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if left.shape != right.shape:
        raise ConfigError(f"paired values must belong to the same questions, not shapes {left.shape} and {right.shape}")
    return mean_interval(left - right, confidence=confidence, resamples=resamples, seed=seed)
