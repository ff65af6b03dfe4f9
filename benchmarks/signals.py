"""Prints how well every signal predicts what matters about a question, from run directories.

python benchmarks/signals.py runs/hotpotqa-1.5b ...
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flarekit.errors import DataError
from flarekit.escalation.baselines import lopsided, strata_of
from flarekit.escalation.outcomes import Outcomes
from flarekit.eval.analysis.information.fitted import from_the_least, from_words, learned
from flarekit.eval.analysis.information.points import BAR, LEARNED
from flarekit.eval.analysis.information.refits import FOLDS, GROUPS, SEEDS, Values, drawn, fixed, resamples, scored
from flarekit.eval.analysis.routing import figure_interval
from flarekit.eval.analysis.wording import share
from flarekit.eval.data.metrics import f1
from flarekit.eval.replay.readings import Answer, Reading, answer_of, read_signals, unhelped
from flarekit.eval.replay.trajectories import after
from flarekit.eval.results.outcomes import label
from flarekit.eval.runs.recorded import RecordedRun, read_run
from flarekit.stats.discrimination import Difference, auroc, average_precision, prr, too_few
from flarekit.stats.intervals import Interval
from flarekit.stats.ranking import auroc_within
from flarekit.stats.tests import bootstrap_p, holm

Target = Literal["wrong", "helps", "hurts"]
TARGETS: tuple[Target, ...] = ("wrong", "helps", "hurts")
RESAMPLES = 2000
MOMENTS = ("pre", "mid", "post")

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truth:
    """One target: whether it came true on each question, and by how much F1. Shapes (questions,)."""

    target: Target
    keys: Sequence[str]
    labels: Floats
    amounts: Floats
    types: Sequence[str]
    """Within which figures are given."""
    fitted: Mapping[str, Values]
    """The bar, the question's type and length, and `mid-lr`; empty where there are too few labels of a kind."""

    @property
    def missing(self) -> str:
        """Why there is no figure; empty where there is one."""
        return too_few(self.labels)


@dataclass(frozen=True, slots=True)
class Cell:
    """One signal's figures for one target, NaN where there are too few labels of a kind."""

    auroc: Interval
    within: Interval
    prr: Interval
    ap: Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One signal's line."""

    name: str
    moment: str
    cells: list[Cell]
    """One for each target."""


def truths(run: RecordedRun) -> list[Truth]:
    """The three targets on the questions that both closed-book and rag answered."""
    alone, metric = unhelped(run), run.manifest.dataset.metric
    helped = run.traces.get("rag")
    if not helped:
        raise DataError(f"{run.path}: has no answers of rag; run it with --policy rag")
    keys = [key for key in run.questions if key in alone and key in helped]
    before, after = (
        [f1(arm[key].answer, run.questions[key].answers, metric) for key in keys] for arm in (alone, helped)
    )
    texts, kinds = ([getattr(run.questions[key], part) for key in keys] for part in ("text", "kind"))
    scores = np.column_stack([before, after])
    outcomes = Outcomes(keys, texts, ["closed-book", "rag"], scores, np.zeros_like(scores), (), kinds)
    answers = [answer_of(alone[key]) for key in keys]
    found = []
    for target in TARGETS:
        labels = outcomes.labels(0, 1, target).astype(float)
        amounts = np.array([amount(one, other, target) for one, other in zip(before, after, strict=True)])
        fitted = {} if too_few(labels) else fits(outcomes, answers, labels)
        found.append(Truth(target, keys, labels, amounts, strata_of(texts, kinds)[1], fitted))
    return found


def fits(outcomes: Outcomes, answers: Sequence[Answer], labels: Floats) -> dict[str, Values]:
    """What is fitted, by name, with the question's length."""
    streamed, ends = learned(answers, outcomes, labels), np.array([len(one.tokens) for one in answers])
    return {
        BAR: from_words(outcomes, labels),
        **from_the_least(outcomes, outcomes.kinds, labels),
        LEARNED: Values(after(streamed.whole, ends), after(streamed.without, ends)),
    }


def on_common_questions(truth: Truth, readings: list[Reading]) -> Rows:
    """The questions on which every signal was measured: on others their figures could not be compared."""
    measured = set.intersection(*(set(reading.values) for reading in readings))
    return np.array([row for row, key in enumerate(truth.keys) if key in measured], dtype=np.int64)


def amount(alone: float, helped: float, target: Target) -> float:
    """How much F1 is at stake: what is missing, what help gains, what help loses."""
    match target:
        case "wrong":
            return 1 - alone
        case "helps":
            return helped - alone if label(alone, helped, target) else 0.0
        case "hurts":
            return max(alone - helped, 0.0)


