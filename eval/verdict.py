"""The verdict on the moments: deciding during generation against before it, against after it, and these two.

For arms that retrieve, for arms that escalate, and for both together where either moment has both. Each comparison is
by arms that were chosen without the questions they are judged on (`flarekit.eval.crossfit`), on the questions that all
its arms finished. p-values of one measure are corrected for all comparisons of a group together (Holm 1979); score at
equal cost is the measure that the verdict is about, the others say what is behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flarekit.errors import DataError
from flarekit.escalation.costs import Prices
from flarekit.eval.compare import Group
from flarekit.eval.crossfit import Comparison, Gap, chosen_by_half, compare_families
from flarekit.eval.discrimination import holm
from flarekit.eval.families import ACTIONS, Action, Score, actions, ends, family, matrix
from flarekit.eval.frontier import cost_range, spots
from flarekit.eval.power import POWER, questions_needed
from flarekit.eval.statistics import Discordant, mcnemar
from flarekit.eval.wording import bounds_text, number, share
from flarekit.trace import Moment

PAIRS: tuple[tuple[Moment, Moment], ...] = (("mid", "pre"), ("mid", "post"), ("pre", "post"))
TOGETHER_FIRST: tuple[Action, ...] = ("any", "retrieve", "escalate")
LEVEL = 0.05
"""The p-value, after correction, at which a difference counts as shown."""
WORTH = 0.05
"""The difference of scores that one would not want to miss."""
_WHEN = {"pre": "before generation", "mid": "during generation", "post": "after generation"}
_DOING = {"retrieve": "retrieving", "escalate": "escalating", "any": "acting"}
_CALLED = {"f1": "F1", "exact_match": "exact match"}


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
class Findings:
    """All comparisons of moments that a group allows."""

    verdicts: tuple[Verdict, ...]
    unmade: Mapping[tuple[Moment, Moment], str]
    """Why comparisons of moments that both have arms could not be made, a sentence each."""

    def find(self, ours: Moment, theirs: Moment, action: Action | None = None) -> Verdict | None:
        """That comparison; without an action the one of all together, else of retrieval, else of escalation."""
        wanted = TOGETHER_FIRST if action is None else (action,)
        made = {one.action: one for one in self.verdicts if (one.ours, one.theirs) == (ours, theirs)}
        return next((made[name] for name in wanted if name in made), None)


def findings(group: Group, *, measure: Score = "f1", prices: Prices | None = None, seed: int = 0) -> Findings:
    """Every comparison of `PAIRS` that the group has arms for."""
    made: list[Verdict] = []
    unmade: dict[tuple[Moment, Moment], str] = {}
    for ours, theirs in PAIRS:
        for action in ACTIONS:
            if comparable(group, ours, theirs, action):
                try:
                    made.append(judge(group, ours, theirs, action, measure=measure, prices=prices, seed=seed))
                except DataError as error:
                    unmade.setdefault((ours, theirs), f"{_DOING[action].capitalize()}: {error}.")
    return Findings(tuple(_corrected(made)), unmade)


def comparable(group: Group, ours: Moment, theirs: Moment, action: Action) -> bool:
    """Whether both moments have arms that do this; for "any" both actions, or it would compare actions."""
    if action == "any":
        return all(len(actions(group, moment)) > 1 for moment in (ours, theirs))
    return all(family(group, moment, action) for moment in (ours, theirs))


def judge(
    group: Group,
    ours: Moment,
    theirs: Moment,
    action: Action,
    *,
    measure: Score = "f1",
    prices: Prices | None = None,
    seed: int = 0,
) -> Verdict:
    """One comparison, its p-values not corrected.

    `DataError` where either moment has no arms, their costs have no range in common, or too few questions are finished.
    """
    own = family(group, ours, action), family(group, theirs, action)
    for moment, names in zip((ours, theirs), own, strict=True):
        if not names:
            raise DataError(f"no arm of {group.dataset} decides {_WHEN[moment]} on {_DOING[action]}")
    shared = ends(group, action)
    sides = [(*shared, *names) for names in own]
    figures = matrix(group, [*shared, *own[0], *own[1]], score=measure, prices=prices)
    points = {point.arm: point for point in spots(figures)}
    low, high = cost_range(*([points[arm] for arm in side] for side in sides))
    if not low < high:
        raise DataError(f"their arms have no costs in common (one begins at {low:,.0f}, the other ends at {high:,.0f})")
    result = compare_families(figures, sides[0], sides[1], costs=(low, high), seed=seed)
    rights = matrix(group, figures.arms, score="exact_match", prices=prices).scores
    everyone = np.arange(len(figures.questions))
    answered = [rights[chosen_by_half(figures, side, result.budget, seed), everyone] for side in sides]
    right = mcnemar(*answered)
    p = Corrected(result.score.p, result.overall.p, result.cost.p, right.p)
    return Verdict(ours, theirs, action, measure, own, shared, result, right, p)


def verdict_sentences(
    group: Group, found: Findings, *, pair: tuple[Moment, Moment] = PAIRS[0], prices: Prices | None = None
) -> list[str]:
    """The verdict on two moments: one sentence on the answers, one on the costs; or one that says why there is none."""
    verdict = found.find(*pair)
    if verdict is None:
        ours, theirs = (_WHEN[moment] for moment in pair)
        reason = found.unmade.get(pair, "No two such arms do the same.")
        return [f"On {group.dataset} deciding {ours} and {theirs} cannot be compared. {reason}"]
    unit = (prices or Prices()).unit
    tests = len(found.verdicts)
    return [
        f"On {group.dataset} (n = {verdict.result.n}, {group.models}), {_answers(verdict, unit, tests)}",
        _costs(verdict, unit, tests),
    ]


def _answers(verdict: Verdict, unit: str, tests: int) -> str:
    result, called = verdict.result, _CALLED[verdict.measure]
    ours, theirs = (f"{_DOING[verdict.action]} {_WHEN[moment]}" for moment in (verdict.ours, verdict.theirs))
    return (
        f"with {number(result.budget)} {unit} to spend on a question, {ours} answers with {called} "
        f"{share(result.ours)}, which is {_amount(result.score.interval.estimate, share)} {theirs} "
        f"({_evidence(result.score, share, verdict.p.score, tests)}): {_finding(verdict)}."
    )


def _finding(verdict: Verdict) -> str:
    gap = verdict.result.score
    if verdict.p.score <= LEVEL:
        better = verdict.ours if gap.interval.estimate > 0 else verdict.theirs
        return f"deciding {_WHEN[better]} is better"
    if gap.spread == 0:
        return "no difference can be shown, since what is chosen of either answers alike"
    needed = _round_up(questions_needed(gap.spread, WORTH))
    if needed <= verdict.result.n:
        return f"no difference can be shown, though one of {share(WORTH)} would have been with a power of {POWER:.0%}"
    return (
        f"no difference can be shown, and were differences to spread as here, it would take about {needed:,} questions "
        f"to show one of {share(WORTH)} with a power of {POWER:.0%}"
    )


def _costs(verdict: Verdict, unit: str, tests: int) -> str:
    result = verdict.result
    gap, reached = result.cost, result.reached.interval.estimate
    if verdict.p.cost <= LEVEL:
        cheaper = verdict.theirs if gap.interval.estimate > 0 else verdict.ours
        finding = f"deciding {_WHEN[cheaper]} is cheaper"
    else:
        finding = "no difference in cost can be shown"
    called = _CALLED[verdict.measure]
    missed = f", though its {called} is {_amount(reached, share)} the other's" if abs(reached) >= WORTH / 10 else ""
    return (
        f"Chosen for {called} {share(result.target)} instead, deciding {_WHEN[verdict.ours]} costs "
        f"{_amount(gap.interval.estimate, number)} deciding {_WHEN[verdict.theirs]} in {unit}"
        f" ({_evidence(gap, number, verdict.p.cost, tests)}){missed}: {finding}."
    )


def _amount(value: float, write: Callable[[float], str]) -> str:
    if float(write(abs(value)).replace(",", "")) == 0:
        return "the same as"
    return f"{write(abs(value))} {'more' if value > 0 else 'less'} than"


def _evidence(gap: Gap, write: Callable[[float], str], p: float, tests: int) -> str:
    corrected = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    chance = "p < .001" if p < 0.001 else "p = 1" if p >= 0.995 else f"p = {share(p)}"
    return f"95% interval of the difference {bounds_text(gap.interval, write)}, {chance}{corrected}"


def _round_up(count: int) -> int:
    """To two digits: a pilot knows no more."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def _corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    names = Corrected.__slots__
    table = {name: holm([getattr(one.p, name) for one in verdicts]) for name in names}
    return [
        replace(one, p=Corrected(**{name: float(table[name][place]) for name in names}))
        for place, one in enumerate(verdicts)
    ]
