"""Exact match, F1 and supporting recall, against values computed by hand from the official scripts' definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.errors import ConfigError
from flarekit.eval.data.dataset import Metric
from flarekit.eval.data.metrics import exact_match, f1, normalize_answer, supporting_recall

METRICS = st.sampled_from(["hotpotqa", "musique"])
# Few words, so that answers often share some; articles, punctuation and verdicts are the special cases.
WORDS = st.sampled_from(["yes", "no", "noanswer", "the", "A", "an", "Oslo", "oslo.", "City", "--", "1999", ""])
ANSWERS = st.one_of(st.lists(WORDS, max_size=5).map(" ".join), st.text())
IDS = st.sets(st.sampled_from("abcdef"))


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The  Oslo,\tNorway!", "oslo norway"),
        ("U.S.A.", "usa"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("rock-and-roll", "rockandroll"),
        # Only ASCII punctuation counts, so that an article glued to a dash is found by its word boundary.
        ("a–b", "–b"),
        ("The", ""),
    ],
)
def test_normalised_answers(answer: str, normal: str) -> None:
    assert normalize_answer(answer) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "metric", "em", "f1_score"),
    [
        ("the Norwegian Krone.", ["Norwegian krone"], "hotpotqa", 1.0, 1.0),
        ("krone", ["Norwegian krone"], "hotpotqa", 0.0, 2 / 3),  # P = 1, R = 1/2
        ("Oslo in Norway", ["Oslo, Norway"], "musique", 0.0, 0.8),  # P = 2/3, R = 1
        ("Oslo Oslo", ["Oslo"], "musique", 0.0, 2 / 3),  # a repeated word counts once
        ("Rome", ["Oslo"], "hotpotqa", 0.0, 0.0),
        ("krone", ["Norwegian krone", "krone"], "musique", 1.0, 1.0),
        ("krone", ["Norwegian krone", "krone"], "hotpotqa", 1.0, 1.0),
        # A verdict that differs is worth nothing to HotpotQA, whatever is shared.
        ("no", ["no idea"], "hotpotqa", 0.0, 0.0),
        ("yes it is", ["Yes"], "hotpotqa", 0.0, 0.0),
        ("yes it is", ["Yes"], "musique", 0.0, 0.5),
        ("No.", ["no"], "hotpotqa", 1.0, 1.0),
        ("noanswer", ["no answer"], "hotpotqa", 0.0, 0.0),
        # Nothing left after normalising.
        ("", ["Oslo"], "musique", 0.0, 0.0),
        ("the", ["A"], "musique", 1.0, 1.0),
        ("the", ["A"], "hotpotqa", 1.0, 0.0),
    ],
)
def test_scores_worked_by_hand(prediction: str, answers: list[str], metric: Metric, em: float, f1_score: float) -> None:
    assert exact_match(prediction, answers, metric) == em
    assert f1(prediction, answers, metric) == pytest.approx(f1_score)


@given(ANSWERS, ANSWERS, METRICS)
def test_scores_are_symmetric_and_in_range(one: str, other: str, metric: Metric) -> None:
    assert exact_match(one, [other], metric) == exact_match(other, [one], metric) in (0.0, 1.0)
    assert 0 <= f1(one, [other], metric) == f1(other, [one], metric) <= 1


@given(ANSWERS, ANSWERS, METRICS)
def test_an_exact_match_has_full_f1_unless_nothing_is_left_of_it(one: str, other: str, metric: Metric) -> None:
    if exact_match(one, [other], metric) and (metric == "musique" or normalize_answer(one)):
        assert f1(one, [other], metric) == 1


@given(ANSWERS, ANSWERS)
def test_musique_never_scores_below_hotpotqa(one: str, other: str) -> None:
    assert f1(one, [other], "musique") >= f1(one, [other], "hotpotqa")


@given(ANSWERS, st.lists(ANSWERS, min_size=1), METRICS)
def test_the_best_accepted_answer_counts(prediction: str, answers: list[str], metric: Metric) -> None:
    assert f1(prediction, answers, metric) == max(f1(prediction, [answer], metric) for answer in answers)
    assert exact_match(prediction, [*answers, prediction], metric) == 1


@given(ANSWERS)
def test_normalising_twice_changes_nothing_but_a_new_article(text: str) -> None:
    normal = normalize_answer(text)
    assert normal == " ".join(normal.split())
    assert {"a", "an", "the"}.isdisjoint(normal.split())


def test_an_unknown_metric_and_missing_answers_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown metric 'bleu'"):
        f1("x", ["x"], "bleu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one accepted answer"):
        exact_match("x", [])
    with pytest.raises(ConfigError, match="not 'Oslo'"):
        exact_match("x", "Oslo")


def test_supporting_recall_is_the_share_of_needed_passages_that_were_found() -> None:
    assert supporting_recall(["a", "x", "a"], ["a", "b"]) == 0.5
    assert supporting_recall([], ["a"]) == 0
    assert supporting_recall(["a"], []) is None


@given(IDS, IDS, IDS)
def test_retrieving_more_never_lowers_the_recall(found: set[str], more: set[str], needed: set[str]) -> None:
    before, after = supporting_recall(found, needed), supporting_recall(found | more, needed)
    if before is not None and after is not None:
        assert 0 <= before <= after <= 1
