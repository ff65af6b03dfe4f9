"""The findings of a report: the verdict and what stands behind it, as the section's further tables and figures.

Each needs arms of its own kind; what a run has no records for is left out, and the page says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from flarekit.costs import Prices
from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.analyze import Analysis, InformationCurves
from flarekit.eval.analysis.budgets import Split, split_rows
from flarekit.eval.analysis.information.refits import RESAMPLES
from flarekit.eval.analysis.information.study import TARGETS
from flarekit.eval.analysis.moments import MomentFindings, Verdict
from flarekit.eval.analysis.wording import number, share, signed
from flarekit.eval.report.charts.budget import split_chart
from flarekit.eval.report.charts.cost_plot import zoomable
from flarekit.eval.report.charts.information import AXES, SCORES, TITLES, information_chart
from flarekit.eval.report.frontier_parts import NAMES, frontier_parts
from flarekit.eval.report.parts import Cell, Column, Figure, Table, interval_cell, plain_cell

_HELP = {"rag": "retrieval", "strong": "the strong model"}
_DECIDING = "share of what the first and the second choose that is arms that decide, the rest being their common ends,"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a section says beyond its plot and its table."""

    verdict: list[str]
    parts: list[Figure | Table]
    missing: list[str]
    """Which answers and parts are left out, and why, a sentence each."""


def draw_findings(found: Analysis) -> Findings:
    """The verdict and all further parts that the group has records for."""
    summary, parts = found.summary, list[Figure | Table]()
    if summary.moments.verdicts:
        parts.append(moments_table(summary.moments, found.prices))
    parts += frontier_parts(found.frontiers, found.prices)
    if found.information:
        parts.append(information_figure(found.information))
    if found.splits:
        parts += [_split_figure(found.splits), _balance_table(found.splits, found.prices)]
    return Findings(summary.verdict, parts, found.missing)


def moments_table(found: MomentFindings, prices: Prices) -> Table:
    """Every comparison of two moments, with its corrected p-values."""
    count = len(found.verdicts)
    note = (
        "One moment against another at the same mean cost, by arms that were chosen on one half of the questions and "
        "judged on the other (cross-fitted), with paired bootstrap intervals by question. "
        f"p-values are corrected for the {count} comparison{'s' if count > 1 else ''} of a column (Holm). Area is the "
        "mean difference over the costs from never to always acting; right is exact match, by McNemar's exact test. "
        "Where little of what is chosen is arms that decide, both sides are mostly the same ends, and a difference is "
        "small whatever the arms are worth. How large a difference such a comparison could find is for flarekit power "
        "to say. Where a moment has one arm, p-values of score and area are a little liberal at some 90 questions: "
        "6 to 9 in a hundred are below .05 without any difference."
    )
    columns = [
        Column("Comparison"),
        Column("n", "", "questions that all of its arms finished"),
        Column("Arms", "", "arms of either moment to choose among, without the ends that both have"),
        Column("Cost", "", f"at which scores are compared, in {prices.unit} per question"),
        Column("Ours", "0–1", "score of the first at that cost"),
        Column("Δ score", "", "at that cost, the first minus the second"),
        Column("p", "", "of no difference in score, after Holm's correction"),
        Column("Deciding", "", f"{_DECIDING} at that cost"),
        Column("Δ area", "", "mean difference over the costs from never to always acting"),
        Column("p area", "", "after Holm's correction"),
        Column("Deciding, area", "", f"{_DECIDING} over these costs"),
        Column("Δ cost", "", "at an equal score, the first minus the second"),
        Column("p cost", "", "after Holm's correction"),
        Column("Deciding, Δ cost", "", f"{_DECIDING} at that score"),
        Column("Right", "", "questions that only the first and only the second answers exactly right"),
        Column("p right", "", "McNemar's exact test, after Holm's correction"),
    ]
    return Table(
        "Before, during and after",
        note,
        columns,
        [_cells(one, found.depth(one)) for one in found.verdicts],
        key="moments",
    )


def _cells(one: Verdict, depth: str) -> list[Cell]:
    result = one.result
    return [
        Cell(f"{one.ours} − {one.theirs}", f"{one.ours} − {one.theirs} {one.action}{depth}", NAMES[one.action] + depth),
        plain_cell(result.n, number),
        Cell(f"{len(one.arms[0])}, {len(one.arms[1])}", len(one.arms[0])),
        plain_cell(result.budget, number),
        plain_cell(result.ours, share),
        interval_cell(result.score.interval, signed(share)),
        plain_cell(one.p.score, _chance),
        _weights(result.weights.budget),
        interval_cell(result.overall.interval, signed(share)),
        plain_cell(one.p.overall, _chance),
        _weights(result.weights.overall),
        interval_cell(result.cost.interval, signed(number)),
        plain_cell(one.p.cost, _chance),
        _weights(result.weights.target),
        Cell(f"{one.right.ours} : {one.right.theirs}", one.right.ours - one.right.theirs),
        plain_cell(one.p.right, _chance),
    ]


