"""Thresholds for a target: worked examples, and simulations in which the promises must hold and a guess must not."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarekit.errors import ConfigError
from flarekit.eval.calibration.thresholds import Flags, Floats, Scale, by_cost, by_rate, by_risk, by_wrong_accepted

PLAIN, UNIT, THETA = Scale(), Scale(high=1.0), Scale("theta", 1.0)
VALUES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
VALUE_LISTS = st.lists(st.floats(0, 1), min_size=1, max_size=40)


# --- a rate -----------------------------------------------------------------------------------------------------------


def test_the_threshold_for_a_rate_is_the_quantile_of_the_values() -> None:
    assert by_rate(VALUES, 0.3, UNIT) == 0.8  # .8, .9 and .95 are 3 of 10
    assert by_rate(VALUES, 0.39, UNIT) == 0.8
    assert by_rate(VALUES, 1.0, UNIT) == 0.1
    assert by_rate(VALUES, 0.0, UNIT) == 0.950001
    assert by_rate(np.array([0.102]), 0.0, THETA) == pytest.approx(0.102001)  # 1 - .898 is .102 as floats go


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.floats(0, 1), st.sampled_from([UNIT, PLAIN, THETA]))
def test_a_rate_is_never_exceeded_and_no_further_question_could_be_acted_on(
    thousandths: list[int], rate: float, scale: Scale
) -> None:
    values = np.array(thousandths) / 1000
    try:
        threshold = by_rate(values, rate, scale)
    except ConfigError:  # too many have the highest value of all
        assert scale.high == 1
        assert np.mean(values == 1) > rate
        return
    assert np.mean(values >= threshold) <= rate + 1e-9
    accepted = values[values < threshold]
    assert not accepted.size or np.mean(values >= accepted.max()) > rate


def test_a_further_question_is_acted_on_no_more_often_than_the_rate_on_average() -> None:
    rng = np.random.default_rng(0)
    rates = [1 - by_rate(rng.random(30), 0.3, UNIT) for _ in range(2000)]  # of uniform values
    assert np.mean(rates) == pytest.approx(9 / 31, abs=0.006)


def test_a_rate_below_the_share_of_the_highest_value_is_out_of_reach() -> None:
    with pytest.raises(ConfigError, match=r"rate=0\.2 is out of reach: a share 0\.5 of the questions"):
        by_rate(np.array([0.3, 1.0]), 0.2, UNIT)
    assert by_rate(np.array([0.3, 1.0]), 0.2, PLAIN) == 1.00001


# --- a cost -----------------------------------------------------------------------------------------------------------


def test_the_threshold_for_a_cost_helps_as_many_as_the_money_allows() -> None:
    left, acted = np.full(4, 10.0), np.array([20.0, 50.0, 30.0, 90.0])
    values = np.array([0.4, 0.3, 0.2, 0.1])
    # Helping nobody costs 10 on average; the first 12.5, two 22.5, three 27.5, all 47.5.
    assert [by_cost(values, left, acted, cost, UNIT) for cost in (47.5, 47.4, 22.5, 12.5)] == [0.1, 0.2, 0.3, 0.4]
    assert by_cost(values, left, acted, 10, UNIT) == 0.400001
    with pytest.raises(ConfigError, match=r"cost=9 is out of reach: thresholds give mean costs of 10 to 47\.5"):
        by_cost(values, left, acted, 9, UNIT)


@settings(deadline=None)
@given(VALUE_LISTS, st.floats(1, 100), st.floats(1, 100))
def test_more_money_never_raises_the_threshold(given_: list[float], one: float, other: float) -> None:
    values = np.array(given_)
    low, high = sorted((one, other))
    costs = np.full(values.size, 1.0), np.linspace(2, 100, values.size)
    try:
        thresholds = [by_cost(values, *costs, cost, PLAIN) for cost in (low, high)]
    except ConfigError:
        return
    assert thresholds[0] >= thresholds[1]


# --- a risk -----------------------------------------------------------------------------------------------------------


def test_conformal_risk_control_allows_one_wrong_answer_fewer_than_the_share_of_n_plus_1() -> None:
    wrong = np.isin(VALUES, [0.2, 0.5, 0.7])
    # .2 x 11 = 2.2, so one accepted wrong answer is allowed: the threshold is the second wrong one's value.
    assert by_risk(VALUES, wrong, 0.2, UNIT) == 0.5
    assert by_risk(VALUES, wrong, 0.3, UNIT) == 0.7
    assert by_risk(VALUES, wrong, 0.4, UNIT) == 0.950001  # all may be accepted
    assert by_risk(VALUES, wrong, 0.1, UNIT) == 0.2


def test_with_too_few_questions_for_a_risk_only_acting_on_all_is_safe() -> None:
    assert by_risk(VALUES, np.zeros(10, dtype=bool), 0.09, UNIT) == 0
    assert by_risk(VALUES, np.zeros(10, dtype=bool), 1 / 11, UNIT) == 0.950001


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_no_larger_threshold_keeps_the_risk(pairs: list[tuple[float, bool]], risk: float) -> None:
    values, wrong = np.array([value for value, _ in pairs]), np.array([bad for _, bad in pairs])
    threshold = by_risk(values, wrong, risk, UNIT)

    def bound(tried: float) -> float:
        return float((np.sum((values < tried) & wrong) + 1) / (values.size + 1))

    assert threshold == 0 or bound(threshold) <= risk + 1e-9
    assert all(
        bound(tried) > risk - 1e-9 for tried in values if tried > threshold * (1 + 1e-5) + 1e-12 and tried > 1e-9
    )


# --- the share of wrong ones among the accepted -----------------------------------------------------------------------


def test_learn_then_test_goes_on_as_long_as_the_binomial_tail_rejects() -> None:
    values = np.arange(1, 41) / 100
    wrong = values > 0.305
    # Ranks 2, 4, ..., 38 and 39. P(at most 1 of m is wrong at 20%) is 10% or less from m = 18 on; of 30 accepted none
    # is wrong; of 32, 2 are: P(Bin(32, .2) <= 2) = .03; of 34, 4 are: .16.
    assert by_wrong_accepted(values, wrong, 0.2, 0.9, UNIT) == 0.33
    assert by_wrong_accepted(values, np.zeros(40, dtype=bool), 0.2, 0.9, UNIT) == 0.40
    assert by_wrong_accepted(values, np.ones(40, dtype=bool), 0.2, 0.9, UNIT) == 0


def test_the_first_test_that_fails_ends_the_sequence() -> None:
    values = np.arange(1, 101) / 100
    wrong = values < 0.155  # all the mistakes are among the most certain answers, and 85 good ones follow
    assert by_wrong_accepted(values, wrong, 0.3, 0.9, UNIT) == 0


def test_ties_are_tested_at_a_stricter_level() -> None:
    values = np.arange(1, 41) / 100
    tied = values.copy()
    tied[-1] = tied[-2]
    wrong = values > 0.305
    assert by_wrong_accepted(tied, wrong, 0.2, 0.9, UNIT) < by_wrong_accepted(values, wrong, 0.2, 0.9, UNIT)


# --- the promises, on a population that is known ----------------------------------------------------------------------

POPULATION, DRAWS, N = 200_000, 1000, 100
RISK, SHARE, CONFIDENCE = 0.1, 0.25, 0.9


@cache
def population(levels: int = 0) -> tuple[Floats, Flags]:
    """A noisy signal of which 39% are wrong, sorted by its value; rounded to so many levels where it is to tie."""
    rng = np.random.default_rng(7)
    difficulty = rng.normal(size=POPULATION)
    wrong = rng.random(POPULATION) < 1 / (1 + np.exp(-2 * difficulty + 0.8))
    values = 1 / (1 + np.exp(-difficulty - 0.5 * rng.normal(size=POPULATION)))
    if levels:
        values = np.ceil(values * levels) / levels
    order = np.argsort(values, kind="stable")
    return values[order], wrong[order]


def simulate(choose: Callable[[Floats, Flags], float], levels: int = 0) -> tuple[Floats, Floats]:
    """For every draw the true share that is accepted and wrong, and the true share of wrong ones among the accepted."""
    values, wrong = population(levels)
    mistakes = np.concatenate(([0], np.cumsum(wrong)))
    rng = np.random.default_rng(11)
    rows = (rng.integers(POPULATION, size=N) for _ in range(DRAWS))
    accepted = np.array([np.searchsorted(values, choose(values[row], wrong[row])) for row in rows])
    return mistakes[accepted] / POPULATION, mistakes[accepted] / np.maximum(accepted, 1)


def plug_in_risk(values: Floats, wrong: Flags) -> float:
    """The largest threshold whose own figure on the sample is good enough."""
    return float(max(value for value in [0, *values] if np.mean((values < value) & wrong) <= RISK))


def plug_in_share(values: Floats, wrong: Flags) -> float:
    return float(max(v for v in [0, *values] if not (values < v).any() or wrong[values < v].mean() <= SHARE))


@pytest.mark.parametrize("levels", [0, 20])
def test_the_mean_risk_over_calibrations_stays_within_what_was_asked(levels: int) -> None:
    risks, _ = simulate(lambda values, wrong: by_risk(values, wrong, RISK, UNIT), levels)
    allowance = 3 * risks.std() / math.sqrt(DRAWS)  # of the simulation itself, about .003
    assert risks.mean() <= RISK + allowance
    if not levels:
        assert risks.mean() >= RISK - 1 / N - allowance  # and hardly stricter than need be


@pytest.mark.parametrize("levels", [0, 20])
def test_the_share_of_wrong_accepted_answers_exceeds_the_bound_no_more_often_than_allowed(levels: int) -> None:
    _, shares = simulate(lambda values, wrong: by_wrong_accepted(values, wrong, SHARE, CONFIDENCE, UNIT), levels)
    delta = 1 - CONFIDENCE
    allowance = 3 * math.sqrt(delta * CONFIDENCE / DRAWS)  # .028
    assert np.mean(shares > SHARE) <= delta + allowance
    if not levels:
        assert np.mean(shares > 0) > 0.5  # it does accept answers


def test_thresholds_that_look_good_on_the_sample_break_both_promises() -> None:
    risks, _ = simulate(plug_in_risk)
    _, shares = simulate(plug_in_share)
    assert risks.mean() > RISK + 3 * risks.std() / math.sqrt(DRAWS)
    assert np.mean(shares > SHARE) > 0.4


# --- how a threshold is written ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(0, 1), st.sampled_from([PLAIN, UNIT, THETA]))
def test_a_threshold_reads_back_as_it_was_calibrated_and_never_higher_than_the_value(
    value: float, scale: Scale
) -> None:
    threshold = scale.at_most(value)
    written = float(scale.written(threshold))
    assert (1 - written if scale is THETA else written) == threshold
    assert threshold <= value
    assert value - threshold <= 1.1e-5
    above = scale.above(value)
    if above is not None:
        assert value < above <= min(value + 2e-5, scale.high)
        assert (1 - float(scale.written(above)) if scale is THETA else float(scale.written(above))) == above


def test_values_without_bound_have_thresholds_too() -> None:
    assert PLAIN.at_most(math.inf) == math.inf
    assert PLAIN.above(math.inf) is None
    assert PLAIN.at_most(1234567.0) == 1234560.0
    assert PLAIN.above(1234567.0) == 1234570.0
    assert UNIT.above(1.0) is None
