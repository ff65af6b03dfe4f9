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
from numpy.typing import ArrayLike
from scipy.special import digamma

from flarekit.stats.arrays import Floats
from flarekit.stats.bootstrap import RESAMPLES, resample_counts
from flarekit.stats.intervals import Interval, percentile_interval
from flarekit.stats.ranking import auroc, average_precision, grouped, ratio
from flarekit.stats.tests import bootstrap_p

__all__ = [
    "Difference",
    "Score",
    "auarc",
    "auroc",
    "average_precision",
    "difference",
    "interval",
    "prr",
    "too_few",
]

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
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A score with its percentile bootstrap interval over questions.

    NaN throughout where `too_few` gives a reason. Resamples in which only one kind is left have no score and are left
    out.
    """
    if too_few(labels):
        return Interval(np.nan, np.nan, np.nan)
    drawn = score(labels, values, resample_counts(np.size(values), resamples, seed))
    return percentile_interval(drawn, confidence=confidence)


def difference(
    score: Score,
    labels: ArrayLike,
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """`score(ours) - score(theirs)` on the same questions, both over the same resamples.

    That takes out what makes a question easy for both. NaN where `too_few` gives a reason.
    """
    if too_few(labels):
        return Difference(Interval(np.nan, np.nan, np.nan), np.nan)
    counts = resample_counts(np.size(ours), resamples, seed)
    drawn = score(labels, ours, counts) - score(labels, theirs, counts)
    return Difference(percentile_interval(drawn, confidence=confidence), bootstrap_p(drawn))


def too_few(labels: ArrayLike) -> str:
    """Why no figure can be given for these labels, or losses; empty where one can: where enough are not alike."""
    given = np.asarray(labels, dtype=float)
    _, counts = np.unique(given, return_counts=True)
    rest = given.size - int(counts.max(initial=0))
    if rest >= FEWEST:
        return ""
    few = f"only {rest}" if (given > 0).sum() == rest else f"all but {rest}"
    return f"{few} of {given.size} questions are of the kind, and {FEWEST} of either are needed"


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
