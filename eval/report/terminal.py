"""The tables of a comparison for a terminal, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from flarekit.costs import Prices
from flarekit.eval.analysis.analyze import Summary
from flarekit.eval.analysis.frontier.oracles import oracle_sentence
from flarekit.eval.analysis.table import Row, reckoned, unequal
from flarekit.eval.analysis.wording import bounds_text, number, share, signed
from flarekit.eval.results.groups import Group, cautions, notes_of
from flarekit.io.terminal import plain


def table_json(summaries: Sequence[Summary]) -> str:
    """The groups with every figure of their rows; null where an interval's bounds are unknown."""
    sections = [
        {
            "dataset": one.group.dataset,
            "weak": one.group.weak,
            "strong": one.group.strong,
            "arms": [asdict(row) for row in one.rows],
            "cautions": cautions(one.group),
        }
        for one in summaries
    ]
    return json.dumps(_without_nan(sections), indent=2, allow_nan=False)


def print_tables(summaries: Sequence[Summary], console: Console) -> None:
    """Scores and costs as two tables, each narrow enough for a terminal of 80 columns, and the verdict below."""
    for one in summaries:
        console.print(_scores(one.group, one.rows))
        console.print(_costs(one.rows, one.prices))
        notes = (*notes_of(one.group), *cautions(one.group), unequal(one.rows), reckoned(one.rows))
        for line in (*notes, *one.verdict, oracle_sentence(one.oracles)):
            if line:
                console.print(plain(line), highlight=False)
        console.print()


def _scores(group: Group, rows: Sequence[Row]) -> Table:
    base = next((row.versus.baseline for row in rows if row.versus), "")
    title = f"{group.dataset} · {group.models}" + (f" · Δ to {base}, 95% intervals" if base else "")
    shown = _table(title, "policy", "n", "EM", "F1", "", "ΔF1", "", "recall")
    for row in rows:
        change = row.versus.f1 if row.versus else None
        shown.add_row(
            plain(row.policy),
            str(row.n),
            share(row.exact_match.estimate),
            share(row.f1.estimate),
            bounds_text(row.f1, share),
            signed(share)(change.estimate) if change else "",
            bounds_text(change, signed(share)) if change else "",
            "–" if row.recall is None else share(row.recall),
        )
    return shown


def _costs(rows: Sequence[Row], prices: Prices) -> Table:
    headings = {"price": "cost", "prompt": "prompt", "cached": "cached", "generated": "gen.", "discarded": "disc."}
    headings |= {"strong": "strong", "share": "share", "retrievals": "retr.", "escalations": "esc.", "seconds": "s"}
    used = [name for name in headings if name in ("price", "generated") or any(row.means[name] for row in rows)]
    shown = _table(f"Per question; cost in {prices.unit}", "policy", *(headings[name] for name in used))
    for row in rows:
        shown.add_row(plain(row.policy), *(number(row.means[name]) for name in used))
    return shown


def _table(title: str, first: str, *others: str) -> Table:
    shown = Table(
        title=plain(title), title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    shown.add_column(first, overflow="fold")
    for heading in others:
        shown.add_column(heading, justify="right", no_wrap=True)
    return shown


def _without_nan(value: Any) -> Any:
    """NaN, an unknown bound, has no place in JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
