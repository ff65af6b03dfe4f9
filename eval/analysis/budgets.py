"""Splits one budget per question between looking things up and computing more, to see which split answers best.

Retrieval, a stronger model and more samples are ways to spend on one question; a balanced split may beat both ends, as
a balance of lookup and computation does inside a model (Engram, arXiv:2601.07372). From recorded arms that decide
nothing (each spends the same way on every question) the best mixture is found for every budget and split: which share
of the questions to answer by which arm, such that the mean cost stays within the budget and the given share of what is
spent beyond a plain answer goes to retrieval (`flarekit.eval.analysis.frontier.mixtures`).

The best of many flatters itself. So the arms' weights, and for the balance against the ends also which split and which
end are compared, are chosen on one half of the questions and judged on the other; the mean over several ways to halve
them is the estimate. Intervals come from doing all of this again on resamples of the questions, and are the estimate
± 1.96 standard deviations of these. All copies of a question, drawn twice or recorded under two ids, fall into the same
half: a half of a resample holds fewer different questions than a half of the sample, so that its choices vary more, and
the intervals are rather too wide. In simulated worlds where no split is better than another they exclude 0 in 0 to 2%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flarekit.costs import Prices, price
from flarekit.errors import ConfigError
from flarekit.escalation.split import alike
from flarekit.eval.analysis.frontier.mixtures import Means, best_mixtures
from flarekit.eval.results.groups import Group, Result
from flarekit.policies import parse_policy
from flarekit.policies.spec import parse_spec
from flarekit.stats.arrays import Floats, Rows
from flarekit.stats.bootstrap import REFITTED
from flarekit.stats.halves import halved_resamples
from flarekit.stats.intervals import Interval, spread_interval
from flarekit.trace import Costs, Role, Segment, Trace

WAYS = ("retrieval", "strong", "samples")
"""What can be spent on beyond one plain answer of the weak model."""
ROLES: tuple[Role, ...] = ("weak", "strong")
SPLITS = (0.0, 0.25, 0.5, 0.75, 1.0)
FEWEST = 10
"""Different questions below which nothing is split: halves of fewer than five choose at random."""
_PLAIN = "closed-book"
_NOT_WAYS = frozenset({"role"})
_FAMILIES = ("closed-book", "rag", "strong", "self-consistency")
RESAMPLES = REFITTED
_HALVINGS = 4
_SLACK = 0.025
"""How far the share may lie from the one that is asked for: measured arms seldom hit it exactly."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What the arms spent and scored, for the questions that all of them finished."""

    arms: Sequence[str]
    scores: Floats
    """Shape (arms, questions), 0 to 1."""
    prices: Floats
    """Price of the whole answer. Shape (arms, questions)."""
    parts: Mapping[str, Floats]
    """Price of what went to each of `WAYS`, each of shape (arms, questions)."""
    units: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The unit of each question, those that ask the same being one (see `alike`); unless given, they all differ."""

    def __post_init__(self) -> None:
        if not self.units.size:
            object.__setattr__(self, "units", np.arange(self.scores.shape[1]))


@dataclass(frozen=True, slots=True)
class SplitPoint:
    """The best that a budget buys at one split."""

    share: float
    """Of what is spent beyond a plain answer, the part that goes to the first way, 0 to 1."""
    score: Interval
    """Mean score on questions that the weights were not fitted on; NaN where no mixture keeps to the budget."""
    """Resamples without a mixture that keeps to the budget in either half are left out of it."""
    mixture: Mapping[str, float]
    """The arms' weights fitted on all questions, those above 1%."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The best balanced split against the better end."""

    share: float
    """Of the best balanced split of all questions."""
    end: float
    """The share at the better end of all questions, 0 or 1."""
    difference: Interval
    """Score of a balanced split minus that of an end, both chosen on one half of the questions and judged on the other:
    they need not be these."""


