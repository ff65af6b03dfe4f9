"""What a router could reach that knew every answer beforehand, and how much of that is luck.

An **oracle** takes the best of several answers to every question, and the cheapest of equals. Answers are noisy, and
the best of many is far above each of them even where nothing tells the arms apart: the oracle over all arms says
little. The **two-arm oracle** has only the two ends to choose between, help for nobody and help for everybody; two
answers hold less luck than fifty.

The **cross-fitted oracle** makes the same choice, help or none, without the answers that it is judged by. The arms are
halved at random: whether helped or unhelped answers to a question are better is told from one half of the arms, and
what that choice is worth, on average over its answers, from the other. What is only luck is not there again. Answers
that arms share because they did the same count as told again; a choice is made where both halves have both kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flarekit.costs import Prices
from flarekit.errors import DataError
from flarekit.eval.analysis.frontier.curves import UNHELPED, end_arm
from flarekit.eval.analysis.frontier.families import MOMENTS, Matrix, family, matrix
from flarekit.eval.analysis.wording import interval_text, share
from flarekit.eval.results.groups import Group
from flarekit.policies.spec import parse_spec
from flarekit.stats.arrays import Floats
from flarekit.stats.bootstrap import mean_interval
from flarekit.stats.intervals import Interval

SPLITS = 40
"""Random halvings of the arms."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """An oracle's mean score and cost over questions."""

    name: str
    arms: int
    score: Interval
    cost: float


def oracles(figures: Matrix, never: str, always: str) -> list[Oracle]:
    """The oracle over all arms of `figures`, that over the two ends, and the cross-fitted one where arms suffice."""
    every = _best(figures, list(range(len(figures.arms))))
    two = _best(figures, figures.rows([never, always]))
    found = [
        Oracle("oracle", len(figures.arms), mean_interval(every[0]), float(every[1].mean())),
        Oracle("two-arm oracle", 2, mean_interval(two[0]), float(two[1].mean())),
    ]
    if (honest := crossfitted_oracle(figures)) is not None:
        scores, costs = honest
        found.append(Oracle("cross-fitted oracle", len(figures.arms), mean_interval(scores), float(costs.mean())))
    return found


def retrieval_oracles(group: Group, prices: Prices) -> list[Oracle]:
    """The oracles of closed-book, rag and all arms that decide to look up as many passages; empty without both ends."""
    never, always = end_arm(group, UNHELPED, None), end_arm(group, "rag", None)
    if never is None or always is None:
        return []
    k = parse_spec(always.policy).passages
    deciding = [arm for moment in MOMENTS for arm in family(group, moment, "retrieve", k)]
    try:
        figures = matrix(group, [never.policy, always.policy, *deciding], prices=prices)
    except DataError:
        return []
    return oracles(figures, never.policy, always.policy)


def oracle_sentence(found: list[Oracle]) -> str:
    """What the two-arm oracle reaches beside the others; nothing where there is none."""
    if not found:
        return ""
    every, two, *honest = found
    more = f"; over all {every.arms} arms it reaches {share(every.score.estimate)}" if every.arms > 2 else ""
    left = f", and {interval_text(honest[0].score, share)} cross-fitted, without the luck" if honest else ""
    return (
        "An oracle that takes the better of closed-book and rag on each question reaches F1 "
        f"{share(two.score.estimate)}, luck included{more}{left}."
    )


def crossfitted_oracle(figures: Matrix, *, splits: int = SPLITS, seed: int = 0) -> tuple[Floats, Floats] | None:
    """Score and cost on every question of choosing help or none by half of the arms, judged by the others.

    Each of shape (questions,). None where some question has too few arms to be judged at all.
    """
    random = np.random.default_rng(seed)
    count = len(figures.arms)
    totals, judged = np.zeros((2, len(figures.questions))), np.zeros(len(figures.questions))
    for _ in range(splits):
        places = random.permutation(count)
        halves = places[: count // 2], places[count // 2 :]
        for choosing, judging in (halves, halves[::-1]):
            told, _, known = _means(figures, choosing)
            scores, costs, there = _means(figures, judging)
            both = known & there  # shape (2, questions): unhelped, helped
            chosen = np.where(both.all(axis=0), told[1] > told[0], both[1]).astype(np.intp)
            usable = both.any(axis=0)
            everyone = np.arange(usable.size)
            totals += np.where(usable, [scores[chosen, everyone], costs[chosen, everyone]], 0.0)
            judged += usable
    return None if (judged == 0).any() else (totals[0] / judged, totals[1] / judged)


def _best(figures: Matrix, rows: list[int]) -> tuple[Floats, Floats]:
    """Each question's best score among some arms, and the least cost that it is to be had for. Shape (questions,)."""
    scores, costs = figures.scores[rows], figures.costs[rows]
    top = scores.max(axis=0)
    return top, np.where(scores == top, costs, np.inf).min(axis=0)


def _means(figures: Matrix, rows: NDArray[np.int64]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean score and cost of some arms' unhelped and helped answers, and whether there are any; 0 where none are.

    All of shape (2, questions).
    """
    kinds = np.array([~figures.called[rows], figures.called[rows]])
    counts = kinds.sum(axis=1)
    scores, costs = (
        (kinds * values[rows]).sum(axis=1) / np.maximum(counts, 1) for values in (figures.scores, figures.costs)
    )
    return scores, costs, counts > 0
