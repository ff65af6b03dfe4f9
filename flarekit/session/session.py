"""A session runs one policy on one question. It is the only place with a loop.

Text is committed or discarded, sentence by sentence; what was committed is never taken back, and nothing else reaches
the client. A policy that may start the whole answer again therefore commits it at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from types import TracebackType

from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError, PromptTooLong, told
from flarekit.io.retries import Retries
from flarekit.policies import Policy, arm_policy, with_settings
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Retriever
from flarekit.session.generation import Broken, Finished, Generation, HandBack
from flarekit.session.review import Review
from flarekit.session.state import Decision, SessionState
from flarekit.session.withheld import Withheld
from flarekit.signals.question import Chooser, PreSignal
from flarekit.signals.token import ALWAYS
from flarekit.trace import Chosen, Committed, Event, Failed, Trace

Events = AsyncGenerator[Event | Committed]


class Session:
    """One policy's work on one question; take its events once, then read `trace`.

    ::

        session = Session(parse_policy("flare"), "Who ...?", weak=engine, retriever=bm25)
        async with session as events:
            async for event in events:
                print(event)
        print(session.trace.answer)

    Leaving the `async with` block closes whatever is open, at once and however early: streams, which stops their
    engines, and look-ups. `async for event in session` is the same where the events are taken to their end or an error
    is raised by the session. After a `break`, Python closes them in the event loop's next turns rather than at once.
    """

    def __init__(
        self,
        policy: Policy,
        question: str,
        *,
        weak: Engine,
        strong: Engine | None = None,
        retriever: Retriever | None = None,
        id: str = "",  # noqa: A002 - the question's id, as everywhere
        strict: bool = True,
        resumes: int | Retries = 0,
        patience: float | None = None,
    ) -> None:
        """A session that has not begun.

        `strict`: a retriever or a strong engine that fails ends the session with its error; otherwise the answer goes
        on without it and the trace says so (`Failed`). Passages that the context cannot hold are cut, the longest
        first; one that must be left out counts as a failure.
        `resumes`: how many broken streams of one answer are asked for again, from what is committed; or a count that
        the weak engine's own tries are taken from too. `patience`: seconds that a look-up may take. `ConfigError` for a
        policy that needs what is not there.
        """
        if policy.escalates and strong is None:
            raise ConfigError(f"policy {policy.spec} needs a strong engine")
        if policy.retrieves and retriever is None:
            raise ConfigError(f"policy {policy.spec} needs a retriever")
        self.trace = Trace(id, policy.spec, question)
        self._state = SessionState(self.trace, weak, strong, retriever)
        self._state.strict, self._state.patience = strict, patience
        self._state.resumes = resumes if isinstance(resumes, Retries) else Retries(resumes)
        self._state.adopt(policy)
        self._open: Events | None = None

    @property
    def policy(self) -> Policy:
        """The policy at work: the one that the session was made with, or that its router has chosen."""
        return self._state.policy

    async def run(self) -> Trace:
        """The whole session, for those who want only its trace."""
        async with self as events:
            async for _ in events:
                pass
        return self.trace

    async def __aenter__(self) -> Events:
        self._open = self.__aiter__()
        return self._open

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._open is not None:
            await self._open.aclose()

    async def __aiter__(self) -> Events:
        """What happens, and the committed text of which it is known that no stop string begins with it."""
        withheld, state = Withheld(), self._state
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, Committed) and state.looks_for_stops():
                    for known in withheld.release(event, () if state.form.stop_included else state.form.stop):
                        yield known
                else:
                    yield event
        for left in withheld.rest(state.transcript.excess):
            yield left

    async def _events(self) -> Events:
        """Decide before, then generate until a trigger fires, act, and go on, until the answer stands."""
        state = self._state
        state.begin()
        async with aclosing(self._before()) as events:
            async for event in events:
                yield event
        while True:
            generation = Generation(state)
            async with aclosing(generation.events()) as events:
                async for event in events:
                    yield event
            outcome = generation.outcome
            if isinstance(outcome, Finished):
                review = Review(state)
                async with aclosing(review.events()) as events:
                    async for event in events:
                        yield event
                outcome = review.decision
            match outcome:
                case None:
                    break
                case HandBack():
                    state.hand_back()
                case Broken():
                    self._recover(outcome)
                case Decision():
                    async with aclosing(self._act(outcome)) as events:
                        async for event in events:
                            yield event
            for event in state.unsent():
                yield event
        for event in self._end():
            yield event

    async def _before(self) -> Events:
        """Let a router choose the policy, then act on every pre trigger that fires."""
        state = self._state
        if state.policy.chooser:
            yield await self._choose(state.policy.chooser)
        for place, rule in enumerate(state.policy.rules):
            trigger = rule.trigger
            if trigger.moment != "pre":
                continue
            value = trigger.signal.high
            if trigger.signal is not ALWAYS and isinstance(trigger.signal, PreSignal):
                began = state.now()
                probe = await trigger.signal.measure(state.question, state.weak, state.form)
                value = probe.value
                yield state.trace_probe(probe, began)
            if trigger.fires(value):
                async with aclosing(self._act(Decision(place, state.fire(rule, value, None)))) as events:
                    async for event in events:
                        yield event

    async def _choose(self, chooser: Chooser) -> Event:
        """Let the policy's router choose the policy for this question, and adopt it."""
        state, began = self._state, self._state.now()
        # Routers embed the question, which takes milliseconds that other sessions' tokens need not wait for.
        [place] = await asyncio.to_thread(chooser.choose, [state.question], state.policy.tradeoff)
        chosen = arm_policy(chooser.arms[place], state.weak.model, state.strong.model if state.strong else None)
        # An arm may have a prompt of its own, but not where the question came as a conversation or by another form.
        form = None if state.form == Prompt() else state.form
        state.adopt(with_settings(chosen, form, state.policy.budget))
        return state.trace_event(Chosen(chooser.name, chosen.spec, began))

    async def _act(self, decision: Decision) -> Events:
        """Take the action of a rule whose trigger fired; the next stream goes on from there."""
        state, transcript = self._state, self._state.transcript
        rule = state.policy.rules[decision.place]
        action, within_sentence = rule.action, False
        state.acting = decision.place
        state.uses[decision.place] -= 1
        yield state.trace_event(decision.fired)
        draft = state.query_context(decision.end)
        if action.keep and decision.end:
            if committed := state.keep_draft(decision.end):
                yield committed
            # After the end of the answer there is nothing to help with, unless the model asked for it as its last word.
            if transcript.complete and state.form.hidden is None:
                return
            within_sentence = bool(transcript.sentence)
        following = await action.act(state, draft)
        for event in state.unsent():
            yield event
        if following == "keep draft" and decision.end and (committed := state.keep_draft(decision.end)):
            yield committed
        if following != "generate":
            return
        if action.restart:
            state.discard()
        transcript.complete = transcript.unsettled = False
        state.armed = action.keep or rule.trigger.moment != "mid"
        state.monitor.rewind(transcript.own, within_sentence=within_sentence)

    def _recover(self, broken: Broken) -> None:
        """Forget the draft of a stream that broke; what failed is left out, or asked again."""
        state, error = self._state, broken.error
        if isinstance(error, PromptTooLong) and state.evidence.shown:
            state.evidence.refused(state.engine, broken.asked)
        elif state.role == "strong":
            state.record(Failed("strong", str(error), state.now(), told(error)))
            state.strong = None
            state.hand_back()
        else:
            state.resumes.take()
            state.record(Failed("weak", str(error), state.now(), told(error)))
            state.monitor.rewind(state.transcript.own, within_sentence=True)
        if not state.transcript.sentence:
            state.monitor.sentences.restart()

    def _end(self) -> Iterator[Event | Committed]:
        """The last events, with the whole answer where it could not be committed before; then the trace is complete."""
        state, trace = self._state, self.trace
        yield from state.left_out()
        if state.policy.revises:
            for segment in trace.segments:
                if segment.kept:
                    yield Committed(segment.role, segment.tokens[: segment.kept], state.now())
        trace.text = state.form.visible(state.text).strip()
        trace.answer = state.form.read_answer(trace.text)
        trace.seconds = state.now()
