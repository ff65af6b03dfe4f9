"""Record a signal and do nothing."""

from __future__ import annotations

from dataclasses import dataclass

from flarekit.actions.base import Action, ActionContext, Next
from flarekit.actions.queries import QueryContext


@dataclass(frozen=True, slots=True)
class Watch(Action):
    """Do nothing: for signals that are only to be recorded, by triggers that never fire."""

    restart: bool = False
    keep: bool = True
    name: str = "watch"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Go on."""
        return "generate"
