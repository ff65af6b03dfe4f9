"""The one outcome that a stream comes to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fakes.scripted import Said, ScriptedEngine
from flarekit import Policy, Rule, StreamBroken, Trace, Trigger, find_signal
from flarekit.actions import Escalate
from flarekit.io.retries import Retries
from flarekit.session.generation import Broken, Finished, Generation, HandBack
from flarekit.session.state import Decision, SessionState

SURE: Sequence[Said] = ("Emma", " was", " born", ".", " So", " the")
UNSURE: Sequence[Said] = ("Emma", (" was", 0.2), " born", ".", " So", " the")


def begun(said: Sequence[Said | Exception], action: Escalate | None = None) -> SessionState:
    rules = (Rule(Trigger(find_signal("min-prob"), 0.5, "mid"), action),) if action else ()
    state = SessionState(Trace("", "", "Where?"), ScriptedEngine(said), ScriptedEngine(said), None)
    state.adopt(Policy("", rules))
    return state


async def generated(state: SessionState) -> Generation:
    generation = Generation(state)
    async for _ in generation.events():
        assert generation.outcome is None or generation.outcome
    return generation


async def test_a_stream_to_its_end_is_finished() -> None:
    state = begun(SURE)
    assert (await generated(state)).outcome == Finished()
    assert state.text == "Emma was born. So the"


async def test_a_trigger_that_fires_is_a_decision_on_the_draft() -> None:
    state = begun(UNSURE, Escalate())
    outcome = (await generated(state)).outcome
    assert isinstance(outcome, Decision)
    assert (outcome.place, outcome.end, state.text) == (0, 4, "")
    assert state.query_context(outcome.end).sentence == state.trace.segments[0].tokens[:4]


async def test_a_lent_sentence_is_handed_back() -> None:
    action = Escalate(back="sentence")
    state = begun(SURE, action)
    state.hand_over("strong", "", action)
    assert (await generated(state)).outcome == HandBack()
    assert state.text == "Emma was born."


async def test_a_stream_that_breaks_is_broken_where_the_session_survives_it() -> None:
    error = StreamBroken("gone")
    state = begun([*SURE, error])
    state.resumes = Retries(1)
    outcome = (await generated(state)).outcome
    assert isinstance(outcome, Broken)
    assert outcome.error is error
    with pytest.raises(StreamBroken):
        await generated(begun([*SURE, error]))


async def test_an_answer_that_is_complete_asks_for_nothing() -> None:
    state = begun(SURE)
    state.transcript.complete = True
    assert (await generated(state)).outcome == Finished()
    assert state.trace.segments == []
