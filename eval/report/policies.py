"""The two parts that every section of a report has: the accuracy-cost plot and the table of its policies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flarekit.costs import Prices
from flarekit.eval.analysis.analyze import Analysis, Summary
from flarekit.eval.analysis.frontier.oracles import Oracle, oracle_sentence
from flarekit.eval.analysis.table import Row, reckoned, unequal
from flarekit.eval.analysis.wording import number, share, signed
from flarekit.eval.report.charts.cost_plot import (
    SCORES,
    accuracy_cost,
    chart_rows,
    from_highest,
    plotted_costs,
    zoomable,
)
from flarekit.eval.report.parts import Cell, Column, Figure, Table, as_csv, interval_cell, plain_cell
from flarekit.eval.results.groups import COSTS, Group
from flarekit.policies.spec import parse_spec
from flarekit.stats.intervals import Interval

_MEANINGS = {
    "prompt": Column("Prompt", "tokens", "prompt tokens per question, cached ones included"),
    "cached": Column("Cached", "tokens", "prompt tokens from the prefix cache; reckoned for closed streams, sweeps"),
    "generated": Column("Generated", "tokens", "generated tokens per question, discarded ones included"),
    "discarded": Column("Discarded", "tokens", "generated tokens that no answer used"),
    "strong": Column("Strong", "tokens", "tokens that the strong model read or generated"),
    "share": Column("Share", "0–1", "share of the answer's tokens that the strong model wrote"),
    "retrievals": Column("Look-ups", "", "retrievals per question"),
    "escalations": Column("Hand-overs", "", "hand-overs to the strong model per question"),
    "seconds": Column("Time", "s", "seconds per question, with whatever else ran at the same time"),
}
_OPTIONAL = {"cached", "strong", "share", "escalations"}


def policy_table(rows: Sequence[Row], baseline: str, prices: Prices, notes: Sequence[str] = ()) -> Table:
    """One row an arm, with its differences to the baseline; `notes` say what is to be known of the data."""
    names = [name for name in _MEANINGS if name not in _OPTIONAL or any(row.means[name] for row in rows)]
    columns = [
        Column("Policy"),
        Column("n", "", "questions finished"),
        Column("F1", "0–1", "token F1 as the dataset's official script computes it"),
        Column("ΔF1", "", "difference to the baseline, paired by question"),
        Column("EM", "0–1", "exact match"),
        Column("ΔEM", "", "difference to the baseline, paired by question"),
        Column("Recall", "0–1", "share of the supporting passages that were retrieved"),
        Column("Cost", "", f"in {prices.unit} per question", "price"),
        Column("ΔCost", "", "difference to the baseline, paired by question", "more"),
        *(_MEANINGS[name] for name in names),
    ]
    note = (
        "Means over questions, with 95% bootstrap intervals. Differences (Δ) are paired by question, "
        f"to {baseline}. A heading sorts. " + " ".join(filter(None, (*notes, unequal(rows), reckoned(rows))))
    )
    cells = [_cells(row, baseline, names) for row in rows]
    return Table("Every policy", note.strip(), columns, cells, key="policies")


def _cells(row: Row, baseline: str, names: Iterable[str]) -> list[Cell]:
    spec = parse_spec(row.policy)
    family, rest = spec.family, ", ".join(f"{key}={value}" for key, value in spec.parameters.items())
    small = [rest] if rest else []
    small += ["baseline"] if row.policy == baseline else []
    versus = row.versus
    return [
        Cell(family, row.policy, " · ".join(small)),
        plain_cell(row.n, number),
        interval_cell(row.f1, share),
        interval_cell(versus.f1 if versus else None, signed(share)),
        interval_cell(row.exact_match, share),
        interval_cell(versus.exact_match if versus else None, signed(share)),
        plain_cell(row.recall, share),
        interval_cell(row.price, number),
        interval_cell(versus.price if versus else None, signed(number)),
        *(plain_cell(row.means[name], number) for name in names),
    ]


def policy_figure(found: Analysis) -> Figure:
    """The accuracy-cost plot, for every score and every cost that any arm has at all."""
    data = policy_points(found)
    costs = {cost: title for cost, title in plotted_costs(found.prices).items() if any(row[cost] for row in data)}
    specs = {
        f"{score} {cost}": zoomable(
            accuracy_cost(data, score=score, cost=cost, cost_title=title, data={"name": "points"}).to_dict()
        )
        for score in SCORES
        for cost, title in costs.items()
    }
    return Figure(
        "accuracy-cost",
        "Accuracy against cost",
        _explained(data, found.summary.oracles),
        "F1 against cost for each policy; the table below holds the same figures.",
        {"Score": SCORES, "Cost": costs},
        data,
        specs,
    )


def policy_points(found: Analysis) -> list[dict[str, Any]]:
    """The plot's data, with the cost parts of what was derived, so that the page can price it anew."""
    parts = {id(point): part for point, part in zip(found.points, found.point_parts, strict=True)}
    of_rows = [parts[id(point)] for point in from_highest(found.points)]
    drawn = zip(chart_rows(found.points), of_rows, strict=True)
    rows = [{**row, "parts": part} if part else row for row, part in drawn]
    honest = [f", {share(one.score.estimate)} cross-fitted" for one in found.summary.oracles[2:]]
    return [{**row, "policy": row["policy"] + "".join(honest)} if row["kind"] == "oracle" else row for row in rows]


def _explained(data: Sequence[Mapping[str, Any]], known: list[Oracle]) -> str:
    kinds = {row["kind"] for row in data}
    sentences = [
        "Upper left is better. Bars are 95% bootstrap intervals over questions. A number beside a point is its "
        "threshold. A pale band is the hull of a family of several points: what mixtures of its arms reach."
    ]
    if "derived" in kinds:
        sentences.append(
            "Dashed lines follow from the recorded ends and probe values: every threshold that a decision before "
            "generation could have had. Their scores are exact; their costs assume the cache hits of the ends."
        )
    if "oracle" in kinds:
        sentences.append(f"{oracle_sentence(known)} No rule could know it.")
    return " ".join(sentences)


def table_csv(summaries: Iterable[Summary]) -> str:
    """Every figure of the tables, one line an arm; bounds of intervals are those of 95%."""
    return as_csv([_record(one.group, row, one.prices) for one in summaries for row in one.rows])


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
    bounds = (interval.low, interval.high) if interval and interval.stated else (math.nan, math.nan)
    values = (interval.estimate if interval else math.nan, *bounds)
    columns = (name, f"{name}_low", f"{name}_high")
    return {column: "" if math.isnan(value) else round(value, 5) for column, value in zip(columns, values, strict=True)}
