"""Which arms belong together: the moment at which an arm decides, what it may do, and its figures as matrices.

A family holds the arms that decide at one moment with one action, whatever their signals and thresholds. The **ends**
belong to every family whose actions they take: they decide nothing, and act before the first token or not at all. A
policy of any moment becomes closed-book when its threshold is out of reach, and `rag` (or `strong`) is what always
acting comes to, so they cost no family an assumption and give all families one range of costs to be compared over.

That holds only where the help is the same: a policy that looks up three passages never becomes `rag:k=1`. So arms that
look up another number of passages (k) are of another family, and no ends of this one.

Left out are arms that decide nothing and are no end (`ircot`, `self-consistency`), and those with a prompt of their
own (`flare-instruct`, any role): a comparison of moments must not be one of prompts.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from flarekit.actions import Escalate, Retrieve
from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError, FlarekitError
from flarekit.escalation.split import alike
from flarekit.eval.results.groups import Group, measures
from flarekit.io.bounded import read_json
from flarekit.io.files import standing
from flarekit.policies import POLICIES, Policy, Rule, parse_policy
from flarekit.policies.base import K
from flarekit.policies.spec import parse_spec, split_arm
from flarekit.policies.triggers import NEVER
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.token import ALWAYS, LENGTH
from flarekit.stats.arrays import Flags, Floats, Rows
from flarekit.trace import Moment

Action = Literal["retrieve", "escalate", "any"]
"""What a family may do; "any" is either or both."""
Score = Literal["f1", "exact_match"]
MOMENTS: tuple[Moment, ...] = ("pre", "mid", "post")
ACTIONS: tuple[Action, ...] = get_args(Action)
_BOTH = frozenset({"retrieve", "escalate"})
_CHOOSERS = {"adaptive-rag": frozenset({"retrieve"})}
"""What choosers do whose folder cannot be read; the others choose among arms of any kind."""
_CLOCKS = (ALWAYS, LENGTH)
"""Signals that know nothing of the model's certainty: a rule that reads them is a schedule and no decision."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an arm's specification says of it."""

    moment: Moment | None
    """When it decides; None where it decides nothing, or at several moments."""
    actions: frozenset[str]
    """What it may do of "retrieve" and "escalate"."""
    own_prompt: bool = False
    end: bool = False
    """Whether it decides nothing, and acts before the first token or not at all, with everybody's prompt."""
    passages: frozenset[int] = frozenset()
    """How many passages (k) a look-up brings; several where a chooser has such arms, none where it never looks up, or
    where a chooser's folder cannot be read."""

    @property
    def action(self) -> Action | None:
        """The one action that it may take, "any" where it may take both, None where neither."""
        if self.actions == _BOTH:
            return "any"
        return next((action for action in ACTIONS if action in self.actions), None)

    def joins(self, action: Action) -> bool:
        """Whether it may be compared with others that do nothing but that action."""
        return bool(self.actions) and self.within(action) and not self.own_prompt

    def within(self, action: Action) -> bool:
        """Whether it does nothing but that action."""
        return self.actions <= (_BOTH if action == "any" else {action})

    def looks_up(self, k: int | None) -> bool:
        """Whether it looks up `k` passages, or none at all; any number will do where `k` is None."""
        return k is None or self.passages <= {k}


