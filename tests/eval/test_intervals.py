"""Every interval says how many resamples it rests on, and none of fewer than 1,000 is given as one of 95%."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

import flarekit.eval.analysis
import flarekit.eval.calibration
import flarekit.stats
from fakes.groups import ENDS, SKILLS, group_of, looked_up, sometimes
from flarekit.eval.analysis.analyze import Analysis, analyze, summarize
from flarekit.eval.analysis.wording import bounds_text, interval_text, share
from flarekit.eval.results.groups import Group
from flarekit.stats.intervals import FEWEST, Interval

SIMULATED = {"flarekit.eval.analysis.frontier.power"}
"""Simulated comparisons, of which only p-values are used."""


def intervals(value: Any, path: str = "") -> Iterator[tuple[str, Interval]]:
    """All within a value, with where they are."""
    if isinstance(value, Interval):
        yield path, value
    elif isinstance(value, Group):
        return
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from intervals(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from intervals(one, f"{path}[{key}]")
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from intervals(one, f"{path}[{place}]")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    swept = {
        "pre-retrieve": sometimes(0.45, looked_up),
        "mid-retrieve": sometimes(0.75, looked_up),
    }
    return analyze(summarize(group_of(tmp_path_factory.mktemp("run"), ENDS | swept, SKILLS)))


def test_every_interval_of_an_analysis_is_made_of_a_thousand_resamples_or_has_no_width(found: Analysis) -> None:
    seen = dict(intervals(found))
    assert len(seen) > 40
    for kind in ("rows", "moments", "oracles", "points", "frontiers"):
        assert any(f".{kind}[" in path or f".{kind}." in path for path in seen), kind
    for path, one in seen.items():
        assert one.resamples >= FEWEST or one.low == one.high or math.isnan(one.low), path


def modules() -> Iterator[str]:
    for package in (flarekit.stats, flarekit.eval.analysis, flarekit.eval.calibration):
        yield from (one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


@pytest.mark.parametrize("name", sorted(set(modules()) - SIMULATED))
def test_nothing_draws_fewer_than_a_thousand_resamples_unless_asked_to(name: str) -> None:
    module = importlib.import_module(name)
    assert getattr(module, "RESAMPLES", FEWEST) >= FEWEST
    for _, function in inspect.getmembers(module, inspect.isfunction):
        for parameter in inspect.signature(function).parameters.values():
            given = parameter.name == "resamples" and parameter.default is not inspect.Parameter.empty
            if given and function.__module__ not in SIMULATED:
                assert parameter.default >= FEWEST, function.__qualname__


def test_bounds_from_too_few_resamples_are_not_told() -> None:
    few, many = Interval(0.2, 0.1, 0.3, 999), Interval(0.2, 0.1, 0.3, 1000)
    assert (interval_text(few, share), bounds_text(few, share)) == (".20", "")
    assert interval_text(many, share) == ".20 (.10 to .30)"
    assert Interval(0.2, 0.1, 0.3).stated, "by a formula, without resamples"
    assert not Interval(0.2, math.nan, math.nan).stated
