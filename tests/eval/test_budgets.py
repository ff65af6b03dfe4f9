"""One budget split between retrieval and computing: on arms whose best mixture is known beforehand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from fakes.run_directories import retrieved, segment, trace, write_run
from flarekit.costs import Prices
from flarekit.errors import ConfigError
from flarekit.eval.analysis.budgets import SPLITS, Spending, budgets_of, spending, split, split_rows
from flarekit.eval.analysis.frontier.mixtures import Means, best_mixtures
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.groups import load_runs
from flarekit.stats.bootstrap import REFITTED

HALF = np.arange(200) % 2 == 0
LOOKED_UP, STRONG = np.array([0.0, 20, 40, 0, 20, 40]), np.array([0.0, 0, 0, 30, 30, 30])
"""Prices of what six arms spend on either way: nothing, one, the other, or both."""


def made(scores: dict[str, tuple[np.ndarray, float, float]]) -> Spending:
    """Arms as name: (score of every question, price of retrieval, price of strong tokens); a plain answer costs 10."""
    n = 200
    parts = [np.full((len(scores), n), 0.0) for _ in range(2)]
    for place, (_, looked_up, strong) in enumerate(scores.values()):
        parts[0][place], parts[1][place] = looked_up, strong
    return Spending(
        list(scores),
        np.array([one[0] for one in scores.values()], dtype=float),
        10 + parts[0] + parts[1],
        {"retrieval": parts[0], "strong": parts[1], "samples": np.zeros_like(parts[0])},
    )


NOTHING = np.zeros(200)


def test_where_each_way_mends_other_questions_only_both_together_mend_all() -> None:
    spent = made(
        {
            "closed-book": (NOTHING, 0, 0),
            "rag": (HALF, 20, 0),
            "strong": (~HALF, 0, 20),
            "rag:model=strong": (NOTHING + 1, 20, 20),
        }
    )
    found = split(spent, 50.0, resamples=30)
    curve = found.points
    assert [point.share for point in curve] == list(SPLITS)
    assert curve[2].score.estimate == pytest.approx(1.0)
    assert curve[2].mixture == {"rag:model=strong": pytest.approx(1.0)}
    assert curve[0].score.estimate == pytest.approx(0.5, abs=0.06)
    assert found.balance.share == 0.5
    assert found.balance.difference.low > 0.3


def test_where_one_way_is_better_at_every_price_its_end_wins() -> None:
    spent = made({"closed-book": (NOTHING, 0, 0), "rag": (HALF, 20, 0), "strong": (NOTHING + 1, 0, 20)})
    found = split(spent, 20.0, resamples=30)
    scores = [point.score.estimate for point in found.points]
    assert scores == sorted(scores, reverse=True), "the less goes to retrieval, the better"
    assert found.balance.end == 0
    assert found.balance.difference.high < 0


def test_no_mixture_costs_more_than_its_budget() -> None:
    spent = made({"closed-book": (NOTHING, 0, 0), "rag": (HALF, 20, 0), "strong": (NOTHING + 1, 0, 40)})
    for point in split(spent, 18.0, resamples=5).points:
        mean = sum(weight * spent.prices[spent.arms.index(arm)].mean() for arm, weight in point.mixture.items())
        assert mean <= 18.0 + 0.5, "but for the weights below 1% that are not shown"


def test_weights_are_not_judged_on_the_questions_that_they_were_fitted_on() -> None:
    """Twenty arms of pure noise: the best on a half is no better than any on the other."""
    rng = np.random.default_rng(1)
    noise = {f"self {number}": (rng.random(200) < 0.5, 20, 0) for number in range(20)}
    spent = made({"closed-book": (NOTHING, 0, 0), **noise})
    top = split(spent, 30.0, resamples=5).points[-1]
    assert top.score.estimate == pytest.approx(0.5, abs=0.04)
    assert spent.scores.mean(axis=1).max() >= 0.55


def simulated(rng: np.random.Generator, right: np.ndarray, n: int) -> Spending:
    """Six arms that are right with these probabilities, half of the time for a reason that all arms share."""
    ease = rng.random(n)
    drawn = np.where(rng.random((6, n)) < 0.5, ease, rng.random((6, n)))
    length = rng.lognormal(0, 0.2, n)
    parts = [way[:, None] * length for way in (LOOKED_UP, STRONG)]
    ways = {"retrieval": parts[0], "strong": parts[1], "samples": np.zeros((6, n))}
    return Spending(list("abcdef"), (drawn < right[:, None]).astype(float), 10 * length + sum(parts), ways)


@pytest.mark.parametrize(
    "right",
    [np.full(6, 0.5), np.array([0.2, 0.5, 0.5, 0.5, 0.5, 0.5]), 0.2 + 0.005 * (LOOKED_UP + STRONG)],
    ids=["no arm is better", "any help is as good", "only the sum counts"],
)
def test_where_no_split_is_better_an_interval_hardly_ever_says_that_one_is(right: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    shown = [
        split(simulated(rng, right, 80), 40.0, resamples=60, seed=world).balance.difference.excludes_zero
        for world in range(60)
    ]
    assert sum(shown) <= 6, "more than that happens in one series of 60 in 50, at a rate of 5%"


def test_a_balance_that_is_better_is_found() -> None:
    rng = np.random.default_rng(4)
    right = np.array([0.2, 0.4, 0.4, 0.4, 0.8, 0.8])  # at 40, both ways to three fifths: .56; one way alone: .4
    found = [split(simulated(rng, right, 150), 40.0, resamples=60, seed=world).balance for world in range(20)]
    assert np.mean([one.difference.estimate for one in found]) == pytest.approx(0.16, abs=0.04)
    assert sum(one.difference.low > 0 for one in found) >= 16


def test_picking_the_best_split_of_noise_gains_nothing() -> None:
    """Picked and judged on the same questions it would, since there are more balanced splits than ends."""
    rng = np.random.default_rng(5)
    found = [split(simulated(rng, np.full(6, 0.5), 40), 40.0, resamples=2, seed=world) for world in range(50)]
    apart = [one.balance.difference.estimate for one in found]
    assert abs(np.mean(apart)) < 3 * np.std(apart) / len(apart) ** 0.5


def test_an_interval_says_how_many_resamples_it_is_made_of() -> None:
    spent = made({"closed-book": (NOTHING, 0, 0), "rag": (HALF, 20, 0), "strong": (~HALF, 0, 20)})
    found = split(spent, 25.0)
    used = {point.score.resamples for point in found.points}
    assert used == {found.balance.difference.resamples} == {REFITTED}
    assert {row["resamples"] for row in split_rows([found])} == {REFITTED}
    half_the_time = replace(spent, prices=spent.prices + np.where(np.arange(200) < 20, 80, 7))  # a mean of about 24.3
    scarce = split(half_the_time, 25.0, resamples=200).points[2]
    assert 0 < scarce.score.resamples < 200


def test_no_copy_of_a_question_judges_what_it_was_fitted_on() -> None:
    """Twenty questions under ten ids each: an arm of noise that is lucky with some is so with all their copies."""
    said, estimates = np.arange(200) % 20, []
    for world in range(12):
        rng = np.random.default_rng(world)
        noise = {f"self {number}": ((rng.random(20) < 0.5)[said], 20, 0) for number in range(8)}
        spent = made({"closed-book": (NOTHING, 0, 0), **noise})
        pair = spent, replace(spent, units=said)
        estimates.append([split(one, 30.0, resamples=2).points[-1].score.estimate for one in pair])
    flattered, honest = np.mean(estimates, axis=0)
    assert flattered > 0.6
    assert honest == pytest.approx(0.5, abs=0.05)


# Costs in steps of 1/1000: the solver takes a budget for kept that is exceeded by 1e-7.
COSTS = st.sampled_from([0.0, 0.0, 5.0, 20.0, 33.3]) | st.floats(0, 40).map(lambda cost: round(cost, 3))


@given(
    st.integers(1, 8).flatmap(
        lambda arms: st.tuples(
            *(st.lists(COSTS, min_size=arms, max_size=arms) for _ in range(2)),
            st.lists(st.floats(0, 1), min_size=arms, max_size=arms),
        )
    ),
    st.sampled_from([5.0, 10.0, 15.0, 30.0, 43.3, 100.0]),
    st.sampled_from([0.0, 0.025]),
)
@settings(deadline=None, max_examples=60)
def test_the_best_corner_is_what_a_general_solver_finds(
    arms: tuple[list[float], list[float], list[float]], budget: float, slack: float
) -> None:
    first, second, scores = map(np.array, arms)
    prices = 10 + first + second
    found = best_mixtures(Means(scores[None], prices[None], first[None], second[None]), budget, SPLITS, slack)
    for share, [weights], [value] in zip(SPLITS, found.weights, found.values, strict=True):
        spent = first + second
        limits = np.array([prices, first - (share + slack) * spent, (share - slack) * spent - first])
        solved = linprog(
            -scores, A_ub=limits, b_ub=[budget, 0, 0], A_eq=np.ones((1, scores.size)), b_eq=[1], method="highs"
        )
        assert solved.success == bool(np.isfinite(value))
        if solved.success:
            assert value == pytest.approx(-solved.fun, abs=1e-6)
            assert weights @ scores == pytest.approx(value)
            assert weights.sum() == pytest.approx(1)
            assert weights.min() >= 0
            assert (limits @ weights <= np.array([budget, 0, 0]) + 1e-6).all()
        else:
            assert not weights.any()


def test_an_arm_that_spends_on_the_third_way_is_left_out() -> None:
    spent = made({"closed-book": (NOTHING, 0, 0), "rag": (HALF, 20, 0), "self-consistency": (NOTHING + 1, 0, 0)})
    spent.parts["samples"][2] = 20
    assert split(spent, 60.0, resamples=5).points[0].score.estimate == 0
    assert split(spent, 60.0, ("retrieval", "samples"), resamples=5).points[0].score.estimate == pytest.approx(1)


def run(folder: Path) -> Path:
    """Twelve questions: a plain answer reads 100 tokens and writes 4, passages add 60 to read."""
    asked = [Question(f"q{place}", f"Which of {place}?", ("Lima",), ("p0",), "bridge") for place in range(12)]
    plain, two = segment("it is Lima .", prompt=100), segment("it is Lima .", prompt=160)
    lost = replace(plain, kept=0)
    traces = []
    for question in asked:
        key = question.id
        traces += [
            trace(key, "closed-book", "Rome", plain),
            trace(key, "rag", "Lima", retrieved("Which?", "p0"), two),
            trace(key, "self-consistency:samples=3", "Rome", plain, lost, lost),
            trace(key, "strong", "Lima", replace(plain, role="strong")),
            trace(key, "rag:model=strong", "Lima", retrieved("Which?", "p0"), replace(two, role="strong")),
            trace(key, "flare", "Lima", plain),
            trace(key, "closed-book:role=expert", "Rome", plain),
        ]
    return write_run(folder, asked, traces, strong="big")


def test_what_an_answer_spent_is_told_by_its_streams(tmp_path: Path) -> None:
    [group] = load_runs([run(tmp_path / "run")])
    spent = spending(group, Prices())
    plain = ["closed-book", "rag", "self-consistency:samples=3", "strong", "rag:model=strong"]
    assert list(spent.arms) == plain, "those that decide nothing"
    means = {way: values.mean(axis=1).tolist() for way, values in spent.parts.items()}
    assert means["retrieval"] == [0, 1 + 60 * 0.25, 0, 0, 1 + 60 * 0.75]
    assert means["samples"] == [0, 0, 2 * (100 * 0.25 + 4), 0, 0]
    assert means["strong"] == [0, 0, 0, 100 * 0.75 + 4 * 3, 100 * 0.75 + 4 * 3]
    assert spent.scores.mean(axis=1).tolist() == [0, 1, 0, 1, 1]
    low, *_, high = budgets_of(spent)
    assert 29 < low < high < 133


def test_rows_for_a_chart_hold_no_point_that_cannot_be_had(tmp_path: Path) -> None:
    [group] = load_runs([run(tmp_path / "run")])
    spent = spending(group, Prices())
    splits = [split(spent, budget, resamples=5) for budget in (5.0, 50.0)]
    assert all(math.isnan(point.score.estimate) for point in splits[0].points), "less than the cheapest arm costs"
    rows = split_rows(splits)
    assert {row["budget"] for row in rows} == {50.0}
    assert rows[-1]["mixture"] == "100% rag"


def test_a_run_without_enough_arms_says_what_a_split_needs(tmp_path: Path) -> None:
    asked = [Question("q", "Which?", ("Lima",))]
    [group] = load_runs([write_run(tmp_path / "run", asked, [trace("q", "rag", "Lima", segment("Lima"))])])
    with pytest.raises(ConfigError, match="a split needs closed-book and two other arms"):
        spending(group, Prices())
