"""The findings of a report: the verdict and what stands behind it, as the section's further tables and figures.

Each needs arms of its own kind; what a run has no records for is left out, and the page says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from flarekit.errors import ConfigError, DataError
from flarekit.escalation.costs import Prices
from flarekit.escalation.outcomes import Target
from flarekit.eval.budgets import Split, budgets_of, spending, split, split_rows
from flarekit.eval.compare import Group, Row, cautions
from flarekit.eval.families import ACTIONS, Action, ends, family, matrix
from flarekit.eval.frontier import cost_range, hull, oracle_frontier, rating, spots
from flarekit.eval.information import curves, information_rows
from flarekit.eval.report.budget_chart import split_chart
from flarekit.eval.report.charts import STYLE, zoomable
from flarekit.eval.report.information_chart import AXES, SCORES, TITLES, information_chart
from flarekit.eval.report.parts import Cell, Column, Figure, Table, interval_cell, plain_cell
from flarekit.eval.study import TARGETS, read_study
from flarekit.eval.verdict import Findings, Verdict, findings, verdict_sentences
from flarekit.eval.wording import number, share, signed, verdict
from flarekit.trace import Moment

MOMENTS: tuple[Moment, ...] = ("pre", "mid", "post")
_COLOURS = {"pre": "#1f78b4", "mid": "#d55e00", "post": "#768a1f", "oracle": "#7c828a"}
_DASHES = {"pre": [6, 3], "mid": [1, 0], "post": [2, 2], "oracle": [1, 4]}
_NAMES = {"retrieve": "retrieving", "escalate": "escalating", "any": "retrieving and escalating"}
_HELP = {"rag": "retrieval", "strong": "the strong model"}
_ENOUGH = 30
"""Questions below which an information curve is all band."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a section says beyond its plot and its table."""

    verdict: list[str]
    parts: list[Figure | Table]
    missing: list[str]
    """Which answers and parts are left out, and why, a sentence each."""


def tell(group: Group, rows: list[Row], baseline: str | None, prices: Prices) -> Told:
    """The verdict and all further parts that the group has records for."""
    found = findings(group, prices=prices)
    parts: list[Figure | Table] = []
    missing = cautions(group)
    makers: list[Callable[[], list[Figure | Table]]] = [
        lambda: [moments_table(found, prices)] if found.verdicts else [],
        lambda: frontier_parts(group, prices),
        lambda: [information_figure(group)],
        lambda: split_parts(group, prices),
    ]
    for make in makers:
        try:
            parts += make()
        except (ConfigError, DataError) as error:
            missing.append(f"Left out: {error}.")
    return Told(headline(group, rows, baseline, prices, found), parts, missing)


def headline(
    group: Group, rows: list[Row], baseline: str | None, prices: Prices, found: Findings | None = None
) -> list[str]:
    """The verdict on during against before, where both were swept; else what single arms show."""
    found = findings(group, prices=prices) if found is None else found
    if found.find("mid", "pre"):
        return verdict_sentences(group, found, prices=prices)
    return verdict(group, rows, baseline=baseline, prices=prices)


def moments_table(found: Findings, prices: Prices) -> Table:
    """Every comparison of two moments, with its corrected p-values."""
    count = len(found.verdicts)
    note = (
        "One moment against another at the same mean cost, by arms that were chosen on one half of the questions and "
        "judged on the other (cross-fitted), with paired bootstrap intervals by question. "
        f"p-values are corrected for the {count} comparison{'s' if count > 1 else ''} of a column (Holm). Area is the "
        "mean difference over all costs that both can have; right is exact match, by McNemar's exact test."
    )
    columns = [
        Column("Comparison"),
        Column("n", "", "questions that all of its arms finished"),
        Column("Arms", "", "arms of either moment to choose among, without the ends that both have"),
        Column("Cost", "", f"at which scores are compared, in {prices.unit} per question"),
        Column("Ours", "0–1", "score of the first at that cost"),
        Column("Δ score", "", "at that cost, the first minus the second"),
        Column("p", "", "of no difference in score, after Holm's correction"),
        Column("Δ area", "", "mean difference over the common range of costs"),
        Column("p area", "", "after Holm's correction"),
        Column("Δ cost", "", "at an equal score, the first minus the second"),
        Column("p cost", "", "after Holm's correction"),
        Column("Right", "", "questions that only the first and only the second answers exactly right"),
        Column("p right", "", "McNemar's exact test, after Holm's correction"),
    ]
    return Table("Before, during and after", note, columns, [_cells(one) for one in found.verdicts], key="moments")


