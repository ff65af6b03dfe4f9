"""Let the strong engine go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from flarekit.actions.base import Need


@dataclass(frozen=True, slots=True)
class Escalate:
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
