"""Answer again after a criticism (Self-Refine, Madaan et al. 2023, arXiv:2303.17651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flarekit.actions.base import Need


@dataclass(frozen=True, slots=True)
class Revise:
    """Have the engine criticise its answer, then answer again with that criticism in the prompt."""

    restart: bool = True
    keep: bool = False
    name: str = "revise"
    needs: ClassVar[Need | None] = None
