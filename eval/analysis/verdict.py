"""The verdict on the moments, in sentences: which is better, which is cheaper, and how large a difference may be.

Where no difference is shown, the interval says what is excluded all the same. What a comparison could have shown is not
told from its own interval: that is `flarekit power`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.crossfit import Gap
from flarekit.eval.analysis.moments import (
    DOING,
    LEVEL,
    PAIRS,
    POINTS,
    TOGETHER_FIRST,
    WHEN,
    Corrected,
    MomentFindings,
    Verdict,
    comparable,
    compare_moments,
    judge,
    judge_all,
    test_of,
)
from flarekit.eval.analysis.wording import bounds_text, number, share
from flarekit.eval.results.groups import Group
from flarekit.trace import Moment

__all__ = [
    "LEVEL",
    "PAIRS",
    "POINTS",
    "TOGETHER_FIRST",
    "Corrected",
    "MomentFindings",
    "Verdict",
    "comparable",
    "compare_moments",
    "judge",
    "judge_all",
    "verdict_sentences",
]

_MISSED = 0.005
"""A difference of scores that is worth mentioning where they were to be equal."""
_CALLED = {"f1": "F1", "exact_match": "exact match"}


def verdict_sentences(
    group: Group, found: MomentFindings, *, pair: tuple[Moment, Moment] = PAIRS[0], prices: Prices | None = None
) -> list[str]:
    """The verdict on two moments: for each k a sentence on the answers at each budget and one on the costs.

    Or one that says why there is none.
    """
    verdicts = found.all_of(*pair)
    if not verdicts:
        ours, theirs = (WHEN[moment] for moment in pair)
        reason = found.unmade.get(pair, "No two such arms do the same.")
        return [f"On {group.dataset} deciding {ours} and {theirs} cannot be compared. {reason}"]
    unit = (prices or Prices()).unit
    said: list[str] = []
    for _, same in groupby(verdicts, key=lambda one: one.k):
        own = list(same)
        head = f"On {group.dataset} (n = {own[0].result.n}, {group.models}{found.depth(own[0])}), "
        answers = [_answers(one, unit, len(found.verdicts)) for one in own]
        said += [head + answers[0], *(f"W{answer[1:]}" for answer in answers[1:])]
        said.append(_costs(own[0], unit, len({test_of(one, "cost") for one in found.verdicts})))
    return said


def _answers(verdict: Verdict, unit: str, tests: int) -> str:
    result, called = verdict.result, _CALLED[verdict.measure]
    ours, theirs = (f"{DOING[verdict.action]} {WHEN[moment]}" for moment in (verdict.ours, verdict.theirs))
    return (
        f"with {number(result.budget)} {unit} to spend on a question, {ours} answers with {called} "
        f"{share(result.ours)}, which is {_amount(result.score.interval.estimate, share)} {theirs} "
        f"({_evidence(result.score, share, verdict.p.score, tests)}){_mostly_ends(result.weights.budget)}: "
        f"{_finding(verdict)}."
    )


def _finding(verdict: Verdict) -> str:
    gap = verdict.result.score
    if verdict.p.score <= LEVEL:
        better = verdict.ours if gap.interval.estimate > 0 else verdict.theirs
        return f"deciding {WHEN[better]} is better"
    if gap.interval.low == gap.interval.high == 0:
        return "no difference can be shown, since what is chosen of either answers alike"
    ours, theirs = map(_excluded, (gap.interval.high, -gap.interval.low))
    return (
        f"no difference can be shown; excluded is {ours} for deciding {WHEN[verdict.ours]}, and {theirs} for deciding "
        f"{WHEN[verdict.theirs]}"
    )


def _excluded(bound: float) -> str:
    return f"an advantage of more than {share(bound)}" if bound > 0 else "any advantage"


def _mostly_ends(weights: tuple[float, float]) -> str:
    """What must be said where one side's mixture holds less than a half of arms that decide; else nothing."""
    if min(weights) >= 0.5:
        return ""
    ours, theirs = (f"{weight:.0%}" for weight in weights)
    return (
        f", though of the first's questions {ours} and of the other's {theirs} go to arms that decide, the rest to "
        "ends that both have"
    )


def _costs(verdict: Verdict, unit: str, tests: int) -> str:
    result = verdict.result
    gap, reached = result.cost, result.reached.interval.estimate
    if verdict.p.cost <= LEVEL:
        cheaper = verdict.theirs if gap.interval.estimate > 0 else verdict.ours
        finding = f"deciding {WHEN[cheaper]} is cheaper"
    else:
        finding = "no difference in cost can be shown"
    called = _CALLED[verdict.measure]
    missed = f", though its {called} is {_amount(reached, share)} the other's" if abs(reached) >= _MISSED else ""
    return (
        f"Chosen for {called} {share(result.target)} instead, deciding {WHEN[verdict.ours]} costs "
        f"{_amount(gap.interval.estimate, number)} deciding {WHEN[verdict.theirs]} in {unit}"
        f" ({_evidence(gap, number, verdict.p.cost, tests)}){missed}{_mostly_ends(result.weights.target)}: {finding}."
    )


def _amount(value: float, write: Callable[[float], str]) -> str:
    if float(write(abs(value)).replace(",", "")) == 0:
        return "the same as"
    return f"{write(abs(value))} {'more' if value > 0 else 'less'} than"


def _evidence(gap: Gap, write: Callable[[float], str], p: float, tests: int) -> str:
    corrected = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    chance = "p < .001" if p < 0.001 else "p = 1" if p >= 0.995 else f"p = {share(p)}"
    return f"95% interval of the difference {bounds_text(gap.interval, write)}, {chance}{corrected}"
