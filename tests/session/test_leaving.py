"""A session that is left closes what it has open, however early and by whatever way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes.scripted import ScriptedEngine, ScriptedStream
from flarekit import Committed, Hit, Session, parse_policy

SENTENCES = [" One", ".", " Two", ".", " Three", ".", " Four", "."]


class CountingEngine(ScriptedEngine):
    """Counts the streams that are open."""

    open = 0

    @asynccontextmanager
    async def stream(self, prompt: Sequence[int], **options: Any) -> AsyncIterator[ScriptedStream]:
        async with super().stream(prompt, **options) as stream:
            self.open += 1
            try:
                yield stream
            finally:
                self.open -= 1


class SlowRetriever:
    """Never answers, and tells when a look-up has begun and when it was left."""

    name = "slow"

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return []


def closed_book(engine: CountingEngine) -> Session:
    return Session(parse_policy("closed-book"), "?", weak=engine)


async def test_a_break_out_of_the_block_closes_the_stream_at_once() -> None:
    engine = CountingEngine(SENTENCES)
    async with closed_book(engine) as events:
        async for event in events:
            if isinstance(event, Committed):
                assert engine.open == 1
                break
        assert engine.open == 1
    assert engine.open == 0


async def test_an_error_in_the_block_closes_the_stream_and_is_raised() -> None:
    async def fail(engine: CountingEngine) -> None:
        async with closed_book(engine) as events:
            async for _ in events:
                raise ZeroDivisionError

    engine = CountingEngine(SENTENCES)
    with pytest.raises(ZeroDivisionError):
        await fail(engine)
    assert engine.open == 0


async def test_a_block_that_takes_no_event_opens_nothing() -> None:
    engine = CountingEngine(SENTENCES)
    async with closed_book(engine):
        pass
    assert engine.prompts == []


async def test_a_break_out_of_plain_iteration_closes_the_stream_in_the_loops_next_turns() -> None:
    engine = CountingEngine(SENTENCES)
    async for event in closed_book(engine):
        if isinstance(event, Committed):
            break
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert engine.open == 0


async def test_a_cancelled_session_leaves_its_stream_and_its_look_up() -> None:
    retriever = SlowRetriever()
    session = Session(parse_policy("rag"), "?", weak=CountingEngine(), retriever=retriever)
    running = asyncio.create_task(session.run())
    await retriever.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert retriever.left.is_set()


async def test_run_gives_the_whole_trace() -> None:
    trace = await closed_book(CountingEngine(SENTENCES)).run()
    assert trace.text == "One. Two. Three. Four."
