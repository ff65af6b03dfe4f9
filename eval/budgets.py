"""Splits one budget per question between looking things up and computing more, to see which split answers best.

Retrieval, a stronger model and more samples are ways to spend on one question; a balanced split may beat both ends, as
a balance of lookup and computation does inside a model (Engram, arXiv:2601.07372). From recorded arms that decide
nothing (each spends the same way on every question) the best mixture is found for every budget and split: which share
of the questions to answer by which arm, such that the mean cost stays within the budget and the given share of what is
spent beyond a plain answer goes to retrieval. That is a linear programme with one weight an arm. The weights are fitted
on one half of the questions and judged on the other, since the best of many arms flatters itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from flarekit.errors import ConfigError
from flarekit.escalation.costs import Prices, price
from flarekit.eval.compare import Group, Result
from flarekit.eval.statistics import Interval
from flarekit.policies import parse_policy
from flarekit.trace import Costs, Role, Segment, Trace

Floats = NDArray[np.float64]
WAYS = ("retrieval", "strong", "samples")
"""What can be spent on beyond one plain answer of the weak model."""
ROLES: tuple[Role, ...] = ("weak", "strong")
SPLITS = (0.0, 0.25, 0.5, 0.75, 1.0)
_PLAIN = "closed-book"
_NOT_WAYS = frozenset({"role"})
_FAMILIES = ("closed-book", "rag", "strong", "self-consistency")
_HALVINGS = 8
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


@dataclass(frozen=True, slots=True)
class SplitPoint:
    """The best that a budget buys at one split."""

    share: float
    """Of what is spent beyond a plain answer, the part that goes to the first way, 0 to 1."""
    score: Interval
    """Mean score on questions that the weights were not fitted on; NaN where no mixture keeps to the budget."""
    mixture: Mapping[str, float]
    """The arms' weights fitted on all questions, those above 1%."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The best balanced split against the better end; noise may have made which they are."""

    share: float
    end: float
    """The share at the better end, 0 or 1."""
    difference: Interval
    """Score of the balanced split minus that of the end."""


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
    if len(arms) < 3 or _PLAIN not in group.arms or len(keys) < 10:
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
    resamples: int = 80,
    seed: int = 0,
) -> Split:
    """The best scores of a budget at every split between two ways; arms that spend on the third are left out."""
    own = _only(spent, between)
    drawn = _cross_fitted(own, budget, between, resamples, seed)
    whole = np.arange(own.scores.shape[1])
    points = []
    for place, share in enumerate(SPLITS):
        weights = _best(own, whole, budget, between, share)
        mixture = {} if weights is None else {a: float(w) for a, w in zip(own.arms, weights, strict=True) if w > 0.01}
        points.append(SplitPoint(share, _interval(drawn[:, place]), mixture))
    return Split(between, budget, points, _balance(drawn))


def _balance(drawn: Floats) -> Balance:
    middle, ends = range(1, len(SPLITS) - 1), (0, len(SPLITS) - 1)
    inner, outer = (
        max(places, key=lambda place: np.nan_to_num(drawn[0, place], nan=-1.0)) for places in (middle, ends)
    )
    return Balance(SPLITS[inner], SPLITS[outer], _interval(drawn[:, inner] - drawn[:, outer]))


def split_rows(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """The splits as flat records, for a chart and a CSV file; without the points that cannot be had."""
    return [
        {
            "between": " – ".join(one.between),
            "budget": round(one.budget, 1),
            "share": point.share,
            "score": round(point.score.estimate, 5),
            "low": round(point.score.low, 5),
            "high": round(point.score.high, 5),
            "mixture": " + ".join(f"{weight:.0%} {arm}" for arm, weight in point.mixture.items()),
        }
        for one in splits
        for point in one.points
        if point.score.estimate == point.score.estimate
    ]


def _decides_nothing(spec: str) -> bool:
    name, _, rest = spec.partition(":")
    keys = {part.partition("=")[0] for part in rest.split(",") if part}
    return name in _FAMILIES and not keys & _NOT_WAYS and not parse_policy(spec).chooser


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
    return Spending([spent.arms[place] for place in kept], spent.scores[kept], spent.prices[kept], parts)


def _cross_fitted(spent: Spending, budget: float, between: tuple[str, str], resamples: int, seed: int) -> Floats:
    """Scores of shape (1 + resamples, splits): of the questions themselves, then of draws of them.

    The first is the mean over several ways to halve the questions, each half judged with the weights of the other. A
    draw is halved once: which half a question falls into is part of its noise. A question that was drawn twice falls
    into one half with both copies, or the weights would be judged on what they were fitted on.
    """
    rng, count = np.random.default_rng(seed), spent.scores.shape[1]
    whole = np.mean([_halved(spent, np.arange(count), budget, between, rng) for _ in range(_HALVINGS)], axis=0)
    draws = [_halved(spent, drawn, budget, between, rng) for drawn in rng.integers(0, count, (resamples, count))]
    return np.array([whole, *draws])


def _halved(
    spent: Spending, drawn: NDArray[np.int64], budget: float, between: tuple[str, str], rng: np.random.Generator
) -> Floats:
    """The score at every split, mean of the two halves' each with the other's weights. Shape (splits,)."""
    left = np.asarray(rng.random(spent.scores.shape[1]))[drawn] < 0.5
    halves = (drawn[left], drawn[~left])
    if min(map(len, halves)) == 0:
        return np.full(len(SPLITS), np.nan)
    return np.array([np.mean(list(_judged(spent, halves, budget, between, share))) for share in SPLITS])


def _judged(
    spent: Spending,
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    budget: float,
    between: tuple[str, str],
    share: float,
) -> Iterator[float]:
    for fitted, judged in (halves, halves[::-1]):
        weights = _best(spent, fitted, budget, between, share)
        yield np.nan if weights is None else float(weights @ spent.scores[:, judged].mean(axis=1))


def _best(
    spent: Spending, questions: NDArray[np.int64], budget: float, between: tuple[str, str], share: float
) -> Floats | None:
    """The arms' weights of highest mean score on `questions` within budget and split; None where none keeps to both."""
    scores, costs = spent.scores[:, questions].mean(axis=1), spent.prices[:, questions].mean(axis=1)
    first, second = (spent.parts[way][:, questions].mean(axis=1) for way in between)
    above, below = first - (share + _SLACK) * (first + second), (share - _SLACK) * (first + second) - first
    found = linprog(
        -scores,
        A_ub=np.array([costs, above, below]),
        b_ub=[budget, 0.0, 0.0],
        A_eq=np.ones((1, len(scores))),
        b_eq=[1.0],
        bounds=(0, 1),
        method="highs",
    )
    return np.asarray(found.x) if found.success else None


def _interval(values: Floats, confidence: float = 0.95) -> Interval:
    known = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or known.size < 2:
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values[0]), float(low), float(high))
