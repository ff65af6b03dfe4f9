"""Tests of no difference between paired arms or signals, and the correction of many tests at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError
from flarekit.stats.arrays import Floats


@dataclass(frozen=True, slots=True)
class Discordant:
    """Discordant pairs: the questions that exactly one of two arms answers right."""

    ours: int
    """How many only ours answers right."""
    theirs: int
    p: float
    """Two-sided, of neither being right more often."""


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> Discordant:
    """McNemar's exact test on two arrays of rights (1) and wrongs (0), shape (n,), over the same questions.

    On discordant pairs either arm is as likely to be the right one if they are equally good: a binomial test of a half
    (McNemar 1947, in its exact form). p is 1 where there is none. `ConfigError` where the shapes differ or a value is
    neither 0 nor 1.
    """
    left, right = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if left.shape != right.shape or left.ndim != 1:
        raise ConfigError(f"paired values must belong to the same questions, not shapes {left.shape} and {right.shape}")
    if not np.isin(np.concatenate((left, right)), (0, 1)).all():
        raise ConfigError("McNemar's test is of rights and wrongs, 1 and 0; other scores have a paired difference")
    won, lost = int((left > right).sum()), int((left < right).sum())
    return Discordant(won, lost, float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0)


def bootstrap_p(drawn: Floats) -> float:
    """The two-sided p-value of a difference of zero: twice the share of resamples on the rarer side, at most 1.

    `drawn` is of shape (1 + resamples,), the estimate first. It is never below 2 / (resamples + 1): that few cannot
    show less.
    """
    counted = drawn[1:][~np.isnan(drawn[1:])]
    rarer = min((counted <= 0).sum(), (counted >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (counted.size + 1)))


def holm(p: ArrayLike) -> Floats:
    """p-values of several tests made together, corrected (Holm 1979); NaN stays and is not counted. Same shape."""
    given = np.asarray(p, dtype=float)
    corrected = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if order.size else steps
    return corrected
