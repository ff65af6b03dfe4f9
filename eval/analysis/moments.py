"""Moments compared: deciding during generation against before it, against after it, and these two.

For arms that retrieve, for arms that escalate, and for both together where either moment has both; within each number
of passages that are looked up (k), and at each budget. Budgets are given, or lie at fixed points of the line between
the two ends of the action, what never and what always acting costs: so they depend on no arm that decides.

Each comparison is by arms that were chosen without the questions they are judged on
(`flarekit.eval.analysis.frontier.crossfit`), on the questions that all its arms finished. p-values of one measure are
corrected for all comparisons of a group together (Holm 1979); score at equal cost is the measure that the verdict is
about, the others say what is behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError
from flarekit.eval.analysis.frontier.crossfit import Comparison, chosen_by_half, compare_families
from flarekit.eval.analysis.frontier.families import (
    ACTIONS,
    Action,
    Matrix,
    Score,
    actions,
    depths,
    ends,
    family,
    kind_of,
    listed,
    matrix,
    unlike,
)
from flarekit.eval.analysis.frontier.frontier import arm_points, cost_range, end_range
from flarekit.eval.analysis.wording import number
from flarekit.eval.results.groups import Group
from flarekit.stats.tests import Discordant, holm, mcnemar
from flarekit.trace import Moment

PAIRS: tuple[tuple[Moment, Moment], ...] = (("mid", "pre"), ("mid", "post"), ("pre", "post"))
TOGETHER_FIRST: tuple[Action, ...] = ("any", "retrieve", "escalate")
LEVEL = 0.05
"""The p-value, after correction, at which a difference counts as shown."""
POINTS = (0.5,)
"""Where the budgets lie on the line between the two ends of an action, 0 to 1, unless they are given.

More of them are more comparisons to correct for.
"""
WHEN = {"pre": "before generation", "mid": "during generation", "post": "after generation"}
DOING = {"retrieve": "retrieving", "escalate": "escalating", "any": "acting"}
_ALWAYS = {"retrieve": "rag with the same k", "escalate": "strong", "any": "rag with the same k, or strong"}


@dataclass(frozen=True, slots=True)
class Corrected:
    """p-values after Holm's correction, by measure."""

    score: float
    overall: float
    cost: float
    right: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One moment against another: `ours` minus `theirs`."""

    ours: Moment
    theirs: Moment
    action: Action
    k: int | None
    """How many passages a look-up brings; None where nothing is looked up."""
    measure: Score
    arms: tuple[tuple[str, ...], tuple[str, ...]]
    """Either moment's own arms."""
    ends: tuple[str, ...]
    """What both have besides."""
    result: Comparison
    right: Discordant
    """Exact matches of the arms that each half chooses for the other at that cost, by McNemar's test."""
    p: Corrected


@dataclass(frozen=True, slots=True)
class MomentFindings:
    """All comparisons of moments that a group allows."""

    verdicts: tuple[Verdict, ...]
    unmade: Mapping[tuple[Moment, Moment], str]
    """Why comparisons of moments that both have arms could not be made, a sentence each."""
    unlike: tuple[str, ...] = ()
    """Which arms are kept apart because their help or prompt is not that of the others, a sentence each."""

    def depth(self, verdict: Verdict) -> str:
        """How many passages a comparison's arms look up, as ", k = 3"; nothing where all of them look up as many."""
        several = len({one.k for one in self.verdicts if one.k}) > 1
        return f", k = {verdict.k}" if several and verdict.k else ""

    def find(self, ours: Moment, theirs: Moment, action: Action | None = None) -> Verdict | None:
        """That comparison; without an action the one of all together, else of retrieval, else of escalation.

        The first of `all_of`.
        """
        return next(iter(self.all_of(ours, theirs, action)), None)

    def all_of(self, ours: Moment, theirs: Moment, action: Action | None = None) -> list[Verdict]:
        """The comparisons that `find` would choose from: by k, that of most arms first, and then by budget."""
        wanted = TOGETHER_FIRST if action is None else (action,)
        made = [one for one in self.verdicts if (one.ours, one.theirs) == (ours, theirs)]
        first = next((name for name in wanted if any(one.action == name for one in made)), None)
        return [one for one in made if one.action == first]


def compare_moments(
    group: Group,
    *,
    measure: Score = "f1",
    prices: Prices | None = None,
    budgets: Sequence[float] = (),
    seed: int = 0,
) -> MomentFindings:
    """Every comparison of `PAIRS` that the group has arms for, at every budget.

    `budgets` are mean costs of a question in `Prices.unit`; at `POINTS` of the line between the ends without any.
    """
    made: list[Verdict] = []
    unmade: dict[tuple[Moment, Moment], str] = {}
    for ours, theirs in PAIRS:
        for action in ACTIONS:
            for k in comparable(group, ours, theirs, action):
                try:
                    made += judge_all(
                        group, ours, theirs, action, k, measure=measure, prices=prices, budgets=budgets, seed=seed
                    )
                except DataError as error:
                    unmade.setdefault((ours, theirs), f"{DOING[action].capitalize()}: {error}.")
            if reason := _apart(group, ours, theirs, action):
                unmade.setdefault((ours, theirs), reason)
    return MomentFindings(tuple(_corrected(made)), unmade, tuple(unlike(group)))


def checked_budgets(budgets: Sequence[float]) -> tuple[float, ...]:
    """Budgets as `compare_moments` takes them, each once; a `ConfigError` where one is no cost."""
    for budget in budgets:
        if not 0 < budget < math.inf:
            raise ConfigError(f"budget={budget:g}: a mean cost of a question is a number above 0")
    return tuple(dict.fromkeys(budgets))


