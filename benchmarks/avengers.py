"""Avengers-Pro among four arms and more: what its clusters add to the one arm that its own trade-off likes best.

    python benchmarks/avengers.py runs/hotpotqa-0.5b runs/hotpotqa-1.5b --weak qwen2.5-coder-0.5b/closed-book

Every question is answered by the arm of a router that was fitted on the other folds; so is the single arm chosen.
Intervals refit everything on resamples of the questions, whose copies share a fold.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from flarekit.escalation.avengers_pro import choose, worth
from flarekit.escalation.fitting import Task
from flarekit.escalation.kinds import KINDS
from flarekit.escalation.outcomes import Floats, Outcomes
from flarekit.escalation.routers import fit_rows
from flarekit.escalation.split import Rows, folds
from flarekit.eval.outcomes import read_outcomes

FOLDS = 5
ALPHAS = (0.3, 0.5, 0.7, 0.85, 1.0)
FIGURES = ("F1", "cost", "ΔF1", "Δcost")


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, of one model each.")],
    weak: Annotated[str, typer.Option(help="The arm whose model the weak prices are for.")],
    resamples: Annotated[int, typer.Option(help="Resamples of the questions.")] = 200,
    clusters: Annotated[int, typer.Option(help="Clusters of questions.")] = 8,
) -> None:
    """Print what every arm comes to, and what the router does at several trade-offs."""
    data = read_outcomes(runs, weak=weak)
    print(
        f"{len(data.ids)} questions that all {len(data.arms)} arms answered\n\n| arm | F1 | cost |\n| --- | --- | --- |"
    )
    for place, arm in enumerate(data.arms):
        print(f"| `{arm}` | {data.scores[:, place].mean():.3f} | {data.costs[:, place].mean():,.0f} |")
    rows, best = np.arange(len(data.ids)), data.scores.argmax(axis=1)
    print(f"| the best by question | {data.scores.max(axis=1).mean():.3f} | {data.costs[rows, best].mean():,.0f} |")
    print(f"\n| α | arms chosen | {' | '.join(FIGURES)} |\n|{' --- |' * (2 + len(FIGURES))}")
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(rows), len(rows)) for _ in range(resamples)]
    for alpha in ALPHAS:
        found, used = judged(data, alpha, clusters, 0)
        spread = np.std([judged(drawn(data, draw), alpha, clusters, 0)[0] for draw in draws], axis=0, ddof=1)
        cells = (f"{value:,.3f} ± {1.96 * error:,.3f}" for value, error in zip(found, spread, strict=True))
        print(f"| {alpha:g} | {used} | {' | '.join(cells)} |", flush=True)


def drawn(data: Outcomes, rows: Rows) -> Outcomes:
    """A resample of the questions; copies of one have ids of their own."""
    taken = data.take(rows)
    return replace(taken, ids=[f"{id_} #{number}" for number, id_ in enumerate(taken.ids)])


def judged(data: Outcomes, alpha: float, clusters: int, seed: int) -> tuple[Floats, int]:
    """F1 and cost of the router, and both less those of the best single arm at α; and how many arms it chose."""
    n = len(data.ids)
    fold = folds(data.questions, data.scores.argmax(axis=1).tolist(), FOLDS, seed)
    chosen, single = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        task = Task(data, np.zeros(n), 0, 0, "choice", seed)
        fitted = fit_rows(KINDS["avengers-pro"], task, train, None, {"alpha": alpha, "clusters": clusters})
        chosen[test] = choose(fitted, [data.questions[row] for row in test])
        means = data.scores[train].mean(axis=0, keepdims=True), data.costs[train].mean(axis=0, keepdims=True)
        single[test] = worth(*means, alpha).argmax()
    rows = np.arange(n)
    ours, theirs = (
        np.array([data.scores[rows, places].mean(), data.costs[rows, places].mean()]) for places in (chosen, single)
    )
    return np.concatenate([ours, ours - theirs]), len(set(chosen.tolist()))


if __name__ == "__main__":
    typer.run(main)
