"""A trigger of your own: retrieve when two of the last three words are near ties between two candidates.

A signal is a measure of one token (higher: less certain) reduced over a span; a policy is rules of trigger and action.

    python examples/your_own_trigger.py http://localhost:8000
"""

import asyncio
import sys

from flarekit import (
    Retrieve,
    Rule,
    Session,
    Signal,
    Token,
    Trigger,
    VLLMEngine,
    masked_draft_query,
    parse_policy,
    policy,
)
from flarekit.eval.data.world import build_world
from flarekit.retrievers import BM25Retriever
from flarekit.signals.token import margin


def near_tie(token: Token) -> float:
    """1 where the two likeliest tokens are less than .2 apart, else 0."""
    return float(margin(token) > 0.8)


TIES = Signal("ties", near_tie, "mean", 1.0, "this example", over=3, words_only=True)


@policy("ties")
def ties(*, threshold: float = 0.66, k: int = 3) -> tuple[Rule, ...]:
    """Retrieve as soon as two of three words were near ties; at most four times."""
    return (Rule(Trigger(TIES, threshold, "mid", read="token"), Retrieve(masked_draft_query(0.4), k), times=4),)


async def main(url: str) -> None:
    """Ask three questions of the built-in world under the new policy; `flarekit run` would take it by name, too."""
    world = build_world()
    retriever = BM25Retriever(world.corpus)
    async with VLLMEngine(url) as engine:
        for question in world.questions[:3]:
            session = Session(parse_policy("ties:threshold=0.6"), question.text, weak=engine, retriever=retriever)
            trace = await session.run()
            print(f"{question.text}\n  {trace.text}\n  {trace.costs().retrievals} retrievals")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
