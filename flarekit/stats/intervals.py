"""Estimates with their 95% intervals, and how many bootstrap resamples each of them rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from flarekit.stats.arrays import Floats

FEWEST = 1000
"""Bootstrap resamples below which no interval is called one of 95%: its bounds would move from seed to seed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds between which it would stay with other questions."""

    estimate: float
    low: float
    """NaN, like `high`, where a single value leaves the spread unknown."""
    high: float
    resamples: int = 0
    """How many bootstrap resamples the bounds were taken from; 0 where they follow from a formula or are unknown."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero; False where its bounds are unknown."""
        return self.low > 0 or self.high < 0

    @property
    def stated(self) -> bool:
        """Whether its bounds may be given as a 95% interval: they are known, and not from too few resamples."""
        return self.low == self.low and not 0 < self.resamples < FEWEST


def percentile_interval(drawn: Floats, *, confidence: float = 0.95, nearest: bool = False) -> Interval:
    """The percentile bootstrap interval (Efron 1979) of a figure: `drawn` is of shape (1 + resamples,).

    The first value is the estimate, the others are the figure on resamples; those where it is undefined (NaN) are left
    out and not counted. `nearest` takes bounds that were drawn instead of interpolating, for figures that may be
    infinite.
    """
    known = drawn[1:][~np.isnan(drawn[1:])]
    if not known.size:
        return Interval(float(drawn[0]), np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail], method="nearest" if nearest else "linear")
    return Interval(float(drawn[0]), float(low), float(high), int(known.size))


def spread_interval(drawn: Floats, freedom: float = np.inf) -> Interval:
    """The estimate ± t standard deviations of its resamples, for a bootstrap whose resamples are centred elsewhere.

    `drawn` as in `percentile_interval`. t is Student's for `freedom` degrees of freedom, the normal's without a limit.
    """
    estimate, known = float(drawn[0]), drawn[1:][~np.isnan(drawn[1:])]
    if known.size < 2:
        return Interval(estimate, np.nan, np.nan)
    width = float(stats.t.isf(0.025, freedom) * known.std(ddof=1))
    return Interval(estimate, estimate - width, estimate + width, int(known.size))


def share_interval(count: int, of: int) -> Interval:
    """A share with Wilson's 95% interval (1927), which needs no resampling; NaN throughout of nothing."""
    if of == 0:
        return Interval(np.nan, np.nan, np.nan)
    bounds = stats.binomtest(count, of).proportion_ci(0.95, "wilson")
    return Interval(count / of, float(bounds.low), float(bounds.high))
