"""`mid-lr`: a learned trigger during generation, the counterpart of routers that decide before it.

At the end of every sentence, logistic regression on five signals of that sentence, the same five of the answer so far,
how long the answer is, and which sentence it is. It is fitted on recorded answers: every sentence end of an answer is
an example, labelled by what became of the whole answer, and the sentences of one answer weigh as much as one question.
A sentence ends where a session ends it (`flarekit.signals.sentences`): before the next one, or at the look-ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from flarekit.errors import DataError
from flarekit.escalation.base import Fitted, at_least, one_thread
from flarekit.signals.online import OnlineSignal
from flarekit.signals.sentences import SentenceTracker
from flarekit.signals.token import LOGPROBS, Span, entropy, improbability, margin, surprisal
from flarekit.stats.arrays import Floats
from flarekit.tokens import Token

SIGNALS = ("min-prob", "mean-logprob", "entropy", "mean-entropy", "margin")
FEATURES = (
    *(f"{name} of the {span}" for span in ("sentence", "answer") for name in SIGNALS),
    "ln(1 + tokens)",
    "sentence",
)
"""What is read at the end of a sentence, in order; sentences are counted from 1."""


class _Span:
    """The five signals over one span, in constant time per token."""

    __slots__ = ("count", "entropies", "entropy", "improbability", "margin", "surprisals")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.improbability = self.surprisals = self.entropy = self.entropies = self.margin = 0.0

    def update(self, measured: tuple[float, float, float, float]) -> None:
        improbable, surprise, spread, tie = measured
        self.count += 1
        self.surprisals += surprise
        self.entropies += spread
        self.improbability = max(self.improbability, improbable)
        self.entropy = max(self.entropy, spread)
        self.margin = max(self.margin, tie)

    def values(self) -> tuple[float, float, float, float, float]:
        count = max(self.count, 1)
        return self.improbability, self.surprisals / count, self.entropy, self.entropies / count, self.margin


class Watched:
    """An answer while it streams; `features` are those of the sentence that the last token belongs to."""

    __slots__ = ("_answer", "_sentence", "_sentences", "_tracker")

    def __init__(self) -> None:
        self._answer, self._sentence = _Span(), _Span()
        self._tracker, self._sentences = SentenceTracker(), 1

    def update(self, token: Token) -> bool:
        """Take the next token; True where a sentence had ended before it."""
        ended = self._tracker.begins(token)
        if ended and self._sentence.count:
            self._sentences += 1
            self._sentence.reset()
        measured = improbability(token), surprisal(token), entropy(token), margin(token)
        self._answer.update(measured)
        self._sentence.update(measured)
        return ended

    def end_sentence(self) -> None:
        """The next token begins a new sentence, whatever the text says."""
        self._tracker.end()

    def reset(self) -> None:
        """Begin a new answer."""
        self._answer.reset()
        self._sentence.reset()
        self._tracker.restart()
        self._sentences = 1

    @property
    def begun(self) -> bool:
        """Whether there has been a token."""
        return self._answer.count > 0

    def features(self) -> list[float]:
        """The `FEATURES` as of now."""
        return [
            *self._sentence.values(),
            *self._answer.values(),
            math.log1p(self._answer.count),
            float(self._sentences),
        ]


def sentence_features(tokens: Iterable[Token]) -> Floats:
    """The features at every sentence end of an answer, the last token being one. Shape (sentences, `FEATURES`)."""
    watched, rows = Watched(), []
    before: list[float] = []
    for token in tokens:
        if watched.update(token):
            rows.append(before)
        before = watched.features()
    if before:
        rows.append(before)
    return np.array(rows).reshape(-1, len(FEATURES))


def fit(answers: Sequence[Sequence[Token]], labels: NDArray[Any], *, c: float = 1.0) -> Fitted:
    """Fit on whole answers, one a question, and their labels; both labels weigh the same.

    `DataError` where all labels are the same or no answer has a token.
    """
    return fit_features([sentence_features(tokens) for tokens in answers], labels, c=c)


def fit_features(features: Sequence[Floats], labels: NDArray[Any], *, c: float = 1.0) -> Fitted:
    """`fit` on the `sentence_features` of the answers, which need to be computed once for many fits."""
    at_least("c", c, 1e-12)
    if np.ptp(np.asarray(labels, dtype=float)) == 0:
        raise DataError("every answer has the same label, so there is nothing to tell apart")
    lengths = np.array([len(rows) for rows in features])
    truth = np.repeat(np.asarray(labels, dtype=bool), lengths)
    if len(set(truth)) < 2:
        raise DataError("the answers have no tokens to read signals from; record them with log-probabilities")
    stacked = np.vstack(features)
    mean, scale = stacked.mean(axis=0), stacked.std(axis=0)
    scale[scale < 1e-9] = 1.0
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    with one_thread():
        model.fit((stacked - mean) / scale, truth, sample_weight=weights)
    arrays = {
        "mean": mean,
        "scale": scale,
        "coefficients": model.coef_[0],
        "intercept": np.asarray(model.intercept_[0]),
    }
    return Fitted({"c": c, "features": list(FEATURES)}, arrays)


def check(fitted: Fitted) -> None:
    """`ValueError` unless every feature has its weight, mean and scale."""
    count = len(FEATURES)
    fitted.expect(mean=(count,), scale=(count,), coefficients=(count,), intercept=())
    if fitted.settings["features"] != list(FEATURES) or not (fitted.arrays["scale"] > 0).all():
        raise ValueError("the features of this version, and scales above 0, are expected")


@dataclass(frozen=True, slots=True)
class MidRouter:
    """P(label) of an answer so far; a signal for the moments mid and post that costs nothing."""

    manifest: dict[str, Any]
    fitted: Fitted
    name: str = "mid-lr"
    high: float = 1.0
    source: str = "logistic regression on running signals, flarekit's own"
    needs: str = LOGPROBS
    over: Span = "answer"

    def __call__(self, tokens: Iterable[Token]) -> float:
        """P(label) after these tokens, as if the answer's last sentence ended there; 0 for no tokens."""
        watched = Watched()
        for token in tokens:
            watched.update(token)
        return self.probability(watched.features()) if watched.begun else 0.0

    def highest(self, tokens: Iterable[Token]) -> float:
        """The highest P(label) at any sentence end: what a trigger that is read there sees; 0 for no tokens."""
        return max(map(self.probability, sentence_features(tokens).tolist()), default=0.0)

    def running(self) -> OnlineSignal:
        """The same value, token by token; it was fitted on sentence ends, so it is meant to be read there."""
        return _OnlineRouter(self)

    def probability(self, features: Sequence[float]) -> float:
        """P(label) from one row of features, 0 to 1."""
        return _probability(features, *self.weights())

    def weights(self) -> tuple[tuple[float, ...], float]:
        """What each feature as it is measured counts, and the constant: the scaling is part of both."""
        arrays = self.fitted.arrays
        slopes = arrays["coefficients"] / arrays["scale"]
        return tuple(slopes.tolist()), float(arrays["intercept"] - slopes @ arrays["mean"])


def _probability(features: Sequence[float], slopes: Sequence[float], constant: float) -> float:
    total = constant + sum(map(mul, slopes, features))
    return 1 / (1 + math.exp(-min(max(total, -700.0), 700.0)))


class _OnlineRouter:
    """P(label) along an answer: constant time per token, in plain floats."""

    __slots__ = ("_constant", "_slopes", "_watched", "value")

    def __init__(self, router: MidRouter) -> None:
        self._slopes, self._constant = router.weights()
        self._watched, self.value = Watched(), 0.0

    def update(self, token: Token) -> float:
        """Take one more token; the value after it."""
        self._watched.update(token)
        self.value = _probability(self._watched.features(), self._slopes, self._constant)
        return self.value

    def reset(self) -> None:
        """Begin a new answer."""
        self._watched.reset()
        self.value = 0.0

    def end_sentence(self) -> None:
        """The next token begins a new sentence; until then the value is that of the last one."""
        self._watched.end_sentence()
