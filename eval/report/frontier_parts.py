"""The frontiers of a report: each moment's best scores for every cost, the oracles above, and one number of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.families import ACTIONS, MOMENTS, Action, depths, ends, family, kind_of, matrix
from flarekit.eval.analysis.frontier.frontier import Rating, Spot, end_range, hull, oracle_frontier, rating, spots
from flarekit.eval.analysis.frontier.oracles import Oracle, oracles
from flarekit.eval.analysis.wording import number, share
from flarekit.eval.report.charts.cost_plot import STYLE, zoomable
from flarekit.eval.report.parts import NOTHING, Cell, Column, Figure, Table, interval_cell, plain_cell
from flarekit.eval.results.compare import Group
from flarekit.trace import Moment

NAMES = {"retrieve": "retrieving", "escalate": "escalating", "any": "retrieving and escalating"}
_COLOURS = {
    "pre": "#1f78b4",
    "mid": "#d55e00",
    "post": "#768a1f",
    "oracle": "#7c828a",
    "two-arm oracle": "#8262c4",
    "cross-fitted oracle": "#009e73",
}
_DASHES = {
    "pre": [6, 3],
    "mid": [1, 0],
    "post": [2, 2],
    "oracle": [1, 4],
    "two-arm oracle": [1, 4],
    "cross-fitted oracle": [1, 0],
}
_NO_ARM = "datum.moment !== 'oracle' && datum.moment !== 'two-arm oracle'"


@dataclass(frozen=True, slots=True)
class _Choice:
    """An action, with the number of passages (k) that its arms look up."""

    key: str
    title: str
    action: Action
    k: int | None


def frontier_parts(group: Group, prices: Prices) -> list[Figure | Table]:
    """Each moment's frontier with the oracles', and what one number says of each; nothing where no moment has arms."""
    drawn: list[dict[str, Any]] = []
    rated: list[list[Cell]] = []
    choices: dict[str, str] = {}
    for choice in _choices(group):
        points, rows = _frontiers(group, choice, prices)
        drawn += points
        rated += rows
        if points:
            choices[choice.key] = choice.title
    if not drawn:
        return []
    return [_frontier_figure(drawn, choices, prices), _rating_table(rated, prices)]


def _choices(group: Group) -> Iterator[_Choice]:
    """What may be drawn; the number of passages that most arms look up goes by the action's own name."""
    for action in ACTIONS:
        several = depths(group, MOMENTS, action)
        for place, k in enumerate(several):
            title = f"{NAMES[action]}, k = {k}" if several[1:] else NAMES[action]
            yield _Choice(f"{action}-k{k}" if place else action, title, action, k)


def _frontiers(group: Group, choice: _Choice, prices: Prices) -> tuple[list[dict[str, Any]], list[list[Cell]]]:
    """The corners of every moment's hull and of the oracles', and a row of the table for each."""
    action, k = choice.action, choice.k
    shared = ends(group, action, k)
    sides = {moment: family(group, moment, action, k) for moment in MOMENTS}
    sides = {moment: own for moment, own in sides.items() if own}
    if len(shared) < 2 or not sides:
        return [], []
    figures = matrix(group, [*shared, *(arm for own in sides.values() for arm in own)], prices=prices)
    points = {point.arm: point for point in spots(figures)}
    by_cost = sorted(shared, key=lambda arm: points[arm].cost)
    weak, strong = by_cost[0], max(by_cost, key=lambda arm: points[arm].score)
    drawn, rated = [], []
    for moment, own in sides.items():
        corners = hull([points[arm] for arm in (*shared, *own)])
        drawn += [_row(choice, moment, corner.cost, corner.score, corner.arm) for corner in corners]
        if weak != strong:
            figured = matrix(group, [*shared, *own], prices=prices)
            costs = _range(points, shared)
            rated.append(
                _rated(choice, moment, len(own), corners[-1].score, rating(figured, weak, strong, costs=costs))
            )
    always = _always(points, shared) or strong
    for name, some in (("oracle", figures), ("two-arm oracle", matrix(group, [weak, always], prices=prices))):
        drawn += [_row(choice, name, cost, score, "") for cost, score in oracle_frontier(some)]
    known = oracles(figures, weak, always)
    drawn += [_row(choice, one.name, one.cost, one.score.estimate, one.name) for one in known[2:]]
    return drawn, rated + [_oracle_cells(choice, one) for one in known]


