"""Look passages up, and go on with them in the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flarekit.actions.base import Need
from flarekit.actions.queries import Query


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Look passages up, and generate the sentence (or with `restart` the whole answer) again with them."""

    query: Query
    k: int
    """How many passages are looked up."""
    restart: bool = False
    keep: bool = False
    """Keep the draft: the passages serve what comes after it."""
    gather: int = 0
    """Add the passages to those already in the prompt, up to so many; 0: they take their place."""
    name: str = "retrieve"
    needs: ClassVar[Need | None] = "retriever"
