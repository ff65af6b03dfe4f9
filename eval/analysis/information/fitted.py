"""Signals that are fitted to outcomes, read along an answer as the others are: after each token, or from the question.

What was fitted is always read on questions that it was not fitted on (`flarekit.eval.analysis.information.refits`): a
question's value comes from a fit that did not see its fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.special import expit

from flarekit.escalation.base import Task
from flarekit.escalation.baselines import LENGTH, by_type, lengths_of, types_of
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers.linear import fit_words, predict_words
from flarekit.escalation.routers.mid_lr import FEATURES, Watched, fit_features, sentence_features
from flarekit.eval.analysis.information.refits import Values, fixed, refitted
from flarekit.eval.replay.readings import Answer
from flarekit.stats.arrays import Flags, Floats, Rows


def learned(
    answers: Sequence[Answer],
    outcomes: Outcomes,
    labels: Floats,
    *,
    seed: int = 0,
    told: Callable[[], object] = lambda: None,
) -> Values:
    """P(label) by `mid-lr` after 1, 2, … tokens, as a sentence trigger sees it. A value is of shape (longest,)."""
    features, ends = _along_features(answers)
    sentences = [sentence_features(answer.tokens) for answer in answers]
    lengths = np.array([len(answer.tokens) for answer in answers])

    def fit(rows: Rows, read: Rows) -> Floats:
        weights = fit_features([sentences[row] for row in rows], labels[rows]).arrays
        scaled = (features[read] - weights["mean"]) / weights["scale"]
        now = expit(scaled @ weights["coefficients"] + weights["intercept"])
        # What a sentence that is over came to stays, until a later one comes to more.
        over = np.maximum.accumulate(np.where(ends[read], now, 0.0), axis=1)
        now[:, 1:] = np.maximum(now[:, 1:], over[:, :-1])
        return np.where(np.arange(now.shape[1]) < lengths[read, None], now, np.nan)

    return refitted(outcomes.questions, labels, fit, shape=features.shape[1:2], seed=seed, told=told)


def _along_features(answers: Sequence[Answer]) -> tuple[Floats, Flags]:
    """What `mid-lr` reads after each token, shape (answers, longest, features), and where a sentence ends.

    0 after an answer's end.
    """
    longest = max(len(answer.tokens) for answer in answers)
    found = np.zeros((len(answers), longest, len(FEATURES)))
    ended = np.zeros((len(answers), longest), dtype=bool)
    for row, answer in enumerate(answers):
        watched = Watched()
        for start, end in pairwise([0, *answer.ends]):
            for place in range(start, end):
                watched.update(answer.tokens[place])
                found[row, place] = watched.features()
            watched.end_sentence()
            ended[row, end - 1 : end] = True
    return found, ended


def from_words(
    outcomes: Outcomes, labels: Floats, *, seed: int = 0, told: Callable[[], object] = lambda: None
) -> Values:
    """P(label) by `tfidf-lr`, from the question alone."""

    def fit(rows: Rows, read: Rows) -> Floats:
        fitted = fit_words(Task(outcomes.take(rows), labels[rows]))
        return predict_words(fitted, [outcomes.questions[row] for row in read])

    return refitted(outcomes.questions, labels, fit, seed=seed, told=told)


def from_the_least(outcomes: Outcomes, kinds: Sequence[str], labels: Floats, *, seed: int = 0) -> dict[str, Values]:
    """What the question's type and its length tell, by name: the least that a signal must beat."""
    found = {
        name: refitted(outcomes.questions, labels, partial(by_type, types, labels), seed=seed)
        for name, types in types_of(outcomes.questions, kinds).items()
    }
    return found | {LENGTH: fixed(lengths_of(outcomes.questions))}
