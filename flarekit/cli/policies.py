"""`flarekit policies` and `flarekit signals`: what there is, where it comes from, what it costs and what it needs."""

from __future__ import annotations

import inspect
import math
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flarekit.errors import ConfigError
from flarekit.io.terminal import console, styled
from flarekit.policies import POLICIES, Builder, Policy
from flarekit.policies.triggers import NEVER
from flarekit.signals.answer import POST_SIGNALS
from flarekit.signals.question import PRE_SIGNALS
from flarekit.signals.token import ALWAYS, LENGTH, SEARCH_REQUEST, SIGNALS

_BEFORE = "pre-retrieve, pre-escalate"
_SHAPES = {
    "score": ("score a question", "pre", _BEFORE, "nothing of a server"),
    "asked": ("score a question", "pre", _BEFORE, "a prompt with examples read, 1 token"),
    "chooser": ("choose a policy", "pre", "{name}", "the chosen policy's"),
    "answer": ("score a finished answer", "post", "{name}", "k short judgements"),
    "stream": ("score a running answer", "mid", "mid-retrieve, escalate", "nothing of a server"),
}
"""What routers of a shape do, when, for which policies, and at what cost."""


def policies(
    name: Annotated[str | None, typer.Argument(help="Show this policy's parameters and what it does.")] = None,
) -> None:
    """List the policies, or one of them with its parameters, and the kinds of routers that they may use."""
    if name is None:
        _print(_overview(), _routers())
    elif name in POLICIES:
        _print(*_details(name))
    else:
        raise ConfigError(f"no policy is called {name!r}; there are {', '.join(POLICIES)}")


def signals() -> None:
    """List the signals: when each is read, its range, what it needs of a server, and its source."""
    table = _table("signal", "moment", "range", "needs", "source")
    for pre in PRE_SIGNALS.values():
        table.add_row(pre.name, "pre", _range(pre.high), pre.needs, pre.source)
    for mid in (*SIGNALS.values(), LENGTH, SEARCH_REQUEST):
        moment = "mid" if mid in (LENGTH, SEARCH_REQUEST) else "mid, post"
        table.add_row(mid.name, moment, _range(mid.high), mid.needs, mid.source)
    for make in POST_SIGNALS.values():
        post = make()
        table.add_row(post.name, "post", _range(post.high), post.needs, post.source)
    _print(table)


def _overview() -> Table:
    table = _table("policy", "paper", "moment", "action", "signals", "cost beyond one answer")
    for name, build in POLICIES.items():
        moments, actions, read = _traits(build)
        table.add_row(name, build.paper or "–", moments, actions, read, build.cost or "–")
    return table


def _traits(build: Builder) -> tuple[str, str, str]:
    """When a policy decides, what it may do, and by which signals, as it is by default."""
    needed = [one.name for one in _parameters(build) if one.default is inspect.Parameter.empty]
    if needed:  # only a router, which is not there by default, makes a policy of it
        return "pre", "choose a policy", "a router"
    policy: Policy = build()
    rules = policy.rules
    moments = dict.fromkeys(rule.trigger.moment for rule in rules)
    actions = dict.fromkeys(rule.action.name for rule in rules)
    read = [rule.trigger.signal.name for rule in rules if rule.trigger.signal is not ALWAYS]
    if any(rule.trigger.threshold == NEVER for rule in rules):
        read = ["all that ask a model"]
    return tuple(", ".join(one) or "–" for one in (moments, actions, dict.fromkeys(read)))  # type: ignore[return-value]


def _routers() -> Table:
    # Routers stay unloaded until somebody asks for them: scikit-learn takes seconds to import.
    from flarekit.escalation import KINDS

    table = _table("router", "paper", "moment", "does", "used by", "cost beyond one answer")
    for kind in KINDS.values():
        does, moment, used, cost = _SHAPES[kind.shape]
        table.add_row(kind.name, kind.paper, moment, does, used.format(name=kind.name), cost)
    return table


def _details(name: str) -> tuple[Table, Text]:
    build = POLICIES[name]
    table = _table("parameter", "default", "")
    for one in _parameters(build):
        default = "must be given" if one.default is inspect.Parameter.empty else str(one.default)
        table.add_row(one.name, default, str(one.annotation))
    about = inspect.getdoc(build)
    return table, styled("\n", (name, "bold"), f"  {build.paper}", f"\n{about}" if about else "")


def _parameters(build: Builder) -> list[inspect.Parameter]:
    return list(inspect.signature(build).parameters.values())


def _range(high: float) -> str:
    return "0 to ∞" if high == math.inf else f"0 to {high:g}"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("policy", "signal", "router", "moment", "range"))
    return table


def _print(*shown: Table | Text) -> None:
    out = console()
    if not out.is_terminal:
        out = console(width=160)  # for a pipe, where nobody can widen the window
    for one in shown:
        out.print(one)
