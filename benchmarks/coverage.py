"""How often the 95% intervals hold the truth, on simulated questions whose truth is known.

    PYTHONPATH=tests python benchmarks/coverage.py [repetitions]
    PYTHONPATH=tests python benchmarks/coverage.py fitted [repetitions [n ...]]

Scores are like F1: many are 0, some are 1, and arms fail on the same questions (`tests/fakes/simulated.py`). Where 95
of 100 intervals hold the truth, 1,000 repetitions measure .936 to .964 in 95 of 100 cases. The two families of arms
have their ends in common. "Choice taken as given" is what an interval would do that does not choose again in each
resample.
"""

import math
import sys
from collections.abc import Callable, Iterator
from statistics import NormalDist
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fakes.simulated import World, worth
from flarekit.eval.analysis.frontier.crossfit import compare_families
from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.eval.analysis.frontier.frontier import hulls
from flarekit.eval.analysis.information.refits import Values, drawn, refitted, resamples
from flarekit.stats.bootstrap import paired_difference
from flarekit.stats.discrimination import auroc, interval
from flarekit.stats.halves import halved_resamples
from flarekit.stats.intervals import Interval

SIZES = (50, 100, 200)
BUDGET, SPLITS = 130.0, 4
Trial = Callable[[np.random.Generator, int], tuple[Interval, ...]]
Sides = tuple[tuple[int, ...], tuple[int, ...]]


def f1_difference(random: np.random.Generator, n: int) -> tuple[Interval, ...]:
    """The paired difference of two arms' mean scores."""
    theirs, ours, _ = PAIR.scores(random, n)
    return (paired_difference(ours, theirs, resamples=999),)


def right_difference(random: np.random.Generator, n: int) -> tuple[Interval, ...]:
    """The same of rights and wrongs."""
    theirs, ours, _ = PAIR.scores(random, n) == 1
    return (paired_difference(ours, theirs, resamples=999),)


def auroc_of_a_signal(random: np.random.Generator, n: int) -> tuple[Interval, ...]:
    """Values that are normal around 1 for a "yes" (40 of 100) and around 0 for a "no"."""
    labels = random.uniform(size=n) < 0.4
    return (interval(auroc, labels, random.normal(labels, 1), resamples=499),)


def families(world: World, sides: Sides) -> Trial:
    """The cross-fitted difference of two families at equal cost, by either interval."""

    def trial(random: np.random.Generator, n: int) -> tuple[Interval, ...]:
        figures = world.draw(random, n)
        names = [tuple(figures.arms[place] for place in side) for side in sides]
        seed = int(random.integers(1 << 30))
        found = compare_families(
            figures, *names, costs=(70, 190), budget=BUDGET, splits=SPLITS, resamples=199, seed=seed
        )
        return found.score.interval, paired_difference(*as_chosen(figures, sides, seed), resamples=499)

    return trial


def as_chosen(figures: Matrix, sides: Sides, seed: int) -> NDArray[np.float64]:
    """Each question's score by either family, averaged over splits. Shape (2, questions)."""
    n = len(figures.questions)
    found = np.zeros((2, n))
    for halves in halved_resamples(n, SPLITS, 0, seed):
        first, second = (half[0] > 0 for half in halves)
        for choosing, judging in ((first, second), (second, first)):
            for side, places in enumerate(sides):
                costs, scores = figures.costs[list(places)], figures.scores[list(places)]
                one, other, share = hulls(
                    costs[:, choosing].mean(axis=1)[None], scores[:, choosing].mean(axis=1)[None]
                ).at_cost(BUDGET)
                mixed = (1 - share) * scores[one[0]] + share * scores[other[0]]
                found[side, judging] += mixed[judging] / SPLITS
    return found


