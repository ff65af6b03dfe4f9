"""Record a signal and do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flarekit.actions.base import Need


@dataclass(frozen=True, slots=True)
class Watch:
    """Do nothing: for signals that are only to be recorded."""

    restart: bool = False
    keep: bool = True
    name: str = "watch"
    needs: ClassVar[Need | None] = None
