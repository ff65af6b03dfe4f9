"""What a router's scores are worth: quality against the share of questions that the strong arm answers.

Sending the highest-scored share of the questions to the strong arm gives one mean score; all shares give a curve, and
RouteLLM's measures of it (arXiv:2406.18665, section 3.2): PGR, the part of the gap between the two arms that is
recovered; APGR, its mean over all shares; CPT(x), the smallest share that recovers x of it.

They divide by the gap between the arms. Where that is not reliably different from zero they mean little, however exact
they look: `Report.gap` says so. Equal scores are taken in any order, so along them a curve is a straight line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flarekit.errors import ConfigError
from flarekit.stats.arrays import Floats, Rows
from flarekit.stats.intervals import Interval, percentile_interval
from flarekit.stats.quality import resampled
from flarekit.stats.tests import holm


@dataclass(frozen=True, slots=True)
class Curves:
    """The curve of one router for every resampling of the questions, the first being the questions themselves."""

    rates: Floats
    """Share of questions that the strong arm answers, 0 to 1. Shape (resamplings, points)."""
    scores: Floats
    """Mean score at each rate. Shape (resamplings, points)."""

    @property
    def gap(self) -> Floats:
        """Mean score of the strong arm alone minus that of the weak one alone. Shape (resamplings,)."""
        return np.asarray(self.scores[:, -1] - self.scores[:, 0])

    @property
    def recovered(self) -> Floats:
        """PGR at every point: 0 at the first, 1 at the last; NaN without a gap. Shape (resamplings, points)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.scores - self.scores[:, :1]) / self.gap[:, None])

    def apgr(self) -> Floats:
        """The area under PGR over the rates, .5 by chance. Shape (resamplings,)."""
        recovered = self.recovered
        with np.errstate(invalid="ignore"):  # without a gap it is NaN, or infinite at some points
            return np.asarray((np.diff(self.rates, axis=1) * (recovered[:, 1:] + recovered[:, :-1]) / 2).sum(axis=1))

    def cpt(self, recovered: float) -> Floats:
        """The smallest rate with that much PGR (0 to 1), infinite where none has. Shape (resamplings,).

        Without any gap it is infinite too. Between two points the curve is taken as straight.
        """
        pgr = self.recovered
        reached = pgr >= recovered - 1e-12
        rows, first = np.arange(len(pgr)), reached.argmax(axis=1)
        before = np.maximum(first - 1, 0)
        rise = pgr[rows, first] - pgr[rows, before]
        part = np.where(rise > 0, (recovered - pgr[rows, before]) / np.where(rise > 0, rise, 1), 1.0)
        rate = self.rates[rows, before] + part.clip(0, 1) * (self.rates[rows, first] - self.rates[rows, before])
        return np.where(reached.any(axis=1), rate, np.inf)

    def at(self, rate: float) -> Floats:
        """The mean score at a rate, 0 to 1, between points on a straight line. Shape (resamplings,)."""
        pairs = zip(self.rates, self.scores, strict=True)
        return np.array([np.interp(rate, rates, scores) for rates, scores in pairs])


@dataclass(frozen=True, slots=True)
class Report:
    """A router's measures with their 95% bootstrap intervals."""

    apgr: Interval
    cpt: Mapping[float, Interval]
    """By the part of the gap; infinite where it is never recovered."""
    scores: Mapping[float, Interval]
    """Mean score by rate."""
    gap: Interval
    """Of the two arms; where it does not exclude zero, PGR, APGR and CPT are ill-conditioned."""


def rate_curves(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike, weights: Floats | None = None) -> Curves:
    """The curves of a router's `scores` over questions that the arms answered with the scores `weak` and `strong`.

    All of shape (n,), n at least 1; `weights` of shape (resamplings, n) say how often each question was drawn, each row
    summing to n. `ConfigError` where the shapes differ.
    """
    values, low, high = (np.asarray(one, dtype=float) for one in (scores, weak, strong))
    if not (values.ndim == 1 and values.size and values.shape == low.shape == high.shape):
        raise ConfigError(f"scores of one question each are expected, not {values.shape}, {low.shape}, {high.shape}")
    weights = np.ones((1, len(values))) if weights is None else weights
    order, ends = _tie_groups(values)
    start = weights @ low / len(values)
    rates = np.cumsum(weights[:, order], axis=1)[:, ends] / len(values)
    gained = np.cumsum(weights[:, order] * (high - low)[order], axis=1)[:, ends] / len(values)
    begin = np.zeros((len(weights), 1))
    return Curves(np.hstack([begin, rates]), start[:, None] + np.hstack([begin, gained]))


def report(
    scores: ArrayLike,
    weak: ArrayLike,
    strong: ArrayLike,
    *,
    parts: tuple[float, ...] = (0.5, 0.8),
    rates: tuple[float, ...] = (0.25, 0.5, 0.75),
    seed: int = 0,
) -> Report:
    """Everything about one router's scores, resampled by question."""
    curves = rate_curves(scores, weak, strong, resampled(len(np.asarray(weak)), seed=seed))
    return Report(
        figure_interval(curves.apgr()),
        {part: figure_interval(curves.cpt(part)) for part in parts},
        {rate: figure_interval(curves.at(rate)) for rate in rates},
        figure_interval(curves.gap),
    )


def figure_interval(drawn: Floats) -> Interval:
    """The 95% interval of a figure that may be infinite, such as CPT: see `percentile_interval`."""
    return percentile_interval(drawn, nearest=True)


def oracle_scores(weak: ArrayLike, strong: ArrayLike) -> Floats:
    """What a router would say that knew what the strong arm gains. Shape (n,)."""
    return np.asarray(np.subtract(strong, weak), dtype=float)


def compared(measure: Callable[[Floats, Floats], Floats], ours: Floats, theirs: Floats, seed: int = 0) -> Floats:
    """`measure(scores, weights)` of ours minus theirs on the same draws of the questions. Shape (1 + resamplings,)."""
    weights = resampled(len(ours), seed=seed)
    return measure(ours, weights) - measure(theirs, weights)


def shown_together(p_values: Mapping[str, float], level: float = 0.05) -> dict[str, bool]:
    """Which of several differences hold together, by Holm's correction."""
    corrected = holm(list(p_values.values()))
    return {name: bool(p <= level) for name, p in zip(p_values, corrected, strict=True)}


def _tie_groups(scores: Floats) -> tuple[Rows, Rows]:
    """The places of the scores from the highest on, and where in that order a run of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