@dataclass(frozen=True, slots=True)
class Matrix:
    """Scores and costs of arms on the same questions, all of shape (arms, questions)."""

    arms: tuple[str, ...]
    questions: tuple[str, ...]
    scores: Floats
    """From 0 to 1."""
    costs: Floats
    """In `Prices.unit`."""
    called: Flags
    """Whether the arm looked something up or asked the strong model."""
    units: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The unit of each question, those that ask the same being one (see `alike`); all differ unless told otherwise."""

    def __post_init__(self) -> None:
        if not self.units.size:
            object.__setattr__(self, "units", np.arange(len(self.questions), dtype=np.int64))

    def rows(self, arms: Sequence[str]) -> list[int]:
        """The places of some of its arms."""
        return [self.arms.index(arm) for arm in arms]


@cache
def kind_of(spec: str) -> Kind:
    """What a policy's specification says of its moment and its actions.

    No router is loaded for it, so that the folder may be missing: one that scores takes a signal's place and changes
    nothing here, and of one that chooses only the list of arms is read. A policy that is no longer known is of no kind.
    """
    parsed = parse_spec(spec)
    if parsed.family not in POLICIES:
        return Kind(None, frozenset())
    declared = inspect.signature(POLICIES[parsed.family]).parameters
    if "router" in declared and declared["router"].default is inspect.Parameter.empty:
        return _chooser_kind(parsed.family, parsed.parameters.get("router", ""))
    given = ",".join(f"{key}={value}" for key, value in parsed.parameters.items() if key != "router")
    try:
        policy = parse_policy(f"{parsed.family}:{given}")
    except ConfigError:  # a threshold on the router's own scale
        policy = parse_policy(parsed.family)
    return _kind(policy)


def family(group: Group, moment: Moment, action: Action, k: int | None = None) -> tuple[str, ...]:
    """The arms of a group that decide at `moment` and do nothing but `action`; without the ends.

    Only those that look up `k` passages or none, unless that is None.
    """
    kinds = {arm: kind_of(arm) for arm in group.arms}
    return tuple(
        arm for arm, kind in kinds.items() if kind.moment == moment and kind.joins(action) and kind.looks_up(k)
    )


def ends(group: Group, action: Action, k: int | None = None) -> tuple[str, ...]:
    """The arms of a group that every family with that action (and k) has: what never and always acting come to."""
    kinds = {arm: kind_of(arm) for arm in group.arms}
    return tuple(arm for arm, kind in kinds.items() if kind.end and kind.within(action) and kind.looks_up(k))


def actions(group: Group, moment: Moment, k: int | None = None) -> set[str]:
    """What the arms of a moment do, each of them: "retrieve", "escalate"."""
    return {kind for arm in family(group, moment, "any", k) for kind in kind_of(arm).actions}


def depths(group: Group, moments: Sequence[Moment], action: Action) -> list[int | None]:
    """The numbers of passages (k) that the deciding arms of some moment look up, the most frequent first.

    Of equally frequent ones the usual (`policies.base.K`) is first. [None] where none of them looks anything up.
    """
    found = [kind_of(arm).passages for moment in moments for arm in family(group, moment, action)]
    counted = Counter(k for passages in found for k in passages if len(passages) == 1)
    return [*sorted(counted, key=lambda k: (-counted[k], k != K, k))] or [None]


def unlike(group: Group) -> list[str]:
    """What is not compared with what, a sentence each: ends and arms whose help or prompt is not that of the others."""
    kinds = {arm: kind_of(arm) for arm in group.arms}
    deciding = {arm: kind for arm, kind in kinds.items() if kind.moment and not kind.own_prompt}
    known = {k for kind in deciding.values() for k in kind.passages if len(kind.passages) == 1}
    said = []
    if known and (strange := [a for a, kind in kinds.items() if kind.end and not kind.passages <= known]):
        said.append(
            f"{listed(strange)}: no arm that decides looks up as many passages (k = {listed(sorted(known))}), "
            "so that is no end of theirs and is left out of their comparisons."
        )
    if len(known) > 1:
        said.append(f"Arms look up {listed(sorted(known))} passages: they are compared within each number (k).")
    if mixed := [arm for arm, kind in deciding.items() if len(kind.passages) > 1]:
        said.append(f"{listed(mixed)}: chooses among numbers of passages (k), so no comparison holds it.")
    if own := [arm for arm, kind in kinds.items() if kind.own_prompt and deciding]:
        said.append(f"{listed(own)}: has a prompt of its own, so no comparison of moments holds it.")
    return said


def listed(names: Sequence[object]) -> str:
    """Names as words: "a", "a and b", "a, b and c"."""
    words = [str(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if words[1:] else words[0]


def matrix(
    group: Group, arms: Sequence[str] | None = None, *, score: Score = "f1", prices: Prices | None = None
) -> Matrix:
    """The arms' figures, over the questions that all of them finished; every arm of the group unless told otherwise.

    `DataError` where they finished no question together.
    """
    names = tuple(dict.fromkeys(arms if arms is not None else group.arms))
    finished = [group.arms[name].results for name in names]
    shared = tuple(key for key in group.questions if all(key in results for results in finished))
    if not names or not shared:
        raise DataError(f"no question of {group.dataset} was finished by all of the arms {', '.join(names)}")
    figures = [measures((results[key] for key in shared), prices or Prices()) for results in finished]
    return Matrix(
        names,
        shared,
        np.array([values[score] for values in figures]),
        np.array([values["price"] for values in figures]),
        np.array([values["retrievals"] + values["escalations"] > 0 for values in figures]),
        alike([group.questions[key].text for key in shared]),
    )


def _kind(policy: Policy) -> Kind:
    deciding = [rule for rule in policy.rules if rule.trigger.signal not in _CLOCKS and rule.trigger.threshold != NEVER]
    moments = {rule.trigger.moment for rule in deciding}
    own_prompt = policy.prompt != Prompt()
    return Kind(
        moment=moments.pop() if len(moments) == 1 else None,
        actions=_actions(policy.rules),
        own_prompt=own_prompt,
        end=not own_prompt and all(_acts_at_once(rule) for rule in policy.rules),
        passages=frozenset(rule.action.k for rule in policy.rules if isinstance(rule.action, Retrieve)),
    )


def _acts_at_once(rule: Rule) -> bool:
    helps = isinstance(rule.action, Retrieve | Escalate)
    return helps and rule.trigger.signal is ALWAYS and rule.trigger.moment == "pre"


def _actions(rules: Sequence[Rule]) -> frozenset[str]:
    return frozenset(rule.action.name for rule in rules if isinstance(rule.action, Retrieve | Escalate))


def _chooser_kind(name: str, folder: str) -> Kind:
    """A chooser's kind, by the list of arms in its folder; by its name where that cannot be read."""
    try:
        place = standing(Path(folder))
        arms = [split_arm(arm) for arm in read_json(place / "router.json", place)["arms"]]
        kinds = [kind_of(spec) for _, spec in arms]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FlarekitError):
        return Kind("pre", _CHOOSERS.get(name, _BOTH))
    both = frozenset({"escalate"}) if len({model for model, _ in arms}) > 1 else frozenset[str]()
    return Kind(
        "pre",
        both.union(*(kind.actions for kind in kinds)),
        any(kind.own_prompt for kind in kinds),
        passages=frozenset[int]().union(*(kind.passages for kind in kinds)),
    )
