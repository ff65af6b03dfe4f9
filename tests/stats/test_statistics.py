"""Intervals: known answers, and coverage where the true difference is known."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from fakes.simulated import World
from flarekit.errors import ConfigError
from flarekit.stats.bootstrap import mean_interval, paired_difference
from flarekit.stats.discrimination import auroc, interval
from flarekit.stats.intervals import Interval
from flarekit.stats.tests import Discordant, holm, mcnemar


def test_the_estimate_is_the_mean_and_lies_within_its_bounds() -> None:
    interval = mean_interval([0.0, 1.0, 0.5, 0.5])
    assert interval.estimate == 0.5
    assert 0 <= interval.low < 0.5 < interval.high <= 1


def test_for_many_values_the_bounds_are_those_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(0.3, 0.2, 1000)
    error = values.std() / math.sqrt(1000)
    interval = mean_interval(values)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_the_same_values_give_the_same_interval() -> None:
    assert mean_interval([0.1, 0.5, 0.9]) == mean_interval([0.1, 0.5, 0.9])


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert mean_interval([0.25] * 8) == Interval(0.25, 0.25, 0.25)
    assert paired_difference([0.1, 0.6], [0.1, 0.6]) == Interval(0.0, 0.0, 0.0)


def test_a_single_value_has_an_estimate_and_unknown_bounds() -> None:
    interval = mean_interval([0.7])
    assert interval.estimate == 0.7
    assert math.isnan(interval.low)
    assert not interval.excludes_zero


def test_pairing_takes_out_what_the_questions_share() -> None:
    difficulty = np.random.default_rng(2).uniform(0, 1, 50)
    interval = paired_difference(difficulty + 0.1, difficulty)
    assert interval.estimate == pytest.approx(0.1)
    assert interval.high - interval.low < 1e-9
    assert interval.excludes_zero


def test_no_values_and_unequal_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one value"):
        mean_interval([])
    with pytest.raises(ConfigError, match="same questions"):
        paired_difference([1.0, 0.0], [1.0])


@pytest.mark.parametrize("kind", ["continuous", "right-or-wrong"])
def test_the_interval_covers_a_known_difference_about_95_times_in_a_hundred(kind: str) -> None:
    random = np.random.default_rng(11)
    covered = 0
    for repetition in range(400):
        if kind == "continuous":
            true, theirs = 0.1, random.normal(0.4, 0.3, 60)
            ours = theirs + random.normal(true, 0.25, 60)
        else:
            true, theirs = 0.2, (random.uniform(size=60) < 0.3).astype(float)
            ours = (random.uniform(size=60) < 0.5).astype(float)
        interval = paired_difference(ours, theirs, resamples=999, seed=repetition)
        covered += interval.low <= true <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


def test_the_interval_of_f1_like_scores_covers_the_truth_in_93_to_97_of_100_samples() -> None:
    world = World(arms=3, seed=2)
    true = float(np.diff(world.scores(np.random.default_rng(0), 1_000_000).mean(axis=1)[:2])[0])
    random = np.random.default_rng(12)
    covered = 0
    for repetition in range(1000):
        theirs, ours, _ = world.scores(random, 80)
        interval = paired_difference(ours, theirs, resamples=999, seed=repetition)
        covered += interval.low <= true <= interval.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_the_interval_of_an_auroc_covers_the_truth_in_93_to_97_of_100_samples() -> None:
    # Values of a "yes" are normal around 1, of a "no" around 0: the AUROC is P(N(1, 2) > 0).
    true = NormalDist().cdf(1 / math.sqrt(2))
    random = np.random.default_rng(3)
    covered = 0
    for repetition in range(1000):
        labels = random.uniform(size=80) < 0.4
        values = random.normal(labels, 1)
        found = interval(auroc, labels, values, resamples=499, seed=repetition)
        covered += found.low <= true <= found.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_mcnemars_test_is_the_binomial_one_of_the_questions_that_just_one_arm_has_right() -> None:
    # Six questions only ours has right, one only theirs: p = 2 (C(7, 0) + C(7, 1)) / 2^7 = .125.
    ours = [1] * 6 + [0] + [1] * 9 + [0] * 4
    theirs = [0] * 6 + [1] + [1] * 9 + [0] * 4
    assert mcnemar(ours, theirs) == Discordant(6, 1, pytest.approx(0.125))  # type: ignore[arg-type]
    assert mcnemar(theirs, ours).p == mcnemar(ours, theirs).p


def test_arms_that_are_right_on_the_same_questions_cannot_be_told_apart() -> None:
    assert mcnemar([1, 0, 1], [1, 0, 1]) == Discordant(0, 0, 1.0)


def test_mcnemars_test_is_of_rights_and_wrongs_only() -> None:
    with pytest.raises(ConfigError, match="rights and wrongs"):
        mcnemar([0.5, 1.0], [0.0, 1.0])
    with pytest.raises(ConfigError, match="same questions"):
        mcnemar([1, 0], [1])


def test_holms_correction_steps_down_from_the_smallest() -> None:
    # .01 x 3, then .03 x 2, then .04 x 1, none below the one before it.
    assert holm([0.03, 0.01, 0.04]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
