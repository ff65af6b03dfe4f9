"""Sweeps: a grid of policies, signals, thresholds, moments, retrievers and models, as runs over one cache.

An experiment is a YAML file with the settings of a run, where

- `arms` takes the place of `policies`: a list of grids. A grid is a policy's name (or a list of names) with parameters,
  each a value, a list of values, or `{from: 0.1, to: 0.9, steps: 9}`; all combinations are run. In place of the name,
  `action` (retrieve, escalate) and `moment` (pre, mid, post) name the policies that are twins in all but the moment;
- `models` may list pairs of servers (`engine`, `model`, `strong`, `strong_model`), `retrievers` several retrievers.
  Each combination has a run directory of its own in `out`, since answers of different models are never averaged.

Sessions run over a cache of completions (`flarekit.engines.cache.engine`), so that a threshold costs only the branches
that none before it took.
"""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from flarekit.engines.cache.engine import Tally
from flarekit.errors import ConfigError
from flarekit.eval.data.formats import load_dataset
from flarekit.eval.runs.directory import recorded_answers, slug
from flarekit.eval.runs.runs import Finished, RunConfig, make_config, planned_policies, run
from flarekit.policies import parse_policy

TWINS = {
    ("retrieve", "pre"): "pre-retrieve",
    ("retrieve", "mid"): "mid-retrieve",
    ("retrieve", "post"): "post-retrieve",
    ("escalate", "pre"): "pre-escalate",
    ("escalate", "mid"): "escalate",
    ("escalate", "post"): "cascade",
}
"""The policy for an action and a moment."""
_CACHE = "completions.sqlite"
_MOST = 10_000
"""Arms of a grid, and values of an axis."""


class _Steps(BaseModel):
    """Numbers at equal distances, both ends among them."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    first: FiniteFloat = Field(alias="from")
    last: FiniteFloat = Field(alias="to")
    steps: int = Field(ge=2, le=_MOST)

    def values(self) -> list[str]:
        return [f"{value:g}" for value in np.linspace(self.first, self.last, self.steps)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of a sweep will do at most."""

    config: RunConfig
    questions: int
    policies: int
    done: int
    """Sessions that are on record already."""

    @property
    def sessions(self) -> int:
        """Sessions to run."""
        return self.questions * self.policies - self.done

    @property
    def most_tokens(self) -> int:
        """What they may generate if each used its whole budget and no two had a token in common."""
        return self.sessions * self.config.total_tokens


def make_sweep(settings: Mapping[str, Any]) -> list[RunConfig]:
    """The runs that an experiment's `settings` describe; a `ConfigError` that names what is wrong in them."""
    rest = dict(settings)
    specs = expand(rest.pop("arms", None))
    models = _list_of(rest.pop("models", [{}]), "models", dict)
    retrievers = _list_of(rest.pop("retrievers", [rest.pop("retriever", "bm25")]), "retrievers", str)
    if "policies" in rest:
        raise ConfigError("policies: a sweep lists its policies under arms")
    if "out" not in rest:
        raise ConfigError("out: a sweep needs a directory for its runs")
    out = Path(rest.pop("out"))
    rest.setdefault("cache", out / _CACHE)
    pairs = list(itertools.product(models, retrievers))
    configs = [
        make_config(
            rest | model | {"policies": specs, "retriever": retriever, "out": out / _name(pairs, model, retriever)}
        )
        for model, retriever in pairs
    ]
    if len({config.out for config in configs}) < len(configs):
        raise ConfigError("models: two of them cannot be told apart; give each a different model or engine")
    return configs


def expand(arms: Any) -> list[str]:
    """The specifications of all arms of the grids, each once and in their order."""
    if not isinstance(arms, list) or not arms:
        raise ConfigError("arms: a list of grids is expected, such as [{policy: flare, theta: [0.2, 0.8]}]")
    specs: dict[str, None] = {}
    for place, grid in enumerate(arms):
        try:
            specs |= dict.fromkeys(_expand(grid))
        except ConfigError as error:
            raise ConfigError(f"arms.{place}: {error}") from error
    return list(specs)


