"""One retriever for many sessions: what they ask at the same time goes down together, and what was asked is kept.

Sessions trigger at the same time when their streams pause together, and they often ask the same: several policies over
one question, or several users about one matter. An index answers a batch faster than one query after the other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from sys import getsizeof

from flarekit.errors import ConfigError, EngineUnavailable
from flarekit.retrieval import BatchRetriever, Hit
from flarekit.retrievers.base import Batched

Found = dict[str, Sequence[Hit] | Exception]
"""By query, what was found, or why nothing could be looked for."""
_ALONE = 16
"""Queries of a batch that failed that are asked alone at the same time."""


@dataclass(eq=False, slots=True)
class _Batch:
    """Queries that go down as one search."""

    k: int
    queries: list[str] = field(default_factory=list)
    waiters: int = 0
    task: asyncio.Task[Found] = field(init=False)


class Shared(Batched):
    """Asks `retriever` once for all queries that come within one turn of the event loop, or within `wait` seconds.

    A query that is under way is not asked again, and the results of the last `size` (query, k) are kept, as long as
    they and their queries take no more than `memory` bytes. Each search gets what `retriever` alone would have found,
    or its own error, which is not kept: a batch that fails is taken apart until those are found that fail alone. One
    that is cancelled leaves the others' results alone; once nobody waits any more, the search below is cancelled too.
    It serves one event loop at a time. `ConfigError` for a negative `size`, `memory` or `wait`.
    """

    def __init__(
        self, retriever: BatchRetriever, *, size: int = 1024, memory: int = 64 << 20, wait: float = 0.0
    ) -> None:
        if size < 0 or memory < 0 or wait < 0:
            given = f"size={size}, memory={memory} and wait={wait}"
            raise ConfigError(f"a shared retriever needs size, memory and wait of 0 or more, not {given}")
        self.name = retriever.name
        self.hits = 0
        """Queries that the retriever was spared: kept from before, or under way already."""
        self.misses = 0
        """Queries that the retriever was asked."""
        self._retriever, self._size, self._memory, self._wait = retriever, size, memory, wait
        self._kept: OrderedDict[tuple[str, int], Sequence[Hit]] = OrderedDict()
        self._bytes = 0
        self._gathering: dict[int, _Batch] = {}
        """By k, the batch that still takes queries."""
        self._asked: dict[tuple[str, int], _Batch] = {}
        """By query and k, the batch that it is in."""

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        found = {query: self._kept[query, k] for query in queries if (query, k) in self._kept}
        for query in found:
            self._kept.move_to_end((query, k))
        missing = dict.fromkeys(query for query in queries if query not in found)
        batches = {query: self._joined(query, k) for query in missing}
        self.hits += len(queries) - len(missing)  # `_joined` has counted the missing
        try:
            for query, batch in batches.items():
                # Unlike awaiting the task itself, this does not cancel it when the waiter is cancelled.
                await asyncio.wait([batch.task])
                result = batch.task.result()[query]
                if isinstance(result, Exception):
                    raise result
                found[query] = result
        finally:
            for batch in batches.values():
                self._leave(batch)
        return [found[query] for query in queries]

    def _joined(self, query: str, k: int) -> _Batch:
        batch = self._asked.get((query, k))
        if batch:
            self.hits += 1
        else:
            self.misses += 1
            batch = self._gathering.get(k) or self._started(k)
            batch.queries.append(query)
            self._asked[query, k] = batch
        batch.waiters += 1
        return batch

    def _started(self, k: int) -> _Batch:
        batch = self._gathering[k] = _Batch(k)
        batch.task = asyncio.create_task(self._ask(batch))
        # A waiter of two batches that fails with the first never looks at the second one's error.
        batch.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return batch

    def _leave(self, batch: _Batch) -> None:
        batch.waiters -= 1
        if not batch.waiters:
            self._forget(batch)  # at once: nobody may join a search that is being cancelled
            batch.task.cancel()

    async def _ask(self, batch: _Batch) -> Found:
        try:
            await asyncio.sleep(self._wait)
            del self._gathering[batch.k]
            found = await self._found(batch.queries, batch.k)
            for query, hits in found.items():
                if not isinstance(hits, Exception):
                    self._keep((query, batch.k), hits)
            return found
        finally:
            self._forget(batch)

    async def _found(self, queries: Sequence[str], k: int) -> Found:
        """What each of the queries finds, or its error, by as few searches as that takes."""
        try:
            results = await self._retriever.search_many(queries, k)
            return dict(zip(queries, map(tuple, results), strict=True))
        except Exception as error:  # whatever a retriever may raise: it is for those who asked
            if len(queries) == 1:
                return {queries[0]: error}
            # One that is away answers nobody: halves of halves would wait for its time-out again and again.
            size = 1 if isinstance(error, EngineUnavailable) else -(-len(queries) // 2)
        parts = [queries[begin : begin + size] for begin in range(0, len(queries), size)]
        free = asyncio.Semaphore(_ALONE)

        async def part(some: Sequence[str]) -> Found:
            async with free:
                return await self._found(some, k)

        return {query: hits for found in await asyncio.gather(*map(part, parts)) for query, hits in found.items()}

    def _forget(self, batch: _Batch) -> None:
        if self._gathering.get(batch.k) is batch:
            del self._gathering[batch.k]
        for query in batch.queries:
            if self._asked.get((query, batch.k)) is batch:
                del self._asked[query, batch.k]

    def _keep(self, key: tuple[str, int], hits: Sequence[Hit]) -> None:
        self._kept[key] = hits
        self._bytes += _size(key[0], hits)
        while len(self._kept) > self._size or self._bytes > self._memory:
            (query, _), forgotten = self._kept.popitem(last=False)
            self._bytes -= _size(query, forgotten)


def _size(query: str, hits: Sequence[Hit]) -> int:
    """Bytes of a query and the texts that it found; passages that several results share count in each."""
    passages = [hit.passage for hit in hits]
    return getsizeof(query) + sum(getsizeof(one.id) + getsizeof(one.title) + getsizeof(one.text) for one in passages)
