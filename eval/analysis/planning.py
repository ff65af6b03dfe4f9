"""The words of `flarekit power`: how many questions show a difference, simulated from recorded arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError
from flarekit.eval.analysis.frontier.families import ACTIONS, MOMENTS, Action, Score, matrix
from flarekit.eval.analysis.frontier.power import family_trial
from flarekit.eval.analysis.verdict import PAIRS, POINTS, TOGETHER_FIRST, comparable, judge
from flarekit.eval.analysis.wording import bounds_text, number, share
from flarekit.eval.results.groups import Group, baseline_of, load_runs
from flarekit.stats.bootstrap import paired_difference
from flarekit.stats.intervals import Interval
from flarekit.stats.power import (
    ALPHA,
    ALTERNATIVES,
    DIFFERENCE,
    POWER,
    TRIALS,
    Power,
    Trial,
    arm_trial,
    questions_needed,
    simulate,
)
from flarekit.trace import Moment

_SCORES: tuple[Score, ...] = ("f1", "exact_match")
_CALLED = {"f1": "F1", "exact_match": "exact match"}
_DOUBLINGS = 5
"""How often the recorded number of questions is doubled, at most, in search of the power."""
T = TypeVar("T", bound=str)
Told = Callable[[str, int, int], None]
"""Hears what is simulated, how many of its trials are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be shown, and how surely."""

    difference: float = DIFFERENCE
    power: float = POWER
    alpha: float = ALPHA
    comparisons: int | None = None
    """For how many the p-values will be corrected (Holm); None for as many as `compare` makes of the recorded runs."""
    questions: tuple[int, ...] = ()
    """Sizes to simulate; the recorded one, doubled until the power is reached, unless given."""
    trials: int = TRIALS

    def __post_init__(self) -> None:
        for name, value in (("difference", self.difference), ("power", self.power), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise ConfigError(f"{name}={value:g} is outside its range: it lies between 0 and 1")
        for name, least, counts in (
            ("comparisons", 1, [self.comparisons or 1]),
            ("trials", 10, [self.trials]),
            ("questions", 10, self.questions),
        ):
            if low := [count for count in counts if count < least]:
                raise ConfigError(f"{name}={low[0]} is too few: at least {least}")


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be told apart: two arms, or two moments."""

    ours: str
    theirs: str
    score: Score
    moments: bool
    action: Action | None = None
    """What the moments' arms do; None for all that both moments' arms do."""
    budget: float | None = None
    """At which moments are compared; None for the middle of the line between the action's ends."""


def pair_of(
    arms: tuple[str, str] | None,
    moments: tuple[str, str] | None,
    action: str | None,
    score: str,
    budget: float | None = None,
) -> Pair:
    """What the options ask for; a `ConfigError` where that is not one pair."""
    if (arms is None) == (moments is None):
        raise ConfigError("say what is to be told apart: --arms A B or --moments M M, or plan from --sd without a run")
    measure = _one_of("score", score, _SCORES)
    if arms is not None:
        return Pair(*arms, measure, moments=False)
    ours, theirs = (_one_of("moments", moment, MOMENTS) for moment in cast(tuple[str, str], moments))
    if ours == theirs:
        raise ConfigError(f"moments: {ours} cannot be told apart from itself")
    return Pair(ours, theirs, measure, True, _one_of("action", action, ACTIONS) if action else None, budget)


def from_spread(spread: float, plan: Plan) -> str:
    """The questions that two fixed arms need where paired differences have that standard deviation."""
    tests = plan.comparisons or 1
    needed = questions_needed(spread, plan.difference, power=plan.power, alpha=plan.alpha / tests)
    return (
        f"two fixed arms whose paired differences have a standard deviation of {share(spread)}: {needed:,} questions "
        f"show a difference of {share(plan.difference)} with a power of {plan.power:.0%} {_level(plan, tests)}. "
        "A comparison of moments must find its arms first and needs more."
    )


def from_runs(
    runs: Sequence[Path], pair: Pair, plan: Plan, *, prices: Prices | None = None, told: Told | None = None
) -> Iterator[str]:
    """For each group of the runs what is recorded, and how often runs of other sizes would show the difference."""
    if not runs:
        raise ConfigError("a recorded run is needed, or --sd to plan without one")
    for group in load_runs(runs):
        make = _of_moments if pair.moments else _of_arms
        head, trial, n, tests = make(group, pair, plan, prices)
        yield f"{head}\n\n{_simulated(trial, n, plan, tests, told or (lambda *_: None))}"


def _of_arms(group: Group, pair: Pair, plan: Plan, prices: Prices | None) -> tuple[str, Trial, int, int]:
    names = [_arm(group, name) for name in (pair.ours, pair.theirs)]
    if names[0] == names[1]:
        raise ConfigError(f"arms: {names[0]} cannot be told apart from itself")
    scores = matrix(group, names, score=pair.score, prices=prices).scores
    head = _head(group, f"{names[0]} against {names[1]}", pair, scores.shape[1], paired_difference(*scores))
    return head, arm_trial(scores[1], plan.difference), scores.shape[1], plan.comparisons or 1


