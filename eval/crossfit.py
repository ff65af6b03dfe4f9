"""Compares two families of arms at equal cost and at equal score, without rewarding the one with more arms.

The best of many arms on some questions looks better there than it is. So arms are chosen on one half of the questions
and judged on the other, and the other way round: every question is answered by arms that were chosen without it
(two-fold cross-fitting). Which questions fall into which half is drawn `SPLITS` times, and the results are averaged. So
what is estimated is what a family is worth to somebody who chooses from it on half as many questions as these.

Chosen is a mixture of two neighbouring corners of the family's hull (`flarekit.eval.frontier`): the one with the
highest score for a mean cost, or the cheapest with a mean score. A mixture's score and cost on a question are its
arms', weighted.

Intervals come from resampling the questions and doing all of this again for every resample, the choice too: two arms
that are nearly alike change places from one set of questions to another, and an interval that holds the choice fixed is
too narrow (it holds the truth 85 to 88 times in a hundred; these do 96 to 98 times: `benchmarks/coverage.py`). A
resample is n draws from the questions, whose places are split into halves like the questions' own: in the world of the
resample the recorded questions are all that there is, and its halves are independent draws from them, as ours are from
the questions of the world. The estimate of a resample therefore lies elsewhere than ours (there, the choice is made
among these questions and judged by the very same), but it spreads as ours would. So that spread alone is taken: the
interval is the estimate ± 1.96 standard deviations of the resamples, and p is of the normal distribution too. A family
compared with itself differs by exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import DataError
from flarekit.eval.families import Floats, Matrix
from flarekit.eval.frontier import Places, hulls
from flarekit.eval.statistics import Interval

FEWEST = 10
"""Questions below which nothing is compared: halves of fewer than five choose at random."""
SPLITS = 10
RESAMPLES = 999
_BUDGETS = 9
"""Costs, evenly over a range, whose scores are averaged."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What one family has more than the other, a question."""

    interval: Interval
    p: float
    """Two-sided, of no difference."""
    spread: float
    """The standard deviation that single questions' differences would need for an interval of this width."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two families, ours minus theirs, by arms that were chosen without the questions they are judged on."""

    n: int
    budget: float
    """The mean cost of a question at which scores are compared."""
    score: Gap
    """Score at that cost."""
    spent: Gap
    """What was really spent there: near 0, unless a family is at its best for less."""
    ours: float
    """Our score at that cost."""
    theirs: float
    overall: Gap
    """Score averaged over the whole common range of costs: the difference of the cross-fitted AIQs."""
    target: float
    """The mean score at which costs are compared."""
    cost: Gap
    """Cost at that score."""
    reached: Gap
    """What was really scored there: near 0, less where our arms promise more than they keep."""