def rows() -> Iterator[tuple[tuple[str, ...], Trial, Callable[[int], float]]]:
    """Names of the intervals, how they are drawn, and the truth for n questions."""
    large = PAIR.scores(np.random.default_rng(0), 2_000_000)
    yield ("paired difference of F1",), f1_difference, lambda n: float((large[1] - large[0]).mean())
    rights = large == 1
    gap = float(rights[1].mean() - rights[0].mean())
    yield ("paired difference of exact match",), right_difference, lambda n: gap
    yield ("AUROC",), auroc_of_a_signal, lambda n: NormalDist().cdf(1 / math.sqrt(2))
    for ours, theirs in ((8, 8), (3, 16)):
        world = World(arms=2 + ours + theirs, seed=7)
        sides = (0, 1, *range(2, 2 + ours)), (0, 1, *range(2 + ours, 2 + ours + theirs))
        name = f"families of {ours} and {theirs} arms, cross-fitted"

        def truth(n: int, world: World = world, sides: Sides = sides) -> float:
            left, right = (worth(world, side, budget=BUDGET, n=n // 2) for side in sides)
            return left - right

        yield (name, f"{name}, choice taken as given"), families(world, sides), truth


def covered(trial: Trial, truth: float, n: int, repetitions: int) -> NDArray[np.float64]:
    """The share of the intervals of each kind that hold the truth."""
    random = np.random.default_rng(n)
    drawn = (trial(random, n) for _ in range(repetitions))
    held = np.array([[one.low <= truth <= one.high for one in intervals] for intervals in drawn], dtype=float)
    return np.asarray(held.mean(axis=0))


def main(repetitions: int = 1000) -> None:
    """Prints the table."""
    print(f"Coverage of 95% intervals over {repetitions:,} repetitions\n")
    print("| interval | " + " | ".join(f"n = {n}" for n in SIZES) + " |")
    print("|---|" + "--:|" * len(SIZES), flush=True)
    begin = perf_counter()
    for names, trial, truth in rows():
        shares = [covered(trial, truth(n), n, repetitions) for n in SIZES]
        for place, name in enumerate(names):
            cells = " | ".join(f"{share[place]:.3f}".removeprefix("0") for share in shares)
            print(f"| {name} | {cells} |", flush=True)
    print(f"\n{perf_counter() - begin:,.0f} s", file=sys.stderr)


WORDS, ASKED = 120, 12
"""Words that there are, the common ones first, and how many a question has."""
STRENGTHS = {"labels permuted": 0.0, "a weak signal": 0.5, "a strong signal": 1.2}
"""How much a word says of the label, in standard deviations of its log-odds."""


def router(words: NDArray[np.float64], labels: NDArray[np.float64], penalty: float) -> Values:
    """A linear fit on words, cross-fitted: least squares with both labels weighing the same, and a penalty."""
    texts = [str(row) for row in range(len(words))]

    def fit(rows: NDArray[np.int64], read: NDArray[np.int64]) -> NDArray[np.float64]:
        yes = labels[rows]
        weight = np.where(yes > 0, 0.5 / yes.mean(), 0.5 / (1 - yes.mean()))
        middle = weight @ words[rows] / weight.sum()
        seen = words[rows] - middle
        slopes = seen.T @ (seen * weight[:, None]) + penalty * np.eye(words.shape[1])
        return np.asarray((words[read] - middle) @ np.linalg.solve(slopes, seen.T @ (weight * (2 * yes - 1))))

    return refitted(texts, labels, fit, seed=int(labels @ np.arange(len(labels))))


def of_fits(strength: float, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Estimate, low and high of four figures: one router's AUROC and two routers' difference, with and without refits.

    The second router reads every other word. Shape (4, 3).
    """
    chances = 1 / np.arange(3.0, WORDS + 3)
    words = random.multinomial(ASKED, chances / chances.sum(), size=n).astype(float)
    slopes = np.random.default_rng(1).normal(0, strength, WORDS)
    odds = (words - ASKED * chances / chances.sum()) @ slopes - 0.85
    labels = (random.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)
    both = [router(kept, labels, penalty) for kept, penalty in ((words, 5.0), (words[:, ::2], 20.0))]
    draws = resamples(n, 1000, int(random.integers(1 << 30)))
    rows = []
    for values in (both, [fixed_fits(one) for one in both]):
        ours, theirs = (drawn(lambda read, weights: auroc(labels, read, weights), one, draws) for one in values)
        rows += [ours, ours - theirs]
    return np.array([(row[0], *np.nanquantile(row[1:], (0.025, 0.975))) for row in rows])


def fixed_fits(values: Values) -> Values:
    """As if there were no other questions to fit on."""
    return Values(values.whole, values.without[:0])


def main_fitted(repetitions: int = 400, *sizes: int) -> None:
    """Prints the table of fitted routers."""
    print(f"95% intervals of fitted routers over {repetitions:,} repetitions\n")
    heading = "| world | n | mean AUROC | AUROC: covered | fits as given | leaves out .5 | fits as given | "
    print(
        f"{heading}difference: covered | fits as given | leaves out 0 | fits as given |\n|---|{'--:|' * 10}", flush=True
    )
    begin = perf_counter()
    for name, strength in STRENGTHS.items():
        for n in sizes or (90, 500):
            random = np.random.default_rng(n)
            found = np.array([of_fits(strength, n, random) for _ in range(repetitions)])
            cells = []
            for ours, given, null in ((0, 2, 0.5), (1, 3, 0.0)):
                truth = found[:, ours, 0].mean()
                cells += [inside(found[:, one], truth) for one in (ours, given)]
                cells += [1 - inside(found[:, one], null) for one in (ours, given)]
            written = " | ".join(f"{cell:.3f}".removeprefix("0") for cell in [found[:, 0, 0].mean(), *cells])
            print(f"| {name} | {n} | {written} |", flush=True)
    print(f"\n{perf_counter() - begin:,.0f} s", file=sys.stderr)


def inside(intervals: NDArray[np.float64], truth: float) -> float:
    """The share that holds it, of intervals of shape (repetitions, 3)."""
    return float(((intervals[:, 1] <= truth) & (truth <= intervals[:, 2])).mean())


PAIR = World(arms=3, seed=2)
if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked[:1] == ["fitted"]:
        main_fitted(*map(int, asked[1:]))
    else:
        main(*map(int, asked))
