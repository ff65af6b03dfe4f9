"""A session runs one policy on one question. It is the only place with a loop.

Text is committed or discarded, sentence by sentence; what was committed is never taken back, and nothing else reaches
whoever listens. A policy that may start the whole answer again therefore commits it at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import Literal, NamedTuple

from flarekit.actions import Escalate, QueryContext, Retrieve, Revise, Vote
from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError, EngineError, PromptTooLong, RetrieverFailed, StreamBroken, told
from flarekit.io.retries import Retries
from flarekit.policies import Policy, Rule, arm_policy, with_settings
from flarekit.policies.triggers import Reading
from flarekit.prompts.evidence import Evidence, Render
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Hit, Passage, Retriever
from flarekit.session.monitor import Monitor
from flarekit.session.transcript import Answer
from flarekit.session.withheld import Withheld
from flarekit.signals.answer import Answered, PostSignal
from flarekit.signals.question import PreSignal
from flarekit.signals.sampling import answers_of, generate, majority, same_words, sample_answers
from flarekit.signals.token import ALWAYS, StreamSignal
from flarekit.text.stops import StopFinder, held_back, until_stop
from flarekit.tokens import Token, text_of
from flarekit.trace import Chosen, Committed, Event, Failed, Fired, HandedOver, Probe, Retrieved, Role, Segment, Trace


class _Decision(NamedTuple):
    """A rule whose trigger fired."""

    place: int
    """The rule's place in the policy."""
    fired: Fired
    end: int = 0
    """Where the draft ends in the last segment."""


