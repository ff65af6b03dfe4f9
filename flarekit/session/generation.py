"""One stream of one engine, from its prompt to the one outcome that it comes to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from flarekit.errors import EngineError
from flarekit.policies.triggers import Reading
from flarekit.session.state import Decision, SessionState
from flarekit.signals.sampling import note_usage
from flarekit.text.stops import until_stop
from flarekit.tokens import Token
from flarekit.trace import Committed, Event, Segment


@dataclass(frozen=True, slots=True)
class HandBack:
    """The strong engine has written what it was called for."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete, or there is no room for more of it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The engine failed, and the answer can go on without what it had drafted."""

    error: EngineError
    asked: int
    """Tokens of the prompt that it was sent."""


Outcome = Decision | HandBack | Finished | Broken
"""How a stream ended; a `Decision` where a mid trigger fired."""


class Generation:
    """Streams one segment and commits its sentences, until there is an outcome; iterate over `events` once."""

    def __init__(self, state: SessionState) -> None:
        """One that has asked the engine for nothing yet."""
        self.outcome: Outcome | None = None
        """None while the stream goes on."""
        self._state, self._transcript, self._monitor = state, state.transcript, state.monitor
        self._begins = state.monitor.sentences.begins
        self._reads_tokens = any(state.policy.rules[place].trigger.read == "token" for place in state.mid)
        self._segment = Segment(state.role)
        self._asked = 0

    async def events(self) -> AsyncGenerator[Event | Committed]:
        """What is committed, then the segment. An `EngineError` that the session cannot survive is raised."""
        state, segment, room = self._state, self._segment, self._state.room
        if self._transcript.complete or room < 1:
            self._finish()
            return
        segment.at = state.now()
        state.trace_event(segment)
        try:
            async with aclosing(self._stream(room)) as stream:
                async for committed in stream:
                    yield committed
        except EngineError as error:
            if not state.survives(error):
                raise
            self.outcome = Broken(error, self._asked)
        segment.seconds = state.now() - segment.at
        if self.outcome is None:
            if last := self._end_sentence(len(segment.tokens), last=True):
                yield last
            if not isinstance(self.outcome, Decision):
                self._finish()
        for event in state.left_out():
            yield event
        yield segment

    def _finish(self) -> None:
        self._transcript.complete, self.outcome = True, Finished()

    async def _stream(self, room: int) -> AsyncGenerator[Committed]:
        """Read at most `room` tokens, as far as they are wanted."""
        state, segment, form = self._state, self._segment, self._state.form
        least = min(state.least, room)
        prompt = await state.prompt_ids()
        self._asked = len(prompt)
        finder = state.stop_finder()
        self._transcript.begin(segment, finder)
        self._monitor.sentences.begin_draft()
        stop = () if finder else form.stop
        options = {"min_tokens": least} if state.policy.budget.least else {}
        async with state.engine.stream(prompt, max_tokens=room, stop=stop, **options) as stream:
            try:
                async for token in until_stop(stream, finder) if finder else stream:
                    if segment.first_token is None:
                        segment.first_token = state.now() - segment.at
                    if committed := self._take(token):
                        yield committed
                    if self.outcome is not None:
                        break
            finally:
                spared = note_usage(segment, stream)
                if finder and finder.stop:
                    segment.finish, segment.stop = "stop", finder.stop
        state.skip(spared)
        if segment.replayed:
            segment.first_token = None

    def _take(self, token: Token) -> Committed | None:
        """Take one token: end the sentence before it if it begins a new one, then read the triggers."""
        state, transcript, tokens = self._state, self._transcript, self._segment.tokens
        tokens.append(token)
        state.generated += 1
        committed = None
        if self._begins(token):
            committed = self._end_sentence(len(tokens) - 1)
            if self.outcome is not None:
                return committed
        elif transcript.unsettled and transcript.settle():
            self.outcome = Finished()
            return None
        self._monitor.update(token)
        if self._reads_tokens and not transcript.unsettled:
            end, stops = len(tokens), transcript.stops
            stopped = stops is not None and stops.found
            if state.lender and not stopped and state.hands_back("token", transcript.written(end)):
                self.outcome = HandBack()
                return _joined(committed, state.commit(end, whole=False))
            self.outcome = self._decide("token", end)
        return committed

    def _end_sentence(self, end: int, *, last: bool = False) -> Committed | None:
        """A sentence is complete: commit it, unless a trigger fires on it."""
        self.outcome = self._decide("sentence", end, last=last)
        if self.outcome is not None:
            return None
        committed = self._state.commit(end)
        if self._transcript.complete:
            self.outcome = Finished()
        elif self._state.hands_back("sentence", self._transcript.written(end)):
            self.outcome = HandBack()
        return committed

    def _decide(self, read: Reading, end: int, *, last: bool = False) -> Decision | None:
        """The first rule that acts on the draft up to `end`.

        An action that keeps the draft serves what comes after it: there is none after the `last` sentence, nor after
        the one that gives the answer.
        """
        state, transcript = self._state, self._transcript
        if not state.armed or transcript.only_stops(end):
            return None
        for number, value in self._monitor.fired(read):
            place = state.mid[number]
            rule = state.policy.rules[place]
            if rule.action.keep and read == "sentence" and (last or transcript.gives_answer(end)):
                continue
            if state.may_act(place) and transcript.written(end) >= rule.action.stay:
                return Decision(place, state.fire(rule, value, end - 1), end)
        return None


def _joined(first: Committed | None, second: Committed | None) -> Committed | None:
    """Two parts of one stream that are committed at once."""
    if first and second:
        return replace(second, tokens=[*first.tokens, *second.tokens])
    return first or second
