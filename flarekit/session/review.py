"""Reads the post triggers on an answer that is complete."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from flarekit.session.state import Decision, SessionState
from flarekit.signals.answer import Answered, PostSignal
from flarekit.signals.token import ALWAYS, StreamSignal
from flarekit.trace import Committed, Event


class Review:
    """Measures one post signal after the other, until a trigger fires; iterate over `events` once."""

    def __init__(self, state: SessionState) -> None:
        """One that has measured nothing yet."""
        self.decision: Decision | None = None
        """The rule whose trigger fired; None where the answer is accepted."""
        self._state = state

    async def events(self) -> AsyncGenerator[Event | Committed]:
        """The probes that engines were asked for."""
        state = self._state
        for place, rule in enumerate(state.policy.rules):
            trigger, signal = rule.trigger, rule.trigger.signal
            if trigger.moment != "post" or not state.may_act(place):
                continue
            if isinstance(signal, PostSignal):
                began = state.now()
                probe = await signal.judge(await self._answered())
                value = probe.value
                yield state.trace_probe(probe, began)
            elif isinstance(signal, StreamSignal):
                value = signal.high if signal is ALWAYS else signal(state.transcript.own)
            if trigger.fires(value):
                last = len(state.trace.segments[-1].tokens) - 1
                self.decision = Decision(place, state.fire(rule, value, last))
                return

    async def _answered(self) -> Answered:
        """The answer as it stands, with the prompt that it was given to."""
        state, form = self._state, self._state.form
        answer = form.read_answer(form.visible(state.text).strip())
        ids = await state.prompt_head()
        return Answered(
            state.question,
            answer,
            form,
            state.evidence.shown,
            state.engine,
            state.role,
            ids,
            state.limit,
            state.votes,
        )
