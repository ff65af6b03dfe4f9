"""What retrievers have in common: one query is a batch of one, and what cannot be searched for is refused alike."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from flarekit.errors import ConfigError
from flarekit.retrieval import Hit

QUERY_CHARACTERS, QUERY_WORDS = 4096, 500
"""What is searched for of a query, at most. OpenSearch refuses queries of 1,024 clauses, one a word and field."""
_AT_ONCE = 32
"""Queries that one thread searches for before anybody looks whether somebody still waits."""
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U0001f300-\U0003fffd"
"""Characters that an engine may take for a word each: ideographs, kana, Hangul, emoji."""
_WORD = re.compile(rf"[{_WIDE}]|(?:(?![{_WIDE}])\w)+")


class Batched:
    """A `BatchRetriever` by its `_find`, which may take for granted that `k` is 1 or more and queries are `capped`."""

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        """The `k` best passages, best first; `ConfigError` for `k` below 1. Long queries are `capped`."""
        [hits] = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What `search` finds for each of the queries, in their order."""
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}")
        return await self._find([capped(query) for query in queries], k)

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise NotImplementedError


class Threaded(Batched):
    """A retriever whose search blocks: it runs in a thread, and the event loop goes on meanwhile.

    A thread cannot be stopped. One that nobody waits for any more ends after the queries that it is at, a few
    milliseconds each.
    """

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        found: list[Sequence[Hit]] = []
        for begin in range(0, len(queries), _AT_ONCE):
            found += await asyncio.to_thread(self._search_many, queries[begin : begin + _AT_ONCE], k)
        return found

    def _search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise NotImplementedError


def capped(query: str) -> str:
    """What is searched for in place of `query`: at most `QUERY_CHARACTERS`, and at most `QUERY_WORDS` words of it.

    Of what is longer both ends stay, half of the allowance each: a question stands before or after what it is about.
    The work of a search is thereby bounded, whatever a client sends.
    """
    if len(query) <= QUERY_WORDS:  # and so has no more words than that
        return query
    if len(query) > QUERY_CHARACTERS:
        half = (QUERY_CHARACTERS - 1) // 2
        query = f"{query[:half]} {query[-half:]}"
    words = list(_WORD.finditer(query))
    if len(words) > QUERY_WORDS:
        half = QUERY_WORDS // 2
        query = f"{query[: words[half - 1].end()]} {query[words[-half].start() :]}"
    return query