@dataclass(frozen=True, slots=True)
class Split:
    """One budget, split in every way between two ways of spending it."""

    between: tuple[str, str]
    budget: float
    """Mean price of a question that may be spent."""
    points: Sequence[SplitPoint]
    """By rising share."""
    balance: Balance


def spending(group: Group, prices: Prices, score: str = "f1") -> Spending:
    """What a group's arms that decide nothing spent. `ConfigError` where there are fewer than three of them."""
    arms = [arm for arm in group.arms.values() if _decides_nothing(arm.policy)]
    keys = [key for key in group.questions if all(key in arm.results for arm in arms)]
    units = alike([group.questions[key].text for key in keys])
    if len(arms) < 3 or _PLAIN not in group.arms or units.max(initial=-1) + 1 < FEWEST:
        raise ConfigError(
            f"{group.dataset}: a split needs closed-book and two other arms of {', '.join(_FAMILIES)} "
            "with ten questions that all of them finished"
        )
    answers = [group.arms[_PLAIN].results[key].trace for key in keys]
    plain = {role: float(np.mean([_prompt_price(one, prices, role) for one in answers])) for role in ROLES}
    table = [[_parts(arm.results[key], prices, plain) for key in keys] for arm in arms]
    return Spending(
        [arm.policy for arm in arms],
        np.array([[getattr(arm.results[key], score) for key in keys] for arm in arms]),
        np.array([[price(arm.results[key].costs, prices) for key in keys] for arm in arms]),
        {way: np.array([[parts[way] for parts in row] for row in table]) for way in WAYS},
        units,
    )


def budgets_of(spent: Spending, count: int = 3) -> list[float]:
    """Budgets between a plain answer and the dearest arm: what is worth telling apart, at equal ratios."""
    means = spent.prices.mean(axis=1)
    return [float(one) for one in np.geomspace(means.min(), means.max(), count + 2)[1:-1]]


