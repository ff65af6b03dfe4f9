"""Costs taken apart, so that the page can price them anew without asking anything: a price is linear in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.curves import PRE_FAMILIES, UNHELPED, Point, end_arm, pre_curves
from flarekit.eval.report.questions import answered
from flarekit.eval.results.compare import Group
from flarekit.trace import Costs

PARTS = {
    "prompt": "Weak, prompt token",
    "cached": "Weak, cached token",
    "generated": "Weak, generated token",
    "strong_prompt": "Strong, prompt token",
    "strong_cached": "Strong, cached token",
    "strong_generated": "Strong, generated token",
    "retrieval": "Look-up",
    "second": "Second",
}
"""What has a price, by the fields of `Prices`."""
_EXAMPLE = [0.05, 0.005, 0.2, 0.5, 0.05, 2.0, 50.0, 0.0]
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def cost_parts(costs: Costs) -> list[float]:
    """The costs of one answer in the order of `PARTS`; their sum, each times its price, is `price(costs, prices)`."""
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


def price_list(prices: Prices) -> list[float]:
    """The prices in the order of `PARTS`."""
    return [getattr(prices, name) for name in PARTS]


def point_parts(group: Group, points: Sequence[Point]) -> list[list[float] | None]:
    """The mean costs of every derived point in the order of `PARTS`; None for the points that are not derived.

    A curve that is priced with a single unit price shows what it holds of that unit.
    """
    units = [Prices(**{field: float(field == name) for field in PARTS}) for name in PARTS]
    priced = [[point for family in PRE_FAMILIES for point in pre_curves(group, family, unit)] for unit in units]
    columns = [[point.means["price"] for point in points] for points in priced]
    derived = iter(zip(*columns, strict=True))
    return [[round(part, 5) for part in next(derived)] if point.kind == "derived" else None for point in points]


def price_panel(group: Group, prices: Prices) -> dict[str, Any]:
    """All that the page needs to price a group anew."""
    sizes = [parameters_of(group.weak), parameters_of(group.strong or "")]
    presets = [
        _preset("report", "the report's prices", price_list(prices), prices.unit),
        _preset(
            "relative", "relative: a token that the weak model generates is 1", price_list(Prices()), Prices().unit
        ),
        _preset("flops", "FLOPs: 2 for each parameter and token", [], "GFLOP"),
        _preset("seconds", "seconds as measured", [0.0] * 7 + [1.0], "seconds"),
        _preset("dollars", "US$ per million tokens (example values)", _EXAMPLE, "US$ per million questions"),
    ]
    return {
        "presets": presets,
        "sizes": [size or 1.0 for size in sizes],
        "parts": _columns(group),
        "ends": [end.policy if (end := end_arm(group, name, None)) else None for name in (UNHELPED, "rag")],
    }


def parameters_of(model: str) -> float | None:
    """How many billions of parameters a model's name says that it has: 0.5 for "qwen2.5-coder-0.5b"."""
    found = _SIZE.findall(model)
    if not found:
        return None
    number, unit = found[-1]
    return float(number) / (1000 if unit.lower() == "m" else 1)


def _columns(group: Group) -> dict[str, list[list[float] | None]]:
    """By policy, for every question that any arm has finished: its cost parts, None where this one has not."""
    keys = answered(group)
    return {
        policy: [cost_parts(arm.results[key].costs) if key in arm.results else None for key in keys]
        for policy, arm in group.arms.items()
    }


def _preset(key: str, title: str, values: list[float], unit: str) -> dict[str, Any]:
    return {"key": key, "title": title, "prices": values, "unit": unit}
