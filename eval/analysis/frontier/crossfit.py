"""Compares two families of arms at equal cost and at equal score, without rewarding the one with more arms.

The best of many arms on some questions looks better there than it is. So arms are chosen on one half of the questions
and judged on the other, and the other way round: every question is answered by arms that were chosen without it
(two-fold cross-fitting). Which questions fall into which half is drawn `SPLITS` times, and the results are averaged. So
what is estimated is what a family is worth to somebody who chooses from it on half as many questions as these.

Chosen is a mixture of two neighbouring corners of the family's hull (`flarekit.eval.analysis.frontier.frontier`): the
one with the highest score for a mean cost, or the cheapest with a mean score. A mixture's score and cost on a question
are its arms', weighted.

Intervals come from resampling the questions and doing all of this again for every resample, the choice too: two arms
that are nearly alike change places from one set of questions to another, and an interval that holds the choice fixed is
too narrow (its coverage is 85 to 88%; that of these intervals is 97 to 99%: `benchmarks/coverage.py`). All copies of a
question, drawn twice or recorded under two ids, fall into the same half (`flarekit.stats.halves`). A half of a resample
therefore holds fewer different questions than a half of the sample, so that its choices vary more and the intervals are
rather too wide. Its estimate lies elsewhere than ours, so its spread alone is taken: the interval is the estimate ± t
standard deviations of the resamples, and p is of Student's distribution too, with as many degrees of freedom as half of
the questions, less one: a choice is made on no more. How often p is small where nothing differs is in
`benchmarks/power.md`. A family compared with itself differs by exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from flarekit.errors import DataError
from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.eval.analysis.frontier.frontier import Places, hulls
from flarekit.stats.arrays import Flags, Floats
from flarekit.stats.bootstrap import REFITTED
from flarekit.stats.halves import halved_resamples
from flarekit.stats.intervals import Interval, spread_interval

__all__ = ["Comparison", "Gap", "Weights", "chosen_by_half", "compare_families", "score_gap"]

FEWEST = 10
"""Questions below which nothing is compared: halves of fewer than five choose at random."""
SPLITS = 10
RESAMPLES = REFITTED
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
class Weights:
    """How much of what is chosen is arms of a family's own, not ends that both families have; 0 to 1, ours and theirs.

    Where it is little, ends are compared with themselves, and a difference is small whatever the own arms are worth.
    """

    budget: tuple[float, float]
    """At the budget."""
    overall: tuple[float, float]
    """On average over the range of costs."""
    target: tuple[float, float]
    """At the score."""


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
    weights: Weights


def compare_families(
    figures: Matrix,
    ours: Sequence[str],
    theirs: Sequence[str],
    *,
    costs: tuple[float, float],
    ends: Sequence[str] = (),
    budget: float | None = None,
    target: float | None = None,
    splits: int = SPLITS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Our arms against theirs, over the range `costs`, at `budget` (its middle unless told otherwise) and at `target`.

    `ends` are those of the arms that are no family's own. `target` is the middle of the common range of scores unless
    told otherwise: of the hulls over all questions, from where the higher one begins to where the lower one ends.
    `DataError` with fewer than `FEWEST` questions, those that ask the same counted once.
    """
    count = int(figures.units.max()) + 1
    if count < FEWEST:
        raise DataError(
            f"families are compared on {FEWEST} or more questions that all their arms finished, not {count}"
        )
    sides = [figures.rows(ours), figures.rows(theirs)]
    middle = sum(costs) / 2 if budget is None else budget
    level = _middle_score(figures, sides) if target is None else target
    goals = _Goals(middle, level, tuple(np.linspace(*costs, _BUDGETS)))
    own = ~np.isin(figures.arms, list(ends))
    values = np.zeros((2, 8, resamples + 1))
    for halves in halved_resamples(figures.units, splits, resamples, seed):
        for side, rows in enumerate(sides):
            values[side] += _judged(figures.scores[rows], figures.costs[rows], own[rows], halves, goals) / splits
    score, spent, overall, cost, reached = (_gap(drawn, count) for drawn in values[0, :5] - values[1, :5])
    means = float(values[0, 0, 0]), float(values[1, 0, 0])
    weights = Weights(*((float(ours), float(theirs)) for ours, theirs in values[:, 5:, 0].T))
    return Comparison(len(figures.questions), middle, score, spent, *means, overall, level, cost, reached, weights)


