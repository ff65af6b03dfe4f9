"""The best mixture of arms within a budget and a split of the spending, for thousands of samples at once.

A mixture is a share of the questions for every arm. The best one solves a linear programme with one weight an arm and
three constraints besides their sum: what is spent, and how much of that goes to the first way at most and at least. It
lies at a corner of what is allowed, and a corner mixes one arm more than it meets constraints exactly: three arms at
most, since what goes to the first way cannot be the most and the least at once, unless nothing is spent. So all corners
are tried, each for all samples together; a general solver takes milliseconds for every one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from flarekit.stats.arrays import Floats

Corner = tuple[tuple[int, ...], list[Floats]]
"""Places of arms, and the weight of each in every problem; NaN or below 0 where they have no such corner."""
_TOLERANCE = 1e-9
"""Of a constraint, in budgets: means of the same prices differ by rounding."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the arms come to in every sample; all of shape (samples, arms)."""

    scores: Floats
    prices: Floats
    first: Floats
    """Spent on the first way."""
    second: Floats


@dataclass(frozen=True, slots=True)
class Mixtures:
    """The best mixture for every share and sample."""

    weights: Floats
    """At least 0, with a sum of 1; all 0 where no mixture keeps to budget and share. Shape (shares, samples, arms)."""
    values: Floats
    """Mean score in the sample that it was fitted on; -inf where there is none. Shape (shares, samples)."""


def best_mixtures(means: Means, budget: float, shares: Sequence[float], slack: float) -> Mixtures:
    """For each of the `shares` the mixture of highest mean score that costs `budget` or less on average.

    Of what it spends on the two ways, a part of `share` ± `slack` goes to the first; nothing at all is any share.
    """
    scores = means.scores.T
    kept = _constraints(means, budget, np.array(shares), slack)
    samples, arms = means.scores.shape
    values = np.full((len(shares), samples), -np.inf)
    weights = np.zeros((arms, len(shares), samples))
    tolerance = _TOLERANCE * max(abs(budget), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for places, given in _corners(kept):
            found = _mixed(scores, places, given)
            better = found > values
            for weight in given:
                better &= weight >= 0
            for constraint in kept:
                better &= _mixed(constraint, places, given) <= tolerance
            if better.any():
                np.copyto(values, found, where=better)
                np.copyto(weights, 0.0, where=better)
                for place, weight in zip(places, given, strict=True):
                    np.copyto(weights[place], weight, where=better)
    return Mixtures(np.ascontiguousarray(weights.transpose(1, 2, 0)), values)


def _constraints(means: Means, budget: float, shares: Floats, slack: float) -> tuple[Floats, Floats, Floats]:
    """What a mixture's weights must not sum to more than 0 with, each of shape (arms, shares, samples)."""
    prices, first, second = (np.ascontiguousarray(one.T)[:, None] for one in (means.prices, means.first, means.second))
    share = shares[:, None]
    most = first - (share + slack) * (first + second)
    least = (share - slack) * (first + second) - first
    return np.broadcast_to(prices - budget, most.shape), most, least


def _corners(kept: tuple[Floats, Floats, Floats]) -> Iterator[Corner]:
    """Every arm alone, two that meet a constraint exactly, and three that meet the budget and a bound of the share."""
    prices, most, least = kept
    arms, whole = range(len(prices)), np.ones(prices.shape[1:])
    for arm in arms:
        yield (arm,), [whole]
    for one, other in combinations(arms, 2):
        for kind in kept:
            yield (one, other), _normed([kind[other], -kind[one]])
    for a, b, c in combinations(arms, 3):
        for kind in (most, least):
            left, right = (prices[a], prices[b], prices[c]), (kind[a], kind[b], kind[c])
            crossed = [left[i] * right[j] - left[j] * right[i] for i, j in ((1, 2), (2, 0), (0, 1))]
            yield (a, b, c), _normed(crossed)


def _normed(weights: list[Floats]) -> list[Floats]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _mixed(values: Floats, places: tuple[int, ...], weights: list[Floats]) -> Floats:
    """Sum of the arms' values by their weights; values of shape (arms, ...)."""
    return np.asarray(sum(weight * values[place] for place, weight in zip(places, weights, strict=True)))
