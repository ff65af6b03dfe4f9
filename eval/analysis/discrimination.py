"""How well a number predicts a yes or a no: AUROC, average precision and two areas of rejection, with intervals.

Each is a function of labels (or losses) and values, both of shape (n,), higher values speaking for "yes". Questions
with the same value are one group: no order inside it is credited. All of them also take weights, which is how the
bootstrap over questions works here: a resample is how often each question was drawn, shape (resamples, n), so that one
sort serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from flarekit.stats.bootstrap import Interval
from flarekit.stats.ranking import auroc, average_precision, draws, grouped, ratio

__all__ = [
    "Difference",
    "Score",
    "auarc",
    "auroc",
    "average_precision",
    "difference",
    "holm",
    "interval",
    "prr",
    "too_few",
    "two_sided_p",
]

Floats = NDArray[np.float64]
FEWEST = 5
"""Examples of either kind below which no figure is given: its interval would promise more than it holds."""


class Score(Protocol):
    """One of the functions below."""

    def __call__(self, labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        """Shape () without weights or with weights of shape (n,); shape (resamples,) with (resamples, n)."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one signal is than another on the same questions."""

    interval: Interval
    p: float
    """Two-sided bootstrap p-value of no difference; NaN where there is no figure."""


def prr(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Prediction rejection ratio (Malinin et al. 2017; Malinin & Gales, arXiv:2002.07650, section 4).

    Answers are handed to an oracle from the highest value down; the area that this saves against a random order, over
    the area that an order by the true loss saves. 1 is that order, 0 a random one, and less than 0 is worse than
    random. `labels` are losses of at least 0; where they are 0 or 1 it is exactly 2 AUROC - 1. NaN where all are equal.
    """
    loss = np.asarray(labels, dtype=float)
    return ratio(_saved(loss, values, weights), _saved(loss, loss, weights))


def auarc(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The area under the accuracy-rejection curve (Nadeem, Zucker & Hanczar 2009), 0 to 1.

    Answers are kept from the lowest value up: it is the mean, over k = 1 to n, of the share of "no" among the first k.
    A "no" is an answer that is not wrong; of losses from 0 to 1 it is 1 - loss. Equal values are taken in any order, so
    that what is given is the mean over their orders. Random values get the share of "no" among all, which is therefore
    to be told with it. NaN only where nothing was drawn.
    """
    loss = np.asarray(labels, dtype=float)
    lost, taken = grouped(-np.asarray(values, dtype=float), weights, loss, np.ones_like(loss))
    right, end = taken - lost, taken.cumsum(-1)
    start, before = end - taken, right.cumsum(-1) - right
    rate = np.divide(right, taken, out=np.zeros_like(right), where=taken > 0)
    # Inside a group the first k hold before + rate * (k - start) of "no".
    kept = rate * taken + (before - rate * start) * np.diff(_harmonic(end), axis=-1, prepend=0.0)
    return ratio(kept.sum(-1), end[..., -1])


def interval(
    score: Score,
    labels: ArrayLike,
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """A score with its percentile bootstrap interval over questions.

    NaN throughout where `too_few` gives a reason. Resamples in which only one kind is left have no score and are left
    out.
    """
    if too_few(labels):
        return Interval(np.nan, np.nan, np.nan)
    drawn = score(labels, values, draws(np.size(values), resamples, seed))
    return Interval(float(score(labels, values)), *_bounds(drawn, confidence))


def difference(
    score: Score,
    labels: ArrayLike,
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Difference:
    """`score(ours) - score(theirs)` on the same questions, both over the same resamples.

    That takes out what makes a question easy for both. NaN where `too_few` gives a reason.
    """
    if too_few(labels):
        return Difference(Interval(np.nan, np.nan, np.nan), np.nan)
    weights = draws(np.size(ours), resamples, seed)
    drawn = score(labels, ours, weights) - score(labels, theirs, weights)
    estimate = float(score(labels, ours) - score(labels, theirs))
    return Difference(Interval(estimate, *_bounds(drawn, confidence)), two_sided_p(drawn))


def two_sided_p(drawn: Floats) -> float:
    """The bootstrap's p-value of a difference of zero: twice the share of draws on the rarer side, at most 1.

    It is never below 2 / (draws + 1): that few draws cannot show less.
    """
    counted = drawn[~np.isnan(drawn)]
    rarer = min((counted <= 0).sum(), (counted >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (counted.size + 1)))


def too_few(labels: ArrayLike) -> str:
    """Why no figure can be given for these labels, or losses; empty where one can: where enough are not alike."""
    given = np.asarray(labels, dtype=float)
    _, counts = np.unique(given, return_counts=True)
    rest = given.size - int(counts.max(initial=0))
    if rest >= FEWEST:
        return ""
    few = f"only {rest}" if (given > 0).sum() == rest else f"all but {rest}"
    return f"{few} of {given.size} questions are of the kind, and {FEWEST} of either are needed"


def holm(p: ArrayLike) -> Floats:
    """p-values of several questions asked at once, corrected (Holm 1979); NaN stays and is not counted."""
    given = np.asarray(p, dtype=float)
    corrected = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if order.size else steps
    return corrected


def _saved(loss: Floats, values: ArrayLike, weights: ArrayLike | None) -> Floats:
    """The area between the rejection curve of a random order and that of `values`, in units of one question's loss.

    A loss at place r (from 1) of n stays until its answer is handed over: r - 1/2 of n steps, against n/2 at random.
    """
    lost, taken = grouped(values, weights, loss, np.ones_like(loss))
    middle = taken.cumsum(-1) - taken / 2
    return np.asarray((lost * (taken.sum(-1, keepdims=True) / 2 - middle)).sum(-1))


def _harmonic(counts: Floats) -> Floats:
    """1 + 1/2 + … + 1/count, and what continues it between whole counts, which are looked up because that is faster."""
    whole = counts.astype(np.int64)
    if (whole == counts).all():
        return np.asarray(np.concatenate(([0.0], (1 / np.arange(1, whole.max(initial=0) + 1)).cumsum()))[whole])
    return np.asarray(digamma(counts + 1) - digamma(1.0))


def _bounds(drawn: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
