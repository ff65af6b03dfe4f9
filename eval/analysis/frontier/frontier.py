"""Accuracy against cost: the frontier of a set of arms, and what one number says of it.

An arm is a point: its mean cost and its mean score over questions. Between two arms lies every mixture of them, which
sends a share of the questions to either by the toss of a coin, so what a set of arms can do is the non-decreasing
concave hull of its points (the "non-decreasing convex hull" of RouterBench, Hu et al. 2024, arXiv:2403.12031): nobody
has to spend more for less. Costs are in `Prices.unit` a question, scores from 0 to 1.

The hull of measured points flatters: its arms were picked by the figures that they are shown with, the more so the
more arms there are. It is what is drawn; families are compared by `flarekit.eval.analysis.frontier.crossfit`.

Many hulls are computed at once, a row for each: arrays are of shape (rows, arms), and the rows are resamples of the
questions, or single questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flarekit.errors import ConfigError
from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.eval.analysis.routing import Curves, figure_interval
from flarekit.stats.arrays import Floats
from flarekit.stats.intervals import Interval
from flarekit.stats.quality import resampled

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ArmPoint:
    """An arm on the plane of costs and scores: its means over the questions."""

    arm: str
    cost: float
    score: float


@dataclass(frozen=True, slots=True)
class Hulls:
    """Hulls by their corners, from the cheapest arm up. A row with fewer corners than others repeats its last."""

    corners: Places
    """Which arm it is. Shape (rows, corners)."""
    costs: Floats
    scores: Floats

    def at_cost(self, budget: float) -> tuple[Places, Places, Floats]:
        """Each row's best mixture for that mean cost: two arms, and the share of the second.

        The cheapest arm alone where even that costs more, the best one where the money is not needed.
        """
        return self._between(self.costs, budget)

    def at_score(self, score: float) -> tuple[Places, Places, Floats]:
        """Each row's cheapest mixture with that mean score; the best arm alone where none reaches it."""
        return self._between(self.scores, score)

    def areas(self, low: float, high: float) -> Floats:
        """AIQ of each row: the mean height between two costs (RouterBench). Shape (rows,).

        A hull goes on level beyond its last corner, and before its first.
        """
        rows = [_area(costs, scores, low, high) for costs, scores in zip(self.costs, self.scores, strict=True)]
        return np.array(rows)

    def _between(self, values: Floats, wanted: float) -> tuple[Places, Places, Floats]:
        rows, last = np.arange(len(values)), values.shape[1] - 1
        below = (values <= wanted).sum(axis=1)
        first, second = np.maximum(below - 1, 0), np.minimum(below, last)
        gap = values[rows, second] - values[rows, first]
        share = np.where(gap > 0, (wanted - values[rows, first]) / np.where(gap > 0, gap, 1.0), 0.0)
        return self.corners[rows, first], self.corners[rows, second], share.clip(0, 1)


@dataclass(frozen=True, slots=True)
class Rating:
    """What a family is worth against two ends, with 95% bootstrap intervals over questions.

    All are of the hull, so that arms of all kinds may be put together, and all flatter a family of many arms. But for
    `aiq` they are over the share of questions that got help (RouteLLM, arXiv:2406.18665, section 3.2), 0 to 1.
    """

    aiq: Interval
    """Mean score over the range of costs."""
    pgr: Interval
    """Part of the ends' gap that is recovered with help for every second question."""
    apgr: Interval
    """Its mean over all shares, .5 by chance."""
    cpt50: Interval
    """The smallest share that recovers half of the gap; infinite where none does."""
    cpt80: Interval
    gap: Interval
    """Score of one end minus that of the other; where it does not exclude zero the three before mean little."""


def arm_points(figures: Matrix) -> list[ArmPoint]:
    """Each arm's mean cost and mean score over the questions that all of them finished."""
    means = zip(figures.arms, figures.costs.mean(axis=1), figures.scores.mean(axis=1), strict=True)
    return [ArmPoint(arm, float(cost), float(score)) for arm, cost, score in means]


def hulls(costs: ArrayLike, scores: ArrayLike) -> Hulls:
    """The non-decreasing concave hull of every row of points; both of shape (rows, arms), at least one arm.

    It begins with the cheapest arm, and goes from each corner to the one that is best value: the most score for each
    unit of cost, the farthest of equals. It ends with the highest score.
    """
    cost, score = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    if cost.ndim != 2 or cost.shape != score.shape or cost.shape[1] == 0:
        raise ConfigError(f"costs and scores of the same arms are expected, not {cost.shape} and {score.shape}")
    rows = np.arange(len(cost))
    cheapest = cost == cost.min(axis=1, keepdims=True)
    corners = [np.where(cheapest, score, -np.inf).argmax(axis=1)]
    while True:
        here = corners[-1]
        dearer, better = cost - cost[rows, here][:, None], score - score[rows, here][:, None]
        ahead = (dearer > 0) & (better > 0)
        if not ahead.any():
            break
        value = np.divide(better, dearer, out=np.full(cost.shape, -np.inf), where=ahead)
        best = ahead & (value >= value.max(axis=1, keepdims=True) * (1 - 1e-12))
        corners.append(np.where(ahead.any(axis=1), np.where(best, dearer, -np.inf).argmax(axis=1), here))
    places = np.stack(corners, axis=1)
    return Hulls(places, np.take_along_axis(cost, places, 1), np.take_along_axis(score, places, 1))


def hull(points: Sequence[ArmPoint]) -> list[ArmPoint]:
    """The corners of the non-decreasing concave hull, from the cheapest up; empty without points."""
    if not points:
        return []
    found = hulls([[point.cost for point in points]], [[point.score for point in points]])
    return [points[place] for place in dict.fromkeys(found.corners[0].tolist())]


