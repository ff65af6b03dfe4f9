"""Avengers-Pro among four arms and more: what its clusters add to the one arm that its own trade-off likes best.

    python benchmarks/avengers.py runs/hotpotqa-0.5b runs/hotpotqa-1.5b --weak qwen2.5-coder-0.5b/closed-book

Every question is answered by the arm of a router that was fitted on the other folds; so is the single arm chosen.
Intervals refit everything on resamples of the questions, whose copies share a fold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from flarekit.escalation.base import Task
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.registry import KINDS
from flarekit.escalation.routers.avengers_pro import choose, worth
from flarekit.escalation.split import Rows, folds
from flarekit.escalation.training import fit_rows
from flarekit.eval.results.outcomes import read_outcomes
from flarekit.stats.arrays import Floats

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
    found, used = judged(data, clusters)
    draws = [judged(drawn(data, rng.integers(0, len(rows), len(rows))), clusters)[0] for _ in range(resamples)]
    for alpha, figures, errors, count in zip(ALPHAS, found, np.std(draws, axis=0, ddof=1), used, strict=True):
        print(f"| {alpha:g} | {count} | {' | '.join(map(written, figures, 1.96 * errors))} |")


def written(value: float, width: float) -> str:
    """A score with three digits, a cost with none."""
    digits = 3 if abs(value) < 1 and width < 1 else 0
    return f"{value:.{digits}f} [{value - width:.{digits}f}, {value + width:.{digits}f}]"


def drawn(data: Outcomes, rows: Rows) -> Outcomes:
    """A resample of the questions; copies of one have ids of their own."""
    ids = [f"{data.ids[row]} #{number}" for number, row in enumerate(rows)]
    return Outcomes(ids, [data.questions[row] for row in rows], data.arms, data.scores[rows], data.costs[rows])


def judged(data: Outcomes, clusters: int) -> tuple[Floats, list[int]]:
    """`FIGURES` for every α, the last two less those of the best single arm there; and how many arms were chosen."""
    rows = np.arange(len(data.ids))
    fold = folds(data.questions, data.scores.argmax(axis=1).tolist(), FOLDS, 0)
    chosen, single = (np.zeros((len(ALPHAS), rows.size), dtype=np.int64) for _ in range(2))
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        task = Task(data, np.zeros(rows.size), 0, 0, "choice", 0)
        fitted = fit_rows(KINDS["avengers-pro"], task, train, None, {"clusters": clusters})
        means = data.scores[train].mean(axis=0, keepdims=True), data.costs[train].mean(axis=0, keepdims=True)
        for place, alpha in enumerate(ALPHAS):
            chosen[place, test] = choose(fitted, [data.questions[row] for row in test], alpha)
            single[place, test] = worth(*means, alpha).argmax()
    ours, theirs = (
        np.stack([figures[rows, places].mean(axis=1) for figures in (data.scores, data.costs)], axis=1)
        for places in (chosen, single)
    )
    return np.hstack([ours, ours - theirs]), [len(set(places.tolist())) for places in chosen]


if __name__ == "__main__":
    typer.run(main)
