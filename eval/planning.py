"""The words of `flarekit power`: how many questions show a difference, planned from a spread or from a pilot run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from flarekit.errors import ConfigError, DataError
from flarekit.escalation.costs import Prices
from flarekit.eval.compare import Group, baseline_of, load_runs
from flarekit.eval.families import ACTIONS, MOMENTS, Action, Score, matrix
from flarekit.eval.power import (
    ALPHA,
    DIFFERENCES,
    POWER,
    pilot,
    questions_needed,
    questions_needed_mcnemar,
    smallest_difference,
    smallest_difference_mcnemar,
)
from flarekit.eval.statistics import Interval
from flarekit.eval.verdict import TOGETHER_FIRST, comparable, judge
from flarekit.eval.wording import bounds_text, share
from flarekit.trace import Moment

__all__ = ["DIFFERENCES", "Pair", "Plan", "from_runs", "from_spread", "pair_of"]

_SCORES: tuple[Score, ...] = ("f1", "exact_match")
_CALLED = {"f1": "F1", "exact_match": "exact match"}
T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be shown, and how surely."""

    differences: tuple[float, ...] = DIFFERENCES
    power: float = POWER
    alpha: float = ALPHA


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be told apart: two arms, or two moments."""

    ours: str
    theirs: str
    score: Score
    moments: bool
    action: Action | None = None
    """What the moments' arms do; None for all that both moments' arms do."""


def pair_of(arms: tuple[str, str] | None, moments: tuple[str, str] | None, action: str | None, score: str) -> Pair:
    """What the options ask for; a `ConfigError` where that is not one pair."""
    if (arms is None) == (moments is None):
        raise ConfigError("say what is to be told apart: --arms A B or --moments M M, or plan from --sd without a run")
    measure = _one_of("score", score, _SCORES)
    if arms is not None:
        return Pair(*arms, measure, moments=False)
    ours, theirs = (_one_of("moments", moment, MOMENTS) for moment in cast(tuple[str, str], moments))
    if ours == theirs:
        raise ConfigError(f"moments: {ours} cannot be told apart from itself")
    return Pair(ours, theirs, measure, moments=True, action=_one_of("action", action, ACTIONS) if action else None)


def from_spread(spread: float, plan: Plan) -> str:
    """The questions needed where paired differences have that standard deviation."""
    rows = _rows(plan, lambda difference: _needed(spread, difference, plan))
    return f"paired differences with a standard deviation of {share(spread)}\n\n{_table(rows, plan)}"


def from_runs(runs: Sequence[Path], pair: Pair, plan: Plan, *, prices: Prices | None = None) -> list[str]:
    """For each group of the runs: what the pilot says, the questions needed, and what its own number can show."""
    if not runs:
        raise ConfigError("a pilot run is needed, or --sd to plan without one")
    groups = load_runs(runs)
    return [_of_moments(group, pair, plan, prices) if pair.moments else _of_arms(group, pair, plan) for group in groups]


def _of_arms(group: Group, pair: Pair, plan: Plan) -> str:
    names = [_arm(group, name) for name in (pair.ours, pair.theirs)]
    if names[0] == names[1]:
        raise ConfigError(f"arms: {names[0]} cannot be told apart from itself")
    scores = matrix(group, names, score=pair.score).scores
    known = pilot(scores[0], scores[1])
    head = _head(group, f"{names[0]} against {names[1]}", pair, known.n, known.difference)
    if pair.score == "f1" or known.discordant is None:
        return _by_spread(head, known.n, known.spread, plan)
    discordant = known.discordant
    said = f"just one of them is right on {discordant:.0%} of the questions (McNemar's exact test)"
    rows = _rows(plan, lambda difference: _needed_mcnemar(discordant, difference, plan))
    least = smallest_difference_mcnemar(known.n, discordant, power=plan.power, alpha=plan.alpha)
    return f"{head}\n{said}\n\n{_table(rows, plan)}\n\n{_least(known.n, least)}"


def _of_moments(group: Group, pair: Pair, plan: Plan, prices: Prices | None) -> str:
    ours, theirs = cast(Moment, pair.ours), cast(Moment, pair.theirs)
    possible = [action for action in TOGETHER_FIRST if comparable(group, ours, theirs, action)]
    action = pair.action or next(iter(possible), "any")
    if action not in possible:
        raise DataError(
            f"{group.dataset} has no arms of both moments, {ours} and {theirs}, that do the same ({action})"
        )
    result = judge(group, ours, theirs, action, measure=pair.score, prices=prices).result
    what = f"{ours} against {theirs} ({action}), at {result.budget:,.0f} {(prices or Prices()).unit} a question"
    head = _head(group, what, pair, result.n, result.score.interval)
    return _by_spread(head, result.n, result.score.spread, plan)


def _by_spread(head: str, n: int, spread: float, plan: Plan) -> str:
    said = f"standard deviation of the paired differences {share(spread)}"
    if spread == 0:
        raise DataError("the pilot's two sides never differ, so it says nothing of how many questions are needed")
    rows = _rows(plan, lambda difference: _needed(spread, difference, plan))
    least = smallest_difference(n, spread, power=plan.power, alpha=plan.alpha)
    return f"{head}\n{said}\n\n{_table(rows, plan)}\n\n{_least(n, least)}"


def _head(group: Group, what: str, pair: Pair, n: int, difference: Interval) -> str:
    bounds = bounds_text(difference, share, " (95% interval {})")
    return (
        f"{group.dataset}, {group.models}: {what}\n"
        f"pilot of {n} questions: difference of {_CALLED[pair.score]} {share(difference.estimate)}{bounds}"
    )


def _needed(spread: float, difference: float, plan: Plan) -> int:
    return questions_needed(spread, difference, power=plan.power, alpha=plan.alpha)


def _needed_mcnemar(discordant: float, difference: float, plan: Plan) -> int | None:
    """None where fewer answers differ than the difference needs."""
    if difference > discordant:
        return None
    return questions_needed_mcnemar(discordant, difference, power=plan.power, alpha=plan.alpha)


def _rows(plan: Plan, needed: Callable[[float], int | None]) -> list[tuple[float, int | None]]:
    return [(difference, needed(difference)) for difference in plan.differences]


def _table(rows: Sequence[tuple[float, int | None]], plan: Plan) -> str:
    head = f"difference  questions for a power of {plan.power:g} at alpha {plan.alpha:g}, two-sided"
    lines = [f"{share(size):>10}  {'out of reach' if count is None else f'{count:,}'}" for size, count in rows]
    return "\n".join([head, *lines])


def _least(n: int, least: float | None) -> str:
    if least is None or least >= 1:
        return f"{n} questions can show no difference with that power: too few are answered differently."
    return f"{n} questions can show a difference of {share(least)} or more."


def _arm(group: Group, wanted: str) -> str:
    try:
        return baseline_of(group, wanted)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("the baseline ")) from error


def _one_of(name: str, value: str, known: Sequence[T]) -> T:
    if value not in known:
        raise ConfigError(f"{name}: {value!r} is none of {', '.join(known)}")
    return cast(Any, value)  # type: ignore[no-any-return]
