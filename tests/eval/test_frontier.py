"""Accuracy against cost: which arms belong together, the hull of points, and families compared without flattery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.run_directories import retrieved, segment, trace, write_run
from fakes.simulated import Moments, World, worth
from flarekit.errors import ConfigError, DataError
from flarekit.eval.analysis.frontier.crossfit import chosen_by_half, compare_families, score_gap
from flarekit.eval.analysis.frontier.families import Kind, Matrix, ends, family, kind_of, matrix
from flarekit.eval.analysis.frontier.frontier import (
    ArmPoint,
    aiq,
    arm_points,
    cost_range,
    end_range,
    hull,
    hulls,
    oracle_frontier,
    rating,
)
from flarekit.eval.analysis.frontier.oracles import crossfitted_oracle, oracles
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.groups import load_runs
from flarekit.policies import POLICIES
from flarekit.stats.halves import halved_resamples

# --- moments and actions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "moment", "action"),
    [
        ("pre-retrieve", "pre", "retrieve"),
        ("p-ik", "pre", "retrieve"),
        ("pre-escalate:threshold=0.2", "pre", "escalate"),
        ("mid-retrieve:threshold=0.9", "mid", "retrieve"),
        ("flare", "mid", "retrieve"),  # it also retrieves beforehand, but decides nothing there
        ("escalate:back=sentence", "mid", "escalate"),
        ("cascade", "post", "escalate"),
        ("vote-cascade", "post", "escalate"),
    ],
)
def test_a_specification_tells_when_an_arm_decides_and_what_it_does(spec: str, moment: str, action: str) -> None:
    kind = kind_of(spec)
    assert (kind.moment, kind.action, kind.end) == (moment, action, False)


@pytest.mark.parametrize("spec", ["closed-book", "rag", "rag:k=5", "strong", "closed-book:model=strong"])
def test_what_decides_nothing_and_acts_at_once_or_never_is_an_end(spec: str) -> None:
    assert kind_of(spec).end
    assert kind_of(spec).moment is None


@pytest.mark.parametrize("spec", ["ircot", "iter-retgen", "fixed-length", "self-consistency", "critic", "watch"])
def test_a_schedule_is_neither_a_decision_nor_an_end(spec: str) -> None:
    kind = kind_of(spec)
    assert (kind.moment, kind.end) == (None, False)


def test_a_prompt_of_its_own_keeps_an_arm_out_of_every_family() -> None:
    assert kind_of("flare-instruct").own_prompt
    assert not kind_of("flare-instruct").joins("retrieve")
    assert not kind_of("closed-book:role=expert").end


def test_a_router_whose_folder_is_missing_changes_nothing() -> None:
    assert kind_of("pre-escalate:threshold=0.5,router=/nowhere") == kind_of("pre-escalate")
    assert kind_of("escalate:router=/nowhere,threshold=30").moment == "mid"
    assert kind_of("adaptive-rag:router=/nowhere") == Kind("pre", frozenset({"retrieve"}))
    assert kind_of("masrouter:router=/nowhere").action == "any"


def test_a_chooser_does_what_its_list_of_arms_does(tmp_path: Path) -> None:
    (tmp_path / "router.json").write_text('{"arms": ["small/closed-book", "large/closed-book"]}')
    assert kind_of(f"avengers-pro:router={tmp_path}") == Kind("pre", frozenset({"escalate"}))


def test_a_policy_that_is_no_longer_known_is_of_no_kind() -> None:
    assert kind_of("forgotten:x=1") == Kind(None, frozenset())


def test_every_policy_that_is_known_is_of_some_kind() -> None:
    assert {kind_of(name).moment for name in POLICIES} == {None, "pre", "mid", "post"}


QUESTIONS = [Question(key, f"Question {key}?", ("Paris",), ()) for key in "abcd"]


def recorded(path: Path, finished: dict[str, str]) -> Path:
    """Arms that are right on b, and cost 29 or, where they look something up, 30; by the ids they finished."""
    traces = [
        trace(key, spec, "Paris" if key == "b" else "Rome", *looked(spec, key), segment("It is in there"))
        for spec, keys in finished.items()
        for key in keys
    ]
    return write_run(path / "run", QUESTIONS, traces)


def looked(spec: str, key: str) -> list[object]:
    return [] if spec in ("closed-book", "cascade") else [retrieved(f"Question {key}?", "x")]


def test_a_group_has_families_and_ends_and_leaves_the_rest_out(tmp_path: Path) -> None:
    arms = ("closed-book", "rag", "ircot", "p-ik", "flare", "flare:theta=0.5", "flare-instruct", "cascade")
    [group] = load_runs([recorded(tmp_path, dict.fromkeys(arms, "ab"))])
    assert family(group, "mid", "retrieve") == ("flare", "flare:theta=0.5")
    assert family(group, "pre", "any") == ("p-ik",)
    assert family(group, "post", "retrieve") == ()
    assert ends(group, "retrieve") == ("closed-book", "rag")
    assert ends(group, "escalate") == ("closed-book",)


def test_points_are_over_the_questions_that_all_compared_arms_finished(tmp_path: Path) -> None:
    [group] = load_runs([recorded(tmp_path, {"closed-book": "abcd", "rag": "abc", "flare": "bcd"})])
    assert matrix(group, ["closed-book", "rag"]).questions == ("a", "b", "c")
    figures = matrix(group)
    assert figures.questions == ("b", "c")
    assert arm_points(figures) == [
        ArmPoint("closed-book", 29, 0.5),
        ArmPoint("rag", 30, 0.5),
        ArmPoint("flare", 30, 0.5),
    ]
    assert figures.called.tolist() == [[False, False], [True, True], [True, True]]


def test_arms_that_finished_no_question_together_are_refused(tmp_path: Path) -> None:
    [group] = load_runs([recorded(tmp_path, {"closed-book": "ab", "rag": "cd"})])
    with pytest.raises(DataError, match="no question of hotpotqa was finished by all of the arms closed-book, rag"):
        matrix(group)


# --- hulls ----------------------------------------------------------------------------------------------------------

points = st.lists(
    st.builds(ArmPoint, st.just(""), st.integers(1, 40).map(float), st.integers(0, 40).map(lambda score: score / 40)),
    min_size=1,
    max_size=12,
)


def height(corners: Sequence[ArmPoint], cost: float) -> float:
    return float(np.interp(cost, [one.cost for one in corners], [one.score for one in corners]))


@given(points)
def test_a_hull_rises_ever_more_slowly_and_lies_above_every_point(given_: list[ArmPoint]) -> None:
    corners = hull(given_)
    costs, scores = np.array([one.cost for one in corners]), np.array([one.score for one in corners])
    assert (np.diff(costs) > 0).all()
    assert (np.diff(scores) > 0).all()
    assert (np.diff(np.diff(scores) / np.diff(costs)) < 1e-9).all()
    assert all(height(corners, point.cost) >= point.score - 1e-9 for point in given_)
    assert set(corners) <= set(given_)


@given(points, st.randoms())
def test_a_hull_does_not_depend_on_the_order_of_points(given_: list[ArmPoint], random: object) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis's own type
    assert hull(shuffled) == hull(given_)


@given(points, st.integers(0, 11), st.integers(0, 5), st.integers(0, 5))
def test_a_point_that_costs_more_for_less_changes_no_hull(
    given_: list[ArmPoint], which: int, more: int, less: int
) -> None:
    better = given_[which % len(given_)]
    dominated = ArmPoint("", better.cost + more, better.score - less / 40)
    assert hull([*given_, dominated]) == hull(given_)


def test_many_hulls_at_once_are_each_what_they_are_alone() -> None:
    random = np.random.default_rng(3)
    costs, scores = random.uniform(1, 2, (50, 9)), random.uniform(0, 1, (50, 9))
    together = hulls(costs, scores)
    for row in range(50):
        alone = hulls(costs[row : row + 1], scores[row : row + 1]).corners[0]
        assert list(dict.fromkeys(together.corners[row].tolist())) == alone.tolist()


def test_a_budget_buys_a_mixture_of_two_neighbouring_corners() -> None:
    found = hulls([[10, 20, 30]], [[0.1, 0.5, 0.6]])
    for budget, mixture in ((5, (0, 0.1)), (15, (0.5, 0.3)), (22, (0.2, 0.52)), (99, (0, 0.6))):
        first, second, share = found.at_cost(budget)
        scores = np.array([0.1, 0.5, 0.6])
        assert share[0] == pytest.approx(mixture[0])
        assert (1 - share[0]) * scores[first[0]] + share[0] * scores[second[0]] == pytest.approx(mixture[1])
    first, second, share = found.at_score(0.55)
    assert (first[0], second[0], share[0]) == (1, 2, pytest.approx(0.5))


def test_the_area_under_simple_hulls_is_what_it_is_by_hand() -> None:
    line = [ArmPoint("", 10, 0.2), ArmPoint("", 20, 0.6)]
    assert aiq(line, 10, 20) == pytest.approx(0.4)
    assert aiq(line, 10, 30) == pytest.approx(0.5)  # level from 20 on: (.4 + .6) / 2
    assert aiq([ArmPoint("", 10, 0.3)], 10, 50) == pytest.approx(0.3)
    assert aiq([*line, ArmPoint("", 15, 0.1)], 10, 20) == pytest.approx(0.4)
    assert np.isnan(aiq(line, 5, 20))
    with pytest.raises(ConfigError, match="range of costs"):
        aiq(line, 20, 20)


def test_the_common_range_is_where_all_families_have_arms() -> None:
    cheap, dear = [ArmPoint("", 10, 0), ArmPoint("", 40, 1)], [ArmPoint("", 15, 0), ArmPoint("", 90, 1)]
    assert cost_range(cheap, dear) == (15, 40)


def test_what_costs_more_for_less_does_not_stretch_the_common_range() -> None:
    cheap, dear = (
        [ArmPoint("", 10, 0), ArmPoint("", 40, 1), ArmPoint("", 80, 0.9)],
        [ArmPoint("", 15, 0), ArmPoint("", 90, 1)],
    )
    assert cost_range(cheap, dear) == (15, 40)


def test_the_line_between_the_ends_goes_to_the_dearest_that_is_not_dominated() -> None:
    never, rag, strong = ArmPoint("closed-book", 10, 0.2), ArmPoint("rag", 30, 0.4), ArmPoint("strong", 50, 0.3)
    assert end_range(never, [rag, strong]) == (10, 30)
    assert end_range(never, [rag, ArmPoint("strong", 50, 0.5)]) == (10, 50)
    assert end_range(never, [ArmPoint("rag", 30, 0.1), ArmPoint("strong", 50, 0.1)]) == (10, 30), "help that only harms"


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="costs and scores of the same arms"):
        hulls([[1.0, 2.0]], [[1.0]])


# --- a family against its ends, and the oracle ----------------------------------------------------------------------


def test_a_family_that_recovers_the_gap_with_half_of_the_help() -> None:
    # closed-book is right on nothing, rag on half of the 40 questions; the arm asks for help on just that half.
    helped = np.arange(40) < 20
    scores = np.array([np.zeros(40), helped, helped], dtype=float)
    costs = np.array([np.full(40, 10.0), np.full(40, 30.0), np.where(helped, 30.0, 10.0)])
    called = np.array([np.zeros(40), np.ones(40), helped], dtype=bool)
    figures = Matrix(("closed-book", "rag", "pre"), tuple(map(str, range(40))), scores, costs, called)
    found = rating(figures, "closed-book", "rag")
    assert found.gap.estimate == 0.5
    assert found.pgr.estimate == pytest.approx(1.0)
    assert found.apgr.estimate == pytest.approx(0.75)  # up to 1 at a share of a half, and 1 from there
    assert found.cpt50.estimate == pytest.approx(0.25)
    assert found.cpt80.estimate == pytest.approx(0.4)
    assert found.aiq.estimate == pytest.approx(0.375)  # from 0 to .5 at a cost of 20, and .5 from there to 30
    assert found.apgr.low <= 0.75 <= found.apgr.high


def test_the_oracle_takes_the_steps_that_yield_most_for_their_cost_first() -> None:
    # On a helping costs 10 and yields 1; on b it costs 10 and yields .5; on c it harms.
    scores, costs = np.array([[0, 0, 1], [1, 0.5, 0]]), np.array([[10.0, 10, 10], [20, 20, 20]])
    figures = Matrix(("closed-book", "rag"), ("a", "b", "c"), scores, costs, scores > 2)
    expected = [(10, 1 / 3), (40 / 3, 2 / 3), (50 / 3, 2.5 / 3)]
    assert np.allclose(oracle_frontier(figures), expected)


def test_the_oracle_is_above_every_arm() -> None:
    figures = World(arms=12, seed=4).draw(np.random.default_rng(0), 60)
    best = [ArmPoint("", cost, score) for cost, score in oracle_frontier(figures)]
    assert all(height(best, point.cost) >= point.score - 1e-9 for point in arm_points(figures))


def noise(random: np.random.Generator, arms: int, n: int) -> Matrix:
    """Arms that are right on half of the questions, by chance alone; every second one helps everybody."""
    scores = (random.uniform(size=(arms, n)) < 0.5).astype(float)
    called = np.tile(np.arange(arms)[:, None] % 2 == 1, n)
    names = tuple(map(str, range(arms)))
    return Matrix(names, tuple(map(str, range(n))), scores, np.where(called, 20.0, 10.0), called)


def test_the_cross_fitted_oracle_holds_none_of_the_luck_of_the_others() -> None:
    every, two, honest = oracles(noise(np.random.default_rng(0), 20, 400), "0", "1")
    assert every.score.estimate > 0.99
    assert 0.7 < two.score.estimate < 0.8, "the better of two coins"
    assert honest.score.low < 0.5 < honest.score.high
    assert (every.arms, two.arms) == (20, 2)


def test_the_cross_fitted_oracle_keeps_what_help_is_really_worth() -> None:
    # Help is right on one half of the questions and no help on the other, for every arm alike.
    figures = noise(np.random.default_rng(0), 8, 40)
    helped = np.arange(40) < 20
    found = crossfitted_oracle(replace(figures, scores=(figures.called == helped).astype(float)))
    assert found is not None
    scores, costs = found
    assert scores.mean() > 0.95
    assert costs[helped].mean() > costs[~helped].mean()


def test_two_arms_alone_leave_nothing_to_cross_fit() -> None:
    assert crossfitted_oracle(noise(np.random.default_rng(0), 2, 40)) is None


# --- families against each other ------------------------------------------------------------------------------------


def test_a_family_compared_with_itself_differs_by_exactly_nothing() -> None:
    figures = World(arms=8, seed=1).draw(np.random.default_rng(0), 40)
    found = compare_families(figures, figures.arms, figures.arms, costs=(80, 190), resamples=199)
    for gap in (found.score, found.spent, found.overall, found.cost, found.reached):
        assert (gap.interval.estimate, gap.interval.low, gap.interval.high, gap.p, gap.spread) == (0, 0, 0, 1, 0)


def test_a_difference_turns_its_sign_when_the_families_change_places() -> None:
    figures = World(arms=10, seed=1).draw(np.random.default_rng(0), 40)
    ours, theirs = figures.arms[:6], (*figures.arms[:2], *figures.arms[6:])
    one, other = (
        compare_families(figures, *pair, costs=(80, 190), resamples=199) for pair in ((ours, theirs), (theirs, ours))
    )
    assert one.score.interval.estimate == pytest.approx(-other.score.interval.estimate)
    assert one.cost.interval.low == pytest.approx(-other.cost.interval.high)
    assert one.score.p == pytest.approx(other.score.p)


def test_the_score_alone_is_the_same_as_with_all_the_rest() -> None:
    figures = World(arms=10, seed=1).draw(np.random.default_rng(0), 40)
    ours, theirs = figures.arms[:6], (*figures.arms[:2], *figures.arms[6:])
    whole = compare_families(figures, ours, theirs, costs=(80, 190), budget=120, resamples=99, seed=3)
    alone = score_gap(figures, ours, theirs, 120, resamples=99, seed=3)
    assert alone.interval.estimate == pytest.approx(whole.score.interval.estimate)
    assert alone.p == pytest.approx(whole.score.p)


@pytest.mark.parametrize("world", [Moments(1, 0.15), Moments(5, 0.1)])
def test_where_moments_are_truly_alike_p_is_small_about_as_seldom_as_it_says(world: Moments) -> None:
    random = np.random.default_rng(5)
    small = np.zeros(2)
    for repetition in range(200):
        found = compare_families(
            world.draw(random, 90), world.ours, world.theirs, costs=(60, 180), resamples=99, splits=4, seed=repetition
        )
        small += np.array([found.score.p, found.overall.p]) <= 0.05
    assert (small / 200 <= 0.09).all()  # of 5%, 200 comparisons measure at most 9% in 99 of 100 cases


def test_arms_that_are_best_by_chance_are_not_credited_for_it() -> None:
    # Forty arms that are all alike, against one of them: in sample the best of forty is far ahead.
    random = np.random.default_rng(0)
    ahead, honest = [], []
    for repetition in range(30):
        scores = (random.uniform(size=(41, 60)) < 0.3).astype(float)
        costs = np.tile(np.linspace(99, 101, 41)[:, None], 60)
        names = tuple(map(str, range(41)))
        figures = Matrix(names, tuple(map(str, range(60))), scores, costs, scores > 2)
        ahead.append(scores[1:].mean(axis=1).max() - scores[0].mean())
        found = compare_families(figures, names[1:], names[:1], costs=(99, 101), resamples=2, seed=repetition)
        honest.append(found.score.interval.estimate)
    assert np.mean(ahead) > 0.1
    assert abs(np.mean(honest)) < 0.03


def test_each_question_is_answered_by_the_choice_of_the_half_without_it() -> None:
    # Arm 1 is right on every question of one half and arm 2 on every question of the other, so that either choice
    # is wrong where it is judged.
    [(first, _)] = halved_resamples(20, 1, 0, seed=0)
    scores = np.array([np.zeros(20), first[0], 1 - first[0]])
    costs = np.tile([[1.0], [2.0], [2.0]], 20)
    figures = Matrix(("end", "a", "b"), tuple(map(str, range(20))), scores, costs, scores > 2)
    chosen = chosen_by_half(figures, figures.arms, budget=2.0)
    assert scores[chosen, np.arange(20)].sum() == 0


def test_too_few_questions_are_refused() -> None:
    figures = World(arms=4, seed=1).draw(np.random.default_rng(0), 9)
    with pytest.raises(DataError, match="10 or more questions"):
        compare_families(figures, figures.arms[:3], figures.arms[1:], costs=(80, 190))


def test_120_arms_on_100_questions_take_seconds() -> None:
    figures = World(arms=120, seed=1).draw(np.random.default_rng(0), 100)
    begin = time.perf_counter()
    compare_families(figures, figures.arms[:60], figures.arms[60:], costs=(80, 190))
    assert time.perf_counter() - begin < 20  # half a second on an idle machine


@pytest.mark.parametrize(("ours", "theirs"), [(8, 8), (3, 16)])
def test_the_coverage_of_the_cross_fitted_interval_is_at_least_95_percent(ours: int, theirs: int) -> None:
    world = World(arms=2 + ours + theirs, seed=7)
    left, right = (0, 1, *range(2, 2 + ours)), (0, 1, *range(2 + ours, 2 + ours + theirs))
    truth = worth(world, left, budget=130, n=40) - worth(world, right, budget=130, n=40)
    random = np.random.default_rng(17)
    covered = 0
    for repetition in range(300):
        figures = world.draw(random, 80)
        names = [tuple(figures.arms[place] for place in side) for side in (left, right)]
        found = compare_families(figures, *names, costs=(70, 190), budget=130, splits=3, resamples=199, seed=repetition)
        covered += found.score.interval.low <= truth <= found.score.interval.high
    assert covered / 300 >= 0.95  # 97 to 99%: a half of a resample holds fewer different questions than one of ours
