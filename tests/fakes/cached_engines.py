"""Cached engines over a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fakes.scripted_vllm import ScriptedVLLM
from flarekit.engines.cache.engine import CachedEngine, cached
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.vllm import VLLMEngine
from flarekit.eval.runs.recorded import read_run
from flarekit.tokens import Token
from flarekit.trace import Segment

PROMPT = [ord(letter) for letter in "Question: What is it?\nAnswer:"]


ANSWER = " It has 11 letters. So the answer is it."


@asynccontextmanager
async def opened(server: ScriptedVLLM, path: Path | None = None) -> AsyncIterator[CachedEngine]:
    async with VLLMEngine(server.url) as engine:
        with TemporaryDirectory() as folder, CompletionStore(path or Path(folder) / "store") as store:
            yield await cached(engine, store)


async def read(
    engine: CachedEngine | VLLMEngine, prompt: list[int], most: int | None = None, **options: Any
) -> list[Token]:
    """The tokens of a stream that is left after `most` of them."""
    tokens: list[Token] = []
    async with engine.stream(prompt, **({"max_tokens": 60} | options)) as stream:
        async for token in stream:
            tokens.append(token)
            if len(tokens) == most:
                break
    return tokens


def told(out: Path) -> dict[tuple[str, str], Any]:
    """All that a run says of its answers but for times and cached tokens."""
    return {
        (policy, key): (trace.text, trace.answer, [_told(event) for event in trace.events])
        for policy, arm in read_run(out).traces.items()
        for key, trace in arm.items()
    }


def _told(event: Any) -> Any:
    if isinstance(event, Segment):
        return event.role, event.tokens, event.kept, event.finish, event.prompt_tokens
    return [getattr(event, name) for name in ("kind", "query", "value", "token") if hasattr(event, name)]
