"""Prints the tables of benchmarks/README.md from run directories.

python benchmarks/tables.py runs/hotpotqa-0.5b ...
"""

import sys
from pathlib import Path

from flarekit.escalation import Prices
from flarekit.eval.analysis.table import Row, table
from flarekit.eval.analysis.wording import number, share, signed, verdict
from flarekit.eval.results.groups import load_runs
from flarekit.stats.intervals import Interval

COUNTED = {
    "prompt": "prompt",
    "cached": "cached",
    "generated": "generated",
    "discarded": "discarded",
    "strong": "strong",
    "share": "share",
    "retrievals": "retrievals",
    "escalations": "hand-overs",
    "seconds": "s",
}
"""Costs by name, with their headings."""


def cells(row: Row, counted: list[str]) -> list[str]:
    """One line of a table."""
    change = "" if row.versus is None else interval(row.versus.f1, signed_share=True)
    recall = "–" if row.recall is None else share(row.recall)
    costs = [number(row.means[name]) for name in counted]
    return [f"`{row.policy}`", str(row.n), share(row.exact_match.estimate), interval(row.f1), change, recall,
            number(row.price.estimate), *costs]  # fmt: skip


def interval(value: Interval, signed_share: bool = False) -> str:
    """An estimate and its 95% bounds."""
    write = signed(share) if signed_share else share
    return f"{write(value.estimate)} [{write(value.low)}, {write(value.high)}]"


HEADINGS = ["policy", "n", "EM", "F1", "ΔF1", "recall", "cost"]

for group in (group for run in sys.argv[1:] for group in load_runs([Path(run)])):
    rows = table(group)
    print(f"### {group.dataset}, {group.models}\n")
    # The share of the answer that the strong model wrote says nothing where none was asked.
    counted = [name for name in COUNTED if name != "share" or any(row.means[name] for row in rows)]
    headings = [*HEADINGS, *(COUNTED[name] for name in counted)]
    print(f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(cells(row, counted))} |")
    print()
    for sentence in verdict(group, rows, baseline=None, prices=Prices()):
        print(sentence)
    print()
