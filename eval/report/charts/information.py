"""The information curve as a chart: what each signal tells, by how much of the answer has been generated.

A few signals are drawn in colour, the rest as thin grey lines that a click in the legend brings out; bands are drawn of
so many as can be told apart.
Colour and the shape of the points both tell them apart. Signals of the question are blue and dashed: they are known
before the first token, and what bends them is only which answers are left. How many those are stands below the axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from flarekit.errors import ConfigError
from flarekit.escalation.baselines import RULE
from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.information.points import BAR, LEARNED, Axis
from flarekit.eval.report.charts.cost_plot import STYLE, Look

Record = Mapping[str, Any]

SCORES = {"auroc": "AUROC", "auarc": "AUARC"}
TITLES: dict[Target, str] = {
    "wrong": "The answer is wrong",
    "helps": "The answer is wrong, and help makes it better",
    "hurts": "Help makes the answer worse",
}
AXES: dict[Axis, str] = {"tokens": "Tokens of the answer seen", "share": "Share of the answer seen"}
SHOWN = (BAR, RULE, LEARNED, "min-prob", "mean-logprob (answer)", "rolling-entropy")
"""Drawn in colour until the reader chooses others: the same in every chart, not those that happen to do best."""
BANDED = (BAR, LEARNED)
"""The two whose bands are drawn beside many lines; of three lines or fewer, all have theirs."""
_BLUE, _SKY, _ORANGE, _GREEN, _RED, _PINK = "#1f78b4", "#3b9ad9", "#cc8400", "#009e73", "#d55e00", "#b865a0"
_VIOLET, _OLIVE, _GREY = "#8262c4", "#768a1f", "#7c828a"
LOOKS = {
    BAR: Look(_BLUE, "square"),
    RULE: Look(_SKY, "cross"),
    LEARNED: Look(_VIOLET, "diamond"),
    "min-prob": Look(_ORANGE, "circle"),
    "mean-logprob (answer)": Look(_GREEN, "triangle-up"),
    "rolling-entropy": Look(_RED, "triangle-down"),
}
_OTHERS = {"pre": (_SKY, _BLUE, _GREY), "mid": (_OLIVE, _ORANGE, _PINK, _GREEN, _RED, _VIOLET)}
_FEW = f"length(data('shown_store')) < 4 || indexof({json.dumps(BANDED)}, datum.signal) >= 0"
_COLUMNS = alt.ExprRef("width < 420 ? 1 : width < 800 ? 3 : 4")
_SHAPES = ("circle", "square", "triangle-right", "diamond", "triangle-left", "cross", "triangle-up", "triangle-down")


def information_chart(
    rows: Sequence[Record],
    *,
    target: Target,
    axis: Axis = "tokens",
    score: str = "auroc",
    data: Any = None,
    selectable: bool = True,
) -> alt.LayerChart:
    """One of `SCORES` along an axis for a target, from records of `information_rows` of one study.

    `data` stands in for the records where a page supplies them by name; they may be those of all targets and axes. Not
    `selectable`, the legend holds only what is drawn in colour, as paper needs it. `ConfigError` without any record.
    """
    here = [row for row in rows if (row["target"], row["axis"]) == (target, axis)]
    if not here:
        raise ConfigError(f"there is nothing to draw of {target!r} by {axis}")
    shown = alt.selection_point(
        name="shown", fields=["signal"], bind="legend", toggle="true", value=[{"signal": name} for name in SHOWN]
    )
    looks = _looks(here)
    colour = _by_signal(alt.Color, looks, "colour", selectable)
    base = (
        alt.Chart(data or alt.InlineData(values=[dict(row) for row in here]))
        .transform_filter(f"datum.target === '{target}' && datum.axis === '{axis}'")
        .encode(x=_x(here, axis), detail="signal:N")
    )
    scale = alt.Scale(domain=_domain(here, score), nice=False, clamp=True)
    y = alt.Y(f"{score}:Q", title=SCORES[score], scale=scale)
    bands = (
        base.mark_area(opacity=0.13)
        .transform_filter({"and": [{"param": "shown", "empty": False}, _FEW]})
        .encode(color=colour, y=alt.Y(f"{score}_low:Q", title=SCORES[score], scale=scale), y2=f"{score}_high:Q")
    )
    lines = base.mark_line(strokeJoin="round").encode(
        color=alt.condition(shown, colour, alt.value(_GREY), empty=False),
        y=y,
        opacity=_if(shown, 1, 0.3),
        strokeWidth=_if(shown, 2.4, 1),
        strokeDash=alt.condition("datum.moment === 'pre'", alt.value([6, 4]), alt.value([1, 0])),
    )
    points = base.mark_point(filled=True, size=70).encode(
        color=colour,
        y=y,
        shape=_by_signal(alt.Shape, looks, "shape", selectable),
        opacity=_if(shown, 1, 0),
        tooltip=_tooltip(axis, score),
    )
    layers = alt.layer(_chance(base, y), bands, lines.add_params(shown), points)
    legend = alt.LegendConfig(
        orient="bottom", title=None, labelFontSize=13, symbolSize=110, symbolOpacity=1, labelLimit=260, columns=_COLUMNS
    )
    sized: alt.LayerChart = layers.properties(width=640, height=380).configure(**STYLE, legend=legend)
    return sized


def write_figures(rows: Sequence[Record], out: Path, suffix: str = "") -> list[Path]:
    """Write information-TARGET-AXIS.svg and .png into the folder `out` for all that the rows of one study hold.

    Gives the paths. `OSError` where the folder cannot be written.
    """
    written = []
    for target, axis in dict.fromkeys((row["target"], row["axis"]) for row in rows):
        row = next(row for row in rows if row["target"] == target and row["axis"] == axis and row["signal"] == BAR)
        title = alt.Title(
            f"{TITLES[target]} ({row['yes']} of {row['n']})",
            subtitle=f"{row['dataset']} · {row['models']} · {row['weak']}, help: {row['helped']} · 95% bands",
            anchor="start",
            offset=14,
        )
        chart = information_chart(rows, target=target, axis=axis, selectable=False).properties(title=title)
        stem = out / f"information-{target}-{axis}{suffix}"
        chart.save(stem.with_suffix(".svg"))
        chart.save(stem.with_suffix(".png"), ppi=200)
        written += [stem.with_suffix(".svg"), stem.with_suffix(".png")]
    return written


def _looks(rows: Iterable[Record]) -> dict[str, Look]:
    """Every signal's look, those drawn at first before the others, which take turns by their moment."""
    moments = {row["signal"]: row["moment"] for row in rows}
    looks = {name: LOOKS[name] for name in SHOWN if name in moments}
    for name, moment in moments.items():
        free = (Look(colour, shape) for shape in _SHAPES for colour in _OTHERS[moment])
        looks.setdefault(name, next((look for look in free if look not in looks.values()), Look(_GREY, "circle")))
    return looks


