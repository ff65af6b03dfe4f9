"""What is known of earlier questions: how well every arm answered each, and what that cost. Routers are fitted on it.

An **arm** is one way to answer: a policy's specification, or `model/specification` where several models are compared.
`flarekit.eval.results.outcomes` reads outcomes from recorded runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError, DataError
from flarekit.policies.spec import family_of, split_arm
from flarekit.stats.arrays import Floats

Target = Literal["wrong", "helps", "hurts", "strong-wins"]
"""What a router predicts of the weak and the strong arm: see `label`."""
TARGETS: tuple[Target, ...] = ("wrong", "helps", "hurts", "strong-wins")
WRONG_BELOW = 0.5
"""An answer with a lower F1 counts as wrong."""


def label(alone: float, helped: float, target: Target) -> bool:
    """Whether the target came true, from the F1 of the answers without and with help.

    `wrong`: the weak arm alone is wrong. `helps`: it is, and help makes it better. `hurts`: help makes it worse.
    `strong-wins`: help makes it better, however right it was.
    """
    match target:
        case "wrong":
            return alone < WRONG_BELOW
        case "helps":
            return alone < WRONG_BELOW and helped > alone
        case "hurts":
            return helped < alone
        case "strong-wins":
            return helped > alone


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Scores and costs of every arm on every question; only questions that every arm answered.

    `DataError` where the shapes do not fit, a number is not finite (an unknown cost is not a cost of nothing), a
    score is outside 0 to 1, a cost is negative, or an id occurs twice.
    """

    ids: Sequence[str]
    questions: Sequence[str]
    arms: Sequence[str]
    scores: Floats
    """F1. Shape (questions, arms), 0 to 1."""
    costs: Floats
    """Shape (questions, arms), at least 0, in the unit of the prices that they were computed with."""
    samples: Sequence[Sequence[Sequence[float]]] = ()
    """F1 of every sampled answer, by question and arm; empty where each arm has its one score."""
    kinds: Sequence[str] = ()
    """The dataset's own type of each question; empty where none is known."""

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.arms))
        if twice := [id_ for id_, count in Counter(self.ids).items() if count > 1]:
            raise DataError(f"the question {twice[0]!r} occurs twice, and could be fitted and judged on; give it once")
        if self.kinds and len(self.kinds) != len(self.ids):
            raise DataError(f"{len(self.kinds)} types of questions do not fit {len(self.ids)} questions")
        if len(self.questions) != len(self.ids) or self.scores.shape != shape or self.costs.shape != shape:
            raise DataError(f"outcomes of {shape[0]} questions and {shape[1]} arms need one score and cost of each")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.costs).all()):
            raise DataError("a score or a cost is missing or not finite; run that arm again, or leave it out")
        if self.scores.size and not (self.scores.min() >= 0 and self.scores.max() <= 1 and self.costs.min() >= 0):
            raise DataError("scores must be from 0 to 1 and costs at least 0")

    def arm(self, wanted: str) -> int:
        """The place of the arm that `wanted` names: in full, without its model, or by its policy's name alone.

        `ConfigError` where none or several fit.
        """
        return find_arm(self.arms, wanted)

    def only(self, arms: Sequence[str]) -> Outcomes:
        """The same questions with these arms alone, in this order."""
        places = [self.arm(arm) for arm in arms]
        samples = [[row[place] for place in places] for row in self.samples]
        names = [self.arms[place] for place in places]
        scores, costs = self.scores[:, places], self.costs[:, places]
        return Outcomes(self.ids, self.questions, names, scores, costs, samples, self.kinds)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Outcomes:
        """These questions alone, in this order."""
        chosen = [int(row) for row in rows]
        samples = [self.samples[row] for row in chosen] if self.samples else ()
        ids, questions = [self.ids[row] for row in chosen], [self.questions[row] for row in chosen]
        kinds = [self.kinds[row] for row in chosen] if self.kinds else ()
        return Outcomes(ids, questions, self.arms, self.scores[chosen], self.costs[chosen], samples, kinds)

    def labels(self, weak: int, strong: int, target: Target) -> NDArray[np.bool_]:
        """Whether the target came true, for every question. Shape (questions,)."""
        pairs = self.scores[:, [weak, strong]]
        return np.array([label(alone, helped, target) for alone, helped in pairs], dtype=bool)

    def sampled(self, row: int, arm: int) -> Floats:
        """F1 of the answers that were sampled, at least one."""
        found = self.samples[row][arm] if self.samples else ()
        return np.asarray(found or [self.scores[row, arm]], dtype=float)


def find_arm(arms: Sequence[str], wanted: str) -> int:
    """The place of the one arm that `wanted` names; see `Outcomes.arm`."""
    if wanted in arms:
        return list(arms).index(wanted)
    specs = [split_arm(arm)[1] for arm in arms]
    families = [family_of(arm) for arm in arms]
    bare = [family_of(spec) for spec in specs]
    for names in (specs, families, bare):
        if names.count(wanted) == 1:
            return names.index(wanted)
    problem = "fits several arms" if wanted in [*specs, *families, *bare] else "is no arm"
    raise ConfigError(f"{wanted!r} {problem}; there are {', '.join(arms) or 'none'}")
