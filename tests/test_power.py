"""How many questions a comparison needs: known numbers, simulated trials, and the command."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_directories import segment, trace, write_run
from scipy import stats

from flarekit.cli import main
from flarekit.errors import ConfigError
from flarekit.eval.dataset import Question
from flarekit.eval.power import (
    mcnemar_power,
    pilot,
    questions_needed,
    questions_needed_mcnemar,
    smallest_difference,
    smallest_difference_mcnemar,
)
from flarekit.eval.statistics import mcnemar, paired_difference


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


def test_the_number_of_questions_does_show_the_difference_in_about_80_of_100_trials() -> None:
    random = np.random.default_rng(4)
    true, shown = 0.08, 0
    theirs = random.choice([0.0, 0.4, 1.0], size=200_000, p=[0.5, 0.2, 0.3])
    ours = np.where(random.uniform(size=theirs.size) < 0.2, 1 - theirs, theirs)
    lift = true - (ours - theirs).mean()
    ours = ours + lift  # differences of the size wanted, in the shape that F1 has
    n = questions_needed(float((ours - theirs).std()), true)
    for repetition in range(1000):
        drawn = random.integers(0, theirs.size, n)
        shown += paired_difference(ours[drawn], theirs[drawn], resamples=499, seed=repetition).excludes_zero
    assert 0.77 <= shown / 1000 <= 0.84


def test_the_number_for_rights_and_wrongs_shows_it_in_about_80_of_100_trials() -> None:
    random = np.random.default_rng(4)
    n = questions_needed_mcnemar(0.3, 0.15)
    shown = 0
    for _ in range(1000):
        kind = random.uniform(size=n)
        shown += mcnemar(kind < 0.225, kind >= 1 - 0.075).p <= 0.05  # 22.5% only ours, 7.5% only theirs
    assert 0.77 <= shown / 1000 <= 0.84


def test_mcnemars_power_is_the_sum_over_all_outcomes() -> None:
    n, discordant, difference = 25, 0.4, 0.3
    shares = (0.35, 0.05, 0.6)  # only ours, only theirs, neither or both
    total = 0.0
    for ours in range(n + 1):
        for theirs in range(n + 1 - ours):
            if ours + theirs and stats.binomtest(ours, ours + theirs).pvalue <= 0.05:
                total += float(stats.multinomial.pmf((ours, theirs, n - ours - theirs), n, shares))
    assert mcnemar_power(n, discordant, difference) == pytest.approx(total, abs=1e-6)


def test_a_difference_cannot_be_larger_than_the_share_of_discordant_answers() -> None:
    with pytest.raises(ConfigError, match=r"0\.2 needs as many discordant answers, and 0\.1 are"):
        mcnemar_power(100, 0.1, 0.2)
    assert smallest_difference_mcnemar(20, 0.05) is None
    least = smallest_difference_mcnemar(200, 0.2)
    assert least is not None
    assert mcnemar_power(200, 0.2, least) >= 0.8 > mcnemar_power(200, 0.2, least - 0.001)


def test_a_pilot_tells_the_spread_and_of_rights_and_wrongs_the_discordant_share() -> None:
    known = pilot([1, 1, 0, 0], [1, 0, 1, 0])
    assert (known.n, known.difference.estimate, known.discordant) == (4, 0, 0.5)
    assert known.spread == pytest.approx(math.sqrt(2 / 3))
    assert pilot([0.5, 1], [0, 1]).discordant is None
    with pytest.raises(ConfigError, match="two or more"):
        pilot([1], [0])


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


def test_a_spread_alone_gives_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = flarekit(monkeypatch, capsys, "--sd", 0.4)
    assert status == 0
    lines = [line.split() for line in said.splitlines()[-3:]]
    assert lines == [[".02", "3,142"], [".05", "505"], [".10", "128"]]


def test_a_pilot_gives_it_with_what_its_own_questions_can_show(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = flarekit(monkeypatch, capsys, run, "--arms", "rag", "closed-book", "--difference", 0.1)
    assert status == 0
    spread = np.std([-1] * 4 + [0] * 2 + [1] * 6, ddof=1)
    assert "hotpotqa, tiny: rag against closed-book\npilot of 12 questions: difference of F1 .17 (95%" in said
    assert f"standard deviation of the paired differences .{round(100 * spread)}" in said
    assert f".10  {questions_needed(float(spread), 0.1)}\n" in said
    assert said.strip().endswith(f"of {smallest_difference(12, float(spread)):.2f} or more.".replace("0.", "."))


def test_rights_and_wrongs_are_planned_by_mcnemars_test(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (run, "--arms", "rag", "closed-book", "--score", "exact_match")
    status, said = flarekit(monkeypatch, capsys, *arguments)
    assert status == 0
    assert "just one of them is right on 83% of the questions (McNemar's exact test)" in said
    assert f".10  {questions_needed_mcnemar(10 / 12, 0.1)}\n" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "say what is to be told apart: --arms A B or --moments M M"),
        (("{run}",), "say what is to be told apart"),
        (("--arms", "rag", "closed-book"), "a pilot run is needed, or --sd"),
        (("{run}", "--sd", "0.4"), "--sd takes the place of a run"),
        (("{run}", "--arms", "rag", "flair"), "'flair' is no arm of hotpotqa; there are: closed-book, rag, cascade"),
        (("{run}", "--arms", "rag", "rag"), "rag cannot be told apart from itself"),
        (("{run}", "--arms", "cascade", "closed-book"), "the pilot's two sides never differ"),
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
