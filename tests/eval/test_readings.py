"""Values read from records are those that a trigger would have seen: real sessions on scripted streams say so."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from fakes.run_directories import segment, trace, write_run
from fakes.scripted import Said, ScriptedEngine, ScriptedRetriever, tokens
from flarekit.actions import Action, Escalate, Retrieve, question_query
from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Question
from flarekit.eval.replay.readings import Answer, answer_of, probes, read_signals, read_trigger, sentence_ends
from flarekit.eval.runs.recorded import read_run
from flarekit.policies import Policy, Rule, parse_policy
from flarekit.policies.triggers import Reading, Trigger
from flarekit.session.session import Session
from flarekit.signals.question import find_pre_signal
from flarekit.signals.token import SIGNALS, find_signal
from flarekit.trace import Fired, Moment, Probe, Trace

PIECES = [
    "Emma",
    " was",
    " born",
    " Mr.",
    " in",
    " 3.",
    "5",
    ".",
    "!",
    '"',
    " So the",
    " answer is",
    " Reus",
    "\n",
    "é",
]
STREAMS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([0.05, 0.3, 0.31, 0.9, 0.99])), max_size=90)
KEEP = Retrieve(question_query, 1, keep=True)
TWICE = Retrieve(question_query, 1)


def session(policy: Policy, stream: Sequence[Said]) -> Trace:
    """The policy on a stream, which is said again whenever it is asked for again."""
    engines = [ScriptedEngine(*[stream] * 4, model=name) for name in ("weak", "strong")]
    found = ScriptedRetriever(Reus="Emma was born in Reus.")
    return asyncio.run(Session(policy, "Where?", weak=engines[0], strong=engines[1], retriever=found).run())


def fires(trigger: Trigger, action: Action, stream: Sequence[Said]) -> bool:
    events = session(Policy(rules=(Rule(trigger, action),)), stream).events
    return any(isinstance(event, Fired) for event in events)


@settings(max_examples=150, deadline=None)
@given(
    STREAMS,
    st.sampled_from(sorted(SIGNALS)),
    st.sampled_from(["sentence", "answer", "token", 3, None]),
    st.booleans(),
    st.sampled_from(["token", "sentence"]),
    st.sampled_from(
        [
            ("mid", TWICE),
            ("mid", KEEP),
            ("mid", Escalate(back="sentence")),
            ("mid", Escalate(keep=True, back="calm", stay=4)),
            ("post", Escalate(restart=True)),
        ]
    ),
)
def test_a_trigger_fires_exactly_where_the_reading_reaches_its_threshold(
    stream: list[tuple[str, float]],
    name: str,
    over: str | None,
    words: bool,
    read: Reading,
    what: tuple[Moment, Action],
) -> None:
    moment, action = what
    try:
        trigger = Trigger(find_signal(name, over, words), 0.0, moment, read)
    except ConfigError:  # some signals have no form over a window
        reject()
    closed_book = session(parse_policy("closed-book"), stream)
    stay = action.stay if isinstance(action, Escalate) else 0
    value = read_trigger(trigger, answer_of(closed_book), keep=action.keep, stay=stay)
    if 0 < value <= trigger.signal.high:
        assert fires(replace(trigger, threshold=value), action, stream)
    above = math.nextafter(value, math.inf)
    if above <= trigger.signal.high:
        assert not fires(replace(trigger, threshold=above), action, stream)


def test_sentences_end_where_the_next_begins_at_the_look_ahead_and_with_the_answer() -> None:
    assert sentence_ends(tokens("Emma", " was", " born", ".", " So", " it", " is", ".")) == [4, 8]
    assert sentence_ends(tokens(*[" and"] * 10), lookahead=4) == [4, 8, 10]
    assert sentence_ends([]) == [0]


def test_a_mid_reading_is_the_highest_at_any_sentence_s_end() -> None:
    said = tokens(("Emma", 0.5), (" was", 0.9), ".", (" She", 0.9), (" sang", 0.2), ".")
    answer = Answer(said, sentence_ends(said))
    doubt, mean = (Trigger(find_signal(name), 0.0, "mid") for name in ("min-prob", "mean-logprob"))
    assert read_trigger(doubt, answer) == pytest.approx(0.8)
    assert read_trigger(doubt, answer, sentences=1) == pytest.approx(0.5)
    # The second sentence's mean, which is the higher one, not the answer's.
    assert read_trigger(mean, answer) == pytest.approx(-math.log(0.9 * 0.2 * 0.99) / 3)
    # Token by token, the first token's own surprisal is the highest mean.
    assert read_trigger(replace(mean, read="token"), answer, sentences=1) == pytest.approx(math.log(2))


def test_a_post_reading_is_that_of_all_tokens() -> None:
    said = tokens(("Emma", 0.5), ".", (" She", 0.2), ".")
    mean = Trigger(find_signal("mean-logprob", "answer"), 0.0, "post")
    assert read_trigger(mean, Answer(said, sentence_ends(said))) == pytest.approx(-math.log(0.5 * 0.2 * 0.99**2) / 4)


def test_a_signal_that_asks_the_engine_is_not_read_from_tokens() -> None:
    with pytest.raises(ConfigError, match="p-ik is not measured on tokens"):
        read_trigger(Trigger(find_pre_signal("p-ik"), 0.5, "pre"), Answer([], [0]))


# --- of a run ---------------------------------------------------------------------------------------------------------

QUESTIONS = [Question(key, f"Question {key}?", ("Reus",)) for key in "ab"]


def watched(key: str) -> Trace:
    """One probe before the answer, and one after it."""
    before, after = Probe("p-ik", 0.25, "weak"), Probe("vote-share", 0.5, "weak")
    return trace(key, "watch", "Reus", before, segment("Emma was born in Reus."), after)


def write(path: Path, *traces: Trace) -> Path:
    return write_run(path, QUESTIONS, traces)


def test_probes_before_the_first_segment_are_pre_and_those_after_it_post(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "run", watched("a"), watched("b")))
    found = {(reading.signal, reading.moment): dict(reading.values) for reading in read_signals(run)}
    assert found["p-ik", "pre"] == {"a": 0.25, "b": 0.25}
    assert found["vote-share", "post"] == {"a": 0.5, "b": 0.5}
    assert ("p-ik", "post") not in found


def test_the_probes_of_two_routers_are_kept_apart(tmp_path: Path) -> None:
    traces = [
        trace("a", f"pre-retrieve:router={folder}", "Reus", Probe("tfidf-lr", value, "weak"), segment("Reus."))
        for folder, value in (("x", 0.1), ("y", 0.9))
    ]
    found = probes(read_run(write(tmp_path / "run", *traces)), "pre")
    assert {name: probe["a"].value for name, probe in found.items()} == {"tfidf-lr (x)": 0.1, "tfidf-lr (y)": 0.9}


def test_every_token_signal_is_read_mid_and_post_and_a_new_one_appears_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNALS, "new", replace(SIGNALS["min-prob"], name="new"))
    run = read_run(write(tmp_path / "run", trace("a", "closed-book", "Reus", segment("Emma was born in Reus."))))
    found = {(reading.signal, reading.moment) for reading in read_signals(run)}
    for name in SIGNALS:
        assert {(name, "mid"), (f"{name} (first sentence)", "mid")} <= found
        assert ((name, "post") in found) == (SIGNALS[name].reduce != "rolling")  # a window is not of a whole answer
    assert {
        ("min-prob (words)", "mid"),
        ("min-prob (words, first sentence)", "mid"),
        ("entropy (words)", "post"),
    } <= found


def test_without_an_unhelped_answer_there_is_nothing_to_read(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "run", trace("a", "rag", "Reus", segment("Reus."))))
    with pytest.raises(DataError, match="has no answers of closed-book; run it with --policy closed-book"):
        read_signals(run)
