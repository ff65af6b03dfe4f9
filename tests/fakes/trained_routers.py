"""Small routers, trained once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from fakes.run_directories import tokens
from fakes.toy_outcomes import toy, word_encoder
from flarekit.engines import encoders as encoder
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.registry import KINDS
from flarekit.escalation.trained import Router
from flarekit.escalation.training import train_router
from flarekit.tokens import Token

LIGHT = [name for name in KINDS if name != "routellm-bert"]
"""Kinds that need no network; the one that fine-tunes one is in test_router_asked.py."""


@pytest.fixture(autouse=True, scope="module")
def words() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "load_encoder", functools.cache(word_encoder))
        yield


def answers(outcomes: Outcomes) -> Mapping[str, Sequence[Token]]:
    """Wrong answers are unsure of themselves."""
    sure = outcomes.scores[:, 0] >= 0.5
    return {
        id_: tokens("It was Ann. So the answer is Ann.", 0.9 if sure[row] else 0.4)
        for row, id_ in enumerate(outcomes.ids)
    }


def judgements(outcomes: Outcomes) -> Mapping[str, Sequence[bool]]:
    """Wrong answers agree with themselves once in four."""
    return {id_: [score >= 0.5] * 3 + [True] for id_, score in zip(outcomes.ids, outcomes.scores[:, 0], strict=True)}


def train(kind: str, outcomes: Outcomes | None = None, **options: Any) -> Router:
    outcomes = outcomes or toy()
    if kind == "automix":
        return train_router(kind, outcomes, **{"answers": judgements(outcomes), "strong": "rag", **options})
    return train_router(kind, outcomes, answers=answers(outcomes), **options)


@functools.cache
def trained(kind: str) -> Router:
    return train(kind)
