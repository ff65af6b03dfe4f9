"""The split of one budget as a chart: score by the share that goes to the first way, a line for every budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from flarekit.eval.report.charts.cost_plot import STYLE

_COLOURS = ("#3b9ad9", "#cc8400", "#c9485b")
_SHAPES = ("circle", "square", "triangle-up")


def split_chart(rows: Sequence[Mapping[str, Any]], *, between: str, score: str, data: Any = None) -> alt.LayerChart:
    """Mean score by the share of the spending, for the records of `budgets.split_rows` between two ways.

    `data` stands in for the records where the page supplies them by name.
    """
    here = [row for row in rows if row["between"] == between]
    first, _, second = between.partition(" – ")
    budgets = sorted({row["budget"] for row in here})
    scale = alt.Scale(domain=budgets, range=list(_COLOURS[: len(budgets)]))
    shapes = alt.Scale(domain=budgets, range=list(_SHAPES[: len(budgets)]))
    base = (
        alt.Chart(data or alt.InlineData(values=[dict(row) for row in here]))
        .transform_filter(f"datum.between === '{between}'")
        .encode(
            x=alt.X(
                "share:Q",
                title=f"Share of the spending that goes to {first}; the rest goes to {second}",
                axis=alt.Axis(format="%"),
            ),
            color=alt.Color("budget:N", title="Budget of a question", scale=scale),
        )
    )
    bounds = [row[name] for row in here for name in ("low", "score", "high") if row[name] is not None]
    y = alt.Y(
        "score:Q", title=f"{score}, mean over questions", scale=alt.Scale(domain=[min(bounds), max(bounds)], nice=True)
    )
    bands = base.mark_area(opacity=0.13).encode(y=alt.Y("low:Q"), y2="high:Q")
    lines = base.mark_line(strokeWidth=2.4).encode(y=y)
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(
        y=y,
        shape=alt.Shape("budget:N", title="Budget of a question", scale=shapes),
        tooltip=[
            alt.Tooltip("budget:Q", title="budget"),
            alt.Tooltip("share:Q", title=first, format="%"),
            alt.Tooltip("score:Q", title=score, format=".3f"),
            alt.Tooltip("mixture:N", title="mixture"),
            alt.Tooltip("resamples:Q", title="resamples of the interval", format=","),
        ],
    )
    legend = alt.LegendConfig(orient="bottom", labelFontSize=13, titleFontSize=13, symbolSize=110, symbolOpacity=1)
    layers = alt.layer(bands, lines, marks).properties(width=640, height=320)
    chart: alt.LayerChart = layers.configure(**STYLE, legend=legend)
    return chart
