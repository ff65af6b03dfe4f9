"""What a trigger knows of a recorded answer after each of its tokens, without asking a model again.

The value of a signal *after t tokens* is what it would be had the answer ended there: `readings.read_trigger` of the
first t tokens. For a trigger that is read over sentences this is the highest value of the sentences that are over and
of the one that is being written; for one that is read at every token, the highest so far. Either way it is known at
token t, and after the last token it is the value of `readings`. Highest so far is not the natural form of a mean, nor
of a window: they are also given as they stand, "(answer)" the mean of all tokens so far, "(now)" the window alone.

What was fitted is always read on questions that it was not fitted on (`flarekit.eval.analysis.refits`): a question's
value comes from a fit that did not see its fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flarekit.errors import ConfigError, DataError
from flarekit.escalation.base import Task
from flarekit.escalation.baselines import LENGTH, by_type, lengths_of, types_of
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers.linear import fit_words, predict_words
from flarekit.escalation.routers.mid_lr import FEATURES, Watched, fit_features, sentence_features
from flarekit.eval.analysis.refits import Values, fixed, refitted
from flarekit.eval.replay.readings import Answer
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.token import SIGNALS, find_signal

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

WORDS_ONLY = ("min-prob", "entropy")
"""Signals that are read without punctuation and white space too, as the mid-generation policies do by default."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A signal along an answer."""

    name: str
    trigger: Trigger
    """A mid trigger; its threshold is not looked at."""
    highest: bool = True
    """Whether its value so far is the highest that was read, or the one that was read last."""


def watches() -> list[Watch]:
    """Every token signal in the forms that mean something after any token."""
    return list(_watches())


def _watches() -> Iterator[Watch]:
    for name, signal in SIGNALS.items():
        window = isinstance(signal.over, int)
        yield Watch(name, Trigger(signal, 0.0, "mid", "token" if window else "sentence"))
        if window:
            yield Watch(f"{name} (now)", Trigger(signal, 0.0, "mid", "token"), highest=False)
        elif signal.reduce == "mean":
            yield Watch(f"{name} (answer)", Trigger(find_signal(name, "answer"), 0.0, "mid"), highest=False)
    for name in WORDS_ONLY:
        if name in SIGNALS:
            yield Watch(f"{name} (words)", Trigger(find_signal(name, words_only=True), 0.0, "mid"))


def trajectories(answers: Sequence[Answer], watched: Sequence[Watch]) -> dict[str, Floats]:
    """Every watched signal's value after 1, 2, … tokens of every answer, by name.

    Each of shape (answers, longest), NaN after an answer's end. `DataError` where no answer has a token.
    """
    longest = max((len(answer.tokens) for answer in answers), default=0)
    if not longest:
        raise DataError("the answers have no tokens to read signals from; record them with log-probabilities")
    values = np.full((len(watched), len(answers), longest), np.nan)
    for row, answer in enumerate(answers):
        values[:, row, : len(answer.tokens)] = _along(answer, watched)
    return {watch.name: values[place] for place, watch in enumerate(watched)}


def _along(answer: Answer, watched: Sequence[Watch]) -> Floats:
    """Shape (watched, tokens)."""
    monitor = Monitor([watch.trigger for watch in watched])
    read = np.zeros((len(watched), len(answer.tokens)))
    for start, end in pairwise([0, *answer.ends]):
        for place in range(start, end):
            monitor.update(answer.tokens[place])
            read[:, place] = [monitor.value(number) for number in range(len(watched))]
        monitor.end_sentence()
    for values, watch in zip(read, watched, strict=True):
        if watch.highest:
            _raise(values, answer.ends if watch.trigger.read == "sentence" else range(1, len(values) + 1))
    return read


def _raise(values: Floats, ends: Sequence[int]) -> None:
    """Lift every value to the highest of those that stood at an earlier end, in place."""
    highest = 0.0
    for start, end in pairwise([0, *ends]):
        np.maximum(values[start:end], highest, out=values[start:end])
        highest = max(highest, values[end - 1]) if end > start else highest


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


def _along_features(answers: Sequence[Answer]) -> tuple[Floats, NDArray[np.bool_]]:
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


def after(values: Floats, tokens: Rows) -> Floats:
    """The values after so many tokens, one count for each answer; NaN for 0 and beyond the end.

    `values` are of shape (..., answers, longest), what is given of shape (..., answers).
    """
    count, longest = values.shape[-2:]
    if tokens.shape != (count,) or (tokens < 0).any():
        raise ConfigError(f"a count of tokens is needed for each of {count} answers, not {tokens.shape}")
    places = np.clip(tokens - 1, 0, longest - 1)
    found = values[..., np.arange(count), places]
    return np.where((tokens > 0) & (tokens <= longest), found, np.nan)
