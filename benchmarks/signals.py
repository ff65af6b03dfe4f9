"""Prints how well every signal predicts what matters about a question, from run directories.

python benchmarks/signals.py runs/hotpotqa-1.5b ...
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from flarekit.errors import DataError
from flarekit.escalation.mid_lr import MidRouter, fit
from flarekit.eval.discrimination import auroc, average_precision, difference, holm, interval, prr, too_few
from flarekit.eval.metrics import f1
from flarekit.eval.outcomes import label
from flarekit.eval.readings import Reading, answer_of, read_signals, unhelped
from flarekit.eval.recorded import RecordedRun, read_run
from flarekit.eval.statistics import Interval
from flarekit.eval.wording import share
from flarekit.tokens import Token

Target = Literal["wrong", "helps", "hurts"]
TARGETS: tuple[Target, ...] = ("wrong", "helps", "hurts")
BAR = "TF-IDF + logistic regression"
MOMENTS = ("pre", "mid", "post")

Floats = NDArray[np.float64]
Keyed = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Truth:
    """One target: whether it came true on a question, and by how much F1."""

    target: Target
    labels: Keyed
    amounts: Keyed
    bar: Keyed
    """Out-of-fold P(label) from the question's words; empty where there are too few labels of a kind."""
    learned: Keyed
    """Out-of-fold P(label) from the running signals, the highest at any sentence end (`mid-lr`)."""

    @property
    def missing(self) -> str:
        """Why there is no figure; empty where there is one."""
        return too_few(list(self.labels.values()))


@dataclass(frozen=True, slots=True)
class Cell:
    """One signal's figures for one target, NaN where there are too few labels of a kind."""

    auroc: Interval
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
        {key: f1(arm[key].answer, run.questions[key].answers, metric) for key in keys} for arm in (alone, helped)
    )
    found = []
    for target in TARGETS:
        labels = {key: float(label(before[key], after[key], target)) for key in keys}
        amounts = {key: amount(before[key], after[key], target) for key in keys}
        if too_few([*labels.values()]):
            found.append(Truth(target, labels, amounts, {}, {}))
            continue
        bar = out_of_fold({key: run.questions[key].text for key in keys}, labels)
        said = {key: answer_of(alone[key]).tokens for key in keys}
        found.append(Truth(target, labels, amounts, bar, learned_out_of_fold(said, labels)))
    return found


def on_common_questions(found: list[Truth], readings: list[Reading]) -> list[Truth]:
    """The truths on the questions on which every signal was measured: on others their figures could not be compared."""
    measured = set.intersection(*(set(reading.values) for reading in readings))
    common = [key for key in found[0].labels if key in measured]
    return [
        replace(
            truth,
            labels={key: truth.labels[key] for key in common},
            amounts={key: truth.amounts[key] for key in common},
        )
        for truth in found
    ]


def amount(alone: float, helped: float, target: Target) -> float:
    """How much F1 is at stake: what is missing, what help gains, what help loses."""
    match target:
        case "wrong":
            return 1 - alone
        case "helps":
            return helped - alone if label(alone, helped, target) else 0.0
        case "hurts":
            return max(alone - helped, 0.0)


def out_of_fold(texts: Mapping[str, str], labels: Keyed) -> Keyed:
    """P(label) of each question by a model that was fitted on four fifths of the others."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    truth = [int(labels[key]) for key in texts]
    scores: Floats = cross_val_predict(model, list(texts.values()), truth, cv=folds, method="predict_proba")[:, 1]
    return dict(zip(texts, scores.tolist(), strict=True))


def learned_out_of_fold(answers: Mapping[str, Sequence[Token]], labels: Keyed) -> Keyed:
    """The same by `mid-lr`, from the answers' tokens and with the same folds."""
    keys = list(answers)
    truth = np.array([labels[key] for key in keys])
    values: dict[str, float] = {}
    for fitted, held in StratifiedKFold(5, shuffle=True, random_state=0).split(keys, truth):
        router = MidRouter({}, fit([answers[keys[place]] for place in fitted], truth[fitted]))
        values |= {keys[place]: router(answers[keys[place]]) for place in held}
    return values


