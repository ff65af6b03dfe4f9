"""Intervals of what was fitted: how far a figure hangs on the questions that are judged *and* on those fitted on.

A cross-fitted signal is read on every question by a fit that did not see it. An interval that resamples the judged
questions alone takes these fits as given, and is too narrow: a question that is drawn differs as an example to judge on
and as one to fit on, and where a signal knows nothing the two are equally large (a sum over pairs of questions i, j of
what i teaches about j, whose variance is twice that of its rows). Its coverage was 79 to 86% at n = 90.

Here the questions are dealt into `GROUPS`; each is left out of all fits in turn, and what that changes is the group's
effect on the figure (the jackknife; Efron & Stein 1981). A resample draws the questions to judge on, and independently
of them the groups to fit on, whose effects add up. There are as many fits as groups, not as resamples. What it leaves
out is that a question may be worth more than others both to judge and to fit on; `benchmarks/coverage.py` shows that
this matters little. All is averaged over splits into folds by several seeds. Questions of the same words share a fold
and a group, so that none is fitted on and judged on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError
from flarekit.escalation.split import folds
from flarekit.stats.arrays import Floats, Rows
from flarekit.stats.bootstrap import REFITTED, resample_counts
from flarekit.stats.discrimination import Score

FitAndRead = Callable[[Rows, Rows], Floats]
"""Fits on the first rows and gives the values of the second: shape (second, ...)."""
Measure = Callable[[Floats, Floats], Floats]
"""A figure of values (n, ...) for every row of weights (rows, n): shape (rows,)."""

FOLDS, SEEDS, GROUPS = 5, 3, 25
RESAMPLES = REFITTED


@dataclass(frozen=True, slots=True)
class Values:
    """A signal's values on n questions: of one split after another, and with one group left out after another."""

    whole: Floats
    """Shape (seeds, n, ...); one seed for what was not fitted."""
    without: Floats
    """Shape (groups, seeds, n, ...); no group for what was not fitted."""

    def take(self, rows: Rows) -> Values:
        """The values on these questions, in this order."""
        return Values(self.whole[:, rows], self.without[:, :, rows])

    @property
    def fits(self) -> int:
        """How many fits stand behind them."""
        return len(self.without) and (1 + len(self.without)) * len(self.whole) * FOLDS


def fixed(values: Floats) -> Values:
    """The values of what was not fitted, shape (n, ...)."""
    return Values(values[None], np.empty((0, 1, *values.shape)))


@dataclass(frozen=True, slots=True)
class Resamples:
    """What every figure of one analysis is resampled by, so that their differences are paired."""

    judged: Floats
    """How often each question is judged. Shape (1 + resamples, n), the first row being the questions themselves."""
    fitted: Floats
    """By how much the groups' effects are added. Shape (1 + resamples, GROUPS), zero in the first row."""

    def take(self, rows: Rows) -> Resamples:
        """For a figure over these questions alone."""
        return Resamples(self.judged[:, rows], self.fitted)


def resamples(n: int, count: int = RESAMPLES, seed: int = 0) -> Resamples:
    """`count` draws for n questions. `ConfigError` for fewer than 2."""
    if count < 2:
        raise ConfigError(f"at least 2 resamples are needed, not {count}")
    drawn = resample_counts(GROUPS, count, np.random.default_rng([seed, 1])) - 1
    # The jackknife's factor, and Student's for a spread that is known from so few groups.
    scale = np.sqrt((GROUPS - 1) / GROUPS) * stats.t.ppf(0.975, GROUPS - 1) / stats.norm.ppf(0.975)
    return Resamples(resample_counts(n, count, seed), scale * drawn)


def refitted(
    questions: Sequence[str],
    labels: Floats,
    fit: FitAndRead,
    *,
    shape: tuple[int, ...] = (),
    seed: int = 0,
    seeds: int = SEEDS,
    told: Callable[[], object] = lambda: None,
) -> Values:
    """Read every question by fits on the other folds: for `seeds` splits, on all groups and without each in turn.

    A question's value is of the given shape. Folds have about the same mix of labels. Where one kind of label alone is
    left to fit on, nothing can be told apart and all values are 0. `told` is called after each fold.
    """
    strata = labels.tolist()
    group = folds(questions, strata, GROUPS, seed)
    found = np.zeros((1 + GROUPS, seeds, len(questions), *shape))
    for place in range(seeds):
        fold = folds(questions, strata, FOLDS, seed + 1 + place)
        for number in range(FOLDS):
            judged, rest = np.flatnonzero(fold == number), fold != number
            for left in range(-1, GROUPS) if judged.size else ():
                rows = np.flatnonzero(rest & (group != left))
                if left >= 0 and rows.size == rest.sum():
                    found[1 + left, place, judged] = found[0, place, judged]
                elif rows.size and np.ptp(labels[rows]) > 0:
                    found[1 + left, place, judged] = fit(rows, judged)
            told()
    return Values(found[0], found[1:])


def drawn(measure: Measure, values: Values, draws: Resamples) -> Floats:
    """The figure, then what it would be in every resample. Shape (1 + resamples,)."""
    judged = np.mean([measure(one, draws.judged) for one in values.whole], axis=0)
    if not len(values.without):
        return np.asarray(judged)
    once = np.ones((1, values.whole.shape[1]))
    without = np.array([np.mean([measure(one, once)[0] for one in seeds]) for seeds in values.without])
    return np.asarray(judged + draws.fitted @ (without.mean() - without))


def scored(score: Score, labels: ArrayLike, values: Values, draws: Resamples) -> Floats:
    """`drawn` of a score from 0 to 1, such as AUROC. Shape (1 + resamples,)."""
    return np.clip(drawn(lambda one, weights: score(labels, one, weights), values, draws), 0.0, 1.0)
