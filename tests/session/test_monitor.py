"""What the monitor of a stream tells its online signals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from fakes.scripted import token
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.online import OnlineSignal
from flarekit.signals.token import SEARCH_REQUEST, SIGNALS, Span, StreamSignal
from flarekit.tokens import Token


class OnlineCount:
    """The number of sentences that have ended."""

    def __init__(self) -> None:
        self.value = 0.0

    def update(self, token: Token) -> float:
        return self.value

    def reset(self) -> None:
        self.value = 0.0

    def end_sentence(self) -> None:
        self.value += 1


@dataclass(frozen=True)
class SentenceCount:
    over: Span
    name: str = "sentences"
    high: float = math.inf
    source: str = ""
    needs: str = ""

    def __call__(self, tokens: Iterable[Token]) -> float:
        return 0.0

    def running(self) -> OnlineSignal:
        return OnlineCount()


@pytest.mark.parametrize("over", ["answer", "action", 5])
def test_a_signal_over_more_than_a_sentence_is_told_where_sentences_end(over: Span) -> None:
    monitor = Monitor([Trigger(SentenceCount(over), 2, "mid")])
    for _ in range(2):
        monitor.update(token(" word"))
        monitor.end_sentence()
    assert monitor.value(0) == 2


@pytest.mark.parametrize("signal", [*SIGNALS.values(), SEARCH_REQUEST], ids=lambda signal: signal.name)
def test_every_signal_of_the_core_can_be_told_that_a_sentence_ended(signal: StreamSignal) -> None:
    online = signal.running()
    before = online.update(token(" word", 0.5))
    online.end_sentence()
    assert online.value == before
