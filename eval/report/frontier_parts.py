"""The frontiers of a report: each moment's best scores for every cost, the oracles above, and one number of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.frontier import ArmPoint
from flarekit.eval.analysis.frontier.frontiers import Frontiers
from flarekit.eval.analysis.wording import number, share
from flarekit.eval.report.charts.cost_plot import STYLE, zoomable
from flarekit.eval.report.parts import NOTHING, Cell, Column, Figure, Table, interval_cell, plain_cell

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


def frontier_parts(found: Sequence[Frontiers], prices: Prices) -> list[Figure | Table]:
    """Each moment's frontier with the oracles', and what one number says of each; nothing where no moment has arms."""
    if not found:
        return []
    drawn = [_row(one, name, corner) for one in found for name, corner in one.corners]
    choices = {_key(one): _title(one) for one in found}
    rated = [cells for one in found for cells in _rated(one)]
    return [_frontier_figure(drawn, choices, prices), _rating_table(rated, prices)]


def _key(one: Frontiers) -> str:
    """The number of passages that most arms look up goes by the action's own name."""
    return one.action if one.first else f"{one.action}-k{one.k}"


def _title(one: Frontiers) -> str:
    return f"{NAMES[one.action]}, k = {one.k}" if one.several else NAMES[one.action]


def _row(one: Frontiers, name: str, corner: ArmPoint) -> dict[str, Any]:
    place = {"cost": round(corner.cost, 2), "score": round(corner.score, 5)}
    return {"action": _key(one), "moment": name, **place, "policy": corner.arm}


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


def _rated(one: Frontiers) -> Iterator[list[Cell]]:
    """A row for every moment, and one for every oracle."""
    for rated in one.rated:
        found = rated.rating
        measured = found.aiq, found.pgr, found.apgr, found.cpt50, found.cpt80, found.gap
        yield [
            Cell(rated.moment, f"{rated.moment} {_key(one)}", _title(one)),
            plain_cell(rated.arms, number),
            plain_cell(rated.best, share),
            *(interval_cell(value, share) for value in measured),
        ]
    for oracle in one.oracles:
        cells = plain_cell(oracle.arms, number), interval_cell(oracle.score, share), *(NOTHING,) * 6
        yield [Cell(oracle.name, f"{oracle.name} {_key(one)}", _title(one)), *cells]


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
