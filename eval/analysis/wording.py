"""Figures as words: how shares, counts and intervals are written, and the verdict in sentences.

The verdict says what the intervals allow and no more. It looks first for a policy that decides during generation
beside its twin that decides before it, which is what flarekit is about; else for the best arm beside the baseline.
"""

from __future__ import annotations

from collections.abc import Callable

from flarekit.costs import Prices
from flarekit.eval.analysis.table import Row, Versus, versus
from flarekit.eval.results.groups import Arm, Group, baseline_of
from flarekit.policies.spec import parse_spec
from flarekit.stats.intervals import Interval

TWINS = (("mid-retrieve", "pre-retrieve"), ("flare", "pre-retrieve"), ("escalate", "pre-escalate"))
"""Policies that decide during generation, each with one that decides the same thing before it."""


def share(value: float) -> str:
    """A score or a difference of scores, without the leading zero: .21, −.04, 1.00; what is nearly zero as .003."""
    text = f"{abs(value):.{2 if abs(value) >= 0.005 or not value else 3}f}".removeprefix("0")
    return f"−{text}" if value < 0 and text.strip(".0") else text


def number(value: float) -> str:
    """A count, a cost or seconds: three digits where they matter, thousands set apart: 0.42, 3.1, 17, 1,250."""
    size = abs(value)
    text = f"{size:,.0f}" if size >= 10 or size == int(size) else f"{size:.1f}" if size >= 1 else f"{size:.2g}"
    return f"−{text}" if value < 0 and text != "0" else text


def signed(write: Callable[[float], str]) -> Callable[[float], str]:
    """The same way of writing, with a plus before what is more."""
    return lambda value: write(value) if write(value).startswith("−") or value <= 0 else f"+{write(value)}"


def interval_text(interval: Interval, write: Callable[[float], str]) -> str:
    """An estimate with its bounds: ".21 (.10 to .33)"; the estimate alone where the bounds are unknown."""
    return f"{write(interval.estimate)}{bounds_text(interval, write, ' ({})')}"


def bounds_text(interval: Interval, write: Callable[[float], str], form: str = "{}") -> str:
    """The bounds as `form` puts them: "−.03 to .11"; nothing where they are unknown, or from too few resamples."""
    if not interval.stated:
        return ""
    return form.format(f"{write(interval.low)} to {write(interval.high)}")


def verdict(group: Group, rows: list[Row], *, baseline: str | None, prices: Prices) -> list[str]:
    """What the group shows: for each pair one sentence on the answers and one on the costs."""
    sentences: list[str] = []
    for ours, theirs, choice in pairs(group, rows, baseline):
        difference = versus(ours, theirs, prices)
        if difference is not None:
            own = next(row for row in rows if row.policy == ours.policy)
            where = "" if sentences else f"On {group.dataset} (n = {difference.n}, {group.models}) "
            answers = _answers(ours, theirs, own, difference)
            sentences += [f"{where}{answers}{choice}", _costs(theirs, rows, own, difference, prices)]
    if not sentences:
        row = max(rows, key=lambda row: row.f1.estimate)
        f1 = interval_text(row.f1, share)
        sentences = [f"On {group.dataset} (n = {row.n}, {group.models}) {row.policy} answers with F1 {f1}."]
    return sentences


def pairs(group: Group, rows: list[Row], baseline: str | None) -> list[tuple[Arm, Arm, str]]:
    """The arms to tell apart, with what must be said of how they were chosen."""
    found = []
    for mid, pre in TWINS:
        for k in dict.fromkeys(parse_spec(row.policy).passages for row in rows if parse_spec(row.policy).family == mid):
            ours, theirs = _best(rows, mid, k), _best(rows, pre, k)
            if not (ours and theirs):
                continue
            found.append((group.arms[ours[0]], group.arms[theirs[0]], _chosen({mid: ours[1], pre: theirs[1]})))
    if found or len(rows) < 2:
        return found
    base = baseline_of(group, baseline)
    best = max((row for row in rows if row.policy != base), key=lambda row: row.f1.estimate)
    return [(group.arms[best.policy], group.arms[base], _chosen({best.policy: len(rows) - 1}))]


def _best(rows: list[Row], family: str, k: int | None) -> tuple[str, int] | None:
    """The arm of a family with the highest F1 among those that look up `k` passages, and out of how many."""
    members = [row for row in rows if (spec := parse_spec(row.policy)).family == family and spec.passages == k]
    return (max(members, key=lambda row: row.f1.estimate).policy, len(members)) if members else None


def _chosen(among: dict[str, int]) -> str:
    """A winner that was picked by the very figures that it is judged by looks better than it is."""
    picked = [f"{name} is the best of {count} arms" for name, count in among.items() if count > 1]
    if not picked:
        return ""
    return f" ({' and '.join(picked)} on these very questions, which flatters {'both' if picked[1:] else 'it'}.)"


def _answers(ours: Arm, theirs: Arm, row: Row, difference: Versus) -> str:
    by = difference.f1.estimate
    amount = "the same as" if share(by) == ".00" else f"{share(abs(by))} {'more' if by > 0 else 'less'} than"
    bounds = bounds_text(difference.f1, share, " (95% interval of the difference {})")
    better = ours.policy if by > 0 else theirs.policy
    finding = f"{better} is better" if difference.f1.excludes_zero else "no difference can be shown"
    f1 = share(row.f1.estimate)
    return f"{ours.policy} answers with F1 {f1}; that is {amount} {theirs.policy}{bounds}: {finding}."


def _costs(theirs: Arm, rows: list[Row], own: Row, difference: Versus, prices: Prices) -> str:
    other = next(row for row in rows if row.policy == theirs.policy)
    change = difference.price
    bounds = bounds_text(change, number, ", 95% interval of the difference {}")
    figures = f"{number(own.price.estimate)} against {number(other.price.estimate)} {prices.unit} a question{bounds}"
    if not change.excludes_zero:
        return f"Their costs cannot be told apart: {figures}."
    return f"It costs {'more' if change.estimate > 0 else 'less'}: {figures}."
