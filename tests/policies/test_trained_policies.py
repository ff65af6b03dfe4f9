"""Trained routers at work: each kind is trained, saved, and decides for a session with a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TestServer

from fakes.scripted import tokens
from flarekit.engines.vllm import VLLMEngine
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.registry import KINDS
from flarekit.escalation.trained import save_router
from flarekit.escalation.training import train_router
from flarekit.eval.data.world import build_world
from flarekit.policies import parse_policy
from flarekit.retrievers import BM25Retriever
from flarekit.session.session import Session
from flarekit.trace import Chosen, Probe

ARMS = ("closed-book", "rag", "iter-retgen", "strong")
TOPICS = ("river", "capital", "novel", "currency", "mountain", "film")
QUESTIONS = [f"{'Who' if number % 2 else 'When'} was {TOPICS[number % 6]} {number}?" for number in range(60)]


def outcomes() -> Outcomes:
    """Questions that ask "who" are answered with passages alone, those that ask "when" without them."""
    hard = np.arange(60) % 2 == 1
    scores = np.stack([~hard, hard, hard, hard], axis=1).astype(float)
    costs = np.tile([1.0, 2.0, 4.0, 3.0], (60, 1))
    return Outcomes([f"q{number}" for number in range(60)], QUESTIONS, ARMS, scores, costs)


def spec_of(kind: str, folder: Path) -> str:
    match KINDS[kind].shape:
        case "chooser" | "answer":
            return f"{kind}:router={folder}"
        case "stream":
            return f"mid-retrieve:threshold=0.5,router={folder}"
        case _:
            return f"pre-retrieve:threshold=0.5,router={folder}"


@pytest.mark.vllm
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_router_decides_for_a_real_session(
    vllm_server: TestServer, tmp_path: Path, kind: str
) -> None:
    said = {f"q{number}": tokens("It", " was", (" so", 0.2 if number % 2 else 0.9), ".") for number in range(60)}
    judged = {f"q{number}": [number % 2 == 0] * 3 for number in range(60)}
    recorded: Any = {"mid-lr": said, "automix": judged}.get(kind)
    save_router(train_router(kind, outcomes(), answers=recorded), tmp_path / "router")
    policy = parse_policy(spec_of(kind, tmp_path / "router"))
    world = build_world()
    async with VLLMEngine(vllm_server.url) as engine:
        session = Session(
            policy, world.questions[0].text, weak=engine, strong=engine, retriever=BM25Retriever(world.corpus)
        )
        trace = await session.run()
    decided = [event for event in trace.events if isinstance(event, Probe | Chosen)]
    assert trace.segments
    assert trace.policy == policy.spec
    match KINDS[kind].shape:
        case "chooser":
            assert next(event.policy for event in decided if isinstance(event, Chosen)) in ARMS
        case "stream":
            assert not decided
        case _:
            assert [event.signal for event in decided if isinstance(event, Probe)] == [kind]