def cell(truth: Truth, values: Keyed) -> Cell:
    """A signal against a target, on the questions that have both."""
    keys = [key for key in truth.labels if key in values]
    labels, read = [truth.labels[key] for key in keys], [values[key] for key in keys]
    if too_few(labels):
        return Cell(*3 * [Interval(math.nan, math.nan, math.nan)])
    saved = interval(prr, [truth.amounts[key] for key in keys], read)
    return Cell(interval(auroc, labels, read), saved, interval(average_precision, labels, read))


def distinct(readings: list[Reading]) -> list[Reading]:
    """The readings without those that have the very values of an earlier one at the same moment."""
    return [
        reading
        for place, reading in enumerate(readings)
        if not any((one.moment, one.values) == (reading.moment, reading.values) for one in readings[:place])
    ]


def rows_of(found: list[Truth], readings: list[Reading]) -> list[Row]:
    """The bar, then the signals by moment, those with the highest AUROC for "wrong" first."""
    rows = [Row(BAR, "pre", [cell(truth, truth.bar) for truth in found])]
    learned = Row("`mid-lr` (learned)", "mid", [cell(truth, truth.learned) for truth in found])
    for moment in MOMENTS:
        group = [row_of(found, reading) for reading in readings if reading.moment == moment]
        group += [learned] if moment == "mid" else []
        rows += sorted(group, key=lambda row: np.nan_to_num(row.cells[0].auroc.estimate), reverse=True)
    return rows


def row_of(found: list[Truth], reading: Reading) -> Row:
    """A signal's figures for every target."""
    return Row(f"`{reading.signal}`", reading.moment, [cell(truth, reading.values) for truth in found])


def table(found: list[Truth], rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown, with the best of every column bold."""
    headings, columns = ["signal", "moment"], []
    for place, truth in enumerate(found):
        base = share(float(np.mean([*truth.labels.values()])))
        headings += [f"{truth.target}: AUROC [95%]", "PRR", f"AP (base rate {base})"]
        cells = [row.cells[place] for row in rows]
        columns += [written([read(one) for one in cells]) for read in (_auroc, _prr, _ap)]
    yield f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}"
    for row, *figures in zip(rows, *columns, strict=True):
        yield f"| {' | '.join([row.name, row.moment, *figures])} |"


_auroc, _prr, _ap = attrgetter("auroc"), attrgetter("prr"), attrgetter("ap")


def written(cells: Sequence[Interval]) -> list[str]:
    """A column: a dash where there is no figure, and the best in bold."""
    best = max((one.estimate for one in cells if not math.isnan(one.estimate)), default=math.nan)
    texts = ["–" if math.isnan(one.estimate) else bracketed(one) for one in cells]
    return [f"**{text}**" if one.estimate == best else text for one, text in zip(cells, texts, strict=True)]


def bracketed(one: Interval) -> str:
    """An estimate with its bounds."""
    return f"{share(one.estimate)} [{share(one.low)}, {share(one.high)}]"


def sentences(found: list[Truth], rows: list[Row], readings: list[Reading]) -> Iterator[str]:
    """What the intervals allow to say, target by target."""
    yield (
        f"{len(found[0].labels)} questions. PRR weighs every question by the F1 that is at stake; the bar and mid-lr "
        "are fitted anew for each target and scored out of fold (5 folds)."
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
            f"Reliably better than the bar (paired bootstrap, Holm-corrected over the signals): "
            f"{better(truth, readings)}."
        )


def listed(rows: list[Row]) -> str:
    """The rows' names."""
    return ", ".join(f"{row.name} ({row.moment})" for row in rows) or "none"


def better(truth: Truth, readings: list[Reading]) -> str:
    """The signals whose AUROC is higher than the bar's beyond chance, with the difference."""
    tests = []
    for reading in readings:
        keys = [key for key in truth.labels if key in reading.values]
        pairs = [[source[key] for key in keys] for source in (truth.labels, reading.values, truth.bar)]
        tests.append(difference(auroc, *pairs))
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
        found = on_common_questions(truths(run), readings)
        rows = rows_of(found, readings)
        print(f"### {run.manifest.dataset.name}, {run.manifest.model_of('weak')}\n")
        print("\n".join(table(found, rows)), end="\n\n")
        print("\n\n".join(sentences(found, rows, readings)), end="\n\n")


if __name__ == "__main__":
    main()
