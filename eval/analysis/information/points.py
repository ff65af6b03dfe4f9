"""The points of an information curve, how many tokens they say to wait for, and their records for a chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.information.study import Study
from flarekit.stats.intervals import Interval

Axis = Literal["tokens", "share"]
Early = Literal["pre", "mid"]

BAR = "TF-IDF + logistic regression"
"""The signal of the question that all others are held against: fitted on the words of the other questions."""
LEARNED = "mid-lr"
"""Its counterpart during generation: fitted on the token signals of the other answers."""
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
    within: Interval
    """AUROC over pairs of questions of one type alone (`Study.strata`); NaN where no type has both kinds."""
    ahead: Interval | None = None
    """AUROC minus that of the bar on the same questions; None for the bar."""
    waiting: Interval | None = None
    """What is still to come: the whole answer's AUROC minus this one, on the same questions; None before generation."""
    reliable: bool = False
    """Whether a mid signal is above all bars (the `BAR`, the question's type and length) and above a half beyond
    chance, all of its curve taken together."""


@dataclass(frozen=True, slots=True)
class Worth:
    """How many tokens one mid signal is worth waiting for; None where it never comes to that."""

    target: Target
    signal: str
    settled: int | None
    """The fewest after which the rest of the answer would add no more than `NEAR` on the same answers."""
    ahead: int | None
    """The fewest after which it is reliably above the bars; see `Point.reliable`."""


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
            **_columns("within", point.within),
            **_columns("ahead", point.ahead),
            "reliable": point.reliable,
            **_columns("waiting", point.waiting),
        }
        for point in points
    ]


def _columns(name: str, found: Interval | None) -> dict[str, float | None]:
    bounds = (found.low, found.high) if found and found.stated else (np.nan, np.nan)
    values = (found.estimate if found else np.nan, *bounds)
    names = (name, f"{name}_low", f"{name}_high")
    return {key: None if np.isnan(value) else round(value, 5) for key, value in zip(names, values, strict=True)}