def _weights(weights: tuple[float, float]) -> Cell:
    """How much of either side's mixture is arms that decide."""
    return Cell(", ".join(f"{weight:.0%}" for weight in weights), " ".join(f"{weight:.3f}" for weight in weights))


def _chance(p: float) -> str:
    return "<.001" if p < 0.001 else share(p)


def information_figure(found: InformationCurves) -> Figure:
    """How much each signal tells after how many tokens, for every kind of help that was recorded."""
    helps, rows = found.helps, [{**row, "policy": row["signal"]} for row in found.rows]
    warned = [f" Warning ({TITLES[target].lower()}; {_HELP[name]}): {said}." for target, name, said in found.warnings]
    drawn = {(row["helped"], row["target"], row["axis"]) for row in rows}
    specs = {
        f"{target} {name} {axis} {score}": _information_spec(rows, name, target, axis, score)
        if (name, target, axis) in drawn
        else _nothing("Too few answers of this kind for a curve.")
        for target in TARGETS
        for name in helps
        for axis in AXES
        for score in SCORES
    }
    return Figure(
        key="information",
        title="How many tokens are worth waiting for?",
        note="How well each signal tells, from what had been generated by then, what will become of the answer. Only "
        "answers that go on are counted at each place, and the dashed signals of the question on the same answers: "
        "what bends them is which answers are left. The question's type is the least that a signal must beat; AUROC "
        "within types is in the hover text. A name in the legend brings a signal out. Bands are of 95%, from "
        f"{RESAMPLES:,} resamples of the questions; those of fitted signals hold for other questions to fit on, too."
        + "".join(warned),
        label="AUROC of every signal by how much of the answer has been generated; information.csv holds the figures.",
        menus={
            "What is told": {str(target): TITLES[target] for target in TARGETS},
            "Help": {name: _HELP[name] for name in helps},
            "Along": {str(axis): title for axis, title in AXES.items()},
            "Score": dict(SCORES),
        },
        rows=rows,
        specs=specs,
    )


def _information_spec(
    rows: Sequence[dict[str, Any]], helped: str, target: Target, axis: Any, score: str
) -> dict[str, Any]:
    here = [row for row in rows if row["helped"] == helped]
    chart = information_chart(here, target=target, axis=axis, score=score, data=alt.NamedData("points"))
    return {
        **chart.to_dict(),
        "transform": [{"filter": f"datum.helped === '{helped}'"}],
        "width": "container",
        "background": "transparent",
    }


def _nothing(text: str) -> dict[str, Any]:
    """A plot that says why there is none."""
    return {
        "data": {"name": "points"},
        "transform": [{"filter": "false"}],
        "mark": "point",
        "title": {"text": text, "fontSize": 13, "fontWeight": "normal", "color": "#7c828a", "anchor": "start"},
        "width": "container",
        "height": 40,
        "background": "transparent",
        "config": {"view": {"stroke": None}},
    }


def _split_figure(splits: Sequence[Split]) -> Figure:
    rows = split_rows(splits)
    titles = {" – ".join(one.between): " and ".join(one.between) for one in splits}
    specs = {
        name: zoomable(split_chart(rows, between=name, score="F1", data=alt.NamedData("points")).to_dict())
        for name in titles
    }
    return Figure(
        key="budgets",
        title="One budget, split",
        note="The best mixture of arms that decide nothing, for a mean budget of a question and a given share of the "
        "spending, chosen on one half of the questions and judged on the other. A balanced split beats both ends where "
        "a line is higher in the middle; bands are 95% bootstrap intervals by question.",
        label="F1 by the share of the budget that goes to the first of two ways of spending it.",
        menus={"Between": titles},
        rows=rows,
        specs=specs,
    )


def _balance_table(splits: Sequence[Split], prices: Prices) -> Table:
    columns = [
        Column("Between"),
        Column("Budget", "", f"in {prices.unit} per question"),
        Column("Balance", "", "share of the spending that goes to the first way, at the best balanced split"),
        Column("End", "", "the better of the two ends"),
        Column("Δ F1", "", "a balanced split minus an end, both chosen on the other half of the questions"),
        Column("Resamples", "", "how many the interval is made of"),
    ]
    rows = [
        [
            Cell(" and ".join(one.between), " – ".join(one.between)),
            plain_cell(one.budget, number),
            Cell(f"{one.balance.share:.0%}", one.balance.share),
            Cell(one.between[0] if one.balance.end else one.between[1], one.balance.end),
            interval_cell(one.balance.difference, signed(share)),
            plain_cell(float(one.balance.difference.resamples), number),
        ]
        for one in splits
    ]
    note = (
        "A balanced split against an end of the same budget, with 95% bootstrap intervals by question. Which split and "
        "which end are compared is chosen on one half of the questions and judged on the other; named are those that "
        "are best on all of them."
    )
    return Table("Balanced against one-sided", note, columns, rows, key="balances")