def _range(points: Mapping[str, Spot], shared: Sequence[str]) -> tuple[float, float] | None:
    """The costs from never to always acting; None where there is no such line."""
    never, acting = _sides(points, shared)
    low, high = end_range(never[0], acting) if never and acting else (0.0, 0.0)
    return (low, high) if low < high else None


def _always(points: Mapping[str, Spot], shared: Sequence[str]) -> str | None:
    """The end that always acts, by the cost to which the line between the ends goes."""
    never, acting = _sides(points, shared)
    top = end_range(never[0], acting)[1] if never and acting else None
    return next((one.arm for one in acting if one.cost == top), None)


def _sides(points: Mapping[str, Spot], shared: Sequence[str]) -> tuple[list[Spot], list[Spot]]:
    acting = [points[arm] for arm in shared if kind_of(arm).actions]
    return [points[arm] for arm in shared if not kind_of(arm).actions], acting


def _row(choice: _Choice, moment: str, cost: float, score: float, arm: str) -> dict[str, Any]:
    return {"action": choice.key, "moment": moment, "cost": round(cost, 2), "score": round(score, 5), "policy": arm}


def _frontier_figure(rows: Sequence[dict[str, Any]], choices: Mapping[str, str], prices: Prices) -> Figure:
    return Figure(
        key="frontiers",
        title="The frontier of each moment",
        note="The best F1 that a moment's arms, and mixtures of them, reach for a mean cost (non-decreasing concave "
        "hull, with the ends that all moments share), at the report's prices. It is drawn on the questions that its "
        "corners were picked by, which flatters whoever has more arms; the comparisons above are cross-fitted. The "
        "oracle takes the best of all these arms question by question: luck included, no rule could reach it. The "
        "two-arm oracle has only the ends to choose between, never and always acting. The cross-fitted one makes that "
        "choice by one half of the arms' answers and is judged by the other half's, so that luck is left out.",
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
        base.transform_filter(_NO_ARM)
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


def _rated(choice: _Choice, moment: Moment, arms: int, best: float, found: Rating) -> list[Cell]:
    measured = found.aiq, found.pgr, found.apgr, found.cpt50, found.cpt80, found.gap
    return [
        Cell(moment, f"{moment} {choice.key}", choice.title),
        plain_cell(arms, number),
        plain_cell(best, share),
        *(interval_cell(one, share) for one in measured),
    ]


def _oracle_cells(choice: _Choice, one: Oracle) -> list[Cell]:
    cells = plain_cell(one.arms, number), interval_cell(one.score, share), *(NOTHING,) * 6
    return [Cell(one.name, f"{one.name} {choice.key}", choice.title), *cells]


def _rating_table(rows: Sequence[Sequence[Cell]], prices: Prices) -> Table:
    note = (
        "One number for a frontier. AIQ is its mean height over the costs that all moments of an action can have; PGR, "
        "APGR and CPT are over the share of questions that got help, between the cheapest end and the best one. Where "
        "the gap's interval holds 0, the last three mean little. The oracles know every answer: the one over all arms "
        "counts luck most, the one over the two ends less, the cross-fitted one none."
    )
    columns = [
        Column("Moment"),
        Column("Arms"),
        Column("Best", "0–1", "the highest F1, whatever it costs, on the questions that the arm was picked by"),
        Column("AIQ", "0–1", f"mean F1 over a range of costs in {prices.unit} (RouterBench)"),
        Column("PGR", "", "part of the gap recovered with help on half of the questions (RouteLLM)"),
        Column("APGR", "", "its mean over all shares; .5 by chance"),
        Column("CPT 50%", "", "share of questions that need help to recover half of the gap"),
        Column("CPT 80%"),
        Column("Gap", "", "F1 of the best end minus that of the cheapest"),
    ]
    return Table("Each frontier in one number", note, columns, rows, key="ratings")
