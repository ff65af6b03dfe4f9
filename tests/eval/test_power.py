"""How often a difference is shown: worlds whose truth is known, what is planned from others, and the command."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fakes.groups import ENDS, SKILLS, group_of, looked_up, sometimes
from fakes.run_directories import segment, trace, write_run
from fakes.simulated import Moments
from flarekit.cli import main
from flarekit.errors import ConfigError
from flarekit.eval.analysis.frontier.crossfit import score_gap
from flarekit.eval.analysis.frontier.power import RESAMPLES, family_trial
from flarekit.eval.data.dataset import Question
from flarekit.stats.power import (
    ALTERNATIVES,
    Alternative,
    Power,
    arm_trial,
    questions_needed,
    simulate,
    smallest_difference,
)


def test_a_medium_effect_needs_the_34_pairs_of_the_textbooks() -> None:
    assert questions_needed(1.0, 0.5) == 34  # Cohen 1988; exactly 33.37


def test_many_questions_need_what_the_normal_theory_says() -> None:
    normal = ((1.959964 + 0.841621) * 0.4 / 0.02) ** 2
    assert normal < questions_needed(0.4, 0.02) < normal + 3


@given(st.floats(0.05, 0.7), st.floats(0.01, 0.5), st.floats(0.5, 0.99))
def test_the_questions_needed_are_the_fewest_that_show_the_difference(
    spread: float, difference: float, power: float
) -> None:
    n = questions_needed(spread, difference, power=power)
    assert smallest_difference(n, spread, power=power) <= difference
    if n > 2:
        assert smallest_difference(n - 1, spread, power=power) > difference


def shown(world: Moments, level: float, repetitions: int = 150) -> float:
    """How often a real world's runs of 90 questions show the difference, by the comparison that `compare` makes."""
    random = np.random.default_rng(11)
    p = [
        score_gap(world.draw(random, 90), world.ours, world.theirs, 120, resamples=RESAMPLES, seed=repetition).p
        for repetition in range(repetitions)
    ]
    return float((np.array(p) <= level).mean())


def last(found: Iterable[Power]) -> Power:
    *_, final = found
    return final


@pytest.mark.parametrize(
    ("alternative", "low", "high"), [("independent errors", 0.01, 0.2), ("strict improvement", 0.05, 0.4)]
)
def test_the_power_is_how_often_worlds_that_were_not_recorded_show_the_difference(
    alternative: Alternative, low: float, high: float
) -> None:
    # In the world one mid arm is truly .05 better; the pilot is another one, in which nothing differs.
    world = Moments(better=0.05, strict=alternative == "strict improvement")
    pilot = Moments().draw(np.random.default_rng(2), 90)
    trial = family_trial(pilot, world.theirs, 120, 0.05)
    planned = last(simulate(trial, alternative, 90, level=0.05, trials=150))
    really = shown(world, 0.05)
    assert low < really < high
    assert abs(planned.estimate - really) < 0.12
    assert last(simulate(trial, alternative, 90, level=0.05 / 9, trials=100)).estimate < planned.estimate


def test_more_questions_show_more_and_the_strict_improvement_before_the_independent_one() -> None:
    trial = family_trial(Moments(3).draw(np.random.default_rng(2), 90), Moments(3).theirs, 120, 0.1, resamples=99)
    few = {name: last(simulate(trial, name, 60, level=0.05, trials=40)).estimate for name in ALTERNATIVES}
    many = {name: last(simulate(trial, name, 480, level=0.05, trials=40)).estimate for name in ALTERNATIVES}
    assert few["strict improvement"] >= few["independent errors"]
    assert all(many[name] > few[name] for name in ALTERNATIVES)
    assert many["strict improvement"] > 0.9


@pytest.mark.parametrize("scores", [np.repeat([0.0, 1.0], [63, 27]), np.tile([0.0, 0.4, 1.0], 30)])
def test_two_arms_with_independent_errors_need_what_the_formula_says_of_their_spread(
    scores: NDArray[np.float64],
) -> None:
    difference = 0.1
    n = questions_needed(float(np.sqrt(2 * scores.var())), difference)  # two draws that have nothing in common
    found = last(simulate(arm_trial(scores, difference), "independent errors", n, level=0.05, trials=1000))
    assert 0.72 <= found.estimate <= 0.88  # flips change the spread a little, and McNemar's test is careful


def test_a_strict_improvement_of_two_arms_is_shown_as_often_as_its_flips_are_enough() -> None:
    # McNemar's test needs 6 flips, since none goes the other way: 2 / 2^6 is .031.
    trial = arm_trial(np.repeat([0.0, 1.0], 50), 0.05)
    found = last(simulate(trial, "strict improvement", 100, level=0.05, trials=2000))
    assert abs(found.estimate - stats.binom.sf(5, 100, 0.05)) < 0.03


def test_the_power_says_how_exact_it_is() -> None:
    found = Power(90, "strict improvement", 20, 100)
    low, high = found.bounds
    assert (found.estimate, round(low, 3), round(high, 3)) == (0.2, 0.127, 0.292)  # Clopper and Pearson