def _of_moments(group: Group, pair: Pair, plan: Plan, prices: Prices | None) -> tuple[str, Trial, int, int]:
    ours, theirs = cast(Moment, pair.ours), cast(Moment, pair.theirs)
    possible = [action for action in TOGETHER_FIRST if comparable(group, ours, theirs, action)]
    action = pair.action or next(iter(possible), "any")
    if action not in possible:
        raise DataError(
            f"{group.dataset} has no arms of both moments, {ours} and {theirs}, that do the same ({action})"
        )
    verdict = judge(group, ours, theirs, action, measure=pair.score, prices=prices, budget=pair.budget)
    result, depth = verdict.result, f", k = {verdict.k}" if verdict.k else ""
    what = (
        f"{ours} against {theirs} ({action}{depth}), at {number(result.budget)} {(prices or Prices()).unit} a question"
    )
    side = [*verdict.ends, *verdict.arms[1]]
    figures = matrix(group, side, score=pair.score, prices=prices)
    trial = family_trial(figures, side, result.budget, plan.difference)
    return _head(group, what, pair, result.n, result.score.interval), trial, result.n, plan.comparisons or _made(group)


def _made(group: Group) -> int:
    """How many comparisons of scores `compare` makes of a group, at as many budgets as it has points."""
    return sum(len(comparable(group, *pair, action)) for pair in PAIRS for action in ACTIONS) * len(POINTS)


def _head(group: Group, what: str, pair: Pair, n: int, difference: Interval) -> str:
    bounds = bounds_text(difference, share, " (95% interval {})")
    return (
        f"{group.dataset}, {group.models}: {what}\n"
        f"recorded: {n} questions, difference of {_CALLED[pair.score]} {share(difference.estimate)}{bounds}"
    )


def _simulated(trial: Trial, n: int, plan: Plan, tests: int, told: Told) -> str:
    sizes = sorted(set(plan.questions)) or [n * 2**step for step in range(_DOUBLINGS + 1)]
    found = {name: list(_until(trial, name, sizes, plan, tests, told)) for name in ALTERNATIVES}
    rows = max(found.values(), key=len)
    lines = [f"{'questions':>9}" + "".join(f"  {name:<24}" for name in found)]
    for place, row in enumerate(rows):
        cells = (_cell(powers[place]) if place < len(powers) else "" for powers in found.values())
        lines.append(f"{row.n:>9,}" + "".join(f"  {cell:<24}" for cell in cells))
    said = (
        f"How often an arm that is truly {share(plan.difference)} better would be shown to be {_level(plan, tests)}, "
        f"in {plan.trials:,} simulated runs of each size (95% interval of that share):"
    )
    notes = [_reached(name, powers, plan) for name, powers in found.items()]
    return "\n".join([said, "", *(line.rstrip() for line in lines), "", *notes])


def _until(trial: Trial, name: Any, sizes: Sequence[int], plan: Plan, tests: int, told: Told) -> Iterator[Power]:
    """Each size's power, given sizes all of them, else up to the first that reaches what is wanted."""
    for size in sizes:
        for last in simulate(trial, name, size, level=plan.alpha / tests, trials=plan.trials):
            told(f"{name}, {size:,} questions", last.trials, plan.trials)
        yield last
        if last.estimate >= plan.power and not plan.questions:
            return


def _cell(power: Power) -> str:
    low, high = power.bounds
    return f"{power.estimate:.0%} ({low:.0%} to {high:.0%})"


def _reached(name: str, powers: Sequence[Power], plan: Plan) -> str:
    enough = next((power.n for power in powers if power.estimate >= plan.power), None)
    below = [power.n for power in powers if power.estimate < plan.power and (enough is None or power.n < enough)]
    more = f"more than {max(below):,}" if below else ""
    most = f"at most {enough:,}" if enough else ""
    return f"{name}: {' and '.join(filter(None, (more, most)))} questions for a power of {plan.power:.0%}"


def _level(plan: Plan, tests: int) -> str:
    level, alpha = (f"{value:.2g}".removeprefix("0") for value in (plan.alpha / tests, plan.alpha))
    return f"at p ≤ {level}" + (f" ({alpha} corrected for {tests} comparisons)" if tests > 1 else "")


def _arm(group: Group, wanted: str) -> str:
    try:
        return baseline_of(group, wanted)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("the baseline ")) from error


def _one_of(name: str, value: str, known: Sequence[T]) -> T:
    if value not in known:
        raise ConfigError(f"{name}: {value!r} is none of {', '.join(known)}")
    return cast(Any, value)  # type: ignore[no-any-return]
