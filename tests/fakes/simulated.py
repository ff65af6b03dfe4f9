"""Arms whose true scores are known: what intervals are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.eval.analysis.frontier.frontier import hulls

Floats = NDArray[np.float64]


class World:
    """Arms of fixed ability and price; the first two are the ends, weak and cheap, strong and dear.

    A score is like an F1: 0 on many questions, 1 on some, between on others, and arms fail on the same questions.
    """

    def __init__(self, arms: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.ability = np.concatenate(([-0.3, 0.05], random.uniform(-0.25, 0.05, arms - 2)))
        self.price = np.concatenate(([70.0, 190.0], random.uniform(80, 220, arms - 2)))

    def scores(self, random: np.random.Generator, n: int) -> Floats:
        """Shape (arms, n)."""
        difficulty = random.normal(0, 0.6, n)
        own = random.normal(0, 0.5, (self.ability.size, n))
        return np.asarray(np.clip(2 * (self.ability[:, None] + difficulty + own), 0, 1))

    def draw(self, random: np.random.Generator, n: int) -> Matrix:
        """The figures of n questions."""
        scores = self.scores(random, n)
        costs = self.price[:, None] * np.exp(random.normal(0, 0.2, scores.shape))
        names = tuple(f"arm {place}" for place in range(self.ability.size))
        return Matrix(names, tuple(map(str, range(n))), scores, costs, costs > 100)


def worth(world: World, arms: Sequence[int], *, budget: float, n: int, repetitions: int = 2000) -> float:
    """The true score of what is chosen from these arms on n questions, on average over draws of the n."""
    random = np.random.default_rng(99)
    true = np.mean([world.scores(random, 4000).mean(axis=1) for _ in range(50)], axis=0)[list(arms)]
    found = []
    for _ in range(repetitions):
        figures = world.draw(random, n)
        costs, scores = figures.costs[list(arms)].mean(axis=1), figures.scores[list(arms)].mean(axis=1)
        first, second, share = hulls(costs[None], scores[None]).at_cost(budget)
        found.append((1 - share[0]) * true[first[0]] + share[0] * true[second[0]])
    return float(np.mean(found))


ENDS = ("never", "always")


@dataclass(frozen=True)
class Moments:
    """Two moments whose arms, `arms` of each, lie evenly between the two ends, `above` the line between them.

    Answers are right or wrong. A share of what decides it is the question, `shared`; the rest is every arm's own,
    unless `strict`: then our arms answer as theirs do. The middle one of ours is truly `better`; under `strict` it
    answers as its twin, but for the questions that it gets right in its place.
    """

    arms: int = 5
    above: float = 0.1
    better: float = 0.0
    strict: bool = False
    shared: float = 0.5

    @property
    def ours(self) -> tuple[str, ...]:
        return (*ENDS, *(f"mid {place}" for place in range(self.arms)))

    @property
    def theirs(self) -> tuple[str, ...]:
        return (*ENDS, *(f"pre {place}" for place in range(self.arms)))

    def draw(self, random: np.random.Generator, n: int) -> Matrix:
        """The figures of n questions; ends cost 60 and 180, and are right on 20% and 40%."""
        along = np.linspace(0, 1, self.arms + 2)[1:-1]
        middle = np.arange(self.arms) == self.arms // 2
        theirs = 0.2 + 0.2 * along + self.above
        skill = np.concatenate(([0.2, 0.4], theirs + (0 if self.strict else self.better * middle), theirs))
        question = random.normal(size=n)
        own = random.normal(size=(skill.size, n))
        right = np.sqrt(self.shared) * question + np.sqrt(1 - self.shared) * own < norm.ppf(skill)[:, None]
        costs = np.concatenate(([60, 180], *[60 + 120 * along] * 2))[:, None] * np.exp(
            random.normal(0, 0.15, own.shape)
        )
        if self.strict:
            mid, pre = slice(2, 2 + self.arms), slice(2 + self.arms, None)
            flipped = random.uniform(size=(self.arms, n)) < (self.better * middle / (1 - theirs))[:, None]
            right[mid], costs[mid] = right[pre] | flipped, costs[pre]
        names = (*self.ours, *self.theirs[2:])
        return Matrix(names, tuple(map(str, range(n))), right.astype(float), costs, costs > 100)
