"""Costs taken apart into what has a price of its own, so that they can be priced anew: a price is linear in them."""

from __future__ import annotations

from collections.abc import Sequence

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.curves import PRE_FAMILIES, Point, pre_curves
from flarekit.eval.results.groups import Group
from flarekit.trace import Costs

PRICED = (
    "prompt",
    "cached",
    "generated",
    "strong_prompt",
    "strong_cached",
    "strong_generated",
    "retrieval",
    "second",
)
"""What has a price, as the fields of `Prices` are called."""


def cost_parts(costs: Costs) -> list[float]:
    """The costs of one answer in the order of `PRICED`; their sum, each times its price, is `price(costs, prices)`."""
    weak_cached = costs.cached_tokens - costs.strong_cached_tokens
    return [
        costs.prompt_tokens - costs.strong_prompt_tokens - weak_cached,
        weak_cached,
        costs.generated_tokens - costs.strong_generated_tokens,
        costs.strong_prompt_tokens - costs.strong_cached_tokens,
        costs.strong_cached_tokens,
        costs.strong_generated_tokens,
        costs.retrievals,
        round(costs.seconds, 4),
    ]


def point_parts(group: Group, points: Sequence[Point]) -> list[list[float] | None]:
    """The mean costs of every derived point in the order of `PRICED`; None for the points that are not derived.

    A curve that is priced with a single unit price shows what it holds of that unit.
    """
    units = [Prices(**{field: float(field == name) for field in PRICED}) for name in PRICED]
    priced = [[point for family in PRE_FAMILIES for point in pre_curves(group, family, unit)] for unit in units]
    columns = [[point.means["price"] for point in points] for points in priced]
    derived = iter(zip(*columns, strict=True))
    return [[round(part, 5) for part in next(derived)] if point.kind == "derived" else None for point in points]
