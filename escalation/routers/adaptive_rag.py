"""Adaptive-RAG (Jeong et al. 2024, arXiv:2403.14403): how many look-ups a question needs, none, one or many.

A classifier chooses among arms that are listed from the cheapest to the dearest, by default `closed-book`, `rag` and
`iter-retgen`. The label of a question is the first arm that is right (F1 at least .5), and the last one where none is.

It differs from the paper in three ways. A question that no arm answers takes the last arm, where the paper labels it
by its dataset (one look-up for single-hop sets, many for multi-hop ones): we know no such set. The classifier is
multinomial logistic regression on TF-IDF, or on an embedding, where the paper fine-tunes a T5-large. And nothing is
chosen by looking at the test questions, on which the published classifier is validated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from flarekit.engines.encoders import DEFAULT
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded, one_thread
from flarekit.escalation.outcomes import WRONG_BELOW
from flarekit.escalation.routers.linear import check_terms, word_features, words
from flarekit.stats.arrays import Floats

Features = Literal["tfidf", "embedding"]


def fit(task: Task, *, features: Features = "tfidf", encoder: str = DEFAULT, c: float = 1.0) -> Fitted:
    """Fit on the first right arm of every question. `DataError` where that is the same one for all."""
    at_least("c", c, 1e-12)
    labels = first_right(task.outcomes.scores)
    if len(set(labels)) < 2:
        arm = task.outcomes.arms[labels[0]]
        raise DataError(f"{arm} is the cheapest right arm of every question, so there is nothing to choose")
    settings: dict[str, Any] = {"features": features, "c": c}
    arrays: dict[str, NDArray[Any]] = {}
    texts = {}
    if features == "tfidf":
        texts["terms"], arrays["idf"], inputs = words(task.questions)
    else:
        settings["encoder"] = encoder
        inputs = embed(encoder, task.questions)
    with one_thread():
        model = LogisticRegression(C=c, max_iter=2000).fit(inputs, labels)
    binary = len(model.classes_) == 2  # for two labels there is one row, the second one's logit
    arrays |= {
        "coefficients": np.vstack([0 * model.coef_, model.coef_]) if binary else model.coef_,
        "intercepts": np.append(0, model.intercept_) if binary else model.intercept_,
        "classes": model.classes_.astype(np.int64),
    }
    return Fitted(settings, arrays, texts)


def first_right(scores: Floats) -> NDArray[np.int64]:
    """The place of the first arm that is right, the last place where none is. Shape (questions,)."""
    right = scores >= WRONG_BELOW
    right[:, -1] = True
    return np.asarray(right.argmax(axis=1))


def shares(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(arm) of every question, for the arms of `classes`. Shape (questions, classes)."""
    weights = fitted.arrays["coefficients"]
    if fitted.settings["features"] == "tfidf":
        inputs = word_features(fitted.texts["terms"], fitted.arrays["idf"], questions)
    else:
        inputs = embedded(fitted, questions, weights.shape[1])
    return np.asarray(softmax(inputs @ weights.T + fitted.arrays["intercepts"], axis=-1))


def choose(fitted: Fitted, questions: Sequence[str], tradeoff: float | None = None) -> NDArray[np.int64]:
    """The most likely arm of every question. Shape (questions,). `ConfigError` for any trade-off: it has none."""
    if tradeoff is not None:
        raise ConfigError("adaptive-rag has no trade-off to set: it looks for the cheapest arm that is right")
    return np.asarray(fitted.arrays["classes"][shares(fitted, questions).argmax(axis=1)])


def check(fitted: Fitted) -> None:
    """`ValueError` unless every class has its weights and is an arm."""
    fitted.expect(coefficients=("classes", "d"), intercepts=("classes",), classes=("classes",))
    classes = fitted.arrays["classes"]
    if classes.dtype.kind != "i" or classes.min() < 0 or classes.max() >= fitted.settings["arms"]:
        raise ValueError("every class must be an arm")
    if fitted.settings["features"] == "tfidf":
        fitted.expect(idf=("d",), coefficients=("classes", "d"))
        check_terms(fitted)
