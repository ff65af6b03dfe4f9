"""The table of a comparison: mean scores and costs of every arm, and its paired differences to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flarekit.costs import Prices
from flarekit.eval.results.groups import COSTS, Arm, Group, baseline_of, measures
from flarekit.stats.bootstrap import mean_interval, paired_difference
from flarekit.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Versus:
    """A row's differences to the baseline, over the `n` questions that both finished."""

    baseline: str
    n: int
    exact_match: Interval
    f1: Interval
    price: Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One arm of the table."""

    policy: str
    n: int
    exact_match: Interval
    f1: Interval
    price: Interval
    recall: float | None
    means: Mapping[str, float]
    """Costs per question, by the names of `COSTS`."""
    versus: Versus | None
    """None for the baseline itself, and where no question was finished by both."""


def table(group: Group, *, baseline: str | None = None, prices: Prices | None = None) -> list[Row]:
    """One row an arm, compared with the arm `baseline` (the first unless asked otherwise).

    `ConfigError` where there is no such arm.
    """
    prices = prices or Prices()
    base = group.arms[baseline_of(group, baseline)]
    return [_row(arm, base, prices) for arm in group.arms.values()]


def versus(arm: Arm, base: Arm, prices: Prices) -> Versus | None:
    """The paired differences `arm - base`; None where no question was finished by both."""
    both = [key for key in arm.results if key in base.results]
    if not both:
        return None
    ours = measures((arm.results[key] for key in both), prices)
    theirs = measures((base.results[key] for key in both), prices)
    difference = {name: paired_difference(ours[name], theirs[name]) for name in ("exact_match", "f1", "price")}
    return Versus(base.policy, len(both), difference["exact_match"], difference["f1"], difference["price"])


def unequal(rows: Sequence[Row]) -> str:
    """A sentence that says so where arms finished different numbers of questions; empty where all are alike."""
    counts = {row.n for row in rows}
    if len(counts) == 1:
        return ""
    return (
        f"The arms finished different numbers of questions ({min(counts)} to {max(counts)}): means are over each arm's "
        "own, differences only over those that both arms finished."
    )


def reckoned(rows: Sequence[Row]) -> str:
    """A sentence that says how much of the cached tokens is no server's count; empty where all are."""
    total, own = (sum(row.n * row.means[name] for row in rows) for name in ("cached", "reckoned"))
    if not own:
        return ""
    return (
        f"Of the cached prompt tokens {own / total:.0%} are reckoned and not counted by a server: those of streams "
        "closed early, and of sweeps all."
    )


def _row(arm: Arm, base: Arm, prices: Prices) -> Row:
    ours = measures(arm.results.values(), prices)
    recalls = [result.recall for result in arm.results.values() if result.recall is not None]
    return Row(
        policy=arm.policy,
        n=len(arm.results),
        exact_match=mean_interval(ours["exact_match"]),
        f1=mean_interval(ours["f1"]),
        price=mean_interval(ours["price"]),
        recall=float(np.mean(recalls)) if recalls else None,
        means={name: float(ours[name].mean()) for name in COSTS},
        versus=None if arm is base else versus(arm, base, prices),
    )
