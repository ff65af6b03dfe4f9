"""From a part of an index, which ranks the numbers of passages, to a retriever, which finds the passages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError
from flarekit.retrieval import Hit, Passage

Ranking = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers of passages and their scores, shapes (n,) and (n,), best first."""


class Ranker(Protocol):
    """Whatever ranks the passages of one corpus by their numbers in it; used from several threads at once."""

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` best passages or fewer, ties in the corpus's order."""
        ...


class Threaded:
    """A `BatchRetriever` whose search blocks: it runs in a thread, and the event loop goes on meanwhile."""

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        """The `k` best passages, best first; `ConfigError` for `k` below 1."""
        [hits] = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What `search` finds for each of the queries, in their order."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}")
        return await asyncio.to_thread(self._search_many, queries, k)

    def _search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise NotImplementedError


class IndexRetriever(Threaded):
    """Finds passages by what a ranker says; the event loop goes on meanwhile."""

    def __init__(self, name: str, passages: Sequence[Passage], ranker: Ranker) -> None:
        self.name = name
        self._passages = passages
        self._ranker = ranker

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [
            [Hit(self._passages[int(n)], float(score)) for n, score in zip(numbers, scores, strict=True)]
            for numbers, scores in self._ranker.rank(queries, k)
        ]
