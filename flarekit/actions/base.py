"""What an action is: the answer to a fired trigger. Each has a module of its own in this package.

A session asks an action what it needs, what becomes of the draft and what to do next, and knows none of them by name:
a new action is a new module. What an action may do to its session is the `ActionContext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from flarekit.actions.queries import QueryContext
from flarekit.engines.engine import Engine
from flarekit.prompts.evidence import Render
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Passage, Retriever
from flarekit.tokens import Token
from flarekit.trace import Event, Role, Segment

Need = Literal["retriever", "strong"]
"""What a session must have for an action to be taken: a retriever, or a strong engine that is not at work yet."""
Next = Literal["generate", "keep draft", "answered"]
"""How a session goes on after an action: generates on from the committed text; commits the draft after all, because
generating again would give the same tokens; or leaves the answer as the action has made it."""


class Lender(Protocol):
    """Says when the strong engine, called for a part of the answer, hands back to the weak one."""

    def hands_back(self, at: Literal["token", "sentence"], written: int, doubtful: bool) -> bool:
        """Whether it hands back now, after a token or at a sentence's end.

        `written`: tokens that it has committed and drafted since it took over. `doubtful`: whether the trigger that
        called it would fire on them.
        """
        ...


class ActionContext(Protocol):
    """A session as an action sees it."""

    passages: list[Passage]
    """What the prompts hold of evidence, best first."""
    notes: list[str]
    """Lines that the prompts hold between question and answer."""
    votes: dict[float, list[str]]
    """Sampled short answers by temperature."""

    @property
    def question(self) -> str:
        """The question, as it was asked."""
        ...

    @property
    def form(self) -> Prompt:
        """The prompt template."""
        ...

    @property
    def engine(self) -> Engine:
        """The engine at work."""
        ...

    @property
    def role(self) -> Role:
        """The role of the engine at work."""
        ...

    @property
    def limit(self) -> int:
        """The longest answer, in tokens."""
        ...

    @property
    def text(self) -> str:
        """The committed text."""
        ...

    @property
    def retriever(self) -> Retriever | None:
        """What looks passages up; there is one for an action that needs it."""
        ...

    @property
    def patience(self) -> float | None:
        """Seconds that a look-up may take; None: as long as it takes."""
        ...

    @property
    def strict(self) -> bool:
        """Whether a failure ends the session; otherwise it goes on without what failed."""
        ...

    def now(self) -> float:
        """Seconds since the session began."""
        ...

    def skip(self, seconds: float) -> None:
        """Count the time that replayed tokens took when they were generated."""
        ...

    def record(self, event: Event) -> None:
        """Add an event to the trace and send it to the client."""
        ...

    def record_stream(self, segment: Segment, began: float) -> None:
        """`record` a stream that began at `began` and has just ended, and count its tokens."""
        ...

    async def prompt_ids(self) -> list[int]:
        """The ids that the engine at work goes on from: the prompt, and the committed text."""
        ...

    async def fit(self, render: Render) -> list[int]:
        """Another prompt for the engine at work, with as much of the passages as leaves room for an answer."""
        ...

    def hand_over(self, target: Role, text: str, lender: Lender | None = None) -> None:
        """Let the other engine go on from `text`, until `lender` has it hand back; without one to the end."""
        ...

    def answer_with(self, tokens: Sequence[Token]) -> None:
        """Make tokens of the engine at work the whole answer, which is complete with them."""
        ...


class Action(Protocol):
    """What a fired trigger does. Actions are frozen dataclasses, which are equal where their fields are.

    One that inherits from this class needs only a `name` and `act`.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """As it appears in traces."""
        ...

    @property
    def needs(self) -> Need | None:
        """What a session must have for it."""
        return None

    @property
    def keep(self) -> bool:
        """Whether the draft that the trigger fired on is committed first; otherwise `act` decides."""
        return False

    @property
    def restart(self) -> bool:
        """Whether the answer begins anew, so that what was committed is discarded too."""
        return False

    @property
    def stay(self) -> int:
        """Minimum tokens that the engine at work writes before the action is taken."""
        return 0

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Do it. `draft` is the state that the trigger fired in, before anything of it was kept."""
        ...
