"""Where a trigger would have fired: the values that mid triggers see along the recorded streams of an answer.

The values are those of the real `Monitor`, fed the tokens as a session was: sentence by sentence, with discarded drafts
forgotten again. They tell what another threshold would have done on the *same* stream; what would have been written
after its first action is another text, which only a run can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from flarekit.errors import FlarekitError
from flarekit.policies import parse_policy
from flarekit.policies.spec import parse_spec
from flarekit.policies.triggers import Reading, Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.online import Measure
from flarekit.signals.token import Signal, find_signal
from flarekit.text.sentences import LOOKAHEAD
from flarekit.text.words import is_content, is_word
from flarekit.tokens import Token
from flarekit.trace import HandedOver, Segment, Trace

Counts = Literal["all", "words", "content"]
"""Which tokens a signal counts; the others' values are 0."""
SCALE = 1000
"""Values are whole thousandths, rounded down: `value >= threshold` stays exact for thresholds in thousandths."""
_EPSILON = 1e-7
"""0.2 is 199.99999999999997 thousandths to a computer, and shall be 200."""
COLUMNS: dict[str, Signal] = {
    "min-prob": find_signal("min-prob", "token"),
    "entropy": find_signal("entropy", "token"),
    "margin": find_signal("margin", "token"),
    "mean-logprob": find_signal("mean-logprob"),
    "mean-entropy": find_signal("mean-entropy"),
    "rolling-entropy": find_signal("rolling-entropy"),
    "step-entropy": find_signal("step-entropy"),
    "entropy-trend": find_signal("entropy-trend"),
}
"""What is recorded at every token. A signal that takes the highest value of a sentence is recorded token by token: it
first reaches a threshold at the first token that does."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One way of watching a stream, as the report offers it."""

    label: str
    column: str
    """One of `COLUMNS`."""
    counts: Counts = "all"
    read: Reading = "token"

    @property
    def high(self) -> float:
        """Upper end of its range."""
        return COLUMNS[self.column].high


WATCHES = (
    Watch("min-prob", "min-prob"),
    Watch("min-prob, words only", "min-prob", "words"),
    Watch("entropy", "entropy"),
    Watch("entropy, words only", "entropy", "words"),
    Watch("content-entropy", "entropy", "content"),
    Watch("margin", "margin"),
    Watch("mean-logprob, at a sentence's end", "mean-logprob", read="sentence"),
    Watch("mean-logprob, at every token", "mean-logprob"),
    Watch("mean-entropy, at a sentence's end", "mean-entropy", read="sentence"),
    Watch("mean-entropy, at every token", "mean-entropy"),
    Watch("rolling-entropy, 5 tokens", "rolling-entropy"),
    Watch("step-entropy, a sentence's first token", "step-entropy"),
    Watch("entropy-trend", "entropy-trend"),
)


class Seen(NamedTuple):
    """What the triggers saw of one segment."""

    segment: Segment
    values: list[tuple[int, ...]]
    """For every token its values in the order of `COLUMNS`, in units of 1 / `SCALE`."""
    starts: list[int]
    """Where its sentences begin, rising from 0; a sentence that a new segment goes on with counts as another."""


def walk(trace: Trace, lookahead: int = LOOKAHEAD) -> list[Seen]:
    """Every segment of a trace as mid triggers saw it.

    What an engine had committed before a segment is what the whole trace kept of it.
    """
    monitor = Monitor([Trigger(signal, 0.0, "mid", "token") for signal in _measured_once()], lookahead)
    own: list[Token] = []
    seen: list[Seen] = []
    within_sentence = False
    for event in trace.events:
        if isinstance(event, HandedOver):
            own = []
        elif isinstance(event, Segment):
            monitor.rewind(own, within_sentence=within_sentence)
            seen.append(_segment(event, monitor))
            own = own + event.tokens[: event.kept]
            # Else an action kept an unfinished sentence, which the next segment goes on with.
            within_sentence = event.kept == len(event.tokens) and event.finish == "closed"
    return seen


def _segment(segment: Segment, monitor: Monitor) -> Seen:
    values, starts = [], [0]
    monitor.sentences.begin_draft()
    for place, token in enumerate(segment.tokens):
        if monitor.sentences.begins(token) and place:
            monitor.end_sentence()
            starts.append(place)
        monitor.update(token)
        values.append(tuple(_floored(monitor.value(column)) for column in range(len(COLUMNS))))
    return Seen(segment, values, starts if segment.tokens else [])


def counted_as(token: Token) -> int:
    """0 for punctuation and white space, 1 for a word, 2 for one that carries content."""
    return is_word(token) + is_content(token.text)


def peaks(seen: Sequence[Seen]) -> list[int]:
    """For each of `WATCHES` the highest value: it reaches a threshold exactly where its trigger fires at least once."""
    return [max((value for part in seen for value in _read(watch, part)), default=0) for watch in WATCHES]


def _read(watch: Watch, seen: Seen) -> Iterator[int]:
    column, least = list(COLUMNS).index(watch.column), ("all", "words", "content").index(watch.counts)
    ends = {*seen.starts[1:], len(seen.values)}
    for place, token in enumerate(seen.segment.tokens):
        if (watch.read == "token" or place + 1 in ends) and (not least or counted_as(token) >= least):
            yield seen.values[place][column]


def own_threshold(policy: str) -> tuple[int, float] | None:
    """The place among `WATCHES` and the threshold of a policy's first mid trigger; None where it has no such one.

    A policy with a trained router watches a signal of its own, and loading it is not worth a slider's first place.
    """
    if "router" in parse_spec(policy).parameters:
        return None
    try:
        rules = parse_policy(policy).rules
    except FlarekitError:
        return None
    for rule in rules:
        trigger = rule.trigger
        if trigger.moment == "mid" and isinstance(trigger.signal, Signal):
            place = next((place for place, watch in enumerate(WATCHES) if _watches(watch, trigger)), None)
            return None if place is None else (place, trigger.threshold)
    return None


def _watches(watch: Watch, trigger: Trigger) -> bool:
    """Whether a watch sees what a trigger sees."""
    signal = trigger.signal
    assert isinstance(signal, Signal)  # noqa: S101 - the caller looked
    column = COLUMNS[watch.column]
    if signal.name == "content-entropy":
        return watch.counts == "content"
    if signal.name != column.name or signal.words_only != (watch.counts == "words") or watch.counts == "content":
        return False
    if signal.reduce == "max":
        return signal.over in ("sentence", 1)
    return signal.over == column.over and (signal.reduce != "mean" or trigger.read == watch.read)


def _measured_once() -> list[Signal]:
    """The signals of `COLUMNS`, of which those that share a measure compute it once for each token."""
    measures: dict[Measure, Measure] = {}
    return [
        replace(signal, measure=measures.setdefault(signal.measure, _remembered(signal.measure)))
        for signal in COLUMNS.values()
    ]


def _remembered(measure: Measure) -> Callable[[Token], float]:
    last: Token | None = None
    value = 0.0

    def again(token: Token) -> float:
        nonlocal last, value
        if token is not last:
            last, value = token, measure(token)
        return value

    return again


def _floored(value: float) -> int:
    return math.floor(value * SCALE + _EPSILON)