def split(
    spent: Spending,
    budget: float,
    between: tuple[str, str] = ("retrieval", "strong"),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Split:
    """The best scores of a budget at every split between two ways; arms that spend on the third are left out."""
    own = _only(spent, between)
    drawn = _cross_fitted(own, budget, between, resamples, seed)
    whole = best_mixtures(_means(own, np.ones((1, own.units.size)), between), budget, SPLITS, _SLACK)
    points = []
    for place, [weights] in enumerate(whole.weights):
        mixture = {arm: float(weight) for arm, weight in zip(own.arms, weights, strict=True) if weight > 0.01}
        points.append(SplitPoint(SPLITS[place], spread_interval(drawn[:, place]), mixture))
    [inner], [outer] = _picked(whole.values)
    return Split(between, budget, points, Balance(SPLITS[inner], SPLITS[outer], spread_interval(drawn[:, -1])))


def split_rows(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """The splits as flat records, for a chart and a CSV file; without the points that cannot be had."""
    return [
        {
            "between": " – ".join(one.between),
            "budget": round(one.budget, 1),
            "share": point.share,
            "score": round(point.score.estimate, 5),
            "low": round(point.score.low, 5) if point.score.stated else None,
            "high": round(point.score.high, 5) if point.score.stated else None,
            "resamples": point.score.resamples,
            "mixture": " + ".join(f"{weight:.0%} {arm}" for arm, weight in point.mixture.items()),
        }
        for one in splits
        for point in one.points
        if point.score.estimate == point.score.estimate
    ]


def _decides_nothing(spec: str) -> bool:
    written = parse_spec(spec)
    return written.family in _FAMILIES and not written.parameters.keys() & _NOT_WAYS and not parse_policy(spec).chooser


def _parts(result: Result, prices: Prices, plain: Mapping[Role, float]) -> dict[str, float]:
    """The price of what one answer spent on each way.

    Retrieval's are the look-ups and what the passages add to the price of the prompt that the answer was written from,
    beyond a `plain` one that the same model reads. The rest of the strong model's tokens are the strong way's, and weak
    streams that lost a vote the samples'.
    """
    segments = result.trace.segments
    read = 0.0
    if result.costs.retrievals:
        kept = [segment for segment in segments if segment.kept]
        read = sum(max(0.0, _segment_price(one, prices, generated=False) - plain[one.role]) for one in kept)
    strong = sum(_segment_price(segment, prices) for segment in segments if segment.role == "strong")
    by_strong = any(segment.kept for segment in segments if segment.role == "strong")
    return {
        "strong": max(0.0, strong - read * by_strong),
        "samples": sum(_segment_price(one, prices) for one in segments if one.role == "weak" and not one.kept),
        "retrieval": result.costs.retrievals * prices.retrieval + read,
    }


def _prompt_price(trace: Trace, prices: Prices, role: Role) -> float:
    """What reading the prompts of an answer costs, or would cost the model in that role."""
    return sum(_segment_price(replace(one, role=role), prices, generated=False) for one in trace.segments)


def _segment_price(segment: Segment, prices: Prices, *, generated: bool = True) -> float:
    tokens = len(segment.tokens) if generated else 0
    cached, strong = segment.cached_tokens or 0, segment.role == "strong"
    own = {"prompt_tokens": segment.prompt_tokens, "cached_tokens": cached, "generated_tokens": tokens}
    strongs = {f"strong_{name}": count for name, count in own.items()} if strong else {}
    return price(Costs(**own, **strongs), prices)


def _only(spent: Spending, between: tuple[str, str]) -> Spending:
    """The arms that spend on nothing but the two ways."""
    others = np.sum([spent.parts[way].mean(axis=1) for way in WAYS if way not in between], axis=0)
    kept = np.flatnonzero(others == 0)
    parts = {way: spent.parts[way][kept] for way in WAYS}
    return Spending([spent.arms[place] for place in kept], spent.scores[kept], spent.prices[kept], parts, spent.units)


def _cross_fitted(spent: Spending, budget: float, between: tuple[str, str], resamples: int, seed: int) -> Floats:
    """Scores of shape (1 + resamples, splits + 1): of the questions themselves, then of draws of them.

    The last column is the balanced split less the end. NaN where a half allows none.
    """
    values = np.zeros((1 + resamples, len(SPLITS) + 1))
    for halves in halved_resamples(spent.units, _HALVINGS, resamples, seed):
        means = [_means(spent, half, between) for half in halves]
        for fitted, judged in (means, means[::-1]):
            values += _judged(fitted, judged, budget) / (2 * _HALVINGS)
    return values


def _means(spent: Spending, counts: Floats, between: tuple[str, str]) -> Means:
    """The arms' means over questions that occur so often. `counts` of shape (samples, questions)."""
    sizes = counts.sum(axis=1, keepdims=True)
    weights = counts / np.where(sizes > 0, sizes, np.nan)  # of an empty half nothing is known
    first, second = (spent.parts[way] for way in between)
    return Means(*(weights @ values.T for values in (spent.scores, spent.prices, first, second)))


def _judged(fitted: Means, judged: Means, budget: float) -> Floats:
    """What is best on one half, each split and the choice of two to compare, judged on the other.

    Shape (samples, splits + 1).
    """
    best = best_mixtures(fitted, budget, SPLITS, _SLACK)
    scores = np.einsum("ska,ka->sk", best.weights, judged.scores)
    scores[np.isneginf(best.values)] = np.nan
    (inner, outer), samples = _picked(best.values), np.arange(scores.shape[1])
    return np.vstack([scores, scores[inner, samples] - scores[outer, samples]]).T


def _picked(values: Floats) -> tuple[Rows, Rows]:
    """The places of the best balanced split and of the better end, by values of shape (splits, samples)."""
    ends = np.array([0, len(SPLITS) - 1])
    return values[1:-1].argmax(axis=0) + 1, ends[values[ends].argmax(axis=0)]
