"""A trace is kept whole, and its costs add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.eval.runs.tokentable import TokenTable
from flarekit.retrieval import Hit, Passage
from flarekit.tokens import Finish, Token
from flarekit.trace import Costs, Event, Fired, HandedOver, Moment, Probe, Retrieved, Role, Segment, Trace
from flarekit.trace_format import read_trace, write_trace

TEXTS = st.text(max_size=8)
COUNTS = st.integers(0, 10**6)
CACHED = st.none() | COUNTS
NUMBERS = st.floats(-1e100, 1e100)
SECONDS = st.floats(0, 1e6)
LOGPROBS = st.floats(-1e4, 0)
ROLES = st.sampled_from(get_args(Role))
TOKENS = st.builds(Token, TEXTS, COUNTS, LOGPROBS, st.dictionaries(TEXTS, LOGPROBS, max_size=3))
HITS = st.builds(Hit, st.builds(Passage, TEXTS, TEXTS, TEXTS), NUMBERS)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    tokens = draw(st.lists(TOKENS, max_size=5))
    kept = draw(st.integers(0, len(tokens)))
    finish: Finish = draw(st.sampled_from(get_args(Finish)))
    return Segment(
        draw(ROLES),
        tokens,
        kept,
        finish,
        prompt_tokens=draw(COUNTS),
        cached_tokens=draw(CACHED),
        cached_estimated=draw(st.booleans()),
        at=draw(SECONDS),
        first_token=draw(st.none() | SECONDS),
        seconds=draw(SECONDS),
    )


PROBES = st.builds(Probe, TEXTS, NUMBERS, ROLES, COUNTS, CACHED, COUNTS, SECONDS, SECONDS)
FIRED = st.builds(
    Fired,
    TEXTS,
    st.sampled_from(get_args(Moment)),
    NUMBERS,
    NUMBERS,
    TEXTS,
    st.none() | COUNTS,
    st.none() | COUNTS,
    SECONDS,
)
RETRIEVED = st.builds(Retrieved, TEXTS, st.lists(HITS, max_size=2), SECONDS, SECONDS)
HANDED_OVER = st.builds(HandedOver, ROLES, ROLES, TEXTS, SECONDS)
EVENTS: st.SearchStrategy[Event] = st.one_of(segments(), PROBES, FIRED, RETRIEVED, HANDED_OVER)
TRACES = st.builds(Trace, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(EVENTS, max_size=6), SECONDS)


@given(TRACES)
def test_a_trace_is_read_back_as_it_was_written(trace: Trace) -> None:
    line = write_trace(trace)
    assert read_trace(line) == trace
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@given(TRACES)
def test_costs_add_up(trace: Trace) -> None:
    costs = trace.costs()
    kept = sum(segment.kept for segment in trace.segments)
    drafts = sum(segment.discarded for segment in trace.segments)
    probed = sum(event.generated_tokens for event in trace.events if isinstance(event, Probe))
    assert costs.discarded_tokens == drafts + probed
    assert costs.generated_tokens == kept + drafts + probed
    assert costs.strong_generated_tokens <= costs.generated_tokens
    assert costs.strong_prompt_tokens <= costs.prompt_tokens
    assert costs.retrievals == len(trace.retrievals)
    assert costs.seconds == trace.seconds


@given(st.lists(EVENTS, max_size=6), st.lists(EVENTS, max_size=6))
def test_the_costs_of_two_halves_make_up_those_of_the_whole(first: list[Event], second: list[Event]) -> None:
    halves, whole = [costs_of(first), costs_of(second)], costs_of([*first, *second])
    assert [sum(counts) for counts in zip(*halves, strict=True)] == whole


def costs_of(events: Sequence[Event]) -> list[float]:
    costs = Trace("q", "rag", "?", events=list(events)).costs()
    return [getattr(costs, name) for name in Costs.__dataclass_fields__]


def test_what_a_server_did_not_count_as_cached_counts_as_read() -> None:
    events: list[Event] = [Segment("weak", prompt_tokens=9, cached_tokens=None), Probe("mood", 1.0, "weak", 5, None)]
    events.append(Segment("strong", prompt_tokens=3, cached_tokens=2))
    costs = Trace("q", "rag", "?", events=events).costs()
    assert (costs.prompt_tokens, costs.cached_tokens) == (17, 2)
    assert (costs.strong_prompt_tokens, costs.strong_cached_tokens) == (3, 2)


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"id": "q"', '{"id": "q", "policy": "rag", "question": 3}'])
def test_a_line_that_is_no_trace_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        read_trace(line.encode())


def test_an_event_of_an_unknown_kind_is_refused() -> None:
    line = write_trace(Trace("q", "rag", "?", events=[HandedOver("weak", "strong", "")]))
    with pytest.raises(ValueError, match="validation error"):
        read_trace(line.replace(b"handed-over", b"handed-back"))


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), max_size=6))
def test_traces_that_share_a_table_of_tokens_are_read_back_as_they_were(drafts: list[list[str]]) -> None:
    tokens = {text: Token(text, ord(text), -0.5, {text: -0.5, "~": -2.25}) for text in "abcdef"}
    traces = [Trace("q", "rag", "Who?", events=[Segment("weak", [tokens[text] for text in draft])]) for draft in drafts]
    table = TokenTable()
    lines = [write_trace(trace, table.refer) for trace in traces]
    stored = [Token(*orjson.loads(line)) for line in table.pending.splitlines()]
    assert len(stored) == len(set("".join(map("".join, drafts)))), "each token is stored once"
    assert [read_trace(line, stored) for line in lines] == traces


def test_a_trace_that_refers_beyond_the_table_is_an_error() -> None:
    token = Token("a", 97, -0.5, {"a": -0.5})
    line = write_trace(Trace("q", "rag", "Who?", events=[Segment("weak", [token] * 3)]), lambda tokens: [(0, 3)])
    assert read_trace(line, [token] * 3).segments[0].tokens == [token] * 3
    with pytest.raises(ValueError, match="refers to token 2 of a table of 1"):
        read_trace(line, [token])
