"""What a session knows and works with; what its actions see of it (`ActionContext`)."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from flarekit.actions.base import Lender
from flarekit.actions.queries import QueryContext
from flarekit.engines.engine import Engine
from flarekit.errors import EngineError, PromptTooLong, StreamBroken
from flarekit.io.retries import Retries
from flarekit.policies import Policy, Rule
from flarekit.policies.triggers import Reading
from flarekit.prompts.evidence import Evidence, Render
from flarekit.retrieval import Passage, Retriever
from flarekit.session.monitor import Monitor
from flarekit.session.transcript import Transcript
from flarekit.text.stops import StopFinder, held_back
from flarekit.tokens import Token
from flarekit.trace import Committed, Event, Failed, Fired, HandedOver, Probe, Role, Segment, Trace


class Decision(NamedTuple):
    """A rule whose trigger fired."""

    place: int
    """The rule's place in the policy."""
    fired: Fired
    end: int = 0
    """Where the draft ends in the stream that the trigger watched; 0 at the moments pre and post."""


class SessionState:
    """Everything but the order of things, which is the session's."""

    def __init__(self, trace: Trace, weak: Engine, strong: Engine | None, retriever: Retriever | None) -> None:
        """A question that nothing was generated for; `adopt` gives it a policy."""
        self.trace = trace
        self.weak, self.strong, self.retriever = weak, strong, retriever
        self.strict = True
        self.patience: float | None = None
        self.resumes = Retries(0)
        self.role: Role = "weak"
        self.passages: list[Passage] = []
        self.evidence = Evidence()
        """What of the passages stands in the last prompt."""
        self.notes: list[str] = []
        self.votes: dict[float, list[str]] = {}
        self.generated = 0
        """All tokens so far, with discarded drafts, samples and probes."""
        self.acting = 0
        """The place of the rule whose action is being taken."""
        self.lender: Lender | None = None
        """By what the strong engine at work hands back, and the rule that it was called by."""
        self._lending = 0
        self.armed = True
        """Whether mid triggers are read. A sentence that an action has just mended is taken as it is."""
        self._began = 0.0
        self._unsent: list[Event | Committed] = []
        self._left_out: list[Event] = []

    def adopt(self, policy: Policy) -> None:
        """Work by this policy, from the first token on."""
        self.policy, self.form = policy, policy.prompt
        self.transcript = Transcript(policy.prompt)
        self.uses = [rule.times for rule in policy.rules]
        """How often each rule may still act."""
        self.mid = [place for place, rule in enumerate(policy.rules) if rule.trigger.moment == "mid"]
        """The places of the rules with a mid trigger, in the monitor's order."""
        self.monitor = Monitor([policy.rules[place].trigger for place in self.mid], policy.lookahead)

    # --- what there is ----------------------------------------------------------------------------------------------

    @property
    def question(self) -> str:  # noqa: D102 - see ActionContext, here and below
        return self.trace.question

    @property
    def text(self) -> str:  # noqa: D102
        return self.transcript.text

    @property
    def limit(self) -> int:  # noqa: D102
        return self.policy.budget.answer

    @property
    def engine(self) -> Engine:  # noqa: D102
        engine = self.weak if self.role == "weak" else self.strong
        assert engine is not None  # noqa: S101 - checked when the session was made
        return engine

    @property
    def kept(self) -> int:
        """Tokens of the answer so far."""
        return sum(segment.kept for segment in self.trace.segments)

    @property
    def least(self) -> int:
        """Minimum tokens that the answer still needs before it may end."""
        return max(self.policy.budget.least - self.kept, 0)

    @property
    def room(self) -> int:
        """Tokens that the next stream may have."""
        budget = self.policy.budget
        return min(budget.answer - self.kept, budget.total - self.generated)

    def looks_for_stops(self) -> bool:
        """Whether stop strings are looked for here; where nothing is held back for them, engines do it."""
        return held_back(self.form.stop)

    def stop_finder(self) -> StopFinder | None:
        """What finds stop strings in a stream that goes on from the committed text, which may hold a part of one."""
        if not self.looks_for_stops():
            return None
        return StopFinder(self.form.stop, included=self.form.stop_included, said=self.text, least=self.least)

    def query_context(self, end: int) -> QueryContext:
        """What a query may be made of when a trigger fires on the draft up to `end`."""
        transcript = self.transcript
        draft = transcript.draft(end) if end else ()
        return QueryContext(
            self.question, transcript.text, draft, self.form.answer_phrase, committed=tuple(transcript.own)
        )

    # --- the trace, and time ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def now(self) -> float:  # noqa: D102
        return perf_counter() - self._began

    def skip(self, seconds: float) -> None:  # noqa: D102
        self._began -= seconds

    def trace_event(self, event: Event) -> Event:
        """Add an event to the trace; the caller sends it to the client."""
        self.trace.events.append(event)
        return event

    def trace_probe(self, probe: Probe, began: float) -> Event:
        """`trace_event` for the measuring of a signal that began at `began`; counts its tokens."""
        probe.at, probe.seconds = began, self.now() - began
        self.generated += probe.generated_tokens
        return self.trace_event(probe)

    def record(self, event: Event) -> None:  # noqa: D102
        self._unsent.append(self.trace_event(event))

    def record_stream(self, segment: Segment, began: float) -> None:  # noqa: D102
        segment.at, segment.seconds = began, self.now() - began
        self.generated += len(segment.tokens)
        self.record(segment)

    def unsent(self) -> list[Event | Committed]:
        """What was recorded and not sent to the client yet, once."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def left_out(self) -> list[Event]:
        """The failures to fit passages into a prompt that no client was told of yet, once."""
        left_out, self._left_out = self._left_out, []
        return left_out

    # --- rules ------------------------------------------------------------------------------------------------------

    def may_act(self, place: int) -> bool:
        """Whether a rule has uses left, the budget holds, and a strong engine is available if it needs one."""
        if self.uses[place] <= 0 or self.generated >= self.policy.budget.total:
            return False
        available = self.role == "weak" and self.strong is not None
        return available or self.policy.rules[place].action.needs != "strong"

    def fire(self, rule: Rule, value: float, token: int | None) -> Fired:
        """The record of a trigger that fired at a token of the last stream; None before generation."""
        trigger = rule.trigger
        segment = None if token is None else len(self.trace.segments) - 1
        name, threshold = trigger.signal.name, trigger.threshold
        return Fired(name, trigger.moment, value, threshold, rule.action.name, segment, token, self.now())

    # --- the answer -------------------------------------------------------------------------------------------------

    def commit(self, end: int, *, whole: bool = True) -> Committed | None:
        """Make the draft up to `end` part of the answer; `whole` where that ends its sentence.

        What the client is sent of it; None where that is nothing, or must wait because the answer may begin anew.
        """
        tokens = self.transcript.commit(end, whole=whole)
        if whole:
            self.monitor.end_sentence()
        # A sentence that was kept before its end must not fire again before it.
        self.armed = whole
        said = self.form.visible_tokens(tokens)
        if self.policy.revises or not said:
            return None
        return Committed(self.role, said, self.now())

    def keep_draft(self, end: int) -> Committed | None:
        """Commit the draft up to `end` after its stream was left: what is the end of it ends the answer too."""
        segment = self.transcript.segment
        ended = segment.finish != "closed" and end == len(segment.tokens)
        whole = ended or end < len(segment.tokens)
        committed = self.commit(end, whole=whole)
        if whole:
            self.monitor.sentences.restart()
        self.transcript.complete = self.transcript.complete or ended
        return committed

    def answer_with(self, tokens: Sequence[Token]) -> None:  # noqa: D102
        self.transcript.answer_with(tokens)
        if tokens and not self.policy.revises:
            self._unsent.append(Committed(self.role, self.form.visible_tokens(tokens), self.now()))

    def discard(self) -> None:
        """Nothing of the answer is kept."""
        for segment in self.trace.segments:
            segment.kept = 0
        self.transcript.discard()

    # --- engines ----------------------------------------------------------------------------------------------------

    def hand_over(self, target: Role, text: str, lender: Lender | None = None) -> None:  # noqa: D102
        event = HandedOver(self.role, target, text, self.now())
        self.role, self.lender, self._lending = target, lender, self.acting
        self.transcript.inherit(text)
        self.record(event)

    def hands_back(self, at: Reading, written: int) -> bool:
        """Whether the strong engine at work, having written so many tokens, hands back now."""
        if self.lender is None:
            return False
        rule = self.policy.rules[self._lending]
        value = self.monitor.value(self.mid.index(self._lending)) if rule.trigger.moment == "mid" else 0.0
        return self.lender.hands_back(at, written, rule.trigger.fires(value))

    def hand_back(self) -> None:
        """The strong engine has written what it was called for: the weak one goes on."""
        self.hand_over("weak", self.text)
        self.armed = True
        self.monitor.rewind((), within_sentence=bool(self.transcript.sentence))

    def survives(self, error: EngineError) -> bool:
        """Whether the answer can go on after an engine has failed."""
        if isinstance(error, PromptTooLong) and self.evidence.shown:
            return True
        if self.role == "strong":
            return not self.strict
        # One that is unavailable was asked as often as it may be.
        return self.resumes.left > 0 and isinstance(error, StreamBroken)

    # --- prompts ----------------------------------------------------------------------------------------------------

    async def prompt_ids(self) -> list[int]:  # noqa: D102
        return self.transcript.prompt_ids(await self.prompt_head())

    async def prompt_head(self) -> list[int]:
        """The prompt's ids with what another engine committed, as the engine at work tokenises that text."""
        engine = self.engine

        async def render(passages: Sequence[Passage]) -> list[int]:
            return await self.form.ids(engine, self.question, passages, self.notes, self.transcript.inherited)

        return await self.fit(render)

    async def fit(self, render: Render) -> list[int]:  # noqa: D102
        brief = [self.form.brief(passage) for passage in self.passages]
        fitted = await self.evidence.fit(render, self.engine, brief, self.limit)
        if fitted.left_out:
            reason = f"the passages are too long: {fitted.left_out}"
            if self.strict:
                self.evidence.shown = []
                raise PromptTooLong(reason)
            self._left_out.append(self.trace_event(Failed("retriever", reason, self.now())))
            self.passages = self.passages[: len(fitted.passages)]
        return fitted.ids