def _by_signal(channel: Any, looks: Mapping[str, Look], part: str, selectable: bool) -> Any:
    scale = alt.Scale(domain=list(looks), range=[getattr(look, part) for look in looks.values()])
    values = alt.Undefined if selectable else [name for name in looks if name in SHOWN]
    return channel("signal:N", title=None, scale=scale, legend=alt.Legend(values=values))


def _if(shown: alt.Parameter, then: float, otherwise: float) -> Any:
    return alt.condition(shown, alt.value(then), alt.value(otherwise), empty=False)


def _x(rows: Iterable[Record], axis: Axis) -> alt.X:
    """Tokens as powers of two from 0 on, each with how many answers go on below it; shares as they are."""
    left = {row["at"]: row["n"] for row in rows if row["signal"] == BAR}
    if axis == "share":
        title = f"{AXES[axis]} (all {max(left.values())} answers; while generating, nobody knows it)"
        return alt.X(
            "at:Q",
            title=title,
            axis=alt.Axis(format=".0%", grid=False, labelFlush=False),
            scale=alt.Scale(domain=[0, 1]),
        )
    ticks = [step for step in left if step == 0 or not (int(step) & (int(step) - 1)) or step == max(left)]
    counts = json.dumps({f"{step:g}": f"{left[step]}" for step in ticks})
    labels = f"[format(datum.value, 'd'), {counts}[format(datum.value, 'd')]]"
    return alt.X(
        "at:Q",
        title=f"{AXES[axis]}, and below how many answers go on",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, max(left)], nice=False),
        axis=alt.Axis(values=ticks, tickCount=2 * len(ticks), grid=False, labelFlush=False, labelExpr=labels),
    )


def _domain(rows: Iterable[Record], score: str) -> list[float]:
    """From the lowest to the highest end of a band that is drawn at first, in steps of .1."""
    drawn = [row for row in rows if row["signal"] in SHOWN]
    names = (f"{score}_low", score, f"{score}_high")
    bounds = [row[name] for row in drawn for name in names if row[name] is not None]
    return [math.floor(min(bounds) * 10) / 10, min(math.ceil(max(bounds) * 10) / 10, 1.0)]


def _chance(base: alt.Chart, y: alt.Y) -> alt.Chart:
    """What random values get: an AUROC of a half, an AUARC of the share on which the target did not come true."""
    by_chance = "0.5" if str(y["shorthand"]).startswith("auroc") else "datum.auarc_by_chance"
    dotted: alt.Chart = (
        base.mark_line(color=_GREY, strokeDash=[1, 4], strokeWidth=1.5)
        .transform_filter(f"datum.signal === '{BAR}'")
        .transform_calculate(by_chance=by_chance)
        .encode(y=alt.Y("by_chance:Q", title=y["title"], scale=y["scale"]))
    )
    return dotted


def _tooltip(axis: Axis, score: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("signal:N", title="signal"),
        alt.Tooltip("at:Q", title=AXES[axis], format=".0%" if axis == "share" else "d"),
        alt.Tooltip("n:Q", title="answers"),
        alt.Tooltip(f"{score}:Q", title=SCORES[score], format=".2f"),
        alt.Tooltip(f"{score}_low:Q", title="from", format=".2f"),
        alt.Tooltip(f"{score}_high:Q", title="to", format=".2f"),
        alt.Tooltip("ahead:Q", title="above the question's words", format="+.2f"),
        alt.Tooltip("within:Q", title="AUROC within types", format=".2f"),
    ]
