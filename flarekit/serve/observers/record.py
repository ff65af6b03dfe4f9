"""One request and its answer, and those who watch it: metrics, spans and logs are observers of exchanges."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flarekit.errors import quoted
from flarekit.tokens import Usage
from flarekit.trace import Committed, Costs, Event, Failed, Role, Trace

Outcome = Literal["ok", "refused", "failed", "left"]
"""How a request ended: answered; refused for what it is or who asks (4xx); failed beneath us; the client went away."""


@dataclass(slots=True)
class Exchange:
    """One request, from when it was read until its last byte was sent."""

    id: str
    """As in the answer's `id` and in the `x-request-id` header."""
    endpoint: str
    """Its path, such as "/v1/chat/completions"."""
    policy: str
    """The name under which the policy is served; "" until the request has been understood."""
    streamed: bool = False
    models: Mapping[Role, str] = field(default_factory=dict)
    """The names of the models that may answer."""
    question: str = ""
    """The last user turn: only for those who were asked to log prompts."""
    traceparent: str | None = None
    """The client's W3C trace context, if it sent one."""
    began: float = field(default_factory=time.perf_counter)
    began_ns: int = field(default_factory=time.time_ns)
    first: float | None = None
    """Seconds until the first committed text."""
    status: int = 200
    outcome: Outcome = "ok"
    error: str = ""
    """What went wrong, as the log may know it."""
    detail: str = ""
    """All that is known of it: it may quote what the client sent."""
    passed: str = ""
    """Why no policy applied (`asked.REASONS`); "" where one did."""
    trace: Trace | None = None
    """What the session did; None for a request that was passed through."""
    usage: Usage | None = None
    """What a request that was passed through took, where the engine told."""

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.began

    def model(self, role: Role) -> str:
        """The name of the model in this role."""
        return self.models.get(role, role)

    def costs(self) -> Costs:
        """What it took: its session, or the engine that it was passed through to; nothing where nobody told."""
        if self.trace is not None:
            return self.trace.costs()
        if self.usage is None:
            return Costs()
        prompt, cached, completion = self.usage.prompt, self.usage.cached or 0, self.usage.completion
        return Costs(prompt, cached, completion, answer_tokens=completion)


class Observer(Protocol):
    """Is told of every exchange. Must be quick and must not raise: it runs in the event loop, between two tokens."""

    def begin(self, exchange: Exchange) -> None:
        """A request came; its policy is not known yet."""
        ...

    def event(self, exchange: Exchange, event: Event | Committed) -> None:
        """Something happened in its session; times in events are seconds since the session began."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Its last byte was sent, or nobody reads it any more: `status`, `outcome`, `trace` and `usage` are final."""
        ...


def reason(failed: Failed, text: bool) -> str:
    """Why it failed; without what others said, which may quote a question, unless `text` may be told."""
    return quoted(failed.error if text else failed.told or failed.error.split(":", 1)[0])
