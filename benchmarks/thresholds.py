"""What a sweep of thresholds costs over the store of completions, and whether its answers are those of separate runs.

    flarekit sweep benchmarks/thresholds.yaml --engine URL --data FILE --out runs/thresholds
    flarekit sweep benchmarks/thresholds.yaml --engine URL --data FILE --out runs/alone --no-cache --limit 6
    python benchmarks/thresholds.py runs/thresholds runs/alone

The second run has no store. Prints Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from flarekit.eval.runs.recorded import RecordedRun, read_run
from flarekit.trace import Trace

SINGLE = "flare"


def generated(traces: Iterable[Trace]) -> int:
    """Tokens that were generated for these answers, whoever had paid for them."""
    return sum(trace.costs().generated_tokens for trace in traces)


def asked(traces: Iterable[Trace]) -> int:
    """Tokens of these answers that a server generated, and no store told again."""
    return sum(len(segment.tokens) - segment.replayed for trace in traces for segment in trace.segments)


def alike(swept: RecordedRun, alone: RecordedRun) -> tuple[int, int, int]:
    """How many answers both runs have, and how many of them agree in their text and in every token."""
    pairs = [(swept.traces[policy][key], trace) for policy, arm in alone.traces.items() for key, trace in arm.items()]
    ids = [[[token.id for s in one.segments for token in s.tokens] for one in pair] for pair in pairs]
    return len(pairs), sum(one.text == other.text for one, other in pairs), sum(one == other for one, other in ids)


def main(swept: str, alone: str | None = None) -> None:
    """Print the table for a sweep's run directory, and the comparison with a run of the same arms without a store."""
    run = read_run(Path(swept))
    every = [trace for arm in run.traces.values() for trace in arm.values()]
    single = generated(run.traces[SINGLE].values())
    rows = [
        ["one run", SINGLE, f"{single:,}", "1.00"],
        [f"{len(run.traces)} runs of their own", "all", f"{generated(every):,}", f"{generated(every) / single:.2f}"],
        ["one sweep", "all", f"{asked(every):,}", f"{asked(every) / single:.2f}"],
    ]
    print(f"{len(run.questions)} questions of {run.manifest.dataset.name}, {run.manifest.model_of('weak')}\n")
    print("| what is run | arms | generated tokens | against one run |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if alone:
        count, texts, tokens = alike(run, read_run(Path(alone)))
        print(f"\nOf {count} answers that were also asked for without a store, {texts} have the same text")
        print(f"and {tokens} the same tokens throughout, discarded drafts included.")


if __name__ == "__main__":
    main(*sys.argv[1:])
