"""Searches that several sessions share: each gets what it would have got alone, for less."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarekit.errors import ConfigError, DataError, EngineUnavailable, RequestRejected
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.batching import Shared, _size

CORPUS = [Passage(str(number), f"Town {number}", f"river {number % 3} land {number % 2}") for number in range(12)]
BM25 = BM25Retriever(CORPUS)


class Slow:
    """BM25 that takes some turns of the event loop, and remembers what it was asked."""

    name = "slow"

    def __init__(self, turns: Sequence[int] = (1,)) -> None:
        self.batches: list[tuple[list[str], int]] = []
        self.cancelled = 0
        self.broken = False
        self._turns = turns

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        [hits] = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        self.batches.append((list(queries), k))
        try:
            for _ in range(self._turns[len(self.batches) % len(self._turns)]):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.broken:
            raise EngineUnavailable("no connection")
        return alone(queries, k)


def alone(queries: Sequence[str], k: int) -> list[list[Hit]]:
    return [BM25._search(query, k) for query in queries]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_searches_of_one_turn_go_down_as_one() -> None:
    below = Slow()
    shared = Shared(below)
    found = await asyncio.gather(*(shared.search(query, 2) for query in ["river 1", "land 0", "river 1"]))
    assert below.batches == [(["river 1", "land 0"], 2)]
    assert [list(hits) for hits in found] == alone(["river 1", "land 0", "river 1"], 2)
    assert (shared.hits, shared.misses) == (1, 2)
    assert shared.name == "slow"


async def test_searches_within_the_wait_go_down_as_one() -> None:
    below = Slow()
    shared = Shared(below, wait=0.05)
    first = asyncio.create_task(shared.search("river 1", 2))
    await turns(20)
    await asyncio.gather(first, shared.search("land 0", 2))
    assert below.batches == [(["river 1", "land 0"], 2)]


async def test_another_k_is_another_search() -> None:
    below = Slow()
    shared = Shared(below)
    await asyncio.gather(shared.search("river 1", 1), shared.search("river 1", 3))
    assert sorted(below.batches) == [(["river 1"], 1), (["river 1"], 3)]


async def test_a_query_under_way_is_not_asked_again() -> None:
    below = Slow([30])
    shared = Shared(below)
    first = asyncio.create_task(shared.search("river 1", 2))
    await turns(10)
    assert below.batches
    assert await shared.search("river 1", 2) == await first
    assert len(below.batches) == 1


async def test_the_latest_results_are_kept_and_the_oldest_forgotten() -> None:
    below = Slow()
    shared = Shared(below, size=2)
    for query in ["river 0", "river 1", "river 0", "river 2", "river 0", "river 1"]:
        assert list(await shared.search(query, 2)) == BM25._search(query, 2)
    assert [queries for queries, _ in below.batches] == [["river 0"], ["river 1"], ["river 2"], ["river 1"]]
    assert (shared.hits, shared.misses) == (2, 4)


async def test_nothing_is_kept_where_there_is_no_room() -> None:
    below = Slow()
    shared = Shared(below, size=0)
    for _ in range(2):
        await shared.search("river 0", 2)
    assert len(below.batches) == 2


async def test_many_queries_at_once_may_repeat_and_be_known() -> None:
    below = Slow()
    shared = Shared(below)
    await shared.search("river 1", 3)
    queries = ["land 1", "river 1", "tennis", "land 1"]
    assert [list(hits) for hits in await shared.search_many(queries, 3)] == alone(queries, 3)
    assert [queries for queries, _ in below.batches] == [["river 1"], ["land 1", "tennis"]]
    assert (shared.hits, shared.misses) == (2, 3)
    assert await shared.search_many([], 3) == []


async def test_one_who_leaves_does_not_take_the_search_along() -> None:
    below = Slow([30])
    shared = Shared(below)
    leaves, stays = (asyncio.create_task(shared.search("river 1", 2)) for _ in range(2))
    await turns(10)
    leaves.cancel()
    assert list(await stays) == BM25._search("river 1", 2)
    assert leaves.cancelled()
    assert below.cancelled == 0


async def test_a_search_that_nobody_waits_for_is_cancelled_and_can_be_asked_again_at_once() -> None:
    below = Slow([30])
    shared = Shared(below)
    leaving = [asyncio.create_task(shared.search(query, 2)) for query in ["river 1", "land 0"]]
    await turns(10)
    for task in leaving:
        task.cancel()
    await asyncio.wait(leaving)
    again = asyncio.create_task(shared.search("river 1", 2))
    await turns(5)
    assert below.cancelled == 1
    assert list(await again) == BM25._search("river 1", 2)
    assert [queries for queries, _ in below.batches] == [["river 1", "land 0"], ["river 1"]]


async def test_one_cancelled_before_its_search_began_asks_nothing() -> None:
    below = Slow()
    shared = Shared(below, wait=0.01)
    task = asyncio.create_task(shared.search("river 1", 2))
    await turns(2)
    task.cancel()
    await asyncio.wait([task])
    assert below.batches == []
    assert list(await shared.search("river 1", 2)) == BM25._search("river 1", 2)


async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    below = Slow()
    shared = Shared(below)
    below.broken = True
    errors = await asyncio.gather(*(shared.search("river 1", 2) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [EngineUnavailable] * 3
    below.broken = False
    assert list(await shared.search("river 1", 2)) == BM25._search("river 1", 2)


class Refusing(Slow):
    """Refuses a batch that holds a query with "poison", as engines refuse a request for one part of it."""

    def __init__(self, error: type[Exception] = RequestRejected) -> None:
        super().__init__()
        self._error = error

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        found = await super().search_many(queries, k)
        if poisoned := [query for query in queries if "poison" in query]:
            raise self._error(f"cannot search for {poisoned[0]}")
        return found


@pytest.mark.parametrize("error", [RequestRejected, EngineUnavailable, DataError, ZeroDivisionError])
async def test_a_query_that_is_refused_takes_no_other_along(error: type[Exception]) -> None:
    below = Refusing(error)
    shared = Shared(below)
    queries = [f"river {number}" for number in range(80)] + ["poison 1", "poison 2"]
    found = await asyncio.gather(*(shared.search(query, 2) for query in queries), return_exceptions=True)
    assert [list(hits) for hits in found[:80] if not isinstance(hits, BaseException)] == alone(queries[:80], 2)
    assert [str(hits) for hits in found[80:]] == ["cannot search for poison 1", "cannot search for poison 2"]
    assert all(type(hits) is error for hits in found[80:])
    asked = len(below.batches)
    assert asked <= len(queries) + 1
    assert (await shared.search_many(queries[:80], 2))[0] == found[0]
    assert len(below.batches) == asked, "what was found is kept"


async def test_a_search_of_several_fails_with_its_own_error_only() -> None:
    shared = Shared(Refusing())
    fine, failed = await asyncio.gather(
        shared.search_many(["river 1", "land 0"], 2),
        shared.search_many(["river 2", "poison"], 2),
        return_exceptions=True,
    )
    assert isinstance(fine, list)
    assert [list(hits) for hits in fine] == alone(["river 1", "land 0"], 2)
    assert isinstance(failed, RequestRejected)


async def test_an_engine_that_is_away_is_asked_once_more_for_each_and_not_again() -> None:
    below = Slow()
    below.broken = True
    shared = Shared(below)
    found = await asyncio.gather(*(shared.search(f"river {n}", 2) for n in range(40)), return_exceptions=True)
    assert all(isinstance(error, EngineUnavailable) for error in found)
    assert len(below.batches) == 41


async def test_what_is_kept_is_bounded_in_bytes() -> None:
    long = [Passage(str(number), "", f"river {'x' * 10_000}") for number in range(3)]
    below = BM25Retriever(long)
    shared = Shared(below, memory=100_000)
    for number in range(20):
        await shared.search(f"river {number}", 3)
    assert 0 < shared._bytes <= 100_000
    assert len(shared._kept) == 3
    assert shared._bytes == sum(_size(query, hits) for (query, _), hits in shared._kept.items())


def test_it_serves_another_event_loop_after_one_that_was_broken_off() -> None:
    shared = Shared(Slow([1000]))

    async def broken_off() -> None:
        asyncio.create_task(shared.search("river 1", 2))  # noqa: RUF006
        await turns(5)

    asyncio.run(broken_off())
    assert list(asyncio.run(shared.search("river 1", 2))) == BM25._search("river 1", 2)


async def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        await Shared(Slow()).search("river", 0)
    with pytest.raises(ConfigError, match="size=-1"):
        Shared(Slow(), size=-1)


QUERIES = st.sampled_from(["river 0", "river 1", "land 1", "town 4", "tennis", ""])
CALLS = st.tuples(
    st.lists(QUERIES, min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 12),  # the turn in which it comes
    st.none() | st.integers(0, 12),  # after how many turns it leaves
)


@settings(deadline=None)
@given(st.lists(CALLS, max_size=12), st.lists(st.integers(0, 8), min_size=1, max_size=5), st.integers(0, 4))
def test_everyone_gets_what_a_search_alone_would_give(
    calls: list[tuple[list[str], int, int, int | None]], speeds: list[int], size: int
) -> None:
    async def one(shared: Shared, queries: list[str], k: int, comes: int, leaves: int | None) -> None:
        await turns(comes)
        search = asyncio.create_task(shared.search_many(queries, k))
        if leaves is not None:
            await turns(leaves)
            search.cancel()
        await asyncio.wait([search])
        if not search.cancelled():
            assert [list(hits) for hits in search.result()] == alone(queries, k)
        else:
            assert leaves is not None

    async def all_of_them() -> None:
        below = Slow(speeds)
        shared = Shared(below, size=size)
        await asyncio.gather(*(one(shared, *call) for call in calls))
        await turns(3)
        assert len(asyncio.all_tasks()) == 1, "a search goes on that nobody waits for"
        assert shared.hits + shared.misses <= sum(len(queries) for queries, *_ in calls)
        assert sum(len(queries) for queries, _ in below.batches) <= shared.misses

    asyncio.run(all_of_them())
