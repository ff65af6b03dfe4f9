"""The information curve: how well each signal tells what matters of an answer, by how much of it has been generated.

A signal's AUROC and AUARC are given by **tokens**, after t of them and only over the answers that are longer than t,
and by **share** of the answer, over all answers; while an answer is generated, nobody knows what share of it that is.

The answers that survive t tokens are other answers than those at the start: longer, and as a rule harder. A curve may
fall for that alone. What is compared at t is therefore always taken on the same survivors: the signals of the question
(first of them the `BAR`, which is fitted on words, with the question's type and length), the lead of every other signal
over the bar, and what the whole answer would still add. All figures come from the same resamples, so that differences
are paired; those of what was fitted take account of the questions that it was fitted on
(`flarekit.eval.analysis.information.refits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError
from flarekit.escalation.baselines import LENGTH
from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.information.fitted import from_the_least, from_words, learned
from flarekit.eval.analysis.information.points import BAR, LEARNED, Axis, Early, Point
from flarekit.eval.analysis.information.refits import RESAMPLES, Resamples, Values, fixed, resamples, scored
from flarekit.eval.analysis.information.study import Study
from flarekit.eval.analysis.routing import figure_interval
from flarekit.eval.replay.trajectories import after
from flarekit.stats.arrays import Floats, Rows
from flarekit.stats.discrimination import Score, auarc, auroc, too_few
from flarekit.stats.ranking import auroc_within

STEPS = (0, 1, 2, 3, 4, 6, *(size << power for power in range(11) for size in (8, 12)))
"""The counts of tokens at which a curve is given."""
FEWEST_LEFT = 20
"""Survivors below which a curve by tokens ends; it also ends where there are `too_few` of a kind."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """Values of one number a question before generation, of shape (longest,) during it."""

    name: str
    moment: Early
    values: Values

    def after(self, tokens: Rows) -> Values:
        """One number a question."""
        if self.moment == "pre":
            return self.values
        return Values(after(self.values.whole, tokens), after(self.values.without, tokens))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where on an axis the signals are read: so many `tokens` of every answer, on the questions `rows`."""

    axis: Axis
    at: float
    rows: Rows
    tokens: Rows


@dataclass(frozen=True, slots=True)
class _Sample:
    """What all points of a curve share."""

    target: Target
    labels: Floats
    lengths: Rows
    strata: Sequence[str]
    draws: Resamples
    bars: Mapping[str, Values]
    """The `BAR`, and the question's type and length."""
    known: dict[tuple[str, bytes], Floats] = field(default_factory=dict)
    """What a bar comes to on some questions, which many signals are held against."""

    def score(self, score: Score, values: Values, rows: Rows) -> Floats:
        """Shape (1 + resamples,), 0 to 1."""
        return scored(score, self.labels[rows], values.take(rows), self.draws.take(rows))

    def by_bar(self, name: str, rows: Rows) -> Floats:
        """A bar's AUROC on these questions; of the length, whichever of long and short speaks for the label."""
        key = name, rows.tobytes()
        if key not in self.known:
            found = self.score(auroc, self.bars[name], rows)
            self.known[key] = np.maximum(found, 1 - found) if name == LENGTH else found
        return self.known[key]

    def within(self, rows: Rows) -> Score:
        """AUROC within types on these questions."""
        strata = [self.strata[row] for row in rows]
        return lambda labels, values, weights=None: auroc_within(labels, values, strata, weights)


def curves(
    study: Study,
    target: Target,
    *,
    fewest_left: int = FEWEST_LEFT,
    count: int = RESAMPLES,
    seed: int = 0,
    told: Callable[[], object] = lambda: None,
) -> list[Point]:
    """Every signal at every place of both axes, with 95% intervals from `count` resamples.

    The curve by tokens ends where fewer than `fewest_left` answers survive. Nothing where `too_few` of all answers are
    of a kind. `told` is called as the work goes on.
    """
    if fewest_left < 1 or count < 2:
        raise ConfigError(f"at least 1 survivor and 2 resamples are needed, not {fewest_left} and {count}")
    labels, lengths = study.labels(target), study.lengths
    if too_few(labels):
        return []
    bars, signals = _signals(study, labels, seed, told)
    sample = _Sample(target, labels, lengths, study.strata[1], resamples(labels.size, count, seed), bars)
    found: list[Point] = []
    for places in (_by_tokens(lengths, labels, fewest_left), _by_share(lengths)):
        found += _curve(sample, signals, places, told)
    return found


