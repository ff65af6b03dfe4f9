"""Cross-fitting: no copy of a question, recorded or drawn, lies in both halves; and both cross-fits halve that way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.simulated import World
from flarekit.eval.analysis import budgets
from flarekit.eval.analysis.frontier import crossfit
from flarekit.eval.analysis.frontier.families import Matrix
from flarekit.stats.halves import halved_resamples

UNITS = st.lists(st.integers(0, 30), min_size=2, max_size=60).map(lambda told: np.unique(told, return_inverse=True)[1])


def in_both(units: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which units are in both halves, in any row."""
    owned = units[:, None] == np.unique(units)
    return np.asarray(((first @ owned) > 0) & ((second @ owned) > 0))


@given(UNITS, st.integers(0, 9))
def test_no_copy_of_a_question_is_ever_in_both_halves(units: np.ndarray, seed: int) -> None:
    for first, second in halved_resamples(units, 2, 6, seed):
        assert not in_both(units, first, second).any()
        assert ((first + second)[0] == 1).all(), "the questions themselves, each once"
        _, places = np.unique(units, return_index=True)
        drawn = (first + second)[:, places]
        assert (drawn.sum(axis=1) == places.size).all(), "as many units as there are"
        assert ((first + second) == drawn[:, units]).all(), "the copies of a unit are drawn together"
        assert ((first[:, places] > 0).sum(axis=1) == (drawn > 0).sum(axis=1) // 2).all()


def test_each_split_halves_the_questions_otherwise_and_the_draws_stay() -> None:
    (one, rest), (other, more) = halved_resamples(20, 2, 3, seed=0)
    assert (one != other).any()
    assert (one + rest == other + more).all()


@given(UNITS.filter(lambda units: units.max() >= 9), st.integers(0, 9))
def test_neither_cross_fit_judges_a_choice_by_a_copy_of_what_it_was_made_on(units: np.ndarray, seed: int) -> None:
    figures = World(arms=4, seed=1).draw(np.random.default_rng(seed), units.size)
    matrix = Matrix(figures.arms, figures.questions, figures.scores, figures.costs, figures.called, units)
    ways = {way: np.zeros_like(figures.costs) for way in budgets.WAYS}
    spent = budgets.Spending(list(figures.arms), figures.scores, figures.costs, ways, units)
    seen: list[np.ndarray] = []

    def watched(given_units: np.ndarray, *options: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for halves in halved_resamples(given_units, *options):
            seen.append(in_both(units, *halves))
            yield halves

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "halved_resamples", watched)
        patch.setattr(budgets, "halved_resamples", watched)
        crossfit.compare_families(
            matrix, matrix.arms[:3], matrix.arms[1:], costs=(80, 190), splits=1, resamples=3, seed=seed
        )
        budgets.split(spent, 150.0, resamples=3, seed=seed)
    assert len(seen) == 1 + 4
    assert not any(both.any() for both in seen)
