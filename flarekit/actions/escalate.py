"""Let the strong engine go on, for the rest of the answer or for a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from flarekit.actions.base import Action, ActionContext, Need, Next
from flarekit.actions.queries import QueryContext


@dataclass(frozen=True, slots=True)
class Escalate(Action):
    """Hand the committed text to the strong engine, or with `restart` only the question."""

    restart: bool = False
    keep: bool = False
    """Keep the draft: the strong engine goes on after it."""
    back: Literal["never", "sentence", "calm"] = "never"
    """When the weak engine goes on again: after one sentence, or once the trigger's signal, read on the strong engine's
    own tokens, is below the threshold."""
    stay: int = 0
    """Minimum tokens that either engine writes before the other takes over."""
    name: str = "escalate"
    needs: ClassVar[Need | None] = "strong"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Hand over."""
        context.hand_over("strong", "" if self.restart else context.text, None if self.back == "never" else self)
        return "generate"

    def hands_back(self, at: Literal["token", "sentence"], written: int, doubtful: bool) -> bool:
        """At the end of its sentence, or after any token that leaves no doubt once `stay` are written."""
        if self.back == "sentence":
            return at == "sentence"
        return self.back == "calm" and at == "token" and written >= self.stay and not doubtful