def aiq(points: Sequence[ArmPoint], low: float, high: float) -> float:
    """Average improvement in quality (RouterBench): the area under the hull from `low` to `high`, over the range.

    It is a mean score, from 0 to 1; NaN where the cheapest point costs more than `low`: nothing is to be had
    for so little.
    """
    corners = hull(points)
    if not corners or corners[0].cost > low:
        return float("nan")
    return _area(np.array([one.cost for one in corners]), np.array([one.score for one in corners]), low, high)


def cost_range(*families: Sequence[ArmPoint]) -> tuple[float, float]:
    """The costs from which on all families have arms, up to where the first of them has nothing better to pay for.

    So dominated arms do not stretch it: from where the last of the hulls begins to where the first of them ends.
    """
    corners = [hull(points) for points in families]
    return max(one[0].cost for one in corners), min(one[-1].cost for one in corners)


def end_range(never: ArmPoint, acting: Sequence[ArmPoint]) -> tuple[float, float]:
    """The costs of the line between what never acting comes to and what always acting does.

    Of several arms that always act it is the dearest that no other end dominates (costs no more and scores no less);
    the cheapest where all are dominated. It depends on no arm that decides, and an end that nobody would take does not
    stretch it.
    """
    kept = [one for one in acting if not any(_dominates(other, one) for other in (never, *acting))]
    top = max(kept, key=lambda one: one.cost) if kept else min(acting, key=lambda one: one.cost)
    return never.cost, top.cost


def _dominates(one: ArmPoint, other: ArmPoint) -> bool:
    at_least = one.cost <= other.cost and one.score >= other.score
    return at_least and (one.cost, one.score) != (other.cost, other.score)


def rating(figures: Matrix, weak: str, strong: str, *, costs: tuple[float, float] | None = None) -> Rating:
    """A family against two of its arms: `weak` helps nobody, `strong` everybody.

    `costs` is the range of AIQ; that between the two unless told otherwise.
    """
    weights = resampled(len(figures.questions))
    cost, score, share = (_means(weights, values) for values in (figures.costs, figures.scores, figures.called))
    begin, end = figures.rows([weak, strong])
    low, high = costs or sorted((cost[0, begin], cost[0, end]))
    curves = _share_curves(share, score, begin, end)
    return Rating(
        aiq=figure_interval(hulls(cost, score).areas(low, high)),
        pgr=figure_interval((curves.at(0.5) - curves.scores[:, 0]) / _known(curves.gap)),
        apgr=figure_interval(curves.apgr()),
        cpt50=figure_interval(curves.cpt(0.5)),
        cpt80=figure_interval(curves.cpt(0.8)),
        gap=figure_interval(curves.gap),
    )


def oracle_frontier(figures: Matrix) -> list[tuple[float, float]]:
    """What a router could do that knew every answer: (mean cost, mean score) for every worth of a point of score.

    For each worth λ from none to any it takes, question by question, the arm with the highest score - λ · cost. So each
    question climbs its own hull, and the steps of all questions are taken in the order of what they yield for their
    cost. From the cheapest arms to the best scores at their lowest cost; concave. Between two points it tosses a coin.
    """
    found = hulls(figures.costs.T, figures.scores.T)
    costs, scores = np.diff(found.costs, axis=1).ravel(), np.diff(found.scores, axis=1).ravel()
    steps = costs > 0
    costs, scores = costs[steps], scores[steps]
    order = np.argsort(-scores / costs, kind="stable")
    n = len(figures.questions)
    taken = np.append(np.diff((scores / costs)[order]) != 0, True) if order.size else np.zeros(0, dtype=bool)
    spent = found.costs[:, 0].mean() + np.cumsum(costs[order])[taken] / n
    reached = found.scores[:, 0].mean() + np.cumsum(scores[order])[taken] / n
    begin = (float(found.costs[:, 0].mean()), float(found.scores[:, 0].mean()))
    return [begin, *zip(spent.tolist(), reached.tolist(), strict=True)]


def _area(costs: Floats, scores: Floats, low: float, high: float) -> float:
    if not high > low:
        raise ConfigError(f"an area needs a range of costs, not {low:g} to {high:g}")
    kept = np.concatenate(([True], np.diff(costs) > 0))
    knots = np.unique(np.clip(np.concatenate(([low, high], costs)), low, high))
    return float(np.trapezoid(np.interp(knots, costs[kept], scores[kept]), knots) / (high - low))


def _means(weights: Floats, values: NDArray[np.generic]) -> Floats:
    """The arms' means over resamples. Shape (resamples, arms)."""
    return np.asarray(weights @ values.T.astype(float) / weights.sum(axis=1, keepdims=True))


def _share_curves(shares: Floats, scores: Floats, weak: int, strong: int) -> Curves:
    """The hulls over the share of questions that got help, between the two ends, which lie at shares of 0 and 1."""
    rows = np.arange(len(shares))
    shares = shares.copy()
    shares[:, weak], shares[:, strong] = 0.0, 1.0
    first, last = scores[rows, weak][:, None], scores[rows, strong][:, None]
    found = hulls(shares, np.where(shares == 0, first, scores))  # what helps nobody is the end, whatever it samples
    level, none, all_ = found.scores[:, -1:], np.zeros((len(rows), 1)), np.ones((len(rows), 1))
    return Curves(np.hstack([none, found.costs, all_, all_]), np.hstack([first, found.scores, level, last]))


def _known(gap: Floats) -> Floats:
    return np.where(gap == 0, np.nan, gap)
