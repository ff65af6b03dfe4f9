"""How good a router is: AUROC, APGR and their kin, each by hand, and against the plain definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from flarekit.errors import ConfigError
from flarekit.eval.analysis.routing import compared, figure_interval, oracle_scores, rate_curves, report, shown_together
from flarekit.stats.quality import chooser_metrics, resampled, score_metrics
from flarekit.stats.ranking import auroc, average_precision
from flarekit.stats.tests import bootstrap_p

Labelled = list[tuple[bool, float]]
LABELLED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.3, 0.5, 0.9])), min_size=2, max_size=30).filter(
    lambda rows: len({truth for truth, _ in rows}) == 2
)


@given(LABELLED)
def test_auroc_and_average_precision_are_scikit_learns(rows: Labelled) -> None:
    truth, scores = zip(*rows, strict=True)
    assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))


@given(LABELLED, st.integers(0, 99))
def test_a_question_drawn_twice_counts_as_two(rows: Labelled, seed: int) -> None:
    truth, scores = (np.array(one) for one in zip(*rows, strict=True))
    weights = resampled(len(truth), 1, seed)
    again = np.repeat(np.arange(len(truth)), weights[1].astype(int))
    if len(set(truth[again])) == 2:
        assert auroc(truth, scores, weights)[1] == pytest.approx(roc_auc_score(truth[again], scores[again]))
        expected = average_precision_score(truth[again], scores[again])
        assert average_precision(truth, scores, weights)[1] == pytest.approx(expected)


def test_metrics_come_with_an_interval_around_them() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(100) < 0.5
    made = score_metrics(truth, truth + rng.normal(size=100))
    for value in made.values():
        assert value["low"] < value["estimate"] < value["high"]


def test_one_kind_of_question_has_no_auroc() -> None:
    assert score_metrics([True, True], [0.1, 0.2])["auroc"] == {"estimate": None, "low": None, "high": None}


def test_a_chooser_is_held_against_single_arms_chance_and_an_oracle() -> None:
    scores, costs = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 3.0], [1.0, 3.0]])
    made = chooser_metrics([0, 1], scores, costs, best=1)
    found = {name: value["estimate"] for name, value in made.items()}
    assert found["score"] == found["score of an oracle"] == found["score of the best single arm"] == 1.0
    assert found["score of a random arm"] == 0.75
    assert (found["cost"], found["cost of an oracle"], found["cost of the best single arm"]) == (2.0, 2.0, 3.0)
    assert found["cost against the best single arm"] == -1.0


# --- curves ---------------------------------------------------------------------------------------------------------

WEAK = (0.0, 0.0, 1.0, 1.0)
STRONG = (1.0, 1.0, 1.0, 0.0)
"""The strong arm wins two questions and loses one: .5 against .75."""


def test_a_curve_by_hand() -> None:
    curves = rate_curves([0.9, 0.8, 0.2, 0.1], WEAK, STRONG)
    assert curves.rates[0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curves.scores[0].tolist() == [0.5, 0.75, 1, 1, 0.75]
    assert curves.recovered[0].tolist() == [0, 1, 2, 2, 1]
    assert curves.apgr()[0] == pytest.approx((0.5 + 1.5 + 2 + 1.5) / 4)
    assert curves.at(0.375)[0] == pytest.approx(0.875)
    assert (curves.cpt(0.5)[0], curves.cpt(1.0)[0], curves.cpt(2.5)[0]) == (0.125, 0.25, math.inf)


def test_equal_scores_make_a_straight_line_which_is_chance() -> None:
    curves = rate_curves([0.5] * 4, WEAK, STRONG)
    assert curves.rates[0].tolist() == [0, 1]
    assert curves.apgr()[0] == 0.5
    assert curves.cpt(0.8)[0] == pytest.approx(0.8)


def test_nobody_does_better_than_the_oracle() -> None:
    best = rate_curves(oracle_scores(WEAK, STRONG), WEAK, STRONG).apgr()[0]
    assert best >= rate_curves([0.9, 0.1, 0.2, 0.8], WEAK, STRONG).apgr()[0]


PAIRS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 3), min_size=1, max_size=20)


@given(PAIRS, st.floats(0, 1))
def test_the_ends_are_the_arms_and_the_oracle_is_above(rows: list[tuple[float, float, float]], rate: float) -> None:
    scores, weak, strong = (np.array(one) for one in zip(*rows, strict=True))
    curves, best = rate_curves(scores, weak, strong), rate_curves(oracle_scores(weak, strong), weak, strong)
    assert curves.at(0)[0] == pytest.approx(weak.mean())
    assert curves.at(1)[0] == pytest.approx(strong.mean())
    assert best.at(rate)[0] >= curves.at(rate)[0] - 1e-9


@given(PAIRS, st.integers(0, 99))
def test_a_resampled_curve_is_that_of_the_resampled_questions(
    rows: list[tuple[float, float, float]], seed: int
) -> None:
    scores, weak, strong = (np.array(one) for one in zip(*rows, strict=True))
    weights = resampled(len(weak), 1, seed)
    again = np.repeat(np.arange(len(weak)), weights[1].astype(int))
    expected = rate_curves(scores[again], weak[again], strong[again])
    found = rate_curves(scores, weak, strong, weights)
    for rate in (0.0, 0.3, 0.5, 1.0):
        assert found.at(rate)[1] == pytest.approx(expected.at(rate)[0])


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    made = report([0.1, 0.2], [0.5, 0.5], [0.5, 0.5])
    assert math.isnan(made.apgr.estimate)
    assert made.cpt[0.5].estimate == math.inf
    assert not made.gap.excludes_zero


def test_the_report_has_an_interval_of_everything() -> None:
    rng = np.random.default_rng(0)
    weak = rng.random(60) * 0.5
    strong = weak + rng.random(60) * 0.5
    made = report(strong - weak, weak, strong)
    assert made.gap.excludes_zero
    for value in (made.apgr, *made.cpt.values(), *made.scores.values()):
        assert value.low <= value.estimate <= value.high


def test_scores_of_other_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match="one question each"):
        rate_curves([0.5], WEAK, STRONG)


# --- differences ----------------------------------------------------------------------------------------------------


def test_a_difference_is_paired_by_question() -> None:
    truth = np.array([True, False] * 20)
    scores = np.linspace(0, 1, 40)
    same = compared(lambda values, weights: auroc(truth, values, weights), scores, scores)
    assert (same == 0).all()
    assert bootstrap_p(same) == 1.0


def test_a_p_value_is_never_smaller_than_the_draws_allow() -> None:
    assert bootstrap_p(np.full(2001, 0.3)) == pytest.approx(2 / 2001)


def test_holm_stops_at_the_first_that_does_not_hold() -> None:
    assert shown_together({"a": 0.01, "b": 0.03, "c": 0.04}) == {"a": True, "b": False, "c": False}
    assert shown_together({"a": 0.01, "b": 0.02, "c": 0.04}) == {"a": True, "b": True, "c": True}


def test_an_interval_of_values_that_are_never_reached_is_open() -> None:
    made = figure_interval(np.array([0.5, *[0.4] * 50, *[math.inf] * 50]))
    assert (made.estimate, made.low, made.high) == (0.5, 0.4, math.inf)
