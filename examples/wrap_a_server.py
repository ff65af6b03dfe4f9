"""Wrap a vLLM server, and print what happens while it answers.

python examples/wrap_a_server.py http://localhost:8000 "In which town was the founder of Kambel Brothers born?"
"""

import asyncio
import sys

from flarekit import Session, VLLMEngine, parse_policy
from flarekit.eval.data.world import build_world
from flarekit.retrievers import BM25Retriever


async def main(url: str, question: str) -> None:
    """Answer `question` over the built-in world."""
    async with VLLMEngine(url) as engine:
        session = Session(parse_policy("flare"), question, weak=engine, retriever=BM25Retriever(build_world().corpus))
        async with session as events:
            async for event in events:
                print(event.kind, getattr(event, "text", None) or getattr(event, "query", ""))
        print("answer:", session.trace.answer)


asyncio.run(main(*sys.argv[1:]))