def plan(configs: Sequence[RunConfig]) -> list[Plan]:
    """What each run still has to do. Reads the data set and what is on record."""
    plans = []
    for config in configs:
        questions = load_dataset(config.dataset, config.data).questions[: config.limit]
        ids, specs = {question.id for question in questions}, {policy.spec for policy in planned_policies(config)}
        done = sum(spec in specs and id_ in ids for spec, id_ in recorded_answers(config.out))
        plans.append(Plan(config, len(questions), len(specs), done))
    return plans


async def sweep(
    configs: Sequence[RunConfig],
    started: Callable[[int, int], None] | None = None,
    finished: Finished | None = None,
    noted: Callable[[str], None] | None = None,
) -> Tally:
    """Carry out all runs, one after the other; those that were interrupted are finished."""
    total = Tally()
    for config in configs:
        total += await run(config, started, finished, noted)
    return total


def _expand(grid: Any) -> Iterator[str]:
    if isinstance(grid, str):
        grid = {"policy": grid}
    if not isinstance(grid, dict):
        raise ConfigError(f"a grid is a policy's name or a mapping, not {reprlib.repr(grid)}")
    axes = {str(key): _values(str(key), value) for key, value in grid.items()}
    if (arms := math.prod(map(len, axes.values()))) > _MOST:
        raise ConfigError(f"a grid of {arms:,} arms is more than the {_MOST:,} that are run; give fewer values")
    names = _names(axes)
    for name, *values in itertools.product(names, *axes.values()):
        given = ",".join(f"{key}={value}" for key, value in zip(axes, values, strict=True))
        yield parse_policy(f"{name}:{given}" if given else name).spec


def _names(axes: dict[str, list[str]]) -> list[str]:
    """The policies that a grid names, whose axes are left with parameters alone."""
    if "policy" in axes:
        return axes.pop("policy")
    if "action" not in axes or "moment" not in axes:
        raise ConfigError("a grid needs a policy, or an action and a moment")
    pairs = list(itertools.product(axes.pop("action"), axes.pop("moment")))
    if unknown := [pair for pair in pairs if pair not in TWINS]:
        raise ConfigError(
            f"no policy is made of {' and '.join(unknown[0])}; there are {', '.join(map(' '.join, TWINS))}"
        )
    return [TWINS[pair] for pair in pairs]


def _values(key: str, value: Any) -> list[str]:
    """What an axis takes: one value, several, or numbers at equal distances."""
    if isinstance(value, dict):
        try:
            return _Steps.model_validate(value).values()
        except ValidationError as error:
            raise ConfigError(
                f"{key}: {{from, to, steps}} with numbers is expected, not {reprlib.repr(value)}"
            ) from error
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, list | dict) or one is None for one in values):
        raise ConfigError(f"{key}: a value or a list of values is expected, not {reprlib.repr(value)}")
    return [{True: "yes", False: "no"}.get(one, str(one)) if isinstance(one, bool) else str(one) for one in values]


def _list_of(value: Any, key: str, kind: type) -> list[Any]:
    if not isinstance(value, list) or not value or not all(isinstance(one, kind) for one in value):
        raise ConfigError(
            f"{key}: a list of {'mappings' if kind is dict else 'names'} is expected, not {reprlib.repr(value)}"
        )
    return value


def _name(pairs: Sequence[tuple[dict[str, Any], str]], model: Mapping[str, Any], retriever: str) -> str:
    """What sets one run of a sweep apart from the others, as a folder; empty where there is one alone."""
    parts = []
    if len({str(pair[0]) for pair in pairs}) > 1:
        parts.append("+".join(str(model[key]) for key in ("model", "strong_model") if key in model) or str(model))
    if len({pair[1] for pair in pairs}) > 1:
        parts.append(retriever)
    return slug(" ".join(parts))
