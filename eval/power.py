"""How many questions it takes to tell a difference apart, from how much paired differences spread in a pilot run.

A difference is **shown** when a two-sided test at `alpha` finds it; the **power** is how often that happens when it is
there. For mean differences of paired scores the test is Student's on the differences, whose result the paired
bootstrap's hardly differs from; for rights and wrongs it is McNemar's, exactly. Differences are of mean scores, 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError
from flarekit.eval.statistics import Interval, paired_difference

DIFFERENCES = (0.02, 0.05, 0.1)
"""What a table of powers is for unless a difference is asked for."""
POWER = 0.8
ALPHA = 0.05
_MOST = 10_000_000
"""Questions beyond which nobody will ask; the search ends there."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a recorded run says of two arms on the same questions."""

    n: int
    difference: Interval
    spread: float
    """Standard deviation of the paired differences."""
    discordant: float | None = None
    """The share of questions that just one of them answers right; None where scores are not rights and wrongs."""


def pilot(ours: ArrayLike, theirs: ArrayLike) -> Pilot:
    """Two arms' scores on the same n >= 2 questions, both of shape (n,). `ConfigError` with fewer."""
    difference = paired_difference(ours, theirs)
    values = np.subtract(ours, theirs).astype(float)
    if values.size < 2:
        raise ConfigError("the spread of a single question's difference is unknown: two or more are needed")
    scores = np.concatenate((np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)))
    binary = bool(np.isin(scores, (0, 1)).all())
    share = float((values != 0).mean()) if binary else None
    return Pilot(values.size, difference, float(values.std(ddof=1)), share)


def questions_needed(spread: float, difference: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """The fewest questions that show a mean difference with that power, by Student's paired test.

    n = ((t(1 - alpha/2) + t(power)) · spread / difference)², the quantiles being those of n - 1 degrees of freedom: the
    normal theory's formula (Cohen 1988, section 2.4), corrected for a spread that is itself estimated.
    """
    _check(difference, power, alpha)
    if not (math.isfinite(spread) and spread >= 0):
        raise ConfigError(f"a standard deviation is a number of at least 0, not {spread:g}")
    return _fewest(lambda n: smallest_difference(n, spread, power=power, alpha=alpha) <= difference)


def smallest_difference(n: int, spread: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest mean difference that n >= 2 questions show with that power: the inverse of `questions_needed`."""
    return float(stats.t.isf(alpha / 2, n - 1) + stats.t.ppf(power, n - 1)) * spread / math.sqrt(n)


def mcnemar_power(n: int, discordant: float, difference: float, *, alpha: float = ALPHA) -> float:
    """How often McNemar's exact test on n questions shows a difference of the shares of right answers.

    `discordant` is the share of questions that just one of the arms answers right; the difference is at most that. How
    many of the n are such is binomial, and so is how many of those ours gets: the sum over both, with no approximation.
    """
    if not 0 < difference <= discordant <= 1:
        raise ConfigError(f"a difference of {difference:g} needs as many discordant answers, and {discordant:g} are")
    likely = stats.binom.ppf((1e-10, 1 - 1e-10), n, discordant).astype(int)
    pairs = np.arange(likely[0], likely[1] + 1)
    bound = stats.binom.ppf(alpha / 2, pairs, 0.5)  # the largest count whose tail is within alpha / 2, or one more
    bound = np.where(stats.binom.cdf(bound, pairs, 0.5) <= alpha / 2, bound, bound - 1)
    ours = (discordant + difference) / (2 * discordant)
    shown = stats.binom.cdf(bound, pairs, ours) + stats.binom.sf(pairs - bound - 1, pairs, ours)
    return float(stats.binom.pmf(pairs, n, discordant) @ shown)


def questions_needed_mcnemar(
    discordant: float, difference: float, *, power: float = POWER, alpha: float = ALPHA
) -> int:
    """The fewest questions that show a difference of the shares of right answers, by McNemar's exact test.

    Counts make the power ripple by less than a hundredth as n grows; the search takes it as rising.
    """
    _check(difference, power, alpha)
    return _fewest(lambda n: mcnemar_power(n, discordant, difference, alpha=alpha) >= power)


def smallest_difference_mcnemar(
    n: int, discordant: float, *, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """The smallest difference that n questions show with that power, to .001; None where not even the largest is."""
    steps = np.arange(1, math.floor(discordant * 1000 + 1e-9) + 1) / 1000
    place = int(np.searchsorted([mcnemar_power(n, discordant, step, alpha=alpha) for step in steps], power))
    return float(steps[place]) if place < steps.size else None


def _fewest(enough: Callable[[int], bool]) -> int:
    """The smallest n >= 2 that is enough, where more always are."""
    high = 2
    while not enough(high):
        if high > _MOST:
            raise ConfigError(f"not even {_MOST:,} questions would show that difference")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(difference: float, power: float, alpha: float) -> None:
    for name, value in (("difference", difference), ("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ConfigError(f"{name}={value:g} is outside its range: it lies between 0 and 1")
    if power <= alpha:
        raise ConfigError(f"a power of {power:g} is no more than alpha, which chance alone reaches")
