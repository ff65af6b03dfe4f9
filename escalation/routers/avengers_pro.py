"""Avengers-Pro (Zhang et al. 2025, arXiv:2508.12631): which arm does best, for its price, on questions like this one.

Questions are embedded and clustered. In every cluster each arm has a mean score p and a mean cost c, both brought to
0..1 between the worst and the best arm of that cluster, and is worth α·p + (1 - α)·(1 - c). A new question takes the
arm worth most over its nearest clusters, weighted by a softmax of their similarities.

It takes three arms or more. Of two, the better is brought to 1 and the other to 0, in both p and c, however near they
are: where one is better and the other cheaper they are worth α and 1 - α, whatever was measured, so that α = .5 ties
them everywhere and any other α takes the better or the cheaper one throughout.

Arms can be anything that was recorded: a model, with look-ups or without. Centroids are normalised, so that the nearest
one is not the longest one, and a cost that is not known is an error (`Outcomes` refuses it), never a cost of nothing.
The paper clusters some thousand questions into 60 by Qwen3's 4096-dimensional embeddings; ours are fewer and MiniLM's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.cluster import KMeans

from flarekit.engines.encoders import DEFAULT
from flarekit.errors import ConfigError
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded
from flarekit.stats.arrays import Floats


def fit(task: Task, *, encoder: str = DEFAULT, clusters: int = 8, alpha: float = 0.7, top: int = 3) -> Fitted:
    """Cluster the questions, into at most as many clusters as there are different ones."""
    at_least("clusters", clusters, 1)
    at_least("top", top, 1)
    vectors = embed(encoder, task.questions)
    count = min(clusters, len(np.unique(vectors, axis=0)))
    found = KMeans(count, n_init=10, random_state=task.seed).fit(vectors)
    centroids = found.cluster_centers_ / np.linalg.norm(found.cluster_centers_, axis=1, keepdims=True)
    members = (found.labels_ == np.arange(count)[:, None]).astype(float)
    members /= members.sum(axis=1, keepdims=True)
    settings = {"encoder": encoder, "clusters": count, "alpha": _share(alpha), "top": top}
    arrays = {
        "centroids": centroids.astype(float),
        "scores": members @ task.outcomes.scores,
        "costs": members @ task.outcomes.costs,
    }
    return Fitted(settings, arrays)


def worth(scores: Floats, costs: Floats, alpha: float) -> Floats:
    """α·p + (1 - α)·(1 - c), p and c brought to 0..1 over the arms. Shape (clusters, arms), 0 to 1.

    Where all arms are alike in one of the two, all of them have 0 in it.
    """
    return alpha * _relative(scores) + (1 - alpha) * (1 - _relative(costs))


def choose(fitted: Fitted, questions: Sequence[str], tradeoff: float | None = None) -> NDArray[np.int64]:
    """The place of the arm worth most. `tradeoff` is α: 1 looks at scores alone, 0 at costs alone."""
    centroids = fitted.arrays["centroids"]
    alpha = fitted.settings["alpha"] if tradeoff is None else _share(tradeoff)
    similarity = embedded(fitted, questions, centroids.shape[1]) @ centroids.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : fitted.settings["top"]]
    weights = softmax(np.take_along_axis(similarity, nearest, axis=1), axis=-1)
    values = worth(fitted.arrays["scores"], fitted.arrays["costs"], alpha)
    return np.asarray(np.einsum("qc,qca->qa", weights, values[nearest]).argmax(axis=1))


def check(fitted: Fitted) -> None:
    """`ValueError` unless every cluster has a score and a cost of every arm."""
    fitted.expect(centroids=("k", "d"), scores=("k", "arms"), costs=("k", "arms"))
    fitted.expect(scores=("k", fitted.settings["arms"]))
    if not (0 <= fitted.settings["alpha"] <= 1 and fitted.settings["top"] >= 1):
        raise ValueError("alpha from 0 to 1 and top of at least 1 are expected")


def _relative(values: Floats) -> Floats:
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    return np.asarray((values - low) / np.where(high > low, high - low, 1))


def _share(alpha: float) -> float:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha, the weight of the score against the cost, is from 0 to 1, not {alpha:g}")
    return float(alpha)
