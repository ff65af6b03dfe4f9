"""The power to tell moments apart: simulated runs in which one family has a better arm (see `stats.power`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flarekit.eval.analysis.frontier.crossfit import score_gap
from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.eval.analysis.frontier.frontier import hulls
from flarekit.stats.power import Alternative, Trial, flip_chance

RESAMPLES = 199
"""Of one simulated comparison, of which the p-value alone is used: its standard error is then known to 5%."""
BETTER = "the better arm"


def family_trial(
    figures: Matrix, theirs: Sequence[str], budget: float, difference: float, *, resamples: int = RESAMPLES
) -> Trial:
    """Runs in which one family has an arm that scores `difference` more than the best mixture of `theirs` at `budget`.

    Besides that arm the families are alike: all arms of `theirs`, ends included, as recorded in `figures`.
    `ConfigError` where their best mixture leaves no room for such a difference.
    """
    rows = figures.rows(theirs)
    scores, costs = figures.scores[rows], figures.costs[rows]
    first, second, share = hulls(costs.mean(axis=1)[None], scores.mean(axis=1)[None]).at_cost(budget)
    reached = (1 - share[0]) * scores[first[0]] + share[0] * scores[second[0]]
    chance = flip_chance(reached, difference)
    names = (*theirs, BETTER)

    def trial(alternative: Alternative, n: int, random: np.random.Generator) -> float:
        drawn = random.integers(0, scores.shape[1], n)
        mixed = np.where(random.uniform(size=n) < share[0], second[0], first[0])
        like = random.integers(0, scores.shape[1], n) if alternative == "independent errors" else drawn
        better = np.where(random.uniform(size=n) < chance, 1.0, scores[mixed, like])
        drawn_scores = np.vstack([scores[:, drawn], better])
        drawn_costs = np.vstack([costs[:, drawn], costs[mixed, drawn]])
        run = Matrix(names, tuple(map(str, range(n))), drawn_scores, drawn_costs, drawn_scores > 1)
        return score_gap(run, names, names[:-1], budget, resamples=resamples, seed=int(random.integers(1 << 31))).p

    return trial
