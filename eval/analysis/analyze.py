"""Everything that a comparison of recorded arms shows, computed once: the terminal, the report and the figures draw it.

It comes in two steps, since fitting the signals of the information curve takes a minute: `summarize` gives what a
terminal shows, and `analyze` the rest upon it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.baselines import lopsided
from flarekit.escalation.outcomes import Target
from flarekit.eval.analysis.budgets import Split, budgets_of, spending, split
from flarekit.eval.analysis.frontier.curves import Point, points
from flarekit.eval.analysis.frontier.frontiers import Frontiers, frontiers
from flarekit.eval.analysis.frontier.oracles import Oracle, retrieval_oracles
from flarekit.eval.analysis.information.curves import curves
from flarekit.eval.analysis.information.points import information_rows
from flarekit.eval.analysis.information.study import TARGETS, read_study
from flarekit.eval.analysis.moments import MomentFindings, compare_moments
from flarekit.eval.analysis.pricing import point_parts
from flarekit.eval.analysis.table import Row, table
from flarekit.eval.analysis.verdict import verdict_sentences
from flarekit.eval.analysis.wording import pairs, verdict
from flarekit.eval.results.groups import Group, baseline_of, cautions

HELPS = ("rag", "strong")
"""The arms whose answers tell whether help makes an answer better."""
ENOUGH = 30
"""Questions below which an information curve is all band."""
WAYS = (("retrieval", "strong"), ("retrieval", "samples"), ("strong", "samples"))
"""Between which ways of spending a budget is split."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """What the arms of one group come to, and the verdict on them."""

    group: Group
    prices: Prices
    baseline: str
    """The specification of the arm that the others are compared with."""
    rows: list[Row]
    """One an arm."""
    moments: MomentFindings
    verdict: list[str]
    """In sentences: on deciding during against before generation where both were swept, else on single arms."""
    compared: tuple[str, str]
    """The two arms of whose answers the difference matters most: theirs and ours."""
    oracles: list[Oracle]
    """Of closed-book, rag and what decides between them; empty without both ends."""


@dataclass(frozen=True, slots=True)
class InformationCurves:
    """How much each signal tells after how many tokens, for every kind of help that was recorded."""

    helps: tuple[str, ...]
    """Of `HELPS` those on record."""
    rows: list[dict[str, Any]]
    """See `information_rows`."""
    warnings: tuple[tuple[Target, str, str], ...]
    """Where the question's type gives a target away: the target, the help, and what is to be said."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that is found of one group."""

    summary: Summary
    points: list[Point]
    """Of the accuracy-cost plot."""
    point_parts: list[list[float] | None]
    """The cost parts of every point that was derived, in the order of `pricing.PRICED`; None for the others."""
    frontiers: list[Frontiers]
    information: InformationCurves | None
    splits: list[Split]
    missing: list[str]
    """Which answers, comparisons and parts are left out, and why, a sentence each."""

    @property
    def group(self) -> Group:
        """The results that were analysed."""
        return self.summary.group

    @property
    def prices(self) -> Prices:
        """What they were priced by."""
        return self.summary.prices


def summarize(
    group: Group, prices: Prices | None = None, *, baseline: str | None = None, budgets: Sequence[float] = ()
) -> Summary:
    """The table, the comparisons of moments at `budgets` (see `compare_moments`) and the verdict.

    `ConfigError` where there is no arm `baseline`.
    """
    prices = prices or Prices()
    base = baseline_of(group, baseline)
    rows = table(group, baseline=base, prices=prices)
    moments = compare_moments(group, prices=prices, budgets=budgets)
    if moments.find("mid", "pre"):
        said = verdict_sentences(group, moments, prices=prices)
    else:
        said = verdict(group, rows, baseline=base, prices=prices)
    apart = [(theirs.policy, ours.policy) for ours, theirs, _ in pairs(group, rows, base)]
    compared = apart[0] if apart else (rows[0].policy, rows[0].policy)
    return Summary(group, prices, base, rows, moments, said, compared, retrieval_oracles(group, prices))


def analyze(summary: Summary) -> Analysis:
    """All the rest; what the group has no records for is left out, and `missing` says why."""
    group, prices = summary.group, summary.prices
    missing = [*cautions(group), *summary.moments.unlike]
    drawn = points(group, summary.rows, prices)
    return Analysis(
        summary,
        drawn,
        point_parts(group, drawn),
        _unless_missing(lambda: frontiers(group, prices), missing) or [],
        _unless_missing(lambda: _information(group), missing),
        _unless_missing(lambda: _splits(group, prices), missing) or [],
        missing,
    )


def _unless_missing(make: Callable[[], T], missing: list[str]) -> T | None:
    """What is made; None, with the reason added to `missing`, where the records do not allow it."""
    try:
        return make()
    except (ConfigError, DataError) as error:
        missing.append(f"Left out: {error}.")
        return None


def _information(group: Group) -> InformationCurves:
    """`DataError` where too few questions were answered alone and with help."""
    rows: list[dict[str, Any]] = []
    warned: list[tuple[Target, str, str]] = []
    helps = tuple(name for name in HELPS if name in group.arms)
    for name in helps:
        study = read_study(group, helped=name)
        if len(study.answers) < ENOUGH:
            raise DataError(f"the information curve needs {ENOUGH} questions answered alone and with help")
        rows += information_rows(study, [point for target in TARGETS for point in curves(study, target)])
        types = study.strata[1]
        said = ((target, lopsided(study.labels(target), types)) for target in TARGETS)
        warned += [(target, name, text) for target, text in said if text]
    if not rows:
        raise DataError("the information curve needs answers alone and with help (closed-book, and rag or strong)")
    return InformationCurves(helps, rows, tuple(warned))


def _splits(group: Group, prices: Prices) -> list[Split]:
    """Every budget split between every two ways that were recorded.

    `ConfigError` where there are too few arms that decide nothing.
    """
    spent = spending(group, prices)
    recorded = [pair for pair in WAYS if all(spent.parts[way].any() for way in pair)]
    if not recorded:
        raise ConfigError("a split needs arms that spend in two ways, such as rag and strong")
    return [split(spent, budget, pair) for pair in recorded for budget in budgets_of(spent)]
