"""`knn`: the labels of the most similar questions, each weighted by its similarity.

The plainest router that generalises by meaning, and a surprisingly strong one (Li, "Rethinking predictive modeling for
LLM routing: when simple kNN beats complex learned routers", arXiv:2505.12601).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flarekit.engines.encoders import DEFAULT
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded
from flarekit.stats.arrays import Floats


def fit(task: Task, *, encoder: str = DEFAULT, k: int = 20) -> Fitted:
    """Keep the questions' embeddings and labels."""
    at_least("k", k, 1)
    arrays: dict[str, NDArray[Any]] = {
        "embeddings": embed(encoder, task.questions).astype(np.float32),
        "labels": task.labels,
    }
    return Fitted({"encoder": encoder, "k": k}, arrays)


def predict(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """The share of the label among the k nearest questions, each weighted by its cosine. Shape (questions,), 0 to 1.

    A question that is like none of them has the share of the nearest, unweighted.
    """
    known, labels = fitted.arrays["embeddings"], fitted.arrays["labels"]
    similarity = embedded(fitted, questions, known.shape[1]) @ known.T
    k = min(fitted.settings["k"], len(labels))
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weights = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 0) + 1e-9
    return np.asarray((weights * labels[nearest]).sum(axis=1) / weights.sum(axis=1)).clip(0, 1)


def check(fitted: Fitted) -> None:
    """`ValueError` unless every embedding has a label from 0 to 1 and k is at least 1."""
    fitted.expect(embeddings=("n", "d"), labels=("n",))
    labels = fitted.arrays["labels"]
    if not (labels.min() >= 0 and labels.max() <= 1 and fitted.settings["k"] >= 1):
        raise ValueError("labels from 0 to 1 and k of at least 1 are expected")