def score_gap(
    figures: Matrix,
    ours: Sequence[str],
    theirs: Sequence[str],
    budget: float,
    *,
    splits: int = SPLITS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Gap:
    """`Comparison.score` alone, several times as fast: what a simulation needs of very many comparisons."""
    sides = [figures.rows(ours), figures.rows(theirs)]
    values = np.zeros((2, resamples + 1))
    for halves in halved_resamples(figures.units, splits, resamples, seed):
        sums = _sums(figures.scores, figures.costs, halves)
        size = (sums[0][0] + sums[1][0])[:, 0]
        for side, rows in enumerate(sides):
            for (chosen, score, cost), (_, judged_score, _) in (sums, sums[::-1]):
                found = hulls(cost[:, rows] / chosen, score[:, rows] / chosen)
                values[side] += _mixed(judged_score[:, rows], found.at_cost(budget)) / (size * splits)
    return _gap(values[0] - values[1], int(figures.units.max()) + 1)


def chosen_by_half(figures: Matrix, arms: Sequence[str], budget: float, seed: int = 0) -> Places:
    """For each question the place of the arm that answers it: the choice of the half without it, for one split.

    For what needs one answer a question, such as McNemar's test: which arm of a mixture it is is decided by the toss of
    a coin, the same for every family, so that where two choose alike they answer alike. Shape (questions,).
    """
    rows, n = np.array(figures.rows(arms)), len(figures.questions)
    [(first, second)] = halved_resamples(figures.units, 1, 0, seed)
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


def _judged(scores: Floats, costs: Floats, own: Flags, halves: tuple[Floats, Floats], goals: _Goals) -> Floats:
    """What is chosen on either half, judged on the other. Shape (8, rows).

    Score and cost at the budget, mean score over the budgets, cost and score at the score; and the weights of the
    family's `own` arms at the budget, over the budgets and at the score.
    """
    sums = _sums(scores, costs, halves)
    total = np.zeros((8, len(halves[0])))
    for (size, score, cost), (judged, judged_score, judged_cost) in (sums, sums[::-1]):
        found = hulls(cost / size, score / size)
        at_budget, at_score = found.at_cost(goals.budget), found.at_score(goals.score)
        anywhere = [found.at_cost(budget) for budget in goals.budgets]
        weight = own * judged
        total += [
            _mixed(judged_score, at_budget),
            _mixed(judged_cost, at_budget),
            np.mean([_mixed(judged_score, mixture) for mixture in anywhere], axis=0),
            _mixed(judged_cost, at_score),
            _mixed(judged_score, at_score),
            _mixed(weight, at_budget),
            np.mean([_mixed(weight, mixture) for mixture in anywhere], axis=0),
            _mixed(weight, at_score),
        ]
    return np.asarray(total / (sums[0][0] + sums[1][0])[:, 0])


def _sums(scores: Floats, costs: Floats, halves: tuple[Floats, Floats]) -> list[tuple[Floats, Floats, Floats]]:
    """Of either half how many questions it has, and the arms' sums of scores and costs. Shape (rows, 1 or arms)."""
    return [(half.sum(axis=1, keepdims=True), half @ scores.T, half @ costs.T) for half in halves]


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


def _gap(drawn: Floats, n: int) -> Gap:
    """The first value, with the spread of the others around it; of comparisons on `n` different questions."""
    estimate, error = float(drawn[0]), float(drawn[1:].std(ddof=1))
    if error < 1e-12:
        return Gap(Interval(estimate, estimate, estimate), float(abs(estimate) < 1e-12), 0.0)
    freedom = n // 2 - 1
    p = 2 * float(stats.t.sf(abs(estimate) / error, freedom))
    return Gap(spread_interval(drawn, freedom), p, error * n**0.5)
