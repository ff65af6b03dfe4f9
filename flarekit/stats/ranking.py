"""How well a number ranks what is true above what is not: AUROC and average precision, weighted.

Labels and values are of shape (n,). Weights are how the bootstrap over questions works here: a resample is how often
each question was drawn, shape (resamples, n), so that one sort serves them all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from flarekit.errors import ConfigError
from flarekit.stats.arrays import Floats


def auroc(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """P(a "yes" has a higher value than a "no"), ties counting half; 0 to 1, NaN without both kinds."""
    return ratio(*_won(labels, values, weights))


def auroc_within(
    labels: ArrayLike, values: ArrayLike, strata: Sequence[Hashable], weights: ArrayLike | None = None
) -> Floats:
    """`auroc` over the pairs of questions of one stratum alone; NaN where no stratum has both kinds.

    What tells nothing but which stratum a question is in gets a half.
    """
    yes, value, stratum = np.asarray(labels, dtype=float), np.asarray(values, dtype=float), list(strata)
    weight = np.ones(value.size) if weights is None else np.asarray(weights, dtype=float)
    won = pairs = np.zeros(weight.shape[:-1])
    for one in dict.fromkeys(stratum):
        rows = np.array([other == one for other in stratum])
        better, all_of_them = _won(yes[rows], value[rows], weight[..., rows])
        won, pairs = won + better, pairs + all_of_them
    return ratio(won, pairs)


def _won(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """How many pairs of a "yes" and a "no" are in the right order, and how many there are."""
    yes = np.asarray(labels, dtype=float)
    positives, negatives = grouped(values, weights, yes, 1 - yes)
    below = negatives.sum(-1, keepdims=True) - negatives.cumsum(-1)
    won = (positives * (below + negatives / 2)).sum(-1)
    return won, positives.sum(-1) * negatives.sum(-1)


def average_precision(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The mean precision over the places where recall rises, from the highest value down; NaN without a "yes".

    A signal that knows nothing gets about the share of "yes".
    """
    yes = np.asarray(labels, dtype=float)
    positives, taken = grouped(values, weights, yes, np.ones_like(yes))
    precision = ratio(positives.cumsum(-1), taken.cumsum(-1))
    # A group that no resample holds has no precision, and nothing to add.
    return ratio(np.where(positives > 0, positives * precision, 0.0).sum(-1), positives.sum(-1))


def grouped(values: ArrayLike, weights: ArrayLike | None, *amounts: Floats) -> list[Floats]:
    """The weighted amounts summed over groups of equal value, highest value first. Shapes (..., groups)."""
    value = np.asarray(values, dtype=float)
    shapes = {value.shape, *(amount.shape for amount in amounts)}
    if len(shapes) > 1 or value.ndim != 1 or value.size == 0:
        raise ConfigError(f"labels and values must be of one shape (n,), not {sorted(shapes)}")
    if np.isnan(value).any() or any(np.isnan(amount).any() for amount in amounts):
        raise ConfigError("a label or a value is not a number; leave its question out")
    weight = np.ones(value.size) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(-value, kind="stable")
    # Compared, not subtracted: infinity less infinity is no number.
    starts = np.flatnonzero(np.concatenate(([True], value[order][1:] != value[order][:-1])))
    drawn = weight[..., order]
    return [np.add.reduceat(drawn * amount[order], starts, axis=-1) for amount in amounts]


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below; NaN where below is 0 (or rounding's trace of it, beside the sums of whole draws)."""
    known = np.abs(below) > 1e-9
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=known))