def _cells(one: Verdict) -> list[Cell]:
    result = one.result
    return [
        Cell(f"{one.ours} − {one.theirs}", f"{one.ours} − {one.theirs} {one.action}", _NAMES[one.action]),
        plain_cell(result.n, number),
        Cell(f"{len(one.arms[0])}, {len(one.arms[1])}", len(one.arms[0])),
        plain_cell(result.budget, number),
        plain_cell(result.ours, share),
        interval_cell(result.score.interval, signed(share)),
        plain_cell(one.p.score, _chance),
        interval_cell(result.overall.interval, signed(share)),
        plain_cell(one.p.overall, _chance),
        interval_cell(result.cost.interval, signed(number)),
        plain_cell(one.p.cost, _chance),
        Cell(f"{one.right.ours} : {one.right.theirs}", one.right.ours - one.right.theirs),
        plain_cell(one.p.right, _chance),
    ]


def _chance(p: float) -> str:
    return "<.001" if p < 0.001 else share(p)


def frontier_parts(group: Group, prices: Prices) -> list[Figure | Table]:
    """Each moment's frontier with the oracle's, and what one number says of each; nothing where no moment has arms."""
    drawn: list[dict[str, Any]] = []
    rated: list[list[Cell]] = []
    for action in ACTIONS:
        shared = ends(group, action)
        sides = {moment: family(group, moment, action) for moment in MOMENTS}
        sides = {moment: own for moment, own in sides.items() if own}
        if len(shared) < 2 or not sides:
            continue
        figures = matrix(group, [*shared, *(arm for own in sides.values() for arm in own)], prices=prices)
        points = {point.arm: point for point in spots(figures)}
        low, high = cost_range(*([points[arm] for arm in (*shared, *own)] for own in sides.values()))
        for moment, own in sides.items():
            corners = hull([points[arm] for arm in (*shared, *own)])
            drawn += [_row(action, moment, *corner) for corner in ((c.cost, c.score, c.arm) for c in corners)]
            figured = matrix(group, [*shared, *own], prices=prices)
            by_cost = sorted(shared, key=lambda arm: points[arm].cost)
            weak, strong = by_cost[0], max(by_cost, key=lambda arm: points[arm].score)
            if weak != strong:
                rated.append(_rated(action, moment, len(own), rating(figured, weak, strong, costs=(low, high))))
        drawn += [_row(action, "oracle", cost, score, "") for cost, score in oracle_frontier(figures)]
    if not drawn:
        return []
    return [_frontier_figure(drawn, prices), _rating_table(rated, prices)]


def _row(action: Action, moment: str, cost: float, score: float, arm: str) -> dict[str, Any]:
    return {"action": action, "moment": moment, "cost": round(cost, 2), "score": round(score, 5), "policy": arm}


def _frontier_figure(rows: Sequence[dict[str, Any]], prices: Prices) -> Figure:
    found = {row["action"] for row in rows}
    choices: dict[str, str] = {action: _NAMES[action] for action in ACTIONS if action in found}
    return Figure(
        key="frontiers",
        title="The frontier of each moment",
        note="The best F1 that a moment's arms, and mixtures of them, reach for a mean cost (non-decreasing concave "
        "hull, with the ends that all moments share), at the report's prices. It is drawn on the questions that its "
        "corners were picked by, which flatters whoever has more arms; the comparisons above are cross-fitted. The "
        "oracle takes the best of all these arms question by question: luck included, no rule could reach it.",
        label="Best F1 against mean cost for deciding before, during and after generation, and for an oracle.",
        menus={"Action": choices},
        rows=rows,
        specs={action: _frontier_spec(action, prices) for action in choices},
    )