def _signals(
    study: Study, labels: Floats, seed: int, told: Callable[[], object]
) -> tuple[Mapping[str, Values], list[_Signal]]:
    """The bars, and all signals, the bars first."""
    outcomes = study.outcomes
    bars = {
        BAR: from_words(outcomes, labels, seed=seed, told=told),
        **from_the_least(outcomes, study.kinds, labels, seed=seed),
    }
    return bars, [
        *(_Signal(name, "pre", values) for name, values in bars.items()),
        *(_Signal(name, "pre", fixed(values)) for name, values in study.asked.items()),
        _Signal(LEARNED, "mid", learned(study.answers, outcomes, labels, seed=seed, told=told)),
        *(_Signal(name, "mid", fixed(values)) for name, values in study.streamed.items()),
    ]


def _by_tokens(lengths: Rows, labels: Floats, fewest: int) -> Iterator[_Place]:
    for step in STEPS:
        rows = np.flatnonzero(lengths > step)
        if rows.size < fewest or too_few(labels[rows]):
            return
        yield _Place("tokens", step, rows, np.full(lengths.shape, step))


def _by_share(lengths: Rows) -> Iterator[_Place]:
    """Tenths of the answer; a token that is part of one counts whole."""
    for tenths in range(11):
        yield _Place("share", tenths / 10, np.arange(lengths.size), -(-tenths * lengths // 10))


def _curve(
    sample: _Sample, signals: Sequence[_Signal], places: Iterable[_Place], told: Callable[[], object]
) -> list[Point]:
    measured = []
    for place in places:
        measured += [found for signal in signals for found in _measured(sample, signal, place)]
        told()
    points = [point for point, _ in measured]
    mids = [number for number, point in enumerate(points) if point.moment == "mid"]
    # A bar that is itself below a half is no bar: the signal must lie above all of them and above a half.
    leads = [lead for number in mids for lead in measured[number][1]]
    beyond = _above_zero(np.array(leads)).reshape(len(mids), -1) if leads else ()
    for number, above in zip(mids, beyond, strict=True):
        points[number] = replace(points[number], reliable=bool(above.all()))
    return points


def _measured(sample: _Sample, signal: _Signal, place: _Place) -> Iterator[tuple[Point, Sequence[Floats]]]:
    """The signal's figures, with its leads over the bars and over a half in every resample; nothing where too few."""
    values = signal.after(place.tokens)
    rows = place.rows[~np.isnan(values.whole[0, place.rows])]
    labels = sample.labels[rows]
    if too_few(labels):
        return
    ours = sample.score(auroc, values, rows)
    leads = [ours - sample.by_bar(name, rows) for name in sample.bars]
    mid = signal.moment == "mid"
    whole = sample.score(auroc, signal.after(sample.lengths), rows) if mid else ours
    point = Point(
        sample.target,
        place.axis,
        place.at,
        signal.name,
        signal.moment,
        rows.size,
        int(labels.sum()),
        figure_interval(ours),
        figure_interval(sample.score(auarc, values, rows)),
        figure_interval(sample.score(sample.within(rows), values, rows)),
        ahead=None if signal.name == BAR else figure_interval(leads[0]),
        waiting=figure_interval(whole - ours) if mid else None,
    )
    yield point, (*leads, ours - 0.5)


def _above_zero(drawn: Floats, confidence: float = 0.95) -> NDArray[np.bool_]:
    """Which of many estimates are above zero together. `drawn` is of shape (estimates, 1 + resamples).

    The largest of their errors, each in units of its own spread, is what the resamples say how large it gets
    (Romano & Wolf 2005, one step); an estimate that many such units above zero is there beyond chance. It corrects for
    searching through signals and places, and takes account of how alike they are.
    """
    estimate, errors = drawn[:, 0], drawn[:, 1:] - drawn[:, :1]
    errors = errors[:, ~np.isnan(errors).all(axis=0)]
    spread = np.nanstd(errors, axis=1)
    moving = spread > 1e-12
    largest = np.nanmax(errors[moving] / spread[moving, None], axis=0, initial=0.0)
    above: NDArray[np.bool_] = estimate > np.nanquantile(largest, (1 + confidence) / 2) * spread
    return above
