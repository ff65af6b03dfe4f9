"""How good a router's scores are, with 95% bootstrap intervals over questions.

One resampling of the questions gives every question a weight (how often it was drawn); every measure here is computed
for all resamplings at once from such weights. The same seed draws the same questions, so differences are paired.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flarekit.stats.arrays import Floats
from flarekit.stats.bootstrap import resample_counts
from flarekit.stats.intervals import percentile_interval
from flarekit.stats.ranking import auroc, average_precision

RESAMPLES = 2000


def resampled(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """`bootstrap.resample_counts`, with as many resamples as a router's figures have. Shape (1 + resamples, n)."""
    return resample_counts(n, resamples, seed)


def summary(values: Floats) -> dict[str, float | None]:
    """The first value with the 95% interval of the others, rounded; None for what is not known."""
    found = percentile_interval(values)
    return {name: _rounded(getattr(found, name)) for name in ("estimate", "low", "high")}


def score_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, Any]:
    """AUROC and average precision of a score router, each with its interval."""
    weights = resampled(len(np.asarray(labels)))
    return {
        "auroc": summary(auroc(labels, scores, weights)),
        "average precision": summary(average_precision(labels, scores, weights)),
    }


def chooser_metrics(choice: ArrayLike, scores: Floats, costs: Floats, best: int) -> dict[str, Any]:
    """Mean score and cost of a chooser against the single arm `best`, a random arm and an oracle.

    `choice` is of shape (n,), `scores` and `costs` of shape (n, arms). The oracle takes the best score, and the
    cheapest arm that reaches it. `best` must not be chosen by looking at these questions.
    """
    rows, picked = np.arange(len(scores)), np.asarray(choice)
    top = scores.max(axis=1, keepdims=True)
    perfect = np.where(scores == top, costs, np.inf).argmin(axis=1)
    weights = resampled(len(scores))

    def mean(values: Floats) -> dict[str, float | None]:
        return summary(weights @ values / len(values))

    found: dict[str, Any] = {}
    for name, values in (("score", scores), ("cost", costs)):
        found[name] = mean(values[rows, picked])
        found[f"{name} of the best single arm"] = mean(values[:, best])
        found[f"{name} of a random arm"] = mean(values.mean(axis=1))
        found[f"{name} of an oracle"] = mean(values[rows, perfect])
        found[f"{name} against the best single arm"] = mean(values[rows, picked] - values[:, best])
    return found


def handover_metrics(handed: ArrayLike, weak: Floats, strong: Floats) -> dict[str, Any]:
    """How often answers are handed over and what that scores, against as many that are drawn by lot; all of shape (n,).

    Handing a share s over by lot scores s times the strong model's mean and 1 - s times the weak one's.
    """
    flags = np.asarray(handed, dtype=float)
    weights = resampled(len(flags)) / len(flags)
    share, alone, helped = weights @ flags, weights @ weak, weights @ strong
    score = weights @ np.where(flags > 0, strong, weak)
    values = {"handed over": share, "score": score, "score of the weak arm": alone, "score of the strong arm": helped}
    values["score against as many by lot"] = score - ((1 - share) * alone + share * helped)
    return {name: summary(found) for name, found in values.items()}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
