"""AUROC, average precision and prediction rejection: scikit-learn is the oracle, small examples are worked by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from flarekit.errors import ConfigError
from flarekit.stats.discrimination import Score, auroc, average_precision, difference, interval, prr, too_few
from flarekit.stats.tests import holm

LABELLED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, math.inf])), min_size=2)


def both_kinds(pairs: list[tuple[bool, float]]) -> tuple[list[bool], list[float]]:
    labels, values = [label for label, _ in pairs], [value for _, value in pairs]
    assume(any(labels) and not all(labels))
    return labels, values


def drawn(n: int, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.5
    return labels, rng.normal(size=n) + skill * labels


@settings(deadline=None)
@given(LABELLED)
def test_auroc_and_average_precision_are_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels, values = both_kinds(pairs)
    finite = [min(value, 1e3) for value in values]
    assert auroc(labels, values) == pytest.approx(roc_auc_score(labels, finite))
    assert average_precision(labels, values) == pytest.approx(average_precision_score(labels, finite))


def test_a_tie_between_a_yes_and_a_no_counts_half() -> None:
    # Pairs of a yes with a no: .8 beats .1, .8 ties with .8, .1 ties with .1, .1 loses: 2 of 4.
    assert auroc([1, 1, 0, 0], [0.8, 0.1, 0.8, 0.1]) == 0.5
    assert auroc([1, 0, 0], [0.8, 0.8, 0.1]) == 0.75


@settings(deadline=None)
@given(LABELLED)
def test_prr_of_a_yes_or_no_is_auroc_on_another_scale(pairs: list[tuple[bool, float]]) -> None:
    labels, values = both_kinds(pairs)
    assert prr(labels, values) == pytest.approx(2 * float(auroc(labels, values)) - 1)


def test_prr_of_graded_losses_is_the_share_of_the_oracle_s_area() -> None:
    # Losses 1, .5 and 0 in the order of the values .2, .9, .1: the .5 goes first, then the 1. Each loss stays for its
    # place - 1/2 of three steps: .5 x .5 + 1 x 1.5 = 1.75; the oracle's 1 x .5 + .5 x 1.5 = 1.25; random 1.5 x 1.5.
    assert prr([1, 0.5, 0], [0.2, 0.9, 0.1]) == pytest.approx((2.25 - 1.75) / (2.25 - 1.25))
    assert prr([1, 0.5, 0], [3, 2, 1]) == 1
    assert prr([1, 0.5, 0], [7, 7, 7]) == 0


@pytest.mark.parametrize("score", [auroc, average_precision, prr])
@settings(deadline=None)
@given(LABELLED, st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_a_weight_is_how_often_a_question_was_drawn(
    score: Score, pairs: list[tuple[bool, float]], weights: list[int]
) -> None:
    pairs = pairs[:60]
    labels, values = both_kinds(pairs)
    weights = weights[: len(pairs)]
    repeated = [
        (label, value) for label, value, weight in zip(labels, values, weights, strict=True) for _ in range(weight)
    ]
    assume(repeated)
    expected = float(score([label for label, _ in repeated], [value for _, value in repeated]))
    resamples = np.array([weights, np.ones(len(pairs))])
    assert score(labels, values, resamples) == pytest.approx([expected, float(score(labels, values))], nan_ok=True)


def test_without_both_kinds_there_is_no_auroc() -> None:
    assert math.isnan(auroc([1, 1], [0.1, 0.2]))
    assert math.isnan(prr([0.3, 0.3], [0.1, 0.2]))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))


def test_an_interval_holds_the_estimate_and_narrows_with_more_questions() -> None:
    widths = []
    for n in (50, 800):
        found = interval(auroc, *drawn(n, 1.0), resamples=1000)
        assert found.low < found.estimate < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_intervals_cover_the_true_value_about_as_often_as_they_say() -> None:
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    found = [interval(auroc, *drawn(100, 1.0, seed), resamples=400) for seed in range(200)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.90 <= covered <= 0.99


def test_resamples_of_one_kind_are_left_out() -> None:
    labels = [True] * 5 + [False] * 5
    found = interval(auroc, labels, list(range(10)), resamples=20_000)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_too_few_of_a_kind_give_no_figure_but_a_reason() -> None:
    labels, values = [True] * 4 + [False] * 20, list(range(24))
    assert math.isnan(interval(auroc, labels, values).estimate)
    assert math.isnan(difference(auroc, labels, values, values).p)
    assert too_few(labels) == "only 4 of 24 questions are of the kind, and 5 of either are needed"
    assert too_few([not label for label in labels]).startswith("all but 4 of 24")
    assert too_few([True] * 5 + [False] * 5) == ""


def test_pairing_shows_a_small_but_steady_difference() -> None:
    labels, ours = drawn(200, 1.0)
    theirs = ours + np.random.default_rng(1).normal(size=200)
    paired = difference(auroc, labels, ours, theirs)
    apart = [interval(auroc, labels, values) for values in (ours, theirs)]
    assert paired.interval.low > 0
    assert paired.p < 0.05
    assert apart[0].low < apart[1].high  # although their own intervals overlap


def test_a_signal_does_not_differ_from_itself_on_another_scale() -> None:
    labels, values = drawn(60, 1.0)
    same = difference(auroc, labels, values, np.exp(values))
    assert (same.interval.estimate, same.interval.low, same.interval.high, same.p) == (0, 0, 0, 1)


def test_holm_multiplies_the_smallest_p_by_the_number_of_questions_asked() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, math.nan, 0.7]) == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert holm([]).size == 0


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a number"):
        auroc([1, 0], [0.1, math.nan])
    with pytest.raises(ConfigError, match="one shape"):
        auroc([1, 0, 1], [0.1, 0.2])


def test_a_thousand_resamples_of_a_hundred_questions_are_a_matter_of_an_instant() -> None:
    labels, values = drawn(100, 1.0)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        interval(auroc, labels, values, resamples=1000)
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.5
