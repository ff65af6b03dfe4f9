"""The record of a session: enough to recompute every signal, every cost and every decision without asking again.

A `Trace` is a list of events in the order in which they happened. Times are seconds since the session began. One trace
is one line of JSON, which `flarekit.trace_format` reads and writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from flarekit.retrieval import Hit
from flarekit.tokens import Finish, Token, text_of

Moment = Literal["pre", "mid", "post"]
"""When a trigger is evaluated: before the first token, while tokens stream, after the last."""
Role = Literal["weak", "strong"]
"""Which of a session's two engines: the one that answers, or the one that is called for help."""
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Number = Annotated[float, Field(ge=-1e100, le=1e100)]
"""What is read is bounded, so that sums and squares of it are numbers."""


@dataclass(slots=True)
class Probe:
    """A signal was measured by asking an engine, before generation or after it."""

    signal: str
    value: Number
    role: Role
    prompt_tokens: Count = 0
    cached_tokens: Count | None = 0
    generated_tokens: Count = 0
    at: Number = 0.0
    seconds: Number = 0.0
    texts: list[str] = field(default_factory=list)
    """What was sampled, where the signal compares samples."""
    cached_estimated: bool = False
    """See `tokens.Usage.estimated`."""
    kind: Literal["probe"] = "probe"


@dataclass(slots=True)
class Chosen:
    """A router chose the policy that goes on."""

    router: str
    policy: str
    at: Number = 0.0
    kind: Literal["chosen"] = "chosen"


@dataclass(slots=True)
class Fired:
    """A trigger fired: its signal had reached its threshold."""

    signal: str
    moment: Moment
    value: Number
    threshold: Number
    action: str
    """What is done about it: the action's name, such as "retrieve" or "escalate"."""
    segment: Count | None
    """Index of the segment (counted over the trace) whose stream it watched; None before generation."""
    token: Count | None
    """Index of the token in that segment that the decision was taken at."""
    at: Number = 0.0
    kind: Literal["fired"] = "fired"


@dataclass(slots=True)
class Retrieved:
    """Passages were looked up."""

    query: str
    hits: Sequence[Hit]
    at: Number = 0.0
    seconds: Number = 0.0
    kind: Literal["retrieved"] = "retrieved"


@dataclass(slots=True)
class HandedOver:
    """Another engine took the answer over."""

    source: Role
    target: Role
    text: str
    """The committed text that it continues; empty where it starts again."""
    at: Number = 0.0
    kind: Literal["handed-over"] = "handed-over"


@dataclass(slots=True)
class Failed:
    """Something beneath the session failed, and it went on without it."""

    part: Literal["retriever", "weak", "strong"]
    """What failed: the retriever, the engine that answers (which was asked again), or the one called for help."""
    error: str
    """In one line, with all that is known of it."""
    at: Number = 0.0
    told: str = ""
    """What anybody may know of it: without addresses, and without what a server or a retriever quotes."""
    kind: Literal["failed"] = "failed"


@dataclass(slots=True)
class Segment:
    """One stream of one engine."""

    role: Role
    tokens: list[Token] = field(default_factory=list)
    kept: Count = 0
    """How many of the tokens, from the first on, are part of the answer; the rest is a discarded draft."""
    finish: Finish = "closed"
    prompt_tokens: Count = 0
    cached_tokens: Count | None = None
    cached_estimated: bool = False
    """See `tokens.Usage.estimated`."""
    replayed: Count = 0
    """How many of the tokens a store of completions told again; `seconds` holds the time that they took at first."""
    at: Number = 0.0
    first_token: Number | None = None
    """Seconds from the request to its first token."""
    seconds: Number = 0.0
    stop: str | int | None = None
    """The stop string or the id of the stop token that ended it; None for the model's own end."""
    kind: Literal["segment"] = "segment"

    @property
    def discarded(self) -> int:
        """Tokens that were generated and that no answer used."""
        return len(self.tokens) - self.kept


