"""The learned trigger during generation: what it reads at the end of a sentence, fitted and while streaming."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.scripted import token
from flarekit.errors import DataError
from flarekit.escalation.base import Fitted
from flarekit.escalation.routers import mid_lr
from flarekit.escalation.routers.mid_lr import FEATURES, MidRouter, sentence_features
from flarekit.eval.replay.readings import sentence_ends
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.token import find_signal
from flarekit.tokens import Token

SURE, UNSURE = 0.95, 0.3


def answer(*sentences: Sequence[float]) -> list[Token]:
    """Sentences of tokens with these probabilities; each ends in a full stop."""
    tokens = []
    for number, sentence in enumerate(sentences):
        for place, p in enumerate(sentence):
            word = "." if place == len(sentence) - 1 else " Word" if place == 0 else " word"
            tokens.append(token(word, p, number))
    return tokens


def router() -> MidRouter:
    answers = [answer([SURE] * 4, [SURE if right else UNSURE] * 4) for right in (True, False) * 10]
    fitted = mid_lr.fit(answers, np.array([False, True] * 10))
    return MidRouter({}, fitted)


def test_the_features_of_two_sentences_by_hand() -> None:
    rows = sentence_features(answer([0.5, 0.9], [0.8, 0.9]))
    first, second = (dict(zip(FEATURES, row, strict=True)) for row in rows)
    assert first["min-prob of the sentence"] == first["min-prob of the answer"] == pytest.approx(0.5)
    assert second["min-prob of the sentence"] == pytest.approx(0.2)
    assert second["min-prob of the answer"] == pytest.approx(0.5)
    assert second["mean-logprob of the sentence"] == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    assert second["ln(1 + tokens)"] == pytest.approx(math.log(5))
    assert (first["sentence"], second["sentence"]) == (1, 2)


@given(st.lists(st.lists(st.floats(0.05, 0.99), min_size=2, max_size=5), min_size=1, max_size=4))
@settings(deadline=None)
def test_the_features_are_the_signals_of_that_name(sentences: list[list[float]]) -> None:
    rows = sentence_features(answer(*sentences))
    assert len(rows) == len(sentences)
    for number, row in enumerate(rows):
        spans = {"sentence": answer(sentences[number]), "answer": answer(*sentences[: number + 1])}
        for name, value in zip(FEATURES, row, strict=True):
            signal, of, span = name.partition(" of the ")
            if of:
                assert value == pytest.approx(find_signal(signal)(spans[span]))


def test_a_sentence_without_an_end_is_cut_where_a_session_cuts_it() -> None:
    said = [token(" and", p) for p in [0.9] * 64 + [0.5] * 64 + [0.8] * 22]
    rows = sentence_features(said)
    lowest = FEATURES.index("min-prob of the sentence")
    assert rows[:, lowest] == pytest.approx([0.1, 0.5, 0.2])
    assert rows[:, FEATURES.index("sentence")].tolist() == [1, 2, 3]
    assert np.exp(rows[:, FEATURES.index("ln(1 + tokens)")]) - 1 == pytest.approx([64, 128, 150])


@given(st.lists(st.sampled_from([" Mr", ".", " and", " Then", " 3", "!", '"', "\n"]), max_size=150))
@settings(deadline=None)
def test_what_it_is_fitted_on_are_the_sentences_that_a_session_ends(texts: list[str]) -> None:
    said = [token(text, 0.9) for text in texts]
    lengths = np.exp(sentence_features(said)[:, FEATURES.index("ln(1 + tokens)")]) - 1
    assert lengths == pytest.approx([end for end in sentence_ends(said) if end])


def test_an_unsure_sentence_raises_the_value() -> None:
    made = router()
    assert made(answer([SURE] * 4, [UNSURE] * 4)) > 0.5 > made(answer([SURE] * 4, [SURE] * 4))
    assert made([]) == 0.0


def test_a_doubt_that_has_passed_shows_in_the_highest_value_alone() -> None:
    made = router()
    text = answer([SURE] * 4, [UNSURE] * 2, *[[SURE] * 12] * 3)
    ends = [made(text[:end]) for end in sentence_ends(text)]
    assert made.highest(text) == pytest.approx(max(ends))
    assert made(text) == pytest.approx(ends[-1])
    assert made.highest(text) > made(text) + 0.01
    assert made.highest([]) == 0.0


def test_while_streaming_the_value_at_every_sentence_end_is_the_same() -> None:
    """As the monitor reads it: before the token that begins the next sentence, and when a draft is taken back."""
    made = router()
    text = answer([SURE] * 4, [UNSURE] * 3, [SURE] * 5)
    expected = [made.probability(row) for row in sentence_features(text).tolist()]
    monitor, found = Monitor([Trigger(made, 0.5, "mid")]), []
    for place, one in enumerate(text):
        if place in (4, 7):
            found.append(monitor.value(0))
            monitor.end_sentence()
        monitor.update(one)
    assert [*found, monitor.value(0)] == pytest.approx(expected)
    monitor.rewind(text[:4])
    for one in text[4:7]:
        monitor.update(one)
    assert monitor.value(0) == pytest.approx(expected[1])


def test_before_the_first_token_nothing_is_known() -> None:
    running = router().running()
    assert running.value == 0.0
    running.update(token(" word", UNSURE))
    assert running.value > 0
    running.reset()
    assert running.value == 0.0


def test_a_long_answer_weighs_no_more_than_a_short_one() -> None:
    """One wrong answer of eight sentences against one right answer of one: as likely as not, for all alike."""
    same = [0.8, 0.8]
    fitted = mid_lr.fit([answer(*[same] * 8), answer(same)], np.array([True, False]), c=1e-9)
    values = [MidRouter({}, fitted).probability(row) for row in sentence_features(answer(same)).tolist()]
    assert values == pytest.approx([0.5], abs=1e-3)


def test_features_that_never_vary_do_no_harm() -> None:
    fitted = mid_lr.fit([answer([0.9, 0.9]), answer([0.2, 0.2])], np.array([False, True]))
    assert (fitted.arrays["scale"] > 0).all()
    assert np.isfinite(fitted.arrays["coefficients"]).all()


@pytest.mark.parametrize(
    ("answers", "labels", "says"),
    [
        ([answer([0.9, 0.9])] * 2, [True, True], "the same label"),
        ([[], []], [True, False], "no tokens"),
        ([answer([0.9, 0.9]), []], [True, False], "no tokens"),
    ],
)
def test_answers_that_teach_nothing_are_refused(answers: list[list[Token]], labels: list[bool], says: str) -> None:
    with pytest.raises(DataError, match=says):
        mid_lr.fit(answers, np.array(labels))


def test_another_versions_features_are_refused() -> None:
    arrays = dict(router().fitted.arrays)
    with pytest.raises(ValueError, match="features of this version"):
        mid_lr.check(Fitted({"features": ["other"]}, arrays))
