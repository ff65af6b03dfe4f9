"""Writes the report of a comparison: one HTML file that needs no network, and its figures as files for papers.

The page is put together from `templates/`: the markup, the style and the script, each readable by itself. Whatever a
model or a data set wrote reaches it as JSON and is shown as text; a content security policy in the page forbids every
request.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flarekit.errors import RunError
from flarekit.escalation.costs import Prices
from flarekit.eval.charts import SCORES, accuracy_cost, chart_rows, plotted_costs, zoomable
from flarekit.eval.compare import COSTS, Group, Row, baseline_of, table, unequal
from flarekit.eval.curves import points
from flarekit.eval.statistics import Interval
from flarekit.eval.view import index_entry, question_view
from flarekit.eval.wording import bounds_text, number, pairs, share, signed, verdict
from flarekit.files import replace_file

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    groups: Sequence[Group],
    out: Path,
    *,
    baseline: str | None = None,
    prices: Prices | None = None,
    command: str = "",
) -> Path:
    """Write report.html, table.csv and accuracy-cost.svg and .png into the folder `out`; gives the page's path.

    Each group but the first puts its number into the names of its figures. `command` is shown as what made the page.
    `ConfigError` where a group has no arm `baseline`, `RunError` where the folder cannot be written.
    """
    prices = prices or Prices()
    tables = [table(group, baseline=baseline, prices=prices) for group in groups]
    page = out / "report.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "table.csv", table_csv(groups, tables, prices).encode())
        for place, (group, rows) in enumerate(zip(groups, tables, strict=True), start=1):
            _write_figure(out / f"accuracy-cost{f'-{place}' if place > 1 else ''}", group, rows, prices)
        replace_file(page, report_html(groups, tables, baseline, prices, command).encode())
    except OSError as error:
        raise RunError(f"{out}: the report cannot be written ({error.strerror})") from error
    return page


def report_html(
    groups: Sequence[Group], tables: Sequence[list[Row]], baseline: str | None, prices: Prices, command: str
) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"json": embedded_json, "bounds": bounds_text}
    environment.globals |= {"share": share, "number": number}
    environment.globals |= {"more_share": signed(share), "more_number": signed(number)}
    return environment.get_template("report.html.jinja").render(
        sections=[_section(*pair, baseline, prices) for pair in zip(groups, tables, strict=True)],
        questions=[question_view(group, key, prices) for group in groups for key in group.questions],
        index=[index_entry(group, place, key) for place, group in enumerate(groups) for key in group.questions],
        prices=prices,
        command=command,
        vega=Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")),  # noqa: S704 - the library that draws, not data
        style=_own("report.css"),
        scripts=[_own("report.js"), _own("questions.js")],
    )


def _own(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file, not data


def embedded_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no "<" in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def table_csv(groups: Sequence[Group], tables: Sequence[list[Row]], prices: Prices) -> str:
    """Every figure of the tables, one line an arm; bounds of intervals are those of 95%."""
    records = [_record(group, row, prices) for group, rows in zip(groups, tables, strict=True) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _section(group: Group, rows: list[Row], baseline: str | None, prices: Prices) -> dict[str, Any]:
    """What the template shows of one group."""
    data = chart_rows(points(group, rows, prices))
    told = pairs(group, rows, baseline)
    return {
        "dataset": group.dataset,
        "models": group.models,
        "count": len(group.questions),
        "verdict": verdict(group, rows, baseline=baseline, prices=prices),
        "note": unequal(rows),
        "rows": rows,
        "columns": _columns_in_use(rows),
        "baseline": baseline_of(group, baseline),
        "policies": list(group.arms),
        "compared": [told[0][1].policy, told[0][0].policy] if told else list(group.arms)[:1] * 2,
        "chart": {"rows": data, "specs": _specs(data, prices)},
        "kinds": {row["kind"] for row in data},
        "scores": SCORES,
        "costs": _worth_plotting(data, prices),
        "runs": [
            {"path": str(run.path), "manifest": run.manifest.model_dump_json(indent=2, exclude_none=True)}
            for run in group.runs
        ],
    }


def _columns_in_use(rows: Sequence[Row]) -> list[str]:
    """The costs to show: without those of the strong model where nobody asked it."""
    optional = {"cached", "strong", "share", "escalations"}
    return [
        name for name in COSTS if name != "price" and (name not in optional or any(row.means[name] for row in rows))
    ]


def _specs(data: list[dict[str, Any]], prices: Prices) -> dict[str, Any]:
    """One Vega-Lite specification for each score and cost, by "score cost"; the page supplies the data by name."""
    return {
        f"{score} {cost}": zoomable(
            accuracy_cost(data, score=score, cost=cost, cost_title=title, data={"name": "points"}).to_dict()
        )
        for score in SCORES
        for cost, title in _worth_plotting(data, prices).items()
    }


def _worth_plotting(data: Iterable[dict[str, Any]], prices: Prices) -> dict[str, str]:
    """The costs that any arm has at all."""
    data = list(data)
    return {cost: title for cost, title in plotted_costs(prices).items() if any(row[cost] for row in data)}


def _write_figure(stem: Path, group: Group, rows: list[Row], prices: Prices) -> None:
    title = plotted_costs(prices)["price"]
    chart = accuracy_cost(chart_rows(points(group, rows, prices)), score="f1", cost="price", cost_title=title)
    chart = chart.properties(title=f"{group.dataset} · {group.models} · n = {len(group.questions)}")
    chart.save(stem.with_suffix(".svg"))
    chart.save(stem.with_suffix(".png"), ppi=200)


def _record(group: Group, row: Row, prices: Prices) -> dict[str, Any]:
    versus = row.versus
    return {
        "dataset": group.dataset,
        "models": group.models,
        "policy": row.policy,
        "n": row.n,
        **_columns("exact_match", row.exact_match),
        **_columns("f1", row.f1),
        "supporting_recall": "" if row.recall is None else round(row.recall, 5),
        **{name: round(row.means[name], 5) for name in COSTS},
        "price_unit": prices.unit,
        "baseline": versus.baseline if versus else "",
        "n_paired": versus.n if versus else "",
        **_columns("exact_match_difference", versus.exact_match if versus else None),
        **_columns("f1_difference", versus.f1 if versus else None),
        **_columns("price_difference", versus.price if versus else None),
    }


def _columns(name: str, interval: Interval | None) -> dict[str, float | str]:
    values = (interval.estimate, interval.low, interval.high) if interval else (math.nan,) * 3
    columns = (name, f"{name}_low", f"{name}_high")
    return {column: "" if math.isnan(value) else round(value, 5) for column, value in zip(columns, values, strict=True)}