def compare_families(
    figures: Matrix,
    ours: Sequence[str],
    theirs: Sequence[str],
    *,
    costs: tuple[float, float],
    budget: float | None = None,
    target: float | None = None,
    splits: int = SPLITS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Our arms against theirs, over the common range `costs`, at `budget` (its middle) and at `target`.

    The middle, because it depends on nobody's score, and lies where a family that saves costs and one that spends them
    both have arms. `target` is the middle of the common range of scores unless told otherwise: of the hulls over all
    questions, from where the higher one begins to where the lower one ends. `DataError` with fewer than `FEWEST`
    questions.
    """
    n = len(figures.questions)
    if n < FEWEST:
        raise DataError(f"families are compared on {FEWEST} or more questions that all their arms finished, not {n}")
    sides = [figures.rows(ours), figures.rows(theirs)]
    middle = sum(costs) / 2 if budget is None else budget
    level = _middle_score(figures, sides) if target is None else target
    goals = _Goals(middle, level, tuple(np.linspace(*costs, _BUDGETS)))
    values = np.zeros((2, 5, resamples + 1))
    for halves in split_draws(n, splits, resamples, seed):
        for side, rows in enumerate(sides):
            values[side] += _judged(figures.scores[rows], figures.costs[rows], halves, goals) / splits
    score, spent, overall, cost, reached = (_gap(drawn, n) for drawn in values[0] - values[1])
    means = float(values[0, 0, 0]), float(values[1, 0, 0])
    return Comparison(n, middle, score, spent, *means, overall, level, cost, reached)


def split_draws(n: int, splits: int, resamples: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """How often each question is in either half, for every split of the places into two.

    Both of shape (1 + resamples, n); the first row is the questions themselves, each once in one of the halves.
    """
    rng = np.random.default_rng(seed)
    drawn = np.vstack([np.arange(n), rng.integers(0, n, (resamples, n))])
    for _ in range(splits):
        places = rng.permutation(n)
        yield _counts(drawn[:, places[: n // 2]], n), _counts(drawn[:, places[n // 2 :]], n)


def chosen_by_half(figures: Matrix, arms: Sequence[str], budget: float, seed: int = 0) -> Places:
    """For each question the place of the arm that answers it: the choice of the half without it, for one split.

    For what needs one answer a question, such as McNemar's test: which arm of a mixture it is is decided by the toss of
    a coin, the same for every family, so that where two choose alike they answer alike. Shape (questions,).
    """
    rows, n = np.array(figures.rows(arms)), len(figures.questions)
    [(first, second)] = split_draws(n, 1, 0, seed)
    coins = np.random.default_rng(seed + 1).uniform(size=n)
    found = np.zeros(n, dtype=np.intp)
    for choosing, judging in ((first[0] > 0, second[0] > 0), (second[0] > 0, first[0] > 0)):
        costs = figures.costs[rows][:, choosing].mean(axis=1)
        scores = figures.scores[rows][:, choosing].mean(axis=1)
        one, other, share = hulls(costs[None], scores[None]).at_cost(budget)
        found[judging] = rows[np.where(coins[judging] < share, other, one)]
    return found


@dataclass(frozen=True, slots=True)
class _Goals:
    budget: float
    score: float
    budgets: tuple[float, ...]


def _judged(scores: Floats, costs: Floats, halves: tuple[Floats, Floats], goals: _Goals) -> Floats:
    """What is chosen on either half, judged on the other. Shape (5, rows): the order of `Comparison`'s gaps.

    Score and cost at the budget, mean score over the budgets, cost and score at the score.
    """
    sums = [(half.sum(axis=1, keepdims=True), half @ scores.T, half @ costs.T) for half in halves]
    total = np.zeros((5, len(halves[0])))
    for (size, score, cost), (_, judged_score, judged_cost) in (sums, sums[::-1]):
        found = hulls(cost / size, score / size)
        at_budget, at_score = found.at_cost(goals.budget), found.at_score(goals.score)
        total += [
            _mixed(judged_score, at_budget),
            _mixed(judged_cost, at_budget),
            np.mean([_mixed(judged_score, found.at_cost(budget)) for budget in goals.budgets], axis=0),
            _mixed(judged_cost, at_score),
            _mixed(judged_score, at_score),
        ]
    return np.asarray(total / scores.shape[1])


def _mixed(values: Floats, mixture: tuple[Places, Places, Floats]) -> Floats:
    """Each row's value of its mixture of two arms. Values of shape (rows, arms)."""
    first, second, share = mixture
    rows = np.arange(len(values))
    return np.asarray((1 - share) * values[rows, first] + share * values[rows, second])


def _middle_score(figures: Matrix, sides: Sequence[Sequence[int]]) -> float:
    """The middle of the scores that both families' hulls reach on all questions."""
    means = figures.costs.mean(axis=1), figures.scores.mean(axis=1)
    found = [hulls(means[0][None, rows], means[1][None, rows]) for rows in map(list, sides)]
    low = max(float(one.scores[0, 0]) for one in found)
    return (low + max(low, min(float(one.scores[0, -1]) for one in found))) / 2


def _counts(drawn: NDArray[np.int64], n: int) -> Floats:
    """How often each of n questions is in every row of draws. Shape (rows, n)."""
    rows = np.arange(len(drawn))[:, None]
    counted = np.bincount((rows * n + drawn).ravel(), minlength=len(drawn) * n)
    return np.asarray(counted.reshape(len(drawn), n), dtype=float)


def _gap(drawn: Floats, n: int) -> Gap:
    """The first value, with the spread of the others around it."""
    estimate, error = float(drawn[0]), float(drawn[1:].std(ddof=1))
    if error < 1e-12:
        return Gap(Interval(estimate, estimate, estimate), float(abs(estimate) < 1e-12), 0.0)
    p = 2 * NormalDist().cdf(-abs(estimate) / error)
    width = NormalDist().inv_cdf(0.975) * error
    return Gap(Interval(estimate, estimate - width, estimate + width), p, error * n**0.5)
