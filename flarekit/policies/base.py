"""What a policy is, and how it is written down: `name` or `name:key=value,key=value`.

`parse_policy` reads that, and `POLICIES` holds the builders, whose keyword parameters are the keys.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from flarekit.actions.base import Action, Need
from flarekit.errors import ConfigError
from flarekit.policies.spec import DEFAULTS, PolicySpec, family_of, parse_spec, split_arm
from flarekit.policies.triggers import Trigger
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.question import Chooser
from flarekit.text.sentences import LOOKAHEAD

Probability = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Engines = Literal["weak", "strong"]

K = 3
"""Passages a retrieval puts into the prompt, the same for all policies unless they are told otherwise."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A trigger, its action, and how often it may act in one answer."""

    trigger: Trigger
    action: Action
    times: int = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """What one question may cost, in generated tokens."""

    answer: int = 160
    """The longest answer; it is cut there."""
    total: int = 640
    """All that may be generated, with discarded drafts; no action is taken that would need more."""
    least: int = 0
    """The answer does not end by itself, or at a stop string, before it has so many tokens."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A short list of rules, a prompt and a budget; or a router that chooses the policy for each question."""

    spec: str = ""
    """How it is written down, with every parameter that differs from its default."""
    rules: tuple[Rule, ...] = ()
    prompt: Prompt = field(default_factory=Prompt)
    budget: Budget = field(default_factory=Budget)
    lookahead: int = LOOKAHEAD
    """A sentence longer than this many tokens is judged as it is (FLARE's look-ahead)."""
    chooser: Chooser | None = None
    tradeoff: float | None = None
    """What `chooser` weighs answers against costs by; None stands for what it was trained with."""

    @property
    def family(self) -> str:
        """The name without parameters."""
        return family_of(self.spec)

    @property
    def retrieves(self) -> bool:
        """Whether it may need a retriever."""
        return self._may("retrieves", "retriever")

    @property
    def escalates(self) -> bool:
        """Whether it may need a strong engine."""
        models = {split_arm(arm)[0] for arm in self._arms}
        return len(models) > 1 or self._may("escalates", "strong")

    @property
    def revises(self) -> bool:
        """Whether it may start the whole answer again, so that nothing is final before its end."""
        return any(rule.action.restart and rule.trigger.moment != "pre" for rule in self.rules)

    @property
    def _arms(self) -> tuple[str, ...]:
        return tuple(self.chooser.arms) if self.chooser else ()

    def _may(self, what: str, need: Need) -> bool:
        own = any(rule.action.needs == need for rule in self.rules)
        return own or any(getattr(parse_policy(split_arm(arm)[1]), what) for arm in self._arms)


class Builder(Protocol):
    """Makes a policy from its parameters, and knows what a table of policies says of it."""

    __doc__: str | None
    paper: str
    cost: str

    def __call__(self, **parameters: Any) -> Policy:
        """The policy; a `ConfigError` for a parameter that it does not have or that is out of range."""
        ...


POLICIES: dict[str, Builder] = {}
"""The named policies' builders."""

Rules = tuple[Rule, ...]


def policy(name: str, *, paper: str = "", cost: str = "") -> Callable[[Callable[..., Rules | Policy]], Builder]:
    """Register a function that gives a policy's rules, or a whole policy where it needs a prompt of its own.

    Its keyword parameters become the policy's own. `cost` says what it costs beyond one answer of the weak engine.
    """

    def register(build: Callable[..., Rules | Policy]) -> Builder:
        @functools.wraps(build)
        def make(**parameters: Any) -> Policy:
            try:
                checked = _check(build, parameters)
                made = build(**checked)
                whole = made if isinstance(made, Policy) else Policy(rules=made)
                # A policy that has its spec already is another one, of which this is an old name.
                return whole if whole.spec else replace(whole, spec=_spec(name, build, checked))
            except ConfigError as error:
                raise ConfigError(f"policy {name}: {error}") from error

        make.paper, make.cost = paper, cost  # type: ignore[attr-defined] # what makes it a Builder
        POLICIES[name] = make  # type: ignore[assignment]
        parameters = inspect.signature(build).parameters.values()
        DEFAULTS[name] = {one.name: None if one.default is one.empty else one.default for one in parameters}
        return POLICIES[name]

    return register


def parse_policy(spec: str) -> Policy:
    """The policy that `spec` writes down, such as "flare:theta=0.6,beta=0.3"."""
    written = parse_spec(spec)
    name = written.family
    if name not in POLICIES:
        raise ConfigError(f"no policy is called {name!r}; there are {', '.join(POLICIES)}")
    if written.malformed:
        raise ConfigError(f"policy {name}: a parameter is written key=value, not {written.malformed!r}")
    return POLICIES[name](**written.parameters)


def with_settings(base: Policy, prompt: Prompt | None = None, budget: Budget | None = None) -> Policy:
    """The same policy with another prompt or budget."""
    return replace(base, prompt=prompt or base.prompt, budget=budget or base.budget)


def arm_policy(arm: str, weak: str, strong: str | None) -> Policy:
    """The policy that a router's arm names, answered by the engine whose model the arm names.

    `ConfigError` where neither engine serves that model.
    """
    model, spec = split_arm(arm)
    if model in ("", weak):
        return parse_policy(spec)
    if model != strong:
        served = " and ".join(filter(None, (weak, strong)))
        raise ConfigError(f"a router chose an arm of the model {model!r}, but the engines serve {served}")
    written = parse_spec(spec)
    return parse_policy(str(PolicySpec(written.family, {**written.parameters, "model": "strong"})))


def _check(build: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as their annotations want them; a `ConfigError` for an unknown one or one outside its range."""
    known = get_type_hints(build, include_extras=True)
    declared = inspect.signature(build).parameters
    checked = {}
    for key, value in parameters.items():
        if key not in declared:
            names = ", ".join(declared) or "none at all"
            raise ConfigError(f"no parameter is called {key!r}; there are {names}")
        try:
            checked[key] = TypeAdapter(known[key]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{key}={value}: {error.errors()[0]['msg'].lower()}") from error
    for key, parameter in declared.items():
        if key not in checked and parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"needs the parameter {key}=…")
    return checked


def _spec(name: str, build: Callable[..., Any], parameters: Mapping[str, Any]) -> str:
    """The canonical spec: parameters in the builder's order, those at their default left out."""
    known = inspect.signature(build).parameters.items()
    given = {
        key: _written(parameters[key])
        for key, parameter in known
        if key in parameters and parameters[key] != parameter.default
    }
    return str(PolicySpec(name, given))


def _written(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
