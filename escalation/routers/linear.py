"""Logistic regression on words (`tfidf-lr`) or on a sentence embedding (`embedding-lr`).

TF-IDF + logistic regression is the baseline that every heavier router must beat: on 500 questions it predicts "wrong
without retrieval" about as well as a T5-large does (Adaptive-RAG's classifier, arXiv:2403.14403). The embedding is the
simple form of an encoder router, without fine-tuning (compare Hybrid LLM and RouteLLM's BERT classifier).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from flarekit.engines.encoders import DEFAULT
from flarekit.errors import DataError
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded, one_thread
from flarekit.stats.arrays import Floats


def fit_words(task: Task, *, c: float = 1.0) -> Fitted:
    """TF-IDF of words and pairs of words, then logistic regression with both labels weighing the same.

    `c` is the inverse strength of the L2 penalty. `DataError` where no question has a word.
    """
    at_least("c", c, 1e-12)
    terms, idf, features = words(task.questions)
    weights, intercept = fit_logistic(features, task.labels, c=c, balanced=True)
    return Fitted({"c": c}, {"idf": idf, "coefficients": weights, "intercept": intercept}, {"terms": terms})


def predict_words(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(label) of each question. Shape (questions,), 0 to 1."""
    weights = fitted.arrays
    logits = word_features(fitted.texts["terms"], weights["idf"], questions) @ weights["coefficients"]
    return np.asarray(expit(logits + weights["intercept"]))


def check_words(fitted: Fitted) -> None:
    """`ValueError` unless there is one weight a term."""
    fitted.expect(idf=("terms",), coefficients=("terms",), intercept=())
    check_terms(fitted)


def fit_embedding(task: Task, *, encoder: str = DEFAULT, c: float = 10.0) -> Fitted:
    """Logistic regression on the question's embedding, with both labels weighing the same."""
    at_least("c", c, 1e-12)
    weights, intercept = fit_logistic(embed(encoder, task.questions), task.labels, c=c, balanced=True)
    return Fitted({"encoder": encoder, "c": c}, {"coefficients": weights, "intercept": intercept})


def predict_embedding(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(label) of each question. Shape (questions,), 0 to 1."""
    weights = fitted.arrays["coefficients"]
    return np.asarray(expit(embedded(fitted, questions, len(weights)) @ weights + fitted.arrays["intercept"]))


def check_embedding(fitted: Fitted) -> None:
    """`ValueError` unless there are a weight vector and an intercept."""
    fitted.expect(coefficients=("dimensions",), intercept=())


def fit_logistic(features: Any, labels: Floats, *, c: float, balanced: bool) -> tuple[Floats, Floats]:
    """Weights and intercept that minimise the cross-entropy against labels from 0 to 1, with an L2 penalty.

    A label between 0 and 1 is the same question twice, once true and once false, weighted accordingly. `balanced`
    gives true and false the same weight in all. `DataError` where all labels are the same.
    """
    import scipy.sparse

    rows = np.flatnonzero(labels > 0), np.flatnonzero(labels < 1)
    if not all(len(half) for half in rows):
        raise DataError("every question has the same label, so there is nothing to tell apart")
    shares = labels[rows[0]], 1 - labels[rows[1]]
    if balanced:
        shares = shares[0] * len(labels) / 2 / shares[0].sum(), shares[1] * len(labels) / 2 / shares[1].sum()
    sparse = scipy.sparse.issparse(features)
    stacked = (scipy.sparse.vstack if sparse else np.vstack)([features[rows[0]], features[rows[1]]])
    truth = np.repeat([True, False], [len(rows[0]), len(rows[1])])
    with one_thread():
        model = LogisticRegression(C=c, max_iter=2000).fit(stacked, truth, sample_weight=np.concatenate(shares))
    return model.coef_[0].astype(np.float64), np.asarray(model.intercept_[0], dtype=np.float64)


def words(questions: Sequence[str]) -> tuple[list[str], Floats, Any]:
    """The terms of the questions in order, their idf, and the questions' TF-IDF (a sparse matrix)."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        features = vectorizer.fit_transform(questions)
    except ValueError as error:
        raise DataError(f"the router finds no words in the questions ({error})") from error
    return list(vectorizer.get_feature_names_out()), vectorizer.idf_, features


def word_features(terms: Sequence[str], idf: NDArray[Any], questions: Sequence[str]) -> Any:
    """The questions' TF-IDF over known terms, a sparse matrix of shape (questions, terms)."""
    places = {term: place for place, term in enumerate(terms)}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, vocabulary=places)
    vectorizer.idf_ = idf
    return vectorizer.transform(questions)


def check_terms(fitted: Fitted) -> None:
    """`ValueError` unless the terms are as many different strings as there are idf values."""
    terms = fitted.texts["terms"]
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms):
        raise ValueError("a list of terms is expected")
    if len(set(terms)) != len(fitted.arrays["idf"]) or len(terms) != len(set(terms)):
        raise ValueError("as many different terms as idf values are expected")
