"""Intervals of means and of paired differences, by the bootstrap over questions; and a test of rights and wrongs.

The questions are the sample: an interval says how far a figure could move with other questions of the same kind. It
says nothing about other models or prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds between which it would stay with other questions."""

    estimate: float
    low: float
    """NaN, like `high`, where a single value leaves the spread unknown."""
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero; False where its bounds are unknown."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Discordant:
    """Questions that one arm answers right and the other wrong; the rest says nothing of which is better."""

    ours: int
    """How many only ours answers right."""
    theirs: int
    p: float
    """Two-sided, of neither being right more often."""


def mean_interval(values: ArrayLike, *, confidence: float = 0.95, resamples: int = 4999, seed: int = 0) -> Interval:
    """The mean of `values`, shape (n,), n >= 1, with its percentile bootstrap interval (Efron 1979).

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
    return Interval(mean, float(found.low), float(found.high))


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, resamples: int = 4999, seed: int = 0
) -> Interval:
    """The mean of `ours - theirs`, two arrays of shape (n,) over the same questions, with its bootstrap interval.

    Pairing takes the questions' own difficulty out, which differs far more between questions than policies do.
    `ConfigError` where the shapes differ or are empty.
    """
    left, right = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if left.shape != right.shape:
        raise ConfigError(f"paired values must belong to the same questions, not shapes {left.shape} and {right.shape}")
    return mean_interval(left - right, confidence=confidence, resamples=resamples, seed=seed)


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> Discordant:
    """McNemar's exact test on two arrays of rights (1) and wrongs (0), shape (n,), over the same questions.

    Where the arms differ, either is as likely to be the right one if they are equally good: a binomial test of a half
    (McNemar 1947, in its exact form). p is 1 where they differ nowhere. `ConfigError` where the shapes differ or a
    value is neither 0 nor 1.
    """
    left, right = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if left.shape != right.shape or left.ndim != 1:
        raise ConfigError(f"paired values must belong to the same questions, not shapes {left.shape} and {right.shape}")
    if not np.isin(np.concatenate((left, right)), (0, 1)).all():
        raise ConfigError("McNemar's test is of rights and wrongs, 1 and 0; other scores have a paired difference")
    won, lost = int((left > right).sum()), int((left < right).sum())
    return Discordant(won, lost, float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0)
