"""The information curve: how well each signal tells what matters of an answer, by how much of it has been generated.

A signal's AUROC and AUARC are given by **tokens**, after t of them and only over the answers that are longer than t,
and by **share** of the answer, over all answers; while an answer is generated, nobody knows what share of it that is.

The answers that survive t tokens are other answers than those at the start: longer, and as a rule harder. A curve may
fall for that alone. What is compared at t is therefore always taken on the same survivors: the signals of the question
(first of them the `BAR`, which is fitted on words), the lead of every other signal over the bar, and what the whole
answer would still add. All figures come from one bootstrap over the questions, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError
from flarekit.escalation.outcomes import Target
from flarekit.escalation.quality import resampled
from flarekit.eval.discrimination import auarc, auroc, too_few
from flarekit.eval.routing import interval
from flarekit.eval.statistics import Interval
from flarekit.eval.study import Study
from flarekit.eval.trajectories import after, from_words, learned

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Axis = Literal["tokens", "share"]
Early = Literal["pre", "mid"]

BAR = "TF-IDF + logistic regression"
"""The signal of the question that all others are held against: fitted on the words of the other questions."""
LEARNED = "mid-lr"
"""Its counterpart during generation: fitted on the token signals of the other answers."""
STEPS = (0, 1, 2, 3, 4, 6, *(size << power for power in range(11) for size in (8, 12)))
"""The counts of tokens at which a curve is given."""
FEWEST_LEFT = 20
"""Survivors below which a curve by tokens ends; it also ends where there are `too_few` of a kind."""
NEAR = 0.01
"""An AUROC that is no further than this below its final value has settled."""


@dataclass(frozen=True, slots=True)
class Point:
    """One signal at one place of the answer."""

    target: Target
    axis: Axis
    at: float
    """Tokens seen, or the share of the answer that was, 0 to 1."""
    signal: str
    moment: Early
    n: int
    """Questions whose answer has not ended before and on which the signal was recorded."""
    yes: int
    """How many of them the target came true on."""
    auroc: Interval
    auarc: Interval
    """Random values get about 1 - yes / n."""
    ahead: Interval | None = None
    """AUROC minus that of the bar on the same questions; None for the bar."""
    waiting: Interval | None = None
    """What is still to come: the whole answer's AUROC minus this one, on the same questions; None before generation."""
    reliable: bool = False
    """Whether a mid signal is above the bar and above a half beyond chance, all of its curve taken together."""


@dataclass(frozen=True, slots=True)
class Worth:
    """How many tokens one mid signal is worth waiting for; None where it never comes to that."""

    target: Target
    signal: str
    settled: int | None
    """The fewest after which the rest of the answer would add no more than `NEAR` on the same answers."""
    ahead: int | None
    """The fewest after which it is reliably above the bar; see `Point.reliable`."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """Values of shape (questions,) before generation, (questions, longest) during it."""

    name: str
    moment: Early
    values: Floats

    def after(self, tokens: Rows) -> Floats:
        """Shape (questions,), like `tokens`."""
        return self.values if self.moment == "pre" else after(self.values, tokens)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where on an axis the signals are read: so many `tokens` of every answer, on the questions `rows`."""

    axis: Axis
    at: float
    rows: Rows
    tokens: Rows


@dataclass(frozen=True, slots=True)
class _Sample:
    """What all points of a curve share. Shapes (questions,), (questions,), (1 + resamples, questions), (questions,)."""

    target: Target
    labels: Floats
    lengths: Rows
    weights: Floats
    bar: Floats


def curves(
    study: Study, target: Target, *, fewest_left: int = FEWEST_LEFT, resamples: int = 1000, seed: int = 0
) -> list[Point]:
    """Every signal at every place of both axes, with 95% bootstrap intervals.

    The curve by tokens ends where fewer than `fewest_left` answers survive. Nothing where `too_few` of all answers are
    of a kind.
    """
    if fewest_left < 1 or resamples < 2:
        raise ConfigError(f"at least 1 survivor and 2 resamples are needed, not {fewest_left} and {resamples}")
    labels, lengths = study.labels(target), study.lengths
    if too_few(labels):
        return []
    signals = _signals(study, labels, seed)
    sample = _Sample(target, labels, lengths, resampled(labels.size, resamples, seed), signals[0].values)
    return [
        point
        for places in (_by_tokens(lengths, labels, fewest_left), _by_share(lengths))
        for point in _curve(sample, signals, places)
    ]