class Session:
    """One policy's work on one question; iterate over it once for its events, then read `trace`.

    ::

        session = Session(parse_policy("flare"), "Who ...?", weak=engine, retriever=bm25)
        async for event in session:
            print(event)
        print(session.trace.answer)
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
        self._weak, self._strong, self._retriever = weak, strong, retriever
        self._resumes = resumes if isinstance(resumes, Retries) else Retries(resumes)
        self._strict, self._patience = strict, patience
        self._broken = False  # the last stream broke, and the answer goes on from what is committed
        self._role: Role = "weak"
        self._passages: list[Passage] = []
        self._evidence = Evidence()  # what of them stands in the prompt
        self._notes: list[str] = []  # lines that the prompt holds between question and answer
        self._votes: dict[float, list[str]] = {}  # sampled answers by temperature
        self._answer = Answer()
        self._generated = 0
        self._unsaid: list[Event] = []  # recorded while a prompt was made, and not told to the caller yet
        self._asked = 0  # tokens of the last prompt
        self._lent: int | None = None  # the rule by which the strong engine writes until it hands back
        self._returns = False
        # A sentence that an action has just mended is taken as it is: triggers wait for the next one.
        self._armed = True
        self._decision: _Decision | None = None
        self._finder: StopFinder | None = None
        self._excess = 0  # characters of a stop string that were committed before it was known to be one
        self._began = 0.0
        self._adopt(policy)

    async def run(self) -> Trace:
        """The whole session, for those who want only its trace."""
        async for _ in self:
            pass
        return self.trace

    def _adopt(self, policy: Policy) -> None:
        """Work by this policy, from the first token on."""
        self.policy, self._form = policy, policy.prompt
        self._left = [rule.times for rule in policy.rules]
        self._mid = [place for place, rule in enumerate(policy.rules) if rule.trigger.moment == "mid"]
        self._monitor = Monitor([policy.rules[place].trigger for place in self._mid])
        self._reads_tokens = any(policy.rules[place].trigger.read == "token" for place in self._mid)

    async def __aiter__(self) -> AsyncGenerator[Event | Committed]:
        """What happens, and the committed text of which it is known that no stop string begins with it."""
        withheld = Withheld()
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, Committed) and self._looks_for_stops():
                    for known in withheld.release(event, () if self._form.stop_included else self._form.stop):
                        yield known
                else:
                    yield event
        for left in withheld.rest(self._excess):
            yield left

    async def _events(self) -> AsyncGenerator[Event | Committed]:
        """Decide before, then generate until a trigger fires, act, and go on, until the answer stands."""
        self._began = perf_counter()
        if self.policy.chooser:
            yield await self._choose()
        async for event in self._before():
            yield event
        while True:
            async with aclosing(self._generate()) as events:
                async for event in events:
                    yield event
            if self._broken:
                continue
            if self._returns and not self._answer.complete:
                yield self._hand_back()
                continue
            if self._decision is None:
                async for probe in self._after():
                    yield probe
            if self._decision is None:
                break
            async for event in self._act(self._decision):
                yield event
        for event in self._told():
            yield event
        if self.policy.revises:
            for segment in self.trace.segments:
                if segment.kept:
                    yield Committed(segment.role, segment.tokens[: segment.kept], self._now())
        self.trace.text = self._form.visible(self._answer.text).strip()
        self.trace.answer = self._form.read_answer(self.trace.text)
        self.trace.seconds = self._now()

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def _choose(self) -> Event:
        """Let the policy's router choose the policy for this question, and adopt it."""
        chooser, began = self.policy.chooser, self._now()
        assert chooser is not None  # noqa: S101 - the caller looked
        # Routers embed the question, which takes milliseconds that other sessions' tokens need not wait for.
        [place] = await asyncio.to_thread(chooser.choose, [self.trace.question], self.policy.tradeoff)
        chosen = arm_policy(chooser.arms[place], self._weak.model, self._strong.model if self._strong else None)
        # An arm may have a prompt of its own, but not where the question came as a conversation or by another form.
        form = None if self._form == Prompt() else self._form
        self._adopt(with_settings(chosen, form, self.policy.budget))
        return self._record(Chosen(chooser.name, chosen.spec, began))

    async def _before(self) -> AsyncIterator[Event | Committed]:
        for place, rule in enumerate(self.policy.rules):
            trigger = rule.trigger
            if trigger.moment != "pre":
                continue
            value = trigger.signal.high
            if trigger.signal is not ALWAYS and isinstance(trigger.signal, PreSignal):
                began = self._now()
                probe = await trigger.signal.measure(self.trace.question, self._weak, self._form)
                value = probe.value
                yield self._probed(probe, began)
            if trigger.fires(value):
                async for event in self._act(_Decision(place, self._fire(rule, value, None))):
                    yield event

    def _during(self, read: Reading, end: int, last: bool = False) -> _Decision | None:
        """What a mid trigger decides of the draft that ends at `end` in the last segment.

        An action that keeps the draft serves what comes after it: there is none after the `last` sentence, nor after
        the one that gives the answer.
        """
        if not self._armed or (self._finder is not None and self._finder.found and self._only_stops(end)):
            return None
        for place, value in self._monitor.fired(read):
            rule = self.policy.rules[self._mid[place]]
            if rule.action.keep and read == "sentence" and (last or self._gives_answer(end)):
                continue
            if self._may_act(self._mid[place]) and self._has_stayed(rule, end):
                return _Decision(self._mid[place], self._fire(rule, value, end - 1), end)
        return None

    async def _after(self) -> AsyncIterator[Event]:
        """Read the post triggers; the first that fires is the decision."""
        for place, rule in enumerate(self.policy.rules):
            trigger, signal = rule.trigger, rule.trigger.signal
            if trigger.moment != "post" or not self._may_act(place):
                continue
            if isinstance(signal, PostSignal):
                began = self._now()
                probe = await signal.judge(await self._finished())
                value = probe.value
                yield self._probed(probe, began)
            elif isinstance(signal, StreamSignal):
                value = signal.high if signal is ALWAYS else signal(self._answer.own)
            if trigger.fires(value):
                last = len(self.trace.segments[-1].tokens) - 1
                self._decision = _Decision(place, self._fire(rule, value, last))
                return

    async def _finished(self) -> Answered:
        """The answer as it stands, for those who judge it."""
        form, engine = self._form, self._engine()
        answer = form.read_answer(form.visible(self._answer.text).strip())
        question, limit = self.trace.question, self.policy.budget.answer
        ids = await self._head(engine)
        return Answered(question, answer, form, self._evidence.shown, engine, self._role, ids, limit, self._votes)

    def _may_act(self, place: int) -> bool:
        """Whether a rule has actions left, money to pay for one, and somebody left to call."""
        nobody = self._role == "strong" or self._strong is None
        calls_nobody = isinstance(self.policy.rules[place].action, Escalate) and nobody
        return self._left[place] > 0 and self._generated < self.policy.budget.total and not calls_nobody

    def _fire(self, rule: Rule, value: float, token: int | None) -> Fired:
        trigger = rule.trigger
        segment = None if token is None else len(self.trace.segments) - 1
        name, threshold = trigger.signal.name, trigger.threshold
        return Fired(name, trigger.moment, value, threshold, rule.action.name, segment, token, self._now())

    def _only_stops(self, end: int) -> bool:
        """Whether the draft that ends at `end` was but a stop string: nobody is to read it, so it needs no help."""
        segment = self.trace.segments[-1]
        return not text_of(segment.tokens[segment.kept : end]).strip()

    # --- generating -------------------------------------------------------------------------------------------------

    async def _generate(self) -> AsyncGenerator[Event | Committed]:
        """Stream one segment, until a trigger fires or the answer ends; one that breaks may be carried on."""
        self._decision, self._returns, self._broken = None, False, False
        budget = self.policy.budget
        kept = sum(segment.kept for segment in self.trace.segments)
        room = min(budget.answer - kept, budget.total - self._generated)
        if self._answer.complete or room < 1:
            self._answer.complete = True
            return
        segment = Segment(self._role, at=self._now())
        self.trace.events.append(segment)
        failure: EngineError | None = None
        try:
            async with aclosing(self._stream(segment, room)) as stream:
                async for part in stream:
                    yield part
        except EngineError as error:
            if not self._survives(error):
                raise
            failure = error
        segment.seconds = self._now() - segment.at
        if failure is None and not (self._decision or self._answer.complete or self._returns):
            if committed := self._end_sentence(segment, len(segment.tokens), last=True):
                yield committed
            self._answer.complete = self._decision is None
        for event in self._told():
            yield event
        yield segment
        if failure is not None:
            for event in self._carry_on(failure):
                yield event

    async def _stream(self, segment: Segment, room: int) -> AsyncGenerator[Committed]:
        """Read one stream of at most `room` tokens into `segment`, as far as it is wanted."""
        engine, least = self._engine(), self._least()
        prompt = await self._prompt(engine)
        self._asked = len(prompt)
        finder = self._finder = self._stops_after_committed()
        stop, options = (
            () if finder else self._form.stop,
            {"min_tokens": min(least, room)} if self.policy.budget.least else {},
        )
        async with engine.stream(prompt, max_tokens=room, stop=stop, **options) as stream:
            try:
                async for token in until_stop(stream, finder) if finder else stream:
                    if segment.first_token is None:
                        segment.first_token = self._now() - segment.at
                    if committed := self._take(segment, token):
                        yield committed
                    if self._decision or self._answer.complete or self._returns:
                        break
            finally:
                segment.finish, usage = stream.finish, stream.usage
                segment.stop = getattr(stream, "stop_reason", None)  # not every engine tells
                if finder and finder.stop:
                    segment.finish, segment.stop = "stop", finder.stop
                segment.prompt_tokens, segment.replayed = usage.prompt, usage.replayed
                segment.cached_tokens, segment.cached_estimated = usage.cached, usage.estimated
        self._pass(usage.spared)
        if usage.replayed:
            segment.first_token = None

    def _looks_for_stops(self) -> bool:
        """Whether stop strings are looked for here; where nothing is held back for them, engines do it."""
        return held_back(self._form.stop)

    def _stops_after_committed(self) -> StopFinder | None:
        """What finds stop strings in the stream that goes on from the committed text, which may hold a part of one."""
        self._excess = 0
        if not self._looks_for_stops():
            return None
        form = self._form
        return StopFinder(form.stop, included=form.stop_included, said=self._answer.text, least=self._least())

    def _least(self) -> int:
        """How many more tokens the answer has at least."""
        return max(self.policy.budget.least - sum(segment.kept for segment in self.trace.segments), 0)

    def _survives(self, error: EngineError) -> bool:
        """Whether the answer can go on after an engine has failed."""
        if isinstance(error, PromptTooLong) and self._evidence.shown:
            return True
        if self._role == "strong":
            return not self._strict
        # One that is unavailable was asked as often as it may be.
        return self._resumes.left > 0 and isinstance(error, StreamBroken)

    def _carry_on(self, error: EngineError) -> list[Event]:
        """Forget the draft of a stream that broke; who or what failed is left out, or asked again."""
        self._decision, self._returns, self._broken = None, False, True
        events: list[Event] = []
        if isinstance(error, PromptTooLong) and self._evidence.shown:
            self._evidence.refused(self._engine(), self._asked)
        elif self._role == "strong":
            events.append(self._failed("strong", str(error), told(error)))
            self._strong = None
            events.append(self._hand_back())
        else:
            self._resumes.take()
            events.append(self._failed("weak", str(error), told(error)))
            self._monitor.rewind(self._answer.own)
        if not self._answer.sentence:
            self._answer.end_sentence()
        return events

    def _take(self, segment: Segment, token: Token) -> Committed | None:
        """Take one token: end the sentence before it if it begins a new one, then read the triggers."""
        before = len(segment.tokens)
        segment.tokens.append(token)
        self._generated += 1
        committed = None
        ended = self._answer.begins_sentence(token, cut=before - segment.kept >= self.policy.lookahead)
        if ended:
            committed = self._end_sentence(segment, before)
            if self._decision or self._answer.complete or self._returns:
                return committed
        elif self._answer.unsettled and self._settle(segment):
            return None
        self._monitor.update(token)
        if self._reads_tokens and not self._answer.unsettled:
            stopped = self._finder is not None and self._finder.found
            if self._lent is not None and not stopped and self._is_calm(self._lent, before + 1):
                self._returns = True
                return _joined(committed, self._commit(segment, before + 1, whole=False))
            self._decision = self._during("token", before + 1)
        return committed

    def _end_sentence(self, segment: Segment, end: int, last: bool = False) -> Committed | None:
        """A sentence is complete: commit it, unless a trigger fires on it."""
        self._decision = self._during("sentence", end, last)
        return None if self._decision else self._commit(segment, end)

    def _gives_answer(self, end: int) -> bool:
        """Whether the answer is given where the draft ends at `end` in the last segment."""
        segment = self.trace.segments[-1]
        draft = text_of(segment.tokens[segment.kept : end])
        if not (self._answer.mentioned or self._form.mentions_answer(self._answer.sentence + draft)):
            return False
        text = self._answer.text + draft
        return self._form.ends_answer(text, text_of(segment.tokens[end:])) is not False

    def _settle(self, segment: Segment) -> bool:
        """Whether the committed text gives the answer whole, as far as the draft behind it tells."""
        if not self._answer.mentioned:
            self._answer.mentioned = self._form.mentions_answer(self._answer.sentence)
        if not self._answer.mentioned:
            self._answer.complete = self._answer.unsettled = False
            return False
        stands = self._form.ends_answer(self._answer.text, text_of(segment.tokens[segment.kept :]))
        self._answer.complete, self._answer.unsettled = stands is True, stands is None
        return self._answer.complete

    def _is_calm(self, place: int, end: int) -> bool:
        """Whether the strong engine, called by the rule at `place`, has written enough and is in no doubt itself."""
        rule = self.policy.rules[place]
        if not isinstance(rule.action, Escalate) or rule.action.back != "calm":
            return False
        return self._has_stayed(rule, end) and not rule.trigger.fires(self._monitor.value(self._mid.index(place)))

    def _has_stayed(self, rule: Rule, end: int) -> bool:
        """Whether the engine at work, its draft ending at `end`, has written what the rule wants of it at least."""
        if not isinstance(rule.action, Escalate) or not rule.action.stay:
            return True
        return len(self._answer.own) + end - self.trace.segments[-1].kept >= rule.action.stay

    def _commit(self, segment: Segment, end: int, whole: bool = True) -> Committed | None:
        """Make the draft up to `end` part of the answer; `whole` where that ends its sentence."""
        tokens = segment.tokens[segment.kept : end]
        segment.kept = end
        self._answer.commit(tokens)
        if whole:
            self._settle(segment)
            self._answer.sentence = ""
            self._monitor.end_sentence()
            self._returns = self._lent is not None and self._lends_a_sentence(self._lent)
        if self._finder and self._finder.stop and end == len(segment.tokens):
            self._excess = self._finder.excess
            self._answer.cut(self._excess)
        # A sentence that was kept before its end must not fire again before it.
        self._armed = whole
        said = self._form.visible_tokens(tokens)
        if self.policy.revises or not said:
            return None
        return Committed(segment.role, said, self._now())

    def _lends_a_sentence(self, place: int) -> bool:
        action = self.policy.rules[place].action
        return isinstance(action, Escalate) and action.back == "sentence"

    # --- acting -----------------------------------------------------------------------------------------------------

    async def _act(self, decision: _Decision) -> AsyncIterator[Event | Committed]:
        """Do what a fired trigger's rule says; the next segment goes on from there."""
        rule = self.policy.rules[decision.place]
        action, self._decision = rule.action, None
        self._left[decision.place] -= 1
        yield self._record(decision.fired)
        draft, whole = self._draft(decision), True
        if action.keep and decision.end:
            if committed := self._keep_draft(decision):
                yield committed
            # After the end of the answer there is nothing to help with, unless the model asked for it as its last word.
            if self._answer.complete and self._form.hidden is None:
                return
            whole = not self._answer.sentence
        match action:
            case Retrieve():
                retrieved = await self._retrieve(action, draft)
                yield self._record(retrieved)
                hits = retrieved.hits if isinstance(retrieved, Retrieved) else ()
                passages = self._found(action, hits)
                if not action.keep and (not hits or passages == self._passages):
                    if committed := self._keep_draft(decision):
                        yield committed
                    return
                self._passages = passages
            case Escalate():
                self._lent = None if action.back == "never" else decision.place
                yield self._hand_over("strong", "" if action.restart else self._answer.text)
            case Vote():
                async for event in self._vote(action):
                    yield event
                return
            case Revise():
                yield await self._criticise()
        if action.restart:
            self._discard_all()
        self._answer.complete = self._answer.unsettled = False
        self._armed = action.keep or rule.trigger.moment != "mid"
        if whole:
            self._answer.end_sentence()
        self._monitor.rewind(self._answer.own)

    def _draft(self, decision: _Decision) -> QueryContext:
        last = self.trace.segments[-1] if decision.end else Segment(self._role)
        sentence = last.tokens[last.kept : decision.end]
        return QueryContext(
            self.trace.question,
            self._answer.text,
            sentence,
            self._form.answer_phrase,
            committed=tuple(self._answer.own),
        )

    async def _retrieve(self, action: Retrieve, draft: QueryContext) -> Retrieved | Failed:
        began = self._now()
        query = action.query(draft)
        assert self._retriever is not None  # noqa: S101 - checked when the session was made
        try:
            async with asyncio.timeout(self._patience):
                hits = await self._retriever.search(query, action.k)
        except Exception as error:  # a retriever may be anybody's code, and a search engine may fail in any way
            if self._strict:
                raise
            reason, known = _reasons(error, self._patience)
            return Failed("retriever", reason, self._now(), known)
        return Retrieved(query, tuple(hits), began, self._now() - began)

    def _found(self, action: Retrieve, hits: Sequence[Hit]) -> list[Passage]:
        """The passages that the prompt holds after a look-up: never none where there were some."""
        found = [hit.passage for hit in hits]
        if action.gather:
            return list(dict.fromkeys([*self._passages, *found]))[: action.gather]
        return found or self._passages

    def _hand_over(self, target: Role, text: str) -> Event:
        """Let the other engine go on from `text`."""
        event = HandedOver(self._role, target, text, self._now())
        self._role = target
        self._answer.inherit(text)
        return self._record(event)

    def _hand_back(self) -> Event:
        """The strong engine has written what it was called for: the weak one goes on."""
        self._lent = None
        event = self._hand_over("weak", self._answer.text)
        self._armed = True
        if not self._answer.sentence:
            self._answer.end_sentence()
        self._monitor.rewind(())
        return event

    async def _vote(self, action: Vote) -> AsyncIterator[Event | Committed]:
        """Sample whole answers, and keep the first of those that give the commonest one."""
        began, engine, form = self._now(), self._engine(), self._form
        segments = await sample_answers(
            engine,
            await self._prompt(engine),
            form,
            role=self._role,
            samples=action.samples,
            temperature=action.temperature,
            limit=self.policy.budget.answer,
        )
        self._pass(max(segment.seconds for segment in segments))
        self._votes[action.temperature] = answers_of(segments, form)
        winner, _ = majority(same_words(self._votes[action.temperature], self.trace.question))
        for place, segment in enumerate(segments):
            segment.at, segment.seconds = began, self._now() - began
            segment.kept = segment.kept if place == winner else 0
            self._generated += len(segment.tokens)
            yield self._record(segment)
        self._excess = 0
        self._answer.own = segments[winner].tokens[: segments[winner].kept]
        self._answer.complete = True
        if self._answer.own and not self.policy.revises:
            yield Committed(self._role, form.visible_tokens(self._answer.own), self._now())

    async def _criticise(self) -> Event:
        """Have the engine at work criticise the answer; both are part of the prompt from then on."""
        form, engine, began = self._form, self._engine(), self._now()
        answer = self._answer.text.strip()

        async def render(passages: Sequence[Passage]) -> list[int]:
            return await form.criticism_ids(engine, self.trace.question, answer, passages)

        ids = await self._fitting(render, engine)
        segment = await generate(engine, ids, self._role, max_tokens=form.max_criticism_tokens, stop=form.stop)
        self._pass(segment.seconds)
        segment.at, segment.seconds, segment.kept = began, self._now() - began, 0
        self._generated += len(segment.tokens)
        self._notes = [f"Earlier answer: {answer}", f"Criticism of it: {text_of(segment.tokens).strip()}"]
        return self._record(segment)

    def _keep_draft(self, decision: _Decision) -> Committed | None:
        """A look-up found nothing new: generating again would give the same tokens, so the draft is kept."""
        if not decision.end:
            return None
        segment = self.trace.segments[-1]
        ended = segment.finish != "closed" and decision.end == len(segment.tokens)
        whole = ended or decision.end < len(segment.tokens)
        committed = self._commit(segment, decision.end, whole)
        if whole:
            self._answer.end_sentence()
        self._answer.complete |= ended
        return committed

    def _discard_all(self) -> None:
        for segment in self.trace.segments:
            segment.kept = 0
        self._excess = 0
        self._answer.clear()

    # --- what the parts above share ---------------------------------------------------------------------------------

    def _engine(self) -> Engine:
        engine = self._weak if self._role == "weak" else self._strong
        assert engine is not None  # noqa: S101 - checked when the session was made
        return engine

    async def _prompt(self, engine: Engine) -> list[int]:
        """The ids to go on from: the prompt and what another engine committed as text, our own tokens as their ids."""
        return [*await self._head(engine), *(token.id for token in self._answer.own)]

    async def _head(self, engine: Engine) -> list[int]:
        async def render(passages: Sequence[Passage]) -> list[int]:
            inherited = self._answer.inherited
            return await self._form.ids(engine, self.trace.question, passages, self._notes, inherited)

        return await self._fitting(render, engine)

    async def _fitting(self, render: Render, engine: Engine) -> list[int]:
        """A prompt with as much of the passages as leaves room for an answer."""
        brief = [self._form.brief(passage) for passage in self._passages]
        fitted = await self._evidence.fit(render, engine, brief, self.policy.budget.answer)
        if fitted.left_out:
            reason = f"the passages are too long: {fitted.left_out}"
            if self._strict:
                self._evidence.shown = []
                raise PromptTooLong(reason)
            self._unsaid.append(self._record(Failed("retriever", reason, self._now())))
            self._passages = self._passages[: len(fitted.passages)]
        return fitted.ids

    def _probed(self, probe: Probe, began: float) -> Event:
        probe.at, probe.seconds = began, self._now() - began
        self._generated += probe.generated_tokens
        return self._record(probe)

    def _told(self) -> list[Event]:
        """What was left unsaid, once."""
        told, self._unsaid = self._unsaid, []
        return told

    def _record(self, event: Event) -> Event:
        self.trace.events.append(event)
        return event

    def _failed(self, part: Literal["retriever", "weak", "strong"], error: str, known: str) -> Event:
        return self._record(Failed(part, error, self._now(), known))

    def _now(self) -> float:
        return perf_counter() - self._began

    def _pass(self, seconds: float) -> None:
        """Let the time pass that replayed tokens took when they were generated."""
        self._began -= seconds


def _joined(first: Committed | None, second: Committed | None) -> Committed | None:
    """Two parts of one stream that are committed at once."""
    if first and second:
        return replace(second, tokens=[*first.tokens, *second.tokens])
    return first or second


def _reasons(error: Exception, patience: float | None) -> tuple[str, str]:
    """Why a look-up failed, with all that is known of it and as anybody may know it."""
    if isinstance(error, TimeoutError):
        late = f"no answer within {patience:g} s" if patience else "no answer within its time-out"
        return late, late
    if isinstance(error, RetrieverFailed):
        return str(error), told(error)
    return " ".join(f"{type(error).__name__}: {error}".split()), told(error)
