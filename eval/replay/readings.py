"""Every signal's value on every recorded question, without asking a model again.

A value is what a trigger would have seen at its moment:

- *pre*: the probes that a run recorded before its first segment;
- *mid*: from the tokens of the unhelped answer, the highest value at the places where a mid trigger is read, so that it
  is at or above a threshold exactly where that trigger would have fired at least once;
- *post*: the same tokens taken as one span, and the probes that were recorded after the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flarekit.errors import ConfigError, DataError
from flarekit.eval.results.fitted import lessons_of
from flarekit.eval.runs.recorded import RecordedRun
from flarekit.policies.spec import parse_spec
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.token import SIGNALS, StreamSignal, find_signal
from flarekit.text.sentences import LOOKAHEAD
from flarekit.tokens import Token
from flarekit.trace import Moment, Probe, Segment, Trace

_WORDS_ONLY = ("min-prob", "entropy")
"""Signals that are read without punctuation and white space too, as the mid-generation policies do by default."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal at one moment."""

    signal: str
    """Its name, with what sets it apart in brackets: "min-prob (words, first sentence)"."""
    moment: Moment
    values: Mapping[str, float]
    """By question id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The tokens of a recorded answer, and where its sentences end."""

    tokens: Sequence[Token]
    ends: Sequence[int]
    """Rising; the last is the number of tokens."""


def read_signals(run: RecordedRun) -> list[Reading]:
    """Every signal that the run's records hold, in the order pre, mid, post.

    `DataError` where no answer without help is recorded.
    """
    answers = {key: answer_of(trace) for key, trace in unhelped(run).items()}
    return [
        *probe_readings(run, "pre"),
        *(reading for name, trigger in _mid_triggers() for reading in _mid_readings(name, trigger, answers)),
        *(_post_reading(name, trigger, answers) for name, trigger in _post_triggers()),
        *probe_readings(run, "post"),
    ]


def unhelped(run: RecordedRun) -> Mapping[str, Trace]:
    """The answers of the weak model alone: those of closed-book, or of `watch`, which is the same with probes."""
    for policy in ("closed-book", "watch"):
        if run.traces.get(policy):
            return run.traces[policy]
    raise DataError(f"{run.path}: has no answers of closed-book; run it with --policy closed-book")


def answer_of(trace: Trace, lookahead: int = LOOKAHEAD) -> Answer:
    """The kept tokens of a trace, with its sentences ended where a session ends them."""
    tokens = [token for segment in trace.segments for token in segment.tokens[: segment.kept]]
    return Answer(tokens, sentence_ends(tokens, lookahead))


def sentence_ends(tokens: Sequence[Token], lookahead: int = LOOKAHEAD) -> list[int]:
    """How many tokens there are before each end of a sentence, as a session that streams them sees it.

    A sentence ends where the next begins, after `lookahead` tokens, or with the answer.
    """
    begins = Monitor(lookahead=lookahead).sentences.begins
    return [*(place for place, token in enumerate(tokens) if begins(token)), len(tokens)]


def read_trigger(
    trigger: Trigger, answer: Answer, *, sentences: int | None = None, keep: bool = False, stay: int = 0
) -> float:
    """The highest value that a mid or post trigger sees; at least 0, as all signals are.

    With `sentences`, a mid trigger's highest value up to the end of so many sentences. `keep` says that its action
    keeps the draft, so that a session does not read it at the end of the last sentence; `stay` how many tokens are
    written before it is first read.
    """
    if not isinstance(trigger.signal, StreamSignal):
        raise ConfigError(f"{trigger.signal.name} is not measured on tokens; its recorded probes hold its values")
    if trigger.moment == "post":
        return trigger.signal(answer.tokens)
    # Every value reaches a threshold of 0, so that the monitor tells them all.
    monitor = Monitor([replace(trigger, threshold=0.0)])
    seen, start = [0.0], 0
    for place, end in enumerate(answer.ends[:sentences], start=1):
        for written, token in enumerate(answer.tokens[start:end], start=start + 1):
            monitor.update(token)
            if written >= stay:
                seen += (value for _, value in monitor.fired("token"))
        if end >= stay and not (keep and place == len(answer.ends)):
            seen += (value for _, value in monitor.fired("sentence"))
        monitor.end_sentence()
        start = end
    return max(seen)


def probe_readings(run: RecordedRun, moment: Moment) -> list[Reading]:
    """The signals that were probed before ("pre") or after ("post") an answer."""
    return [
        Reading(name, moment, {key: probe.value for key, probe in found.items()})
        for name, found in probes(run, moment).items()
    ]


def probes(run: RecordedRun, moment: Moment) -> dict[str, dict[str, Probe]]:
    """The first probe of every signal on every question, by the signal's name and question id.

    Probes before a trace's first segment are "pre", those after it "post". Two trained routers may share a name, so
    that theirs is followed by the folder in brackets; of the questions that one was fitted on it says nothing.
    """
    found: dict[str, dict[str, Probe]] = {}
    for policy, traces in run.traces.items():
        router = parse_spec(policy).parameters.get("router")
        taught = lessons_of(policy).among(run.questions.values(), run.manifest.dataset.name)
        for key, trace in traces.items():
            for probe in _probes_of(trace, moment) if key not in taught else ():
                name = f"{probe.signal} ({router})" if router else probe.signal
                found.setdefault(name, {}).setdefault(key, probe)
    return found


def _probes_of(trace: Trace, moment: Moment) -> Iterator[Probe]:
    now: Moment = "pre"
    for event in trace.events:
        if isinstance(event, Segment):
            now = "post"
        elif isinstance(event, Probe) and now == moment:
            yield event


def _mid_triggers() -> Iterator[tuple[str, Trigger]]:
    """Every token signal as it is and over sentences; one over a window of tokens is read at every token."""
    for name, signal in SIGNALS.items():
        yield name, Trigger(signal, 0.0, "mid", "token" if isinstance(signal.over, int) else "sentence")
        if signal.over != "sentence":
            yield from _variant(name, "mid", "sentence", label=f"{name} (sentence)")
    for name in _WORDS_ONLY:
        yield from _variant(name, "mid", "sentence", words_only=True, label=f"{name} (words)")


def _post_triggers() -> Iterator[tuple[str, Trigger]]:
    for name in SIGNALS:
        yield from _variant(name, "post", "answer", label=name)
    for name in _WORDS_ONLY:
        yield from _variant(name, "post", "answer", words_only=True, label=f"{name} (words)")


def _variant(
    name: str, moment: Moment, over: str, *, words_only: bool = False, label: str
) -> Iterator[tuple[str, Trigger]]:
    """The signal over another span; nothing where it has no such form."""
    try:
        yield label, Trigger(find_signal(name, over, words_only), 0.0, moment)
    except ConfigError:
        return


def _mid_readings(name: str, trigger: Trigger, answers: Mapping[str, Answer]) -> Iterator[Reading]:
    """Over the whole answer, and up to the end of its first sentence, which every answer has."""
    early = f"{name[:-1]}, first sentence)" if name.endswith(")") else f"{name} (first sentence)"
    for label, sentences in ((name, None), (early, 1)):
        values = {key: read_trigger(trigger, answer, sentences=sentences) for key, answer in answers.items()}
        yield Reading(label, "mid", values)


def _post_reading(name: str, trigger: Trigger, answers: Mapping[str, Answer]) -> Reading:
    return Reading(name, "post", {key: read_trigger(trigger, answer) for key, answer in answers.items()})