def _signals(study: Study, labels: Floats, seed: int) -> list[_Signal]:
    """The bar first."""
    return [
        _Signal(BAR, "pre", from_words(study.outcomes, labels, seed=seed)),
        *(_Signal(name, "pre", values) for name, values in study.asked.items()),
        _Signal(LEARNED, "mid", learned(study.answers, study.outcomes, labels, seed=seed)),
        *(_Signal(name, "mid", values) for name, values in study.streamed.items()),
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


def _curve(sample: _Sample, signals: Sequence[_Signal], places: Iterable[_Place]) -> list[Point]:
    measured = [found for place in places for signal in signals for found in _measured(sample, signal, place)]
    points = [point for point, _ in measured]
    mids = [number for number, point in enumerate(points) if point.moment == "mid"]
    # A bar that is itself below a half is no bar: the signal must lie above both.
    leads = [lead for number in mids for lead in measured[number][1]]
    beyond = iter(_above_zero(np.array(leads)) if leads else ())
    for number in mids:
        points[number] = replace(points[number], reliable=bool(next(beyond) & next(beyond)))
    return points


def _measured(sample: _Sample, signal: _Signal, place: _Place) -> Iterator[tuple[Point, tuple[Floats, Floats]]]:
    """The signal's figures, with its leads over the bar and over a half in every resample; nothing where too few."""
    values = signal.after(place.tokens)
    rows = place.rows[~np.isnan(values[place.rows])]
    labels, weights = sample.labels[rows], sample.weights[:, rows]
    if too_few(labels):
        return
    ours = auroc(labels, values[rows], weights)
    lead = ours - auroc(labels, sample.bar[rows], weights)
    mid = signal.moment == "mid"
    whole = auroc(labels, signal.after(sample.lengths)[rows], weights) if mid else ours
    point = Point(
        sample.target,
        place.axis,
        place.at,
        signal.name,
        signal.moment,
        rows.size,
        int(labels.sum()),
        interval(ours),
        interval(auarc(labels, values[rows], weights)),
        ahead=None if signal.name == BAR else interval(lead),
        waiting=interval(whole - ours) if mid else None,
    )
    yield point, (lead, ours - 0.5)


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


def worth(points: Iterable[Point]) -> list[Worth]:
    """For every target and mid signal, in the order of the points: how many tokens are worth waiting for."""
    lines: dict[tuple[Target, str], list[Point]] = {}
    for point in points:
        if point.axis == "tokens" and point.moment == "mid":
            lines.setdefault((point.target, point.signal), []).append(point)
    return [
        Worth(
            target,
            signal,
            settled=next((int(one.at) for one in line if one.waiting and one.waiting.estimate <= NEAR), None),
            ahead=next((int(one.at) for one in line if one.reliable), None),
        )
        for (target, signal), line in lines.items()
    ]


def best_at(points: Iterable[Point], at: float, axis: Axis = "tokens") -> Point | None:
    """The mid signal with the highest AUROC there; being picked by its figure flatters it. Points of one target."""
    there = [point for point in points if (point.axis, point.at, point.moment) == (axis, at, "mid")]
    return max(there, key=lambda point: point.auroc.estimate, default=None)


def information_rows(study: Study, points: Iterable[Point]) -> list[dict[str, Any]]:
    """The points as flat records of plain JSON values, for a table or a chart; None for what is not known."""
    about = dict(zip(("weak", "helped"), study.outcomes.arms, strict=True))
    return [
        {
            "dataset": study.dataset,
            "models": study.models,
            **about,
            "target": point.target,
            "axis": point.axis,
            "at": point.at,
            "signal": point.signal,
            "moment": point.moment,
            "n": point.n,
            "yes": point.yes,
            **_columns("auroc", point.auroc),
            **_columns("auarc", point.auarc),
            "auarc_by_chance": round(1 - point.yes / point.n, 5),
            **_columns("ahead", point.ahead),
            "reliable": point.reliable,
            **_columns("waiting", point.waiting),
        }
        for point in points
    ]


def _columns(name: str, found: Interval | None) -> dict[str, float | None]:
    values = (found.estimate, found.low, found.high) if found else (np.nan,) * 3
    names = (name, f"{name}_low", f"{name}_high")
    return {key: None if np.isnan(value) else round(value, 5) for key, value in zip(names, values, strict=True)}
