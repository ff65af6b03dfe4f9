"""Compare a trigger before generation with one during it: the same questions, model, retriever and prompt.

python examples/pre_against_mid.py http://localhost:8000 runs/pre-against-mid 24
"""

import asyncio
import sys
from pathlib import Path

from flarekit.eval.analysis.analyze import analyze, summarize
from flarekit.eval.report import write_report
from flarekit.eval.results.groups import load_runs
from flarekit.eval.runs.runs import RunConfig, run


def main(url: str, out: str, limit: str) -> None:
    """Run both, with the two ends that neither can beat on cost or fall behind on help, and report."""
    policies = ["closed-book", "rag", "pre-retrieve", "mid-retrieve:threshold=0.5", "mid-retrieve:threshold=0.8"]
    asyncio.run(run(RunConfig(policies=policies, engine=url, out=Path(out), limit=int(limit))))
    [group] = load_runs([Path(out)])
    found = analyze(summarize(group, baseline="pre-retrieve"))
    for row in found.summary.rows:
        change = row.versus and row.versus.f1
        against = (
            f"{change.estimate:+.2f} [{change.low:+.2f}, {change.high:+.2f}] against pre-retrieve" if change else ""
        )
        print(f"{row.policy:28} F1 {row.f1.estimate:.2f}  cost {row.price.estimate:6.0f}  {against}")
    print(write_report([found], Path(out) / "report"))


if __name__ == "__main__":
    main(*sys.argv[1:])
