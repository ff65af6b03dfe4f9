"""How far the reckoned number of cached prompt tokens is from the one that vLLM reports (flarekit/engines/prefix.py).

First every stream is read to its end, so that both are known of each: the estimate with its first token, the count with
its last. Then whole policies run twice: live, with a cache salt of their own, and over a store of completions as in a
sweep, where nothing but the reckoning is left.

    python benchmarks/prefix_estimate.py http://localhost:8000 8 20

The numbers are how many questions are asked at a time, and how many the policies are asked.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from flarekit import Prompt, Session, Trace, VLLMEngine, parse_policy
from flarekit.engines.cache.engine import cached
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.engine import Engine
from flarekit.eval.data.world import build_world
from flarekit.retrievers import BM25Retriever

POLICIES = ("closed-book", "rag", "pre-retrieve", "p-ik", "flare", "self-consistency:samples=3", "self-verify-cascade")


async def streams(server: VLLMEngine, gate: asyncio.Semaphore) -> None:
    """Prompts with and without passages for 60 questions of the built-in world, then each again with its answer."""
    world = build_world()
    retriever, prompt, engine = BM25Retriever(world.corpus), Prompt(), server.salted("prefix_estimate")
    pairs: list[tuple[int, int]] = []

    async def read(ids: list[int]) -> list[int]:
        async with gate, engine.stream(ids, max_tokens=24) as stream:
            early, said = None, []
            async for token in stream:
                early = early or stream.usage
                said.append(token.id)
            if early and early.cached is not None and stream.usage.cached is not None:
                pairs.append((early.cached, stream.usage.cached))
        return [*ids, *said]

    async def ask(question: str, passages: int) -> None:
        found = [hit.passage for hit in await retriever.search(question, passages)] if passages else []
        await read(await read(await engine.tokenize(prompt.render(question, found))))

    await asyncio.gather(*(ask(question.text, k) for question in world.questions[:60] for k in (0, 3)))
    same = sum(estimate == count for estimate, count in pairs)
    estimated, counted = (sum(column) for column in zip(*pairs, strict=True))
    print(f"{same} of {len(pairs)} streams alike; {estimated:,} tokens reckoned, {counted:,} counted by the server\n")


async def policies(server: VLLMEngine, gate: asyncio.Semaphore, count: int) -> None:
    """The cached tokens of each policy by the server's count and by the reckoning of a sweep, as a table."""
    world = build_world()
    retriever = BM25Retriever(world.corpus)

    async def run(spec: str, engine: Engine) -> list[Trace]:
        async def answer(question: str) -> Trace:
            async with gate:
                session = Session(parse_policy(spec), question, weak=engine, strong=engine, retriever=retriever)
                return await session.run()

        return await asyncio.gather(*(answer(one.text) for one in world.questions[:count]))

    def total(traces: list[Trace], what: Callable[[Trace], int]) -> int:
        return sum(map(what, traces))

    rows = []
    with tempfile.TemporaryDirectory() as folder, CompletionStore(Path(folder) / "store.sqlite") as store:
        over = await cached(server, store)
        for spec in POLICIES:
            live, told = await run(spec, server.salted(f"live {spec}")), await run(spec, over.salted(spec))
            read, counted, reckoned = (
                total(live, lambda trace: trace.costs().prompt_tokens),
                total(live, lambda trace: trace.costs().cached_tokens),
                total(told, lambda trace: trace.costs().cached_tokens),
            )
            closed = total(live, lambda trace: trace.costs().reckoned_tokens)
            again = total(told, lambda trace: trace.costs().prompt_tokens)
            numbers = (f"{number:,}" for number in (read, counted, closed, again, reckoned))
            rows.append([f"`{spec}`", *numbers, f"{(reckoned / again - counted / read) * 100:+.1f}"])
    headings = ["policy", "read live", "cached", "of them reckoned", "read over a store", "cached, reckoned", "points"]
    for line in (headings, ["---"] * len(headings), *rows):
        print(f"| {' | '.join(line)} |", flush=True)


async def main(url: str, concurrency: str, questions: str = "20") -> None:
    """Both comparisons against the server at `url`."""
    gate = asyncio.Semaphore(int(concurrency))
    async with VLLMEngine(url) as server:
        await streams(server, gate)
        await policies(server, gate, int(questions))


asyncio.run(main(*sys.argv[1:]))
