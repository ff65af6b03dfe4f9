"""What an action is: the answer to a fired trigger. Each has a module of its own in this package.

A session asks an action what it needs, what becomes of the draft and when the engine that it called hands back, and
knows none of them by name: a new action is a new module.
"""

from __future__ import annotations

from typing import Literal, Protocol

Need = Literal["retriever", "strong"]
"""What a session must have for an action to be taken: a retriever, or a strong engine."""


class Action(Protocol):
    """What a fired trigger does. Actions are frozen dataclasses: two with the same fields are equal."""

    @property
    def name(self) -> str:
        """As it appears in traces."""
        ...

    @property
    def needs(self) -> Need | None:
        """What a session must have for it."""
        ...

    @property
    def keep(self) -> bool:
        """Whether the draft that the trigger fired on is committed; otherwise it is discarded."""
        ...

    @property
    def restart(self) -> bool:
        """Whether the answer begins anew, so that what was committed is discarded too."""
        ...