def cell(truth: Truth, values: Values, rows: Rows) -> Cell:
    """A signal against a target, on some of the questions."""
    labels = truth.labels[rows]
    if too_few(labels):
        return Cell(*4 * [Interval(math.nan, math.nan, math.nan)])
    draws, read = resamples(rows.size, RESAMPLES), values.take(rows)
    strata = [truth.types[row] for row in rows]

    def saved(one: Floats, weights: Floats) -> Floats:
        return prr(truth.amounts[rows], one, weights)

    def inside(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
        return auroc_within(labels, values, strata, weights)

    return Cell(
        figure_interval(scored(auroc, labels, read, draws)),
        figure_interval(scored(inside, labels, read, draws)),
        figure_interval(drawn(saved, read, draws)),
        figure_interval(scored(average_precision, labels, read, draws)),
    )


def distinct(readings: list[Reading]) -> list[Reading]:
    """The readings without those that have the very values of an earlier one at the same moment."""
    return [
        reading
        for place, reading in enumerate(readings)
        if not any((one.moment, one.values) == (reading.moment, reading.values) for one in readings[:place])
    ]


def rows_of(found: list[Truth], readings: list[Reading], common: Rows) -> list[Row]:
    """What is fitted on the question, then the signals by moment, those with the highest AUROC for "wrong" first."""
    names = dict.fromkeys(name for truth in found for name in truth.fitted)
    group = {name: Row(name, "mid" if name == LEARNED else "pre", own_cells(found, name, common)) for name in names}
    rows = [row for row in group.values() if row.moment == "pre"]
    for moment in MOMENTS:
        some = [row_of(found, reading, common) for reading in readings if reading.moment == moment]
        some += [row for row in group.values() if row.moment == moment == "mid"]
        rows += sorted(some, key=lambda row: np.nan_to_num(row.cells[0].auroc.estimate), reverse=True)
    return rows


def own_cells(found: list[Truth], name: str, common: Rows) -> list[Cell]:
    """The figures of what is fitted anew for every target."""
    nothing = fixed(np.zeros(len(found[0].keys)))
    return [cell(truth, truth.fitted.get(name, nothing), common) for truth in found]


def row_of(found: list[Truth], reading: Reading, common: Rows) -> Row:
    """A signal's figures for every target."""
    values = values_of(found[0], reading)
    return Row(f"`{reading.signal}`", reading.moment, [cell(truth, values, common) for truth in found])


def values_of(truth: Truth, reading: Reading) -> Values:
    """Of all questions; NaN where it was not measured."""
    return fixed(np.array([reading.values.get(key, math.nan) for key in truth.keys]))


def table(found: list[Truth], rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown, with the best of every column bold."""
    headings, columns = ["signal", "moment"], []
    for place, truth in enumerate(found):
        base = share(float(truth.labels.mean()))
        headings += [f"{truth.target}: AUROC [95%]", "within types", "PRR", f"AP (base rate {base})"]
        cells = [row.cells[place] for row in rows]
        columns += [written([read(one) for one in cells]) for read in (_auroc, _within, _prr, _ap)]
    yield f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}"
    for row, *figures in zip(rows, *columns, strict=True):
        yield f"| {' | '.join([row.name, row.moment, *figures])} |"


_auroc, _within, _prr, _ap = (attrgetter(name) for name in ("auroc", "within", "prr", "ap"))


def written(cells: Sequence[Interval]) -> list[str]:
    """A column: a dash where there is no figure, and the best in bold."""
    best = max((one.estimate for one in cells if not math.isnan(one.estimate)), default=math.nan)
    texts = ["–" if math.isnan(one.estimate) else bracketed(one) for one in cells]
    return [f"**{text}**" if one.estimate == best else text for one, text in zip(cells, texts, strict=True)]


def bracketed(one: Interval) -> str:
    """An estimate with its bounds."""
    return f"{share(one.estimate)} [{share(one.low)}, {share(one.high)}]"


def sentences(found: list[Truth], rows: list[Row], readings: list[Reading], common: Rows) -> Iterator[str]:
    """What the intervals allow to say, target by target."""
    yield (
        f"{common.size} questions. PRR weighs every question by the F1 that is at stake. What is fitted is fitted anew "
        f"for each target, averaged over {SEEDS} splits into {FOLDS} folds; its intervals hold for other questions to "
        f"fit on, too ({GROUPS} groups left out in turn, {RESAMPLES:,} resamples)."
    )
    for place, truth in enumerate(found):
        if truth.missing:
            yield f"{truth.target}: no figures, {truth.missing}."
            continue
        told = [row for row in rows if row.cells[place].auroc.low > 0.5]
        inverted = [row for row in rows if row.cells[place].auroc.high < 0.5]
        yield (
            f"{truth.target}: the AUROC's interval lies above .5 for {listed(told)}"
            f"{f', below it for {listed(inverted)}' if inverted else ''}. "
            f"Reliably better than the bar (paired, Holm-corrected over the signals): "
            f"{better(truth, readings, common)}."
        )
        if said := lopsided(truth.labels, truth.types):
            yield f"Warning: {said}."


def listed(rows: list[Row]) -> str:
    """The rows' names."""
    return ", ".join(f"{row.name} ({row.moment})" for row in rows) or "none"


def better(truth: Truth, readings: list[Reading], common: Rows) -> str:
    """The signals whose AUROC is higher than the bar's beyond chance, with the difference."""
    draws, labels = resamples(common.size, RESAMPLES), truth.labels[common]
    bar = scored(auroc, labels, truth.fitted[BAR].take(common), draws)
    leads = [scored(auroc, labels, values_of(truth, one).take(common), draws) - bar for one in readings]
    tests = [Difference(figure_interval(lead), bootstrap_p(lead)) for lead in leads]
    corrected = holm([test.p for test in tests])
    named = [
        f"`{reading.signal}` ({reading.moment}, by {share(test.interval.estimate)} [{share(test.interval.low)}, "
        f"{share(test.interval.high)}], p = {p:.3f})"
        for reading, test, p in zip(readings, tests, corrected, strict=True)
        if test.interval.estimate > 0 and p < 0.05
    ]
    return ", ".join(named) or "none"


def main() -> None:
    """Print a table for every run."""
    for path in sys.argv[1:]:
        run = read_run(Path(path))
        readings = distinct(read_signals(run))
        found = truths(run)
        common = on_common_questions(found[0], readings)
        rows = rows_of(found, readings, common)
        print(f"### {run.manifest.dataset.name}, {run.manifest.model_of('weak')}\n")
        print("\n".join(table(found, rows)), end="\n\n")
        print("\n\n".join(sentences(found, rows, readings, common)), end="\n\n")


if __name__ == "__main__":
    main()
