"""Thresholds that meet a target on recorded values, two of the targets with a guarantee for further questions.

A question is *acted on* where its value is at or above the threshold, and its answer *accepted* where it is below.
Values and labels are arrays of shape (n,) over the questions; every threshold given back is one that a policy's
specification can write exactly, so that what is printed is what was calibrated. The promises are for a signal that was
not picked by its figures on these very questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flarekit.errors import ConfigError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

GRID = 20
"""Thresholds that `by_wrong_accepted` may test."""
_DOWN, _UP = (Context(prec=6, rounding=mode) for mode in (ROUND_FLOOR, ROUND_CEILING))
_NEAR_ZERO = Decimal("1e-9")
_ROUNDING = 1e-9
"""Slack where a share of n questions is compared with a count of them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a policy writes its threshold: six digits, of the threshold itself or (flare's theta) of 1 minus it."""

    parameter: str = "threshold"
    high: float = math.inf
    """The largest threshold that the policy takes."""

    def written(self, threshold: float) -> str:
        """The parameter's value."""
        return f"{1 - threshold if self.parameter == 'theta' else threshold:g}"

    def at_most(self, value: float) -> float:
        """The largest threshold that can be written and is not above `value`."""
        if value <= 0 or value == math.inf:
            return max(value, 0.0)
        if self.parameter == "theta":
            theta = _UP.plus(1 - Decimal(value))
            found = 1 - float(theta)
            return found if found <= value else 1 - float(theta.next_plus(_UP))
        nearest = float(f"{value:.6g}")
        return nearest if nearest <= value else float(_DOWN.plus(Decimal(value)))

    def above(self, value: float) -> float | None:
        """The smallest threshold that can be written and is above `value`; None where the scale ends before it.

        Nearer than 1e-9 to where a parameter is 0, no digit is told from the next.
        """
        if self.parameter == "theta":
            theta = (1 - Decimal(value)).next_minus(_DOWN)
            if 1 - float(theta) <= value:  # the written number and the value are the same float
                theta = theta.next_minus(_DOWN)
            found = 1 - float(theta) if theta > _NEAR_ZERO else 1.0
        elif value < _NEAR_ZERO:
            found = float(_NEAR_ZERO)
        else:
            found = float(Decimal(value).next_plus(_UP))
            if found <= value:  # the written number and the value are the same float
                found = float(Decimal(found).next_plus(_UP).next_plus(_UP))
        return found if value < found <= self.high else None


def by_rate(values: Floats, rate: float, scale: Scale) -> float:
    """The smallest threshold that acts on no more than a share `rate` of the questions.

    It is a quantile of n values: where they don't tie, a further question is acted on with probability at most `rate`,
    on average over the draws of the n. `ConfigError` where too many share the highest value.
    """
    tried, accepted = _tried(values, scale)
    fine = tried[values.size - accepted <= rate * values.size + _ROUNDING]
    if not fine.size:
        least = 1 - accepted[-1] / values.size
        raise ConfigError(f"rate={rate:g} is out of reach: a share {least:.3g} of the questions has the highest value")
    return float(fine[0])


def by_cost(values: Floats, left: Floats, acted: Floats, cost: float, scale: Scale) -> float:
    """The smallest threshold whose mean cost is at most `cost`: `left` for what is accepted, `acted` for the rest.

    `ConfigError`, with the range that can be reached, where none is.
    """
    tried, accepted = _tried(values, scale)
    order = np.argsort(values, kind="stable")
    more = np.concatenate(([0.0], np.cumsum((left - acted)[order])))
    means = (acted.sum() + more[accepted]) / values.size
    fine = tried[means <= cost * (1 + _ROUNDING)]
    if not fine.size:
        raise ConfigError(
            f"cost={cost:g} is out of reach: thresholds give mean costs of {means.min():.4g} to {means.max():.4g}"
        )
    return float(fine[0])


def by_risk(values: Floats, wrong: Flags, risk: float, scale: Scale) -> float:
    """The largest threshold that keeps the chance of an answer that is accepted *and* wrong at `risk` or below.

    Conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814, theorem 1) with the loss 1[accepted and wrong],
    which can only grow with the threshold: the largest one with (k + 1) / (n + 1) <= risk, where k of n questions are
    accepted and wrong. For a further question that is exchangeable with these n, P(accepted and wrong) <= risk, over
    the draw of all n + 1. Any smaller threshold keeps that promise, so rounding down is safe. 0, which accepts nothing,
    where n < 1 / risk - 1.
    """
    tried, accepted = _tried(values, scale)
    allowed = risk * (values.size + 1) + _ROUNDING - 1
    fine = tried[_wrong_below(values, wrong)[accepted] <= allowed]
    return float(fine[-1]) if fine.size else 0.0


def by_wrong_accepted(values: Floats, wrong: Flags, share: float, confidence: float, scale: Scale) -> float:
    """A threshold of whose accepted answers at most `share` are wrong, with probability `confidence` over the n.

    Learn then Test (Angelopoulos et al. 2021, arXiv:2110.01052): for a threshold t, the hypothesis that more than
    `share` of the answers below t are wrong is rejected by the exact binomial tail of the wrong ones among the accepted
    (the selective risk of Geifman & El-Yaniv 2017, arXiv:1705.08500). The thresholds are the values at up to `GRID`
    fixed ranks of the n, the same whatever the labels are: given one of them, the m values below it are a random sample
    of all values below it, so that the count of wrong ones is binomial.

    They are tested from the strictest on, and the first that is not rejected ends the sequence. Why a level of
    1 - `confidence` for each suffices, although the thresholds are drawn too: let R(t) be the true share, continuous in
    t where values don't tie. Between two places where R crosses `share`, exactly a share `share` of the answers is
    wrong. Given how many values fall between these places, the first tested t with R(t) > `share` has a count of wrong
    ones that is a sum of binomials, each of a rate of `share` or more; so it is rejected with probability
    1 - `confidence` at most. Where values tie, R jumps and this fails: then every threshold is tested at
    (1 - `confidence`) / `GRID` (Bonferroni), and the largest rejected one counts.

    The ranks begin where one wrong answer still allows a rejection: a sequence that begins earlier more often ends at
    its first test. 0, which accepts nothing, where no hypothesis is rejected.
    """
    n, ordered = values.size, np.sort(values)
    tied = np.unique(values).size < n
    level = (1 - confidence) / (GRID if tied else 1)
    ranks = np.unique([min(math.ceil(n * step / GRID), n - 1) for step in range(1, GRID + 1)])
    ranks = ranks[stats.binom.cdf(1, ranks, share) <= level]
    thresholds = [scale.at_most(ordered[rank]) for rank in ranks]
    accepted = np.searchsorted(ordered, thresholds)
    found = stats.binom.cdf(_wrong_below(values, wrong)[accepted], accepted, share) <= level
    rejected = np.flatnonzero(found if tied else np.logical_and.accumulate(found))
    return thresholds[rejected[-1]] if rejected.size else 0.0


def _tried(values: Floats, scale: Scale) -> tuple[Floats, NDArray[np.int64]]:
    """The thresholds worth trying, rising, and how many questions each accepts.

    One for every set of questions that a threshold can accept, and of those that accept the same set the largest.
    """
    written = {0.0, *map(scale.at_most, values)}
    written.update(above for above in map(scale.above, values) if above is not None)
    tried = np.array(sorted(written))
    accepted = np.searchsorted(np.sort(values), tried)
    last = np.append(accepted[1:] != accepted[:-1], True)
    return tried[last], accepted[last]


def _wrong_below(values: Floats, wrong: Flags) -> NDArray[np.int64]:
    """How many of the m answers with the lowest values are wrong, for m from 0 to n. Shape (n + 1,)."""
    order = np.argsort(values, kind="stable")
    return np.concatenate(([0], np.cumsum(wrong[order])))
