"""What retrievers have in common: one query is a batch of one, and what cannot be searched for is refused alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flarekit.errors import ConfigError
from flarekit.retrieval import Hit


class Batched:
    """A `BatchRetriever` by its `_find`, which may take for granted that `k` is 1 or more."""

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        """The `k` best passages, best first; `ConfigError` for `k` below 1."""
        [hits] = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What `search` finds for each of the queries, in their order."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}")
        return await self._find(queries, k)

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise NotImplementedError


class Threaded(Batched):
    """A retriever whose search blocks: it runs in a thread, and the event loop goes on meanwhile."""

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        return await asyncio.to_thread(self._search_many, queries, k)

    def _search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise NotImplementedError
