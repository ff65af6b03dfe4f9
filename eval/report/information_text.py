"""The information curve for a terminal: a table a target, and what its intervals allow to say."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flarekit.errors import DataError
from flarekit.escalation.baselines import LENGTH, OWN, RULE, lopsided
from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.information.points import BAR, NEAR, Early, Point, best_at, worth
from flarekit.eval.analysis.information.refits import FOLDS, GROUPS, RESAMPLES, SEEDS
from flarekit.eval.analysis.information.study import TARGETS, Study
from flarekit.eval.analysis.wording import interval_text, share, signed
from flarekit.io.terminal import plain
from flarekit.stats.discrimination import too_few
from flarekit.stats.intervals import Interval

COLUMNS = (0, 1, 4, 16, 64)
"""Counts of tokens that the table shows, before the whole answer."""
HOW = (
    f"Intervals are of 95%, from {RESAMPLES:,} resamples of the questions. What is fitted is averaged over {SEEDS} "
    f"splits into {FOLDS} folds, and each of {GROUPS} groups of questions is left out of its fits in turn "
    f"({SEEDS * FOLDS * (1 + GROUPS)} fits a signal and target): its intervals hold for other questions to fit on too."
)


def print_information(study: Study, points: Sequence[Point], console: Console) -> None:
    """A table and a few sentences for every target."""
    for target in TARGETS:
        there = [point for point in points if point.target == target]
        if there:
            heading = f"{study.dataset} · {study.models} · {target}: {there[0].yes} of {there[0].n} · AUROC by tokens"
            console.print(plain(heading), style="bold", highlight=False)
            console.print(_table(there))
        for line in told(study, target, there):
            console.print(plain(line), highlight=False)
        console.print()


def information_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Records of `information_rows`, one a line; what is not known is empty. `DataError` without any."""
    if not rows:
        raise DataError("too few answers are of a kind for any curve; record more questions")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def told(study: Study, target: Target, points: Sequence[Point]) -> list[str]:
    """What can be said of one target, given its points."""
    if not points:
        return [f"{target}: no curve, {too_few(study.labels(target))}."]
    bar = next(point for point in points if point.signal == BAR)
    return [
        " ".join(
            [
                f"From the question alone, {BAR} tells {interval_text(bar.auroc, share)}.",
                _of_the_type(study, points),
                *_of_the_lead(points),
                *_of_the_end(points),
                _reliably(points),
            ]
        ),
        *(f"Warning: {said}." for said in [lopsided(study.labels(target), study.strata[1])] if said),
        HOW,
    ]


def _of_the_type(study: Study, points: Sequence[Point]) -> str:
    """What the question's type and length tell, and what is left to tell within a type."""
    whole = {point.signal: point for point in points if (point.axis, point.at) == ("share", 1.0)}
    least = [f"{name} {interval_text(whole[name].auroc, share)}" for name in (RULE, OWN, LENGTH) if name in whole]
    best = max((one for one in whole.values() if one.moment == "mid"), key=_of_one_type, default=None)
    also = f", and {best.signal} most of the tokens', {interval_text(best.within, share)}" if best else ""
    return (
        f"The least that can be said of it: {', '.join(least)}. Within types ({study.strata[0]}), {BAR} tells "
        f"{interval_text(whole[BAR].within, share)}{also}."
    )


def _of_one_type(point: Point) -> float:
    return -1.0 if math.isnan(point.within.estimate) else point.within.estimate


def _of_the_lead(points: Sequence[Point]) -> Iterator[str]:
    """Where tokens are furthest above the question, and what the rest of the answer would add."""
    leads = [(one.ahead.estimate, one) for one in points if one.ahead and one.moment == "mid" and one.axis == "tokens"]
    _, best = max(leads, key=lambda lead: lead[0], default=(0.0, None))
    if best and best.ahead and best.waiting:
        yield (
            f"The tokens lead it by most after {_tokens(best.at)}: {best.signal}, {share(best.auroc.estimate)} on the "
            f"{best.n} answers that go on, {_change(best.ahead)} on the same ones (picked by this figure, which "
            f"flatters it). Waiting for the rest of them changes it by {_change(best.waiting)}."
        )


def _of_the_end(points: Sequence[Point]) -> Iterator[str]:
    """The signal that tells most of the whole answer, and how soon it does."""
    end = best_at(points, 1.0, "share")
    if end:
        settled = next((one.settled for one in worth(points) if one.signal == end.signal), None)
        when = f"after {_tokens(settled)}" if settled else "not before the end of what can be judged by tokens"
        yield (
            f"Of whole answers {end.signal} tells most, {interval_text(end.auroc, share)}; on the answers that go on, "
            f"it first comes within {share(NEAR)} of its end {when}."
        )


def _reliably(points: Sequence[Point]) -> str:
    ahead = [(one.ahead, one.signal) for one in worth(points) if one.ahead is not None]
    if not ahead:
        return (
            "After no number of tokens is any signal reliably above the question's words, type and length, all of them "
            "taken together."
        )
    first, signal = min(ahead)
    return (
        f"Reliably above the question's words, type and length first, all signals and places taken together: {signal}, "
        f"after {_tokens(first)}."
    )


def _change(change: Interval) -> str:
    return interval_text(change, signed(share))


def _tokens(count: float) -> str:
    return f"{count:g} token{'' if count == 1 else 's'}"


def _table(points: Sequence[Point]) -> Table:
    known = {(point.signal, point.axis, point.at): point for point in points}
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("signal", "moment", "n", *map(str, COLUMNS), "end", "within"):
        shown.add_column(heading, justify="left" if heading in ("signal", "moment") else "right", no_wrap=True)
    for signal, moment in _in_order(points):
        along = [known.get((signal, "tokens", at)) for at in COLUMNS]
        end = known[signal, "share", 1.0]
        shown.add_row(signal, moment, str(end.n), *map(_cell, [*along, end]), _figure(end.within.estimate))
    answers = [known.get((BAR, "tokens", at)) for at in COLUMNS]
    counts = [str(one.n) if one else "–" for one in answers]
    shown.add_row("answers", "", "", *counts, str(points[0].n), "", style="dim")
    return shown


def _in_order(points: Iterable[Point]) -> list[tuple[str, Early]]:
    """The bar, the other signals of the question, then those of the tokens: each by the AUROC of the whole answer."""
    ends = {(one.signal, one.moment): one.auroc.estimate for one in points if (one.axis, one.at) == ("share", 1.0)}
    return sorted(ends, key=lambda key: (key[0] != BAR, key[1] != "pre", -ends[key]))


def _cell(point: Point | None) -> str:
    """Starred where the signal is reliably above the bars."""
    return "–" if point is None else f"{share(point.auroc.estimate)}{'*' if point.reliable else ''}"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else share(value)
