"""Writes the report of a comparison: one HTML file that needs no network, and its figures as files for papers.

The page is put together from `templates/`: the markup, the style and the scripts, each readable by itself. Whatever a
model or a data set wrote reaches it as JSON and is shown as text; a content security policy in the page forbids every
request.

A section of the page holds the verdict, the plot with its prices, the table, and then its `parts`: any further `Figure`
or `Table` (`flarekit.eval.report.parts`), which need no markup of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flarekit.errors import RunError
from flarekit.eval.analysis.analyze import Analysis
from flarekit.eval.replay.fire_points import SCALE, WATCHES, own_threshold
from flarekit.eval.report.charts.cost_plot import OWN_LAYERS
from flarekit.eval.report.findings import draw_findings
from flarekit.eval.report.parts import Figure, Table, part_csv
from flarekit.eval.report.policies import policy_figure, policy_table, table_csv
from flarekit.eval.report.prices import PARTS, price_panel
from flarekit.eval.report.questions import answered, index_view, packed, question_view
from flarekit.eval.results.groups import Group, notes_of
from flarekit.io.files import replace_file

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = (
    "report.js",
    "plots.js",
    "tables.js",
    "reckoning.js",
    "prices.js",
    "answers.js",
    "fire.js",
    "changes.js",
    "questions.js",
)


def write_report(analyses: Sequence[Analysis], out: Path, *, command: str = "") -> Path:
    """Write report.html, table.csv and accuracy-cost.svg, .png and .csv into the folder `out`; gives the page's path.

    So it is for every further part, by its key. Each group but the first puts its number into the names of its files.
    `command` is shown as what made the page. `RunError` where the folder cannot be written.
    """
    sections = [_section(one) for one in analyses]
    page = out / "report.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "table.csv", _encoded(table_csv(one.summary for one in analyses)))
        for place, section in enumerate(sections, start=1):
            ending = f"-{place}" if place > 1 else ""
            for figure in (section["figure"], *section["parts"]):
                _write_part(out / f"{figure.key}{ending}", figure, section["heading"])
        replace_file(page, _encoded(report_html([one.group for one in analyses], sections, command)))
    except OSError as error:
        raise RunError(f"{out}: the report cannot be written ({error.strerror})") from error
    return page


def report_html(groups: Sequence[Group], sections: Sequence[dict[str, Any]], command: str) -> str:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = embedded_json
    return environment.get_template("report.html.jinja").render(
        sections=sections,
        questions=[_questions(group) for group in groups],
        watches=_watches(),
        prices=PARTS,
        command=command,
        vega=Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")),  # noqa: S704 - the library that draws, not data
        style=_own("report.css"),
        scripts=[_own(name) for name in _SCRIPTS],
    )


def _own(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file, not data


def embedded_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no "<" in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def _section(found: Analysis) -> dict[str, Any]:
    """What the template shows of one group."""
    group, prices, summary = found.group, found.prices, found.summary
    findings = draw_findings(found)
    return {
        "dataset": group.dataset,
        "models": group.models,
        "heading": f"{group.dataset} · {group.models} · n = {len(group.questions)}",
        "strong": group.strong is not None,
        "verdict": findings.verdict,
        "figure": policy_figure(found),
        "table": policy_table(summary.rows, summary.baseline, prices, notes_of(group)),
        "parts": findings.parts,
        "missing": findings.missing,
        "prices": price_panel(group, prices),
        "about": {
            "policies": list(group.arms),
            "baseline": summary.baseline,
            "compared": list(summary.compared),
            "own": {policy: own for policy in group.arms if (own := own_threshold(policy))},
        },
        "runs": [
            {"path": str(run.path), "manifest": run.manifest.model_dump_json(indent=2, exclude_none=True)}
            for run in group.runs
        ],
    }


def _questions(group: Group) -> dict[str, Any]:
    """The questions of a group, packed one by one, and what can be said of them without unpacking any."""
    blobs, seen = [], []
    for key in answered(group):
        view, peaks = question_view(group, key)
        blobs.append(packed(view))
        seen.append(peaks)
    return {"index": index_view(group, seen), "blobs": blobs}


def _watches() -> dict[str, Any]:
    """What the slider can watch."""
    fields = ("label", "column", "counts", "read")
    watches = [{name: getattr(watch, name) for name in fields} for watch in WATCHES]
    highs = [watch.high if watch.high < float("inf") else None for watch in WATCHES]
    return {"scale": SCALE, "watches": [{**one, "high": high} for one, high in zip(watches, highs, strict=True)]}


def _write_part(stem: Path, part: Figure | Table, heading: str) -> None:
    """The files for papers: a figure as it first shows, and its data; a table that has a key as CSV."""
    if isinstance(part, Figure):
        spec = {**next(iter(part.specs.values())), "datasets": {"points": part.rows}, "width": 640, "title": heading}
        layers = [layer for layer in spec.get("layer", []) if _drawn(layer, part)]
        paper = {**spec, **({"layer": layers} if layers else {}), "background": "white"}
        replace_file(stem.with_suffix(".svg"), vl_convert.vegalite_to_svg(paper).encode())
        replace_file(stem.with_suffix(".png"), vl_convert.vegalite_to_png(paper, ppi=200))
    if part.key:
        replace_file(stem.with_suffix(".csv"), _encoded(part_csv(part)))


def _encoded(text: str) -> bytes:
    """UTF-8; a name that is not, and half a character that a model wrote, are told as they are written in JSON."""
    return text.encode("utf-8", "backslashreplace")


def _drawn(layer: Mapping[str, Any], figure: Figure) -> bool:
    """A layer that is named after a kind of points is left out where there are none, as in the page."""
    name = layer.get("name")
    return name not in OWN_LAYERS or any(row.get("kind") == name for row in figure.rows)
