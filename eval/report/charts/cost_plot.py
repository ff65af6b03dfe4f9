"""The accuracy-cost plot: one curve per policy family, drawn with Altair.

Colour and shape both tell the families apart, so that the plot can be read in grey and with any colour vision:
those that decide before generation are blue, those that look up during it orange or red, those that hand over during it
crimson, those that judge the finished answer olive, and those that decide nothing grey. A dashed line was derived, a
solid one joins arms that were run, and a wide pale one, which only the page adds, is a family's hull.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.curves import Point
from flarekit.eval.analysis.wording import interval_text, share
from flarekit.stats.intervals import Interval

SCORES = {"f1": "F1", "exact_match": "Exact match"}
OWN_LAYERS = ("derived", "hull")
"""The kinds of points that have a layer of their own, named after them; templates/plots.js knows them too."""
_STAR = "M0,-1L.25,-.31L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.25,-.31Z"


_MANY = 40
"""From so many arms on, points are small and few of them named."""


class Look(NamedTuple):
    """How a family is drawn; contrast of at least 3 against white and against near-black."""

    colour: str
    shape: str


_GREY, _BLUE, _SKY, _ORANGE, _RED = "#7c828a", "#1f78b4", "#3b9ad9", "#cc8400", "#d55e00"
_CRIMSON, _VIOLET, _OLIVE = "#c9485b", "#8262c4", "#768a1f"
LOOKS = {
    "closed-book": Look(_GREY, "circle"),
    "direct": Look(_GREY, "triangle-down"),
    "rag": Look("#009e73", "square"),
    "strong": Look(_VIOLET, "square"),
    "self-consistency": Look(_GREY, "diamond"),
    "critic": Look(_GREY, "cross"),
    "watch": Look(_GREY, "square"),
    "pre-retrieve": Look(_BLUE, "triangle-up"),
    "pre-escalate": Look(_SKY, "triangle-up"),
    "p-ik": Look(_BLUE, "diamond"),
    "adaptive-rag": Look(_BLUE, "cross"),
    "avengers-pro": Look(_SKY, "square"),
    "masrouter": Look(_SKY, "diamond"),
    "mid-retrieve": Look(_ORANGE, "triangle-right"),
    "flare": Look(_RED, "diamond"),
    "flare-instruct": Look(_RED, "square"),
    "ircot": Look(_ORANGE, "cross"),
    "fixed-sentence": Look(_ORANGE, "square"),
    "fixed-length": Look(_ORANGE, "circle"),
    "dragin-lite": Look(_RED, "triangle-up"),
    "etc": Look(_RED, "triangle-down"),
    "rolling-retrieve": Look(_RED, "circle"),
    "escalate": Look(_CRIMSON, "triangle-down"),
    "step-entropy": Look(_CRIMSON, "triangle-left"),
    "rolling-entropy": Look(_CRIMSON, "cross"),
    "iter-retgen": Look("#b865a0", "cross"),
    "post-retrieve": Look(_OLIVE, "cross"),
    "cascade": Look(_OLIVE, "circle"),
    "automix": Look(_OLIVE, "square"),
    "self-verify-cascade": Look(_OLIVE, "triangle-down"),
    "vote-cascade": Look(_OLIVE, "diamond"),
    "semantic-entropy": Look(_OLIVE, "triangle-up"),
    "oracle": Look("#8a7d3a", _STAR),
}
_OTHERS = (
    Look("#5f8f3e", "triangle-left"),
    Look("#a3603d", "wedge"),
    Look("#4d8b99", "arrow"),
)


def look(family: str, unknown: Sequence[str] = ()) -> Look:
    """How to draw a family; those that are not known by name take turns, by their place in `unknown`."""
    return LOOKS[family] if family in LOOKS else _OTHERS[unknown.index(family) % len(_OTHERS)]


def plotted_costs(prices: Prices) -> dict[str, str]:
    """The costs that the plot's horizontal axis may show, with the axis' titles."""
    return {
        "price": f"Cost per question ({prices.unit})",
        "generated": "Generated tokens per question, discarded ones included",
        "prompt": "Prompt tokens per question, cached ones included",
        "strong": "The strong model's tokens per question",
        "retrievals": "Retrievals per question",
        "seconds": "Seconds per question",
    }


def chart_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points as the plot's data: flat records of plain JSON values, every line's from its highest threshold on."""
    ordered = from_highest(points)
    tagged = _tagged(ordered)
    return [
        {
            "place": place,
            "kind": point.kind,
            "family": point.family,
            "line": point.line,
            "policy": point.label,
            "threshold": point.threshold,
            "tag": f"{point.threshold:.4g}" if place in tagged else "",
            "n": point.n,
            **{name: round(value, 5) for name, value in point.means.items()},
            **_bounds("f1", point.f1, point.means),
            **_bounds("exact_match", point.exact_match, point.means),
        }
        for place, point in enumerate(ordered)
    ]


def from_highest(points: Sequence[Point]) -> list[Point]:
    """The order in which lines join their points; a point without threshold comes first."""
    return sorted(points, key=lambda point: math.inf if point.threshold is None else point.threshold, reverse=True)


