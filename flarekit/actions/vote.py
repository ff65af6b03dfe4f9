"""Answer by self-consistency (Wang et al. 2022, arXiv:2203.11171)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flarekit.actions.base import Need


@dataclass(frozen=True, slots=True)
class Vote:
    """Sample several whole answers and take the one that most of them give."""

    samples: int
    temperature: float
    restart: bool = False
    keep: bool = False
    name: str = "vote"
    needs: ClassVar[Need | None] = None
