"""The policies that are offered, each under the name that a request gives as its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from flarekit.errors import ConfigError
from flarekit.io.settings import read_model
from flarekit.policies import POLICIES, Policy, parse_policy
from flarekit.prompts.few_shot import Prompt
from flarekit.trace import Role

ABOUT = {
    "weak": "the model itself, passed through",
    "strong": "the strong model itself, passed through",
    "flare": "looks things up when a sentence is in doubt",
    "escalate": "calls the strong model when a token is in doubt",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What a request's model name stands for."""

    name: str
    policy: Policy | None = None
    """None: requests go to the engine untouched."""
    role: Role = "weak"
    """The engine that they go to then."""
    strict: bool = False
    """Whether a request fails with its retriever or strong engine, instead of going on without it."""

    @property
    def about(self) -> str:
        """A line on what it does."""
        if self.name in ABOUT:
            return ABOUT[self.name]
        described = POLICIES[self.policy.family].__doc__ if self.policy else ""
        return (described or "").strip().splitlines()[0] if described else ""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    policy: str
    strict: bool | None = None


def _entry(value: Any) -> Any:
    """A policy alone may be written without its key."""
    return {"policy": value} if isinstance(value, str) else value


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    default: str | None = None
    policies: dict[str, Annotated[_Entry, BeforeValidator(_entry)]] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Offer:
    """All that is served."""

    policies: Mapping[str, Served]
    default: str
    """What the engine's own model name stands for."""
    model: str = ""
    """The engine's own model name, once it is known."""

    def find(self, name: str) -> Served | None:
        """What a request's model name stands for; None for one that is not served."""
        return self.policies.get(self.default if name == self.model and name not in self.policies else name)

    def cards(self) -> list[dict[str, Any]]:
        """As `/v1/models` lists them."""
        return [{"object": "model", "created": 0, "owned_by": "flarekit", **card} for card in self._cards()]

    def _cards(self) -> Iterator[dict[str, Any]]:
        for name, served in self.policies.items():
            spec = served.policy.spec if served.policy else name
            yield {"id": name, "flarekit": {"policy": spec, "default": name == self.default, "about": served.about}}
        if self.model not in self.policies:
            yield {"id": self.model, "flarekit": {"alias": self.default}}


def offer(chosen: str, *, strong: bool, retriever: bool, strict: bool = False) -> Offer:
    """What `--policy` gives: a policy's specification, or a YAML file that names several.

    Beside them `weak` is always there, `strong` and `escalate` with a `strong` engine, and `flare` with a `retriever`.
    `strict` is for the policies that a file does not say it of. `ConfigError` for a policy that needs what is missing
    or that has a prompt of its own.
    """
    file = _read(Path(chosen)) if _is_file(chosen) else None
    policies = {"weak": Served("weak")}
    if strong:
        policies["strong"] = Served("strong", role="strong")
        policies["escalate"] = _served("escalate", "escalate", strict, strong, retriever)
    if retriever:
        policies["flare"] = _served("flare", "flare", strict, strong, retriever)
    for name, entry in (file.policies if file else {}).items():
        policies[name] = _served(
            name, entry.policy, strict if entry.strict is None else entry.strict, strong, retriever
        )
    default = (file.default or next(iter(file.policies))) if file else chosen
    if default not in policies:
        if file:
            raise ConfigError(f"{chosen}: the default {default!r} is not one of {', '.join(policies)}")
        policies[default] = _served(default, default, strict, strong, retriever)
    return Offer(policies, default)


def _is_file(chosen: str) -> bool:
    return chosen.endswith((".yaml", ".yml"))


def _served(name: str, spec: str, strict: bool, strong: bool, retriever: bool) -> Served:
    if spec == "weak":
        return Served(name)
    if spec == "strong" and strong:
        return Served(name, role="strong")
    policy = parse_policy(spec)
    if policy.retrieves and not retriever:
        raise ConfigError(f"policy {policy.spec} looks passages up: give them with --index")
    if policy.escalates and not strong:
        raise ConfigError(f"policy {policy.spec} calls a strong engine: give its URL with --strong")
    if policy.prompt != Prompt():
        raise ConfigError(f"policy {policy.spec} has a prompt of its own and cannot answer conversations")
    return Served(name, policy, strict=strict)


def _read(path: Path) -> _File:
    return read_model(path, TypeAdapter(_File))
