"""What the signals measure, and that their running form is the same number after every token."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.scripted import token, tokens
from flarekit.errors import ConfigError
from flarekit.escalation.routers.mid_lr import MidRouter, fit
from flarekit.eval.replay.readings import sentence_ends
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.online import bend
from flarekit.signals.token import (
    ALWAYS,
    LENGTH,
    SEARCH_REQUEST,
    SIGNALS,
    Signal,
    Span,
    StreamSignal,
    entropy,
    find_signal,
    margin,
)
from flarekit.tokens import Token, alternatives, narrowed

TOKENS = st.builds(
    lambda text, ps: Token(text, 0, math.log(ps[0]), {str(place): math.log(p) for place, p in enumerate(ps)}),
    st.sampled_from([" word", ".", ",", "", " 7", "\n"]),
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6).map(lambda ps: [p / max(sum(ps), 1.0) for p in ps]),
)
SPANS: st.SearchStrategy[Span] = st.one_of(st.sampled_from(["sentence", "answer"]), st.integers(1, 6))
WINDOWED = [name for name, signal in SIGNALS.items() if signal.reduce in ("max", "mean")]
ROLLING = [name for name, signal in SIGNALS.items() if signal.reduce == "rolling"]
SPANNED = (
    st.tuples(st.sampled_from(WINDOWED), SPANS)
    | st.tuples(st.sampled_from(ROLLING), st.integers(1, 6))
    | st.tuples(st.sampled_from([name for name in SIGNALS if name not in ROLLING]), st.just("sentence"))
)


STREAMS = st.builds(lambda said, times: said * times, st.lists(TOKENS, max_size=12), st.sampled_from([1, 1, 8]))
"""Short ones, and such that go on for longer than a look-ahead without the end of a sentence."""
UNTRAINED: st.SearchStrategy[StreamSignal] = st.one_of(
    st.builds(lambda spanned, words: find_signal(spanned[0], spanned[1], words), SPANNED, st.booleans()),
    st.sampled_from([LENGTH, ALWAYS, SEARCH_REQUEST]),
)


@cache
def trained() -> StreamSignal:
    """A `mid-lr` router that was fitted on answers which differ in how sure they are."""
    answers = [tokens(*[(word, p) for word in [" so", " it", " is", "."] * 3]) for p in (0.95, 0.4, 0.9, 0.3)]
    return MidRouter({}, fit(answers, np.array([False, True, False, True])))


@settings(deadline=None)
@given(UNTRAINED | st.builds(trained), STREAMS)
def test_the_running_value_is_the_pure_one_after_every_token(signal: StreamSignal, said: list[Token]) -> None:
    running = signal.running()
    assert running.value == signal([])
    for place, one in enumerate(said, start=1):
        told = running.update(one)
        assert told == running.value == pytest.approx(signal(said[:place]), abs=1e-12)


@settings(deadline=None)
@given(st.builds(trained), STREAMS, st.integers(0, 20))
def test_a_session_s_monitor_shows_the_pure_value_of_a_signal_over_the_answer(
    signal: StreamSignal, said: list[Token], taken_back: int
) -> None:
    """Told of sentence ends like a session's, and after a draft was taken back."""
    monitor, ends = Monitor([Trigger(signal, 0.5, "mid")]), sentence_ends(said)
    for place, one in enumerate(said):
        if place in ends:
            monitor.end_sentence()
            assert monitor.value(0) == pytest.approx(signal(said[:place]))
        monitor.update(one)
        assert monitor.value(0) == pytest.approx(signal(said[: place + 1]))
    kept = max((end for end in ends if end <= len(said) - taken_back), default=0)
    monitor.rewind(said[:kept])
    for place, one in enumerate(said[kept:], start=kept + 1):
        if place - 1 in ends:
            monitor.end_sentence()
        monitor.update(one)
        assert monitor.value(0) == pytest.approx(signal(said[:place]))


@given(SPANNED, st.lists(TOKENS, min_size=1))
def test_values_stay_in_the_stated_range(spanned: tuple[str, Span], said: list[Token]) -> None:
    signal = find_signal(*spanned)
    assert 0 <= signal(said) <= signal.high + 1e-9


@given(st.sampled_from(list(SIGNALS)), st.lists(TOKENS))
def test_reset_begins_anew(name: str, said: list[Token]) -> None:
    running = find_signal(name).running()
    for one in said:
        running.update(one)
    running.reset()
    assert running.value == 0


def test_min_prob_is_one_minus_the_lowest_probability() -> None:
    assert find_signal("min-prob")(tokens(("a", 0.9), ("b", 0.25), "c")) == pytest.approx(0.75)