def _tagged(ordered: Sequence[Point]) -> set[int]:
    """Which points of lines say their threshold: a few of each line, its ends alone where there are many lines."""
    lines: dict[str, list[int]] = {}
    for place, point in enumerate(ordered):
        if point.kind == "run" and point.line:
            lines.setdefault(point.line, []).append(place)
    most = 5 if sum(map(len, lines.values())) < _MANY else 2
    steps = {line: max(1, -(-(len(own) - 1) // (most - 1))) for line, own in lines.items()}
    return {place for line, own in lines.items() for place in [*own[:: steps[line]], own[-1]]}


def accuracy_cost(
    rows: Sequence[Mapping[str, Any]], *, score: str, cost: str, cost_title: str, data: Any = None
) -> alt.LayerChart:
    """Score (one of `SCORES`) against cost (one of `plotted_costs`), for the records of `chart_rows`.

    `data` stands in for the records where the page supplies them by name, and may add hulls to them.
    """
    families = list(dict.fromkeys(row["family"] for row in rows))
    many = sum(row["kind"] == "run" for row in rows) >= _MANY
    families.sort(key=lambda family: list(LOOKS).index(family) if family in LOOKS else len(LOOKS))
    base = alt.Chart(data or alt.InlineData(values=[dict(row) for row in rows])).encode(
        x=alt.X(f"{cost}:Q", title=cost_title, scale=alt.Scale(zero=False, nice=True, padding=36)),
        color=_by_family(alt.Color, families, "colour"),
    )
    y = alt.Y(f"{score}:Q", title=f"{SCORES[score]}, mean over questions", scale=alt.Scale(zero=False, nice=True))
    shown = [
        alt.Tooltip("policy:N", title="policy"),
        alt.Tooltip("n:Q", title="questions"),
        alt.Tooltip(f"{score}_text:N", title=SCORES[score]),
        alt.Tooltip(f"{cost}:Q", title=cost_title.partition(" (")[0], format=",.4~g"),
    ]
    lines = (
        base.mark_line(strokeWidth=2, interpolate="linear")
        .transform_filter("datum.line != '' && datum.kind != 'hull'")
        .encode(
            y=y,
            detail="line:N",
            order=alt.Order("place:Q"),
            strokeDash=alt.condition("datum.kind == 'derived'", alt.value([6, 3]), alt.value([1, 0])),
        )
    )
    bars = (
        base.mark_rule(strokeWidth=1 if many else 1.5, opacity=0.2 if many else 0.55)
        .transform_filter(f"isValid(datum.{score}_low)")
        .encode(y=alt.Y(f"{score}_low:Q"), y2=f"{score}_high:Q")
    )
    follows = (
        base.mark_circle(size=22, opacity=0.4)
        .transform_filter("datum.kind == 'derived'")
        .encode(y=y, tooltip=shown)
        .properties(name="derived")
    )
    marks = (
        base.mark_point(filled=True, size=60 if many else 130, opacity=1)
        .transform_filter("datum.kind == 'run' || datum.kind == 'oracle'")
        .encode(y=y, shape=_by_family(alt.Shape, families, "shape"), tooltip=shown)
    )
    names = (
        base.mark_text(align="left", dx=9, dy=-9, fontSize=12)
        .transform_filter("isValid(datum.tag) && datum.tag != ''")
        .encode(y=y, text="tag:N")
    )
    hulls = (
        base.mark_line(strokeWidth=6, opacity=0.2, strokeJoin="round", strokeCap="round")
        .transform_filter("datum.kind == 'hull'")
        .encode(y=y, detail="family:N", order=alt.Order("place:Q"))
        .properties(name="hull")
    )
    layers = alt.layer(*([hulls] if data else []), lines, bars, follows, names, marks)
    sized: alt.LayerChart = layers.properties(width=640, height=380).configure(**STYLE, legend=_legend(len(families)))
    return sized


def zoomable(spec: dict[str, Any]) -> dict[str, Any]:
    """The Vega-Lite specification, as wide as its container; dragged with the mouse and zoomed by pinch or Ctrl+wheel.

    A plain wheel and a finger go on scrolling the page.
    """
    zoom = {
        "name": "view",
        "select": {
            "type": "interval",
            "translate": "[pointerdown[event.pointerType === 'mouse'], window:pointerup] > window:pointermove!",
            "zoom": "wheel![event.ctrlKey || event.metaKey]",
        },
        "bind": "scales",
    }
    layers = [*spec["layer"]]
    layers[-1] = {**layers[-1], "params": [zoom]}
    return {**spec, "layer": layers, "width": "container", "background": "transparent"}


STYLE: dict[str, Any] = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
    "view": alt.ViewConfig(stroke=None),
    "axis": alt.AxisConfig(
        labelFontSize=13,
        titleFontSize=13,
        titleFontWeight="normal",
        titlePadding=10,
        tickCount=5,
        labelOverlap=True,
        gridOpacity=0.5,
    ),
}


def _legend(families: int) -> alt.LegendConfig:
    """Below the plot, in as many columns as its width has room for; many families need some with long names."""
    columns = "width < 420 ? 3 : width < 800 ? 6 : 10" if families <= 10 else "width < 420 ? 2 : width < 800 ? 4 : 6"
    return alt.LegendConfig(
        orient="bottom", title=None, labelFontSize=13, symbolSize=110, symbolOpacity=1, columns=alt.ExprRef(columns)
    )


def _by_family(channel: Any, families: Sequence[str], part: str) -> Any:
    """An encoding of the family by one part of its look; equal titles and domains make one legend of all three."""
    unknown = [family for family in families if family not in LOOKS]
    values = [getattr(look(family, unknown), part) for family in families]
    scale = alt.Scale(domain=list(families), range=values)
    return channel("family:N", title=None, scale=scale)


def _bounds(name: str, interval: Interval | None, means: Mapping[str, float]) -> dict[str, Any]:
    """NaN, an unknown bound, is no JSON: it becomes None, which draws no bar."""
    if interval is None:
        return {f"{name}_text": share(means[name])}
    known = interval.stated
    return {
        f"{name}_low": round(interval.low, 5) if known else None,
        f"{name}_high": round(interval.high, 5) if known else None,
        f"{name}_text": interval_text(interval, share),
    }
