"""The points and lines of the accuracy-cost plot.

A policy that decides during generation has one point for every arm that was run, because another threshold makes
another text. One that decides before it needs no more runs: below its threshold it is the closed-book answer, at or
above it the helped one, and both are on record. So its whole curve follows from the two ends and the recorded probe
values, without asking a model: the scores exactly, the costs with the prefix-cache hits that the two ends had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flarekit.costs import Prices, price
from flarekit.eval.analysis.table import Row
from flarekit.eval.results.groups import Arm, Group, Result, costs_of, measures
from flarekit.policies.spec import parse_spec
from flarekit.stats.bootstrap import mean_interval
from flarekit.stats.intervals import Interval
from flarekit.trace import Probe, Trace

PRE_FAMILIES = {"pre-retrieve": "rag", "pre-escalate": "strong"}
"""The policies that decide before generation, each with the policy that it becomes when its trigger fires."""
UNHELPED = "closed-book"
_MAX_POINTS = 200


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the plot: means over questions."""

    kind: Literal["run", "derived", "oracle"]
    """Whether it was run, or follows from other arms' records."""
    family: str
    line: str
    """Points of one line are joined, in the order of their thresholds; empty for a point that stands alone."""
    label: str
    threshold: float | None
    n: int
    means: Mapping[str, float]
    """The scores "f1" and "exact_match", and the costs by the names of `groups.COSTS`."""
    f1: Interval | None = None
    exact_match: Interval | None = None


def points(group: Group, rows: Iterable[Row], prices: Prices) -> list[Point]:
    """Every point of a group: the derived curves first, then the arms that were run, then the oracle."""
    derived = [point for family in PRE_FAMILIES for point in pre_curves(group, family, prices)]
    known = {point.family for point in derived}
    run = [_run_point(row, joined=parse_spec(row.policy).family not in known) for row in rows]
    best = oracle(group, prices)
    return [*derived, *run, *([] if best is None else [_oracle_point(best, prices)])]


def pre_curves(group: Group, family: str, prices: Prices) -> list[Point]:
    """The whole curve of a pre-generation family, for every signal that its arms measured.

    Each is over the questions that both ends finished and the signal was measured on. Empty where the group lacks an
    arm of the family or one of its ends, which look up as many passages (k) as the arm does.
    """
    arms: dict[int | None, list[Arm]] = {}
    for arm in group.arms.values():
        if (spec := parse_spec(arm.policy)).family == family:
            arms.setdefault(spec.passages, []).append(arm)
    curves: list[Point] = []
    for k, same in arms.items():
        unhelped, helped = end_arm(group, UNHELPED, k), end_arm(group, PRE_FAMILIES[family], k)
        if unhelped is not None and helped is not None:
            name = f"{family} · k={k}" if len(arms) > 1 else family
            curves += _signal_curves(family, name, same, unhelped, helped, prices)
    return curves


def _signal_curves(family: str, name: str, arms: list[Arm], unhelped: Arm, helped: Arm, prices: Prices) -> list[Point]:
    probes = _probes(arms)
    curves: list[Point] = []
    for signal, measured in probes.items():
        keys = [key for key in unhelped.results if key in helped.results and key in measured]
        if keys:
            label = f"{name} · {signal}" if len(probes) > 1 else name
            pairs = [(unhelped.results[key], helped.results[key], measured[key]) for key in keys]
            curves += _curve(family, label, pairs, prices)
    return curves


def oracle(group: Group, prices: Prices) -> Arm | None:
    """For each question the better of closed-book and rag by F1, the cheaper where they tie; None where one lacks."""
    left, right = end_arm(group, UNHELPED, None), end_arm(group, "rag", None)
    if left is None or right is None:
        return None

    def better(key: str) -> Result:
        options = (left.results[key], right.results[key])
        return max(options, key=lambda result: (result.f1, result.exact_match, -price(result.costs, prices)))

    both = {key: better(key) for key in left.results if key in right.results}
    return Arm("oracle", both) if both else None


def _curve(family: str, label: str, pairs: list[tuple[Result, Result, Probe]], prices: Prices) -> list[Point]:
    """From nobody helped to everybody: one point for every place where the threshold can fall between the values."""
    values = np.array([probe.value for _, _, probe in pairs])
    order = np.argsort(-values, kind="stable")
    pairs, values = [pairs[index] for index in order], values[order]
    unhelped = measures((pair[0] for pair in pairs), prices)
    helped = measures((pair[1] for pair in pairs), prices)
    probing = _probing([pair[2] for pair in pairs], prices)
    n = len(pairs)
    counts = [0, *(index + 1 for index in range(n) if index + 1 == n or values[index + 1] < values[index])]
    totals = {
        name: np.concatenate(([0.0], np.cumsum(helped[name] - unhelped[name])))
        + unhelped[name].sum()
        + probing.get(name, 0.0)
        for name in unhelped
    }
    return [
        Point(
            kind="derived",
            family=family,
            line=f"derived {label}",
            label=f"{label}: threshold {values[count - 1]:.3g}" if count else f"{label}: never",
            threshold=float(values[count - 1]) if count else None,
            n=n,
            means={name: float(total[count] / n) for name, total in totals.items()},
        )
        for count in _thinned(counts)
    ]


def _thinned(counts: list[int]) -> list[int]:
    """At most `_MAX_POINTS` of the places, both ends among them: more cannot be told apart on a plot."""
    if len(counts) <= _MAX_POINTS:
        return counts
    chosen: NDArray[np.int64] = np.unique(np.linspace(0, len(counts) - 1, _MAX_POINTS).round().astype(int))
    return [counts[index] for index in chosen]


def _probing(probes: list[Probe], prices: Prices) -> dict[str, float]:
    """What measuring alone cost over all questions, by the names of `groups.COSTS`."""
    total: dict[str, float] = {}
    for probe in probes:
        costs = replace(Trace("", "", "", events=[probe]).costs(), seconds=probe.seconds)
        for name, value in costs_of(costs, prices).items():
            total[name] = total.get(name, 0.0) + value
    return total


def _probes(arms: Iterable[Arm]) -> dict[str, dict[str, Probe]]:
    """The first value of every signal on every question, by signal name and question id."""
    found: dict[str, dict[str, Probe]] = {}
    for arm in arms:
        for key, result in arm.results.items():
            for event in result.trace.events:
                if isinstance(event, Probe):
                    found.setdefault(event.signal, {}).setdefault(key, event)
    return found


def end_arm(group: Group, family: str, k: int | None) -> Arm | None:
    """The first arm of a family that is told nothing but its number of passages, if it has one; of `k` unless None."""
    for policy, arm in group.arms.items():
        spec = parse_spec(policy)
        fits = None in (k, spec.passages) or spec.passages == k
        if spec.family == family and spec.parameters.keys() <= {"k"} and fits:
            return arm
    return None


def _run_point(row: Row, *, joined: bool) -> Point:
    spec = parse_spec(row.policy)
    means = {**row.means, "f1": row.f1.estimate, "exact_match": row.exact_match.estimate}
    line = spec.curve if joined and spec.threshold is not None else ""
    return Point("run", spec.family, line, row.policy, spec.threshold, row.n, means, row.f1, row.exact_match)


def _oracle_point(best: Arm, prices: Prices) -> Point:
    values = measures(best.results.values(), prices)
    means = {name: float(value.mean()) for name, value in values.items()}
    label = f"oracle: the better of {UNHELPED} and rag"
    intervals = mean_interval(values["f1"]), mean_interval(values["exact_match"])
    return Point("oracle", "oracle", "", label, None, len(best.results), means, *intervals)