def _frontier_spec(action: str, prices: Prices) -> dict[str, Any]:
    names = list(_COLOURS)
    colour = alt.Scale(domain=names, range=list(_COLOURS.values()))
    dash = alt.Scale(domain=names, range=list(_DASHES.values()))
    base = (
        alt.Chart(alt.NamedData("points"))
        .transform_filter(f"datum.action === '{action}'")
        .encode(
            x=alt.X("cost:Q", title=f"Cost per question ({prices.unit})", scale=alt.Scale(zero=False, padding=16)),
            y=alt.Y("score:Q", title="F1, mean over questions", scale=alt.Scale(zero=False, padding=16)),
            color=alt.Color("moment:N", title=None, scale=colour),
        )
    )
    lines = base.mark_line(strokeWidth=2.4).encode(
        strokeDash=alt.StrokeDash("moment:N", title=None, scale=dash), order=alt.Order("cost:Q")
    )
    marks = (
        base.transform_filter("datum.moment !== 'oracle'")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("cost:Q", format=",.0f"),
                alt.Tooltip("score:Q", title="F1", format=".3f"),
            ]
        )
    )
    legend = alt.LegendConfig(orient="bottom", labelFontSize=13, symbolSize=140)
    spec: dict[str, Any] = (
        alt.layer(lines, marks).properties(width=640, height=340).configure(**STYLE, legend=legend).to_dict()
    )
    return zoomable(spec)


def _rated(action: Action, moment: Moment, arms: int, found: Any) -> list[Cell]:
    return [
        Cell(moment, f"{moment} {action}", _NAMES[action]),
        plain_cell(arms, number),
        *(interval_cell(one, share) for one in (found.aiq, found.pgr, found.apgr, found.cpt50, found.cpt80, found.gap)),
    ]


def _rating_table(rows: Sequence[Sequence[Cell]], prices: Prices) -> Table:
    note = (
        "One number for a frontier. AIQ is its mean height over the costs that all moments of an action can have; PGR, "
        "APGR and CPT are over the share of questions that got help, between the cheapest end and the best one. Where "
        "the gap's interval holds 0, the last three mean little."
    )
    columns = [
        Column("Moment"),
        Column("Arms"),
        Column("AIQ", "0–1", f"mean F1 over a range of costs in {prices.unit} (RouterBench)"),
        Column("PGR", "", "part of the gap recovered with help on half of the questions (RouteLLM)"),
        Column("APGR", "", "its mean over all shares; .5 by chance"),
        Column("CPT 50%", "", "share of questions that need help to recover half of the gap"),
        Column("CPT 80%"),
        Column("Gap", "", "F1 of the best end minus that of the cheapest"),
    ]
    return Table("Each frontier in one number", note, columns, rows, key="ratings")


def information_figure(group: Group) -> Figure:
    """How much each signal tells after how many tokens, for every kind of help that was recorded.

    `DataError` where too few questions were answered alone and with help.
    """
    rows: list[dict[str, Any]] = []
    helps = [name for name in _HELP if name in group.arms]
    for name in helps:
        study = read_study(group, helped=name)
        if len(study.answers) < _ENOUGH:
            raise DataError(f"the information curve needs {_ENOUGH} questions answered alone and with help")
        found = information_rows(study, [point for target in TARGETS for point in curves(study, target)])
        rows += [{**row, "policy": row["signal"]} for row in found]
    if not rows:
        raise DataError("the information curve needs answers alone and with help (closed-book, and rag or strong)")
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
        "what bends them is which answers are left. A name in the legend brings a signal out. Bands are 95% bootstrap "
        "intervals by question.",
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


def split_parts(group: Group, prices: Prices) -> list[Figure | Table]:
    """Every budget split between every two ways that were recorded, and whether a balance beats both ends.

    `ConfigError` where there are too few arms that decide nothing.
    """
    spent = spending(group, prices)
    ways = [("retrieval", "strong"), ("retrieval", "samples"), ("strong", "samples")]
    ways = [pair for pair in ways if all(spent.parts[way].any() for way in pair)]
    if not ways:
        raise ConfigError("a split needs arms that spend in two ways, such as rag and strong")
    splits = [split(spent, budget, pair) for pair in ways for budget in budgets_of(spent)]
    return [_split_figure(splits), _balance_table(splits, prices)]


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
            plain_cell(float(one.balance.resamples), number),
        ]
        for one in splits
    ]
    note = (
        "A balanced split against an end of the same budget, with 95% bootstrap intervals by question. Which split and "
        "which end are compared is chosen on one half of the questions and judged on the other; named are those that "
        "are best on all of them."
    )
    return Table("Balanced against one-sided", note, columns, rows, key="balances")