def comparable(group: Group, ours: Moment, theirs: Moment, action: Action) -> list[int | None]:
    """The numbers of passages (k) for which both moments have arms that do this; [None] where nothing is looked up.

    For "any" both actions, or it would compare actions.
    """
    moments = ours, theirs
    possible = depths(group, moments, action)
    if action == "any":
        return [k for k in possible if all(len(actions(group, moment, k)) > 1 for moment in moments)]
    return [k for k in possible if all(family(group, moment, action, k) for moment in moments)]


def judge(
    group: Group,
    ours: Moment,
    theirs: Moment,
    action: Action,
    k: int | None = None,
    *,
    measure: Score = "f1",
    prices: Prices | None = None,
    budget: float | None = None,
    seed: int = 0,
) -> Verdict:
    """One comparison, its p-values not corrected: the first that `judge_all` gives.

    Without `k` for the number of passages that most arms of both moments look up.
    """
    if k is None:
        possible = comparable(group, ours, theirs, action)
        if not possible and (reason := _apart(group, ours, theirs, action)):
            raise DataError(reason)
        k = next(iter(possible or depths(group, (ours, theirs), action)))
    budgets = () if budget is None else (budget,)
    return judge_all(group, ours, theirs, action, k, measure=measure, prices=prices, budgets=budgets, seed=seed)[0]


def judge_all(
    group: Group,
    ours: Moment,
    theirs: Moment,
    action: Action,
    k: int | None,
    *,
    measure: Score = "f1",
    prices: Prices | None = None,
    budgets: Sequence[float] = (),
    seed: int = 0,
) -> list[Verdict]:
    """One comparison at each budget, its p-values not corrected.

    `DataError` where either moment has no arms, no question can be answered for a budget, no budget is given and an end
    is missing, or too few questions are finished.
    """
    own = family(group, ours, action, k), family(group, theirs, action, k)
    for moment, names in zip((ours, theirs), own, strict=True):
        if not names:
            raise DataError(f"no arm of {group.dataset} decides {WHEN[moment]} on {DOING[action]}")
    shared = ends(group, action, k)
    sides = (*shared, *own[0]), (*shared, *own[1])
    figures = matrix(group, [*shared, *own[0], *own[1]], score=measure, prices=prices)
    low, high = _range(figures, shared, sides, action, given=bool(budgets))
    if dear := [one for one in budgets if one < low]:
        raise DataError(f"a budget of {number(dear[0])} is less than the cheapest arm costs ({number(low)})")
    rights = matrix(group, figures.arms, score="exact_match", prices=prices).scores
    everyone = np.arange(len(figures.questions))
    made = []
    for budget in budgets or [low + point * (high - low) for point in POINTS]:
        result = compare_families(figures, *sides, ends=shared, costs=(low, high), budget=budget, seed=seed)
        answered = [rights[chosen_by_half(figures, side, budget, seed), everyone] for side in sides]
        right = mcnemar(*answered)
        p = Corrected(result.score.p, result.overall.p, result.cost.p, right.p)
        made.append(Verdict(ours, theirs, action, k, measure, own, shared, result, right, p))
    return made


def _range(
    figures: Matrix, shared: Sequence[str], sides: Sequence[Sequence[str]], action: Action, *, given: bool
) -> tuple[float, float]:
    """The costs over which families are compared: from what never acting costs to what always acting does.

    Where an end is missing and budgets are `given`, the costs that both families have arms for.
    """
    points = {point.arm: point for point in arm_points(figures)}
    never = [points[arm] for arm in shared if not kind_of(arm).actions]
    acting = [points[arm] for arm in shared if kind_of(arm).actions]
    low, high = math.inf, -math.inf
    if never and acting:
        low, high = end_range(min(never, key=lambda one: one.cost), acting)
    if given and not low < high:
        low, high = cost_range(*([points[arm] for arm in side] for side in sides))
    if low < high:
        return low, high
    if never and acting:
        raise DataError(f"always {DOING[action]} costs no more than never doing so, so that no budget lies between")
    missing = f"always {DOING[action]} ({_ALWAYS[action]})" if never else "never acting (closed-book)"
    raise DataError(f"no arm shows what {missing} comes to, so that no budget follows; record it, or give --budget")


def _apart(group: Group, ours: Moment, theirs: Moment, action: Action) -> str:
    """Why nothing is compared where both moments have such arms and yet none with the same number of passages."""
    own = [{k for k in depths(group, [moment], action) if k} for moment in (ours, theirs)]
    if action == "escalate" or not all(own) or own[0] & own[1]:
        return ""
    first, second = (listed(sorted(found)) for found in own)
    return (
        f"{DOING[action].capitalize()}: arms that decide {WHEN[ours]} look up {first} passages, those "
        f"{WHEN[theirs]} {second}, and arms are compared within one number (k)."
    )


def _corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    names = Corrected.__slots__
    tables = {name: {test_of(one, name): getattr(one.p, name) for one in verdicts} for name in names}
    corrected = {name: dict(zip(found, holm([*found.values()]), strict=True)) for name, found in tables.items()}
    return [
        replace(one, p=Corrected(**{name: float(corrected[name][test_of(one, name)]) for name in names}))
        for one in verdicts
    ]


def test_of(verdict: Verdict, measure: str) -> tuple[object, ...]:
    """Which test of a measure it is: those over all costs and at an equal score are the same at every budget."""
    budget = verdict.result.budget if measure in ("score", "right") else None
    return verdict.ours, verdict.theirs, verdict.action, verdict.k, budget
