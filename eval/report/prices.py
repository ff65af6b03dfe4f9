"""Costs taken apart, so that the page can price them anew without asking anything: a price is linear in them."""

from __future__ import annotations

import re
from typing import Any

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.curves import UNHELPED, end_arm
from flarekit.eval.analysis.pricing import PRICED, cost_parts
from flarekit.eval.report.questions import answered
from flarekit.eval.results.groups import Group

_LABELS = (
    "Weak, prompt token",
    "Weak, cached token",
    "Weak, generated token",
    "Strong, prompt token",
    "Strong, cached token",
    "Strong, generated token",
    "Look-up",
    "Second",
)
PARTS = dict(zip(PRICED, _LABELS, strict=True))
"""What has a price, by the fields of `Prices`."""
_EXAMPLE = [0.05, 0.005, 0.2, 0.5, 0.05, 2.0, 50.0, 0.0]
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def price_list(prices: Prices) -> list[float]:
    """The prices in the order of `PARTS`."""
    return [getattr(prices, name) for name in PARTS]


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