def test_without_room_there_is_no_better_arm() -> None:
    with pytest.raises(ConfigError, match=r"a difference of 0\.1 has no room: theirs score 0\.95 already"):
        arm_trial([1.0] * 19 + [0.0], 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spread": 0.4, "difference": 0}, "difference=0 is outside its range"),
        ({"spread": 0.4, "difference": 0.1, "power": 1.0}, "power=1 is outside its range"),
        ({"spread": 0.4, "difference": 0.1, "alpha": 0.9}, "no more than alpha"),
        ({"spread": -1, "difference": 0.1}, "standard deviation"),
        ({"spread": math.nan, "difference": 0.1}, "standard deviation"),
        ({"spread": 100, "difference": 0.001}, "not even 10,000,000 questions"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        questions_needed(**arguments)


# --- the command ----------------------------------------------------------------------------------------------------

QUESTIONS = [Question(f"{place}", f"Question {place}?", ("Paris",), ()) for place in range(12)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of 12 questions closed-book is right on the first 4, rag on the last 6, cascade like closed-book."""
    right = {"closed-book": range(4), "rag": range(6, 12), "cascade": range(4)}
    traces = [
        trace(question.id, name, "Paris" if int(question.id) in places else "Rome", segment("It is in there"))
        for name, places in right.items()
        for question in QUESTIONS
    ]
    return write_run(tmp_path / "run", QUESTIONS, traces)


def flarekit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Its status, and what it says: to stdout, or of what is wrong to stderr."""
    monkeypatch.setattr(sys, "argv", ["flarekit", "power", *map(str, words)])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.err if status else said.out


def test_a_spread_alone_gives_what_two_fixed_arms_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = flarekit(monkeypatch, capsys, "--sd", 0.4)
    assert status == 0
    assert "two fixed arms" in said
    assert ": 505 questions show a difference of .05 with a power of 80% at p ≤ .05" in said
    _, corrected = flarekit(monkeypatch, capsys, "--sd", 0.4, "--comparisons", 9)
    assert f": {questions_needed(0.4, 0.05, alpha=0.05 / 9)} questions" in corrected


def test_two_arms_are_planned_from_the_recorded_scores_of_the_second(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (run, "--arms", "rag", "closed-book", "--difference", 0.2, "--questions", 40, "--questions", 80)
    status, said = flarekit(monkeypatch, capsys, *words, "--trials", 50)
    assert status == 0
    assert "hotpotqa, tiny: rag against closed-book\nrecorded: 12 questions, difference of F1 .17 (95%" in said
    head, first, second = (line.split() for line in said.splitlines()[5:8])
    assert head == ["questions", "independent", "errors", "strict", "improvement"]
    assert (first[0], second[0]) == ("40", "80")
    assert re.search(r"^ +80  \d+% \(\d+% to \d+%\) +\d+% \(\d+% to \d+%\)$", said, re.MULTILINE)
    assert "strict improvement: at most 40 questions for a power of 80%" in said


def test_moments_are_planned_through_the_comparison_that_compare_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group_of(tmp_path, {**ENDS, "p-ik": sometimes(0.5, looked_up), "flare": sometimes(0.5, looked_up)}, SKILLS)
    words = (tmp_path / "run", "--moments", "mid", "pre", "--difference", 0.2, "--questions", 60, "--trials", 20)
    status, said = flarekit(monkeypatch, capsys, *words, "--comparisons", 9)
    assert status == 0
    assert "mid against pre (retrieve, k = 3), at 42 generated-token equivalents a question\nrecorded: 60" in said
    assert "at p ≤ .0056 (.05 corrected for 9 comparisons), in 20 simulated runs of each size" in said
    assert "independent errors: more than 60 questions for a power of 80%" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "say what is to be told apart: --arms A B or --moments M M"),
        (("{run}",), "say what is to be told apart"),
        (("--arms", "rag", "closed-book"), "a recorded run is needed, or --sd"),
        (("{run}", "--sd", "0.4"), "--sd takes the place of a run"),
        (("{run}", "--arms", "rag", "flair"), "'flair' is no arm of hotpotqa; there are: closed-book, rag, cascade"),
        (("{run}", "--arms", "rag", "rag"), "rag cannot be told apart from itself"),
        (("{run}", "--arms", "rag", "closed-book", "--difference", "0.9"), "a difference of 0.9 has no room"),
        (("{run}", "--arms", "rag", "cascade", "--trials", "3"), "trials=3 is too few: at least 10"),
        (("{run}", "--arms", "rag", "cascade", "--questions", "4"), "questions=4 is too few: at least 10"),
        (("{run}", "--moments", "mid", "before"), "moments: 'before' is none of pre, mid, post"),
        (("{run}", "--moments", "mid", "pre"), "hotpotqa has no arms of both moments, mid and pre, that do the same"),
        (("{run}", "--arms", "rag", "cascade", "--score", "bleu"), "score: 'bleu' is none of f1, exact_match"),
        (("--sd", "0.4", "--difference", "3"), "difference=3 is outside its range"),
        (("{run}/nowhere", "--arms", "rag", "cascade"), "not a run directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: tuple[str, ...],
    complaint: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, said = flarekit(monkeypatch, capsys, *(word.format(run=run) for word in words))
    assert status == 2
    assert said.startswith("flarekit: ")
    assert complaint in said
    assert len(said.splitlines()) == 1
