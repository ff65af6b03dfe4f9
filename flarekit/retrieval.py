"""What the core knows of retrieval: passages, and the protocol of whatever finds them.

The retrievers themselves are in `flarekit.retrievers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be retrieved."""

    id: str
    """Unique in its corpus."""
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found, and how well it matches."""

    passage: Passage
    score: float
    """On the retriever's own scale; higher is better."""


class Retriever(Protocol):
    """Finds passages for a query."""

    name: str

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        """The `k` best passages, best first; fewer where fewer match at all, none for a query without a known word."""
        ...


class BatchRetriever(Retriever, Protocol):
    """A retriever that answers several queries faster at once than one by one."""

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What `search` finds for each of the queries, in their order."""
        ...
