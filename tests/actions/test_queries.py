"""Queries of any length: what is searched for is bounded, for every retriever alike."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.retrieval import Hit, Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.base import _WORD, QUERY_CHARACTERS, QUERY_WORDS, Threaded, capped

CORPUS = [Passage("1", "Vienna", "on the Danube"), Passage("2", "Ulm", "where Einstein was born")]


@given(st.text(max_size=QUERY_WORDS))
def test_a_short_query_is_searched_for_as_it_is(query: str) -> None:
    assert capped(query) == query


@given(st.text(min_size=1, max_size=40), st.integers(1, 3000))
def test_a_query_is_bounded_in_characters_and_words(part: str, times: int) -> None:
    query = capped(part * times)
    assert len(query) <= QUERY_CHARACTERS
    assert len(_WORD.findall(query)) <= QUERY_WORDS


@pytest.mark.parametrize(
    "filling", ["word ", "a b c d ", "x", "\u7ef4\u4e5f\u7eb3", "\U0001f600", "\ud55c\uad6d ", "-", "\t"]
)
async def test_both_ends_of_a_long_query_are_searched_for(filling: str) -> None:
    retriever = BM25Retriever(CORPUS)
    [hit] = await retriever.search("Danube " + filling * 100_000, 1)
    assert hit.passage.title == "Vienna"
    [hit] = await retriever.search(filling * 100_000 + " Einstein", 1)
    assert hit.passage.title == "Ulm"


class Blocking(Threaded):
    """Notes how many queries a thread took up, and waits until it is let go on."""

    name = "blocking"

    def __init__(self) -> None:
        self.taken = 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    def _search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        self.taken += len(queries)
        self.begun.set()
        self.go_on.wait()
        return [[] for _ in queries]


async def test_a_search_that_nobody_waits_for_takes_up_no_more_queries() -> None:
    retriever = Blocking()
    search = asyncio.create_task(retriever.search_many(["river"] * 1000, 1))
    await asyncio.to_thread(retriever.begun.wait)
    search.cancel()
    retriever.go_on.set()
    await asyncio.wait([search])
    await asyncio.sleep(0.05)
    assert retriever.taken < 100