@dataclass(slots=True)
class Committed:
    """Text became part of the answer for good. Sent to whoever listens; a trace holds it as its segments' `kept`."""

    role: Role
    tokens: Sequence[Token]
    at: Number = 0.0
    kind: Literal["committed"] = "committed"

    @property
    def text(self) -> str:
        """The committed text."""
        return text_of(self.tokens)


Event = Annotated[Probe | Chosen | Fired | Retrieved | HandedOver | Failed | Segment, Field(discriminator="kind")]
"""What a trace holds."""


@dataclass(slots=True)
class Costs:
    """Everything that an answer cost. Tokens are the servers' own counts but for `reckoned_tokens`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens` that a prefix cache served."""
    generated_tokens: int = 0
    """Including discarded ones."""
    discarded_tokens: int = 0
    strong_prompt_tokens: int = 0
    """Part of `prompt_tokens` that the strong engine read."""
    strong_cached_tokens: int = 0
    """Part of `cached_tokens` that was the strong engine's."""
    strong_generated_tokens: int = 0
    answer_tokens: int = 0
    """Tokens of the answer itself, so without discarded ones."""
    strong_answer_tokens: int = 0
    """Part of `answer_tokens` that the strong engine wrote."""
    retrievals: int = 0
    escalations: int = 0
    probes: int = 0
    seconds: float = 0.0
    reckoned_tokens: int = 0
    """Part of `cached_tokens` that no server counted (`engines.prefix`): of streams closed early, and of all that ran
    over a store of completions, as in a sweep."""

    @property
    def strong_share(self) -> float:
        """The share of the answer's tokens that the strong engine wrote, 0 to 1."""
        return self.strong_answer_tokens / self.answer_tokens if self.answer_tokens else 0.0


@dataclass(slots=True)
class Trace:
    """One policy's work on one question."""

    id: str
    """The question's id."""
    policy: str
    """The policy's full specification, such as "flare:theta=0.8"."""
    question: str
    text: str = ""
    """The whole committed text."""
    answer: str = ""
    """The short answer that was read out of it."""
    events: list[Event] = field(default_factory=list)
    seconds: Number = 0.0

    @property
    def segments(self) -> list[Segment]:
        """The streams, in order."""
        return [event for event in self.events if isinstance(event, Segment)]

    @property
    def retrievals(self) -> list[Retrieved]:
        """The look-ups, in order."""
        return [event for event in self.events if isinstance(event, Retrieved)]

    def costs(self) -> Costs:
        """Everything that this answer cost."""
        costs = Costs(seconds=self.seconds)
        for event in self.events:
            match event:
                case Segment():
                    _count(costs, event.role, event.prompt_tokens, event.cached_tokens, len(event.tokens))
                    costs.reckoned_tokens += _reckoned(event)
                    costs.discarded_tokens += event.discarded
                    costs.answer_tokens += event.kept
                    costs.strong_answer_tokens += event.kept if event.role == "strong" else 0
                case Probe():
                    _count(costs, event.role, event.prompt_tokens, event.cached_tokens, event.generated_tokens)
                    costs.reckoned_tokens += _reckoned(event)
                    costs.discarded_tokens += event.generated_tokens
                    costs.probes += 1
                case Retrieved():
                    costs.retrievals += 1
                case HandedOver():
                    costs.escalations += event.target == "strong"
                case Fired() | Chosen() | Failed():
                    pass
        return costs


def _reckoned(event: Segment | Probe) -> int:
    return event.cached_tokens or 0 if event.cached_estimated else 0


def _count(costs: Costs, role: Role, prompt: int, cached: int | None, generated: int) -> None:
    costs.prompt_tokens += prompt
    costs.cached_tokens += cached or 0
    costs.generated_tokens += generated
    if role == "strong":
        costs.strong_prompt_tokens += prompt
        costs.strong_cached_tokens += cached or 0
        costs.strong_generated_tokens += generated
