"""How often a verdict errs where nothing differs, and how often it finds what does; against what `flarekit power` says.

    PYTHONPATH=tests python benchmarks/power.py [repetitions]

Simulated moments whose arms are truly alike, or of which one arm is truly .05 better (`tests/fakes/simulated.py`),
compared as recorded runs are. Over 200 repetitions a share of 5% is measured as 2.4 to 9.0% in 95 of 100 cases.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fakes.simulated import ENDS, Moments
from flarekit.eval.analysis.frontier.crossfit import compare_families
from flarekit.eval.analysis.frontier.power import family_trial
from flarekit.stats.power import ALTERNATIVES, simulate

BUDGET, COSTS, RESAMPLES = 120.0, (60.0, 180.0), 199
LEVELS = (0.05, 0.05 / 9)
N = 90
PILOTS = 4


def p_values(world: Moments, n: int, repetitions: int) -> NDArray[np.float64]:
    """p of score, AIQ and cost of simulated comparisons. Shape (repetitions, 3)."""
    random = np.random.default_rng(n)
    found = []
    for _ in range(repetitions):
        result = compare_families(
            world.draw(random, n),
            world.ours,
            world.theirs,
            costs=COSTS,
            ends=ENDS,
            budget=BUDGET,
            target=0.3,
            resamples=RESAMPLES,
            seed=int(random.integers(1 << 30)),
        )
        found.append((result.score.p, result.overall.p, result.cost.p))
    return np.array(found)


def planned(world: Moments, alternative: str, level: float, repetitions: int) -> float:
    """What `flarekit power` says of runs of N questions, on average over recorded runs in which nothing differs."""
    name = next(one for one in ALTERNATIVES if one == alternative)
    shares = []
    for pilot in range(PILOTS):
        figures = replace(world, better=0.0, strict=False).draw(np.random.default_rng(1000 + pilot), N)
        trial = family_trial(figures, world.theirs, BUDGET, world.better, resamples=RESAMPLES)
        *_, last = simulate(trial, name, N, level=level, trials=repetitions // PILOTS, seed=pilot)
        shares.append(last.estimate)
    return float(np.mean(shares))


def row(name: str, values: Sequence[float]) -> None:
    """A line of a table of shares."""
    print(f"| {name} | " + " | ".join(f"{value:.1%}" for value in values) + " |", flush=True)


def main(repetitions: int = 200) -> None:
    """Prints both tables."""
    print("| arms of each, all alike | n | score: p ≤ .05 | AIQ: p ≤ .05 | cost: p ≤ .05 |\n|---|--:|--:|--:|--:|")
    for arms, above, n in ((1, 0.0, N), (1, 0.1, N), (1, 0.15, N), (1, 0.15, 300), (5, 0.1, N), (12, 0.1, N)):
        shown = (p_values(Moments(arms, above), n, repetitions) <= 0.05).mean(axis=0)
        row(f"{arms}, {above:.2f} above the line | {n}", list(shown))
    print("\n| one arm .05 better, n = 90 | found: p ≤ .05 | planned | found: p ≤ .0056 | planned |")
    print("|---|--:|--:|--:|--:|")
    for alternative in ALTERNATIVES:
        world = Moments(5, 0.1, 0.05, strict=alternative == "strict improvement")
        scores = p_values(world, N, repetitions)[:, 0]
        shares = [
            share
            for level in LEVELS
            for share in (float((scores <= level).mean()), planned(world, alternative, level, repetitions))
        ]
        row(alternative, shares)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