def test_mean_logprob_is_the_mean_surprisal_in_nats() -> None:
    assert find_signal("mean-logprob")(tokens(("a", 0.5), ("b", 0.125))) == pytest.approx(2 * math.log(2))


def test_entropy_of_a_fair_coin_is_one_bit() -> None:
    assert entropy(token("heads", 0.5)) == pytest.approx(math.log(2))


def test_entropy_counts_what_the_server_did_not_list_as_one_candidate() -> None:
    assert entropy(Token("a", 0, math.log(0.5), {"a": math.log(0.5)})) == pytest.approx(math.log(2))


def test_a_certain_token_has_no_entropy_and_no_margin() -> None:
    certain = Token("a", 0, 0.0, {"a": 0.0})
    assert entropy(certain) == 0
    assert margin(certain) == 0


def test_a_tie_has_the_whole_margin() -> None:
    assert margin(token("a", 0.5)) == pytest.approx(1.0)


def test_words_only_skips_punctuation_and_space() -> None:
    said = tokens("sure", (",", 0.1), ("\n", 0.1), "sure")
    assert find_signal("min-prob", words_only=True)(said) == pytest.approx(0.01)


def test_a_window_forgets_what_is_older() -> None:
    said = tokens(("a", 0.1), "b", "c")
    assert find_signal("min-prob", 2)(said) == pytest.approx(0.01)
    assert find_signal("min-prob", "token")(said[:1]) == pytest.approx(0.9)


def test_rolling_entropy_is_the_mean_of_the_last_five() -> None:
    said = tokens(("a", 0.5), *["sure"] * 5)
    sure = entropy(token("sure"))
    assert find_signal("rolling-entropy")(said[:4]) == 0  # not full yet
    assert find_signal("rolling-entropy")(said[:5]) == pytest.approx((math.log(2) + 4 * sure) / 5)
    assert find_signal("rolling-entropy")(said) == pytest.approx(sure)


def test_step_entropy_is_that_of_the_first_token() -> None:
    assert find_signal("step-entropy")(tokens(("a", 0.5), ("b", 0.3), "c")) == pytest.approx(math.log(2))


def test_content_entropy_skips_function_words() -> None:
    assert find_signal("content-entropy")(tokens((" the", 0.5), (",", 0.5), " Danube")) == entropy(token(" Danube"))
    assert find_signal("content-entropy")(tokens((" the", 0.5), (" Danube", 0.5))) == pytest.approx(math.log(2))


def test_the_trend_is_the_second_difference_of_the_smoothed_entropy() -> None:
    assert bend([0, 0, 0, 1]) == 0.5  # smoothed 0, 0, .5: slopes 0, .5
    assert bend([0, 0, 1, 1]) == 0  # .5 of slope, and then .5 again
    assert bend([1, 1, 1, 1, 0, 0, 2]) == 1.5  # smoothed 1, 1, 1, .5, 0, 1: the slope turns from -.5 to 1
    assert bend([0, 2, 4, 6]) == 0  # a steady rise does not bend
    assert bend([3, 1, 4]) == 0  # too short to have a bend


def test_length_counts_tokens() -> None:
    assert LENGTH(tokens("a", "b", "c")) == 3


@given(st.lists(st.sampled_from(["[", "Search", "(", "x", ")", ")]", "]", " it", "[Search(y)]"])))
def test_a_search_request_is_seen_as_soon_as_it_is_complete(texts: list[str]) -> None:
    running, said = SEARCH_REQUEST.running(), tokens(*texts)
    for place, one in enumerate(said, start=1):
        assert running.update(one) == SEARCH_REQUEST(said[:place])


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("nonsense", "sentence"),
        ("entropy", "paragraph"),
        ("entropy", 0),
        ("step-entropy", 3),
        ("rolling-entropy", "answer"),
    ],
)
def test_an_unknown_signal_or_span_is_refused(name: str, span: Span) -> None:
    with pytest.raises(ConfigError, match=r"signal|span"):
        find_signal(name, span)


def test_every_signal_states_its_source() -> None:
    assert all(isinstance(signal, Signal) and signal.source and signal.needs for signal in SIGNALS.values())


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=20), st.integers(1, 12), st.integers(0, 19))
def test_what_a_client_wants_to_see_changes_no_signal(values: list[float], most: int, place: int) -> None:
    """A token that was asked for more alternatives is, for signals, the one that was asked for `most`."""
    ranked = sorted(values, reverse=True)
    sampled = ranked[place % len(ranked)]
    top = {str(number): value for number, value in enumerate(ranked)}
    seen = narrowed(Token("x", 1, sampled, top), most)
    kept = [value for value in ranked if value in (*ranked[:most], sampled)]
    assert list(seen.top.values()) == kept
    assert seen[:3] == ("x", 1, sampled)
    assert list(alternatives(seen, 20).values()) == ranked
