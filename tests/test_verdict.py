"""The verdict on the moments: recorded answers whose differences are known, and the sentences that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_directories import retrieved, segment, trace, write_run

from flarekit.errors import DataError
from flarekit.eval.compare import Arm, Group, load_runs
from flarekit.eval.dataset import Question
from flarekit.eval.verdict import PAIRS, findings, judge, verdict_sentences
from flarekit.trace import HandedOver, Trace

N = 60
KEYS = [f"{place:03}" for place in range(N)]
QUESTIONS = [Question(key, f"Question {key}?", ("Paris",), ()) for key in KEYS]
CHANCE = np.random.default_rng(5).uniform(size=N)
"""How easy each question is: an arm of skill s is right where this is below s."""
Make = Callable[[str, str, bool], Trace]


def plain(key: str, policy: str, right: bool) -> Trace:
    """Costs 29: a prompt of 100 and four tokens."""
    return trace(key, policy, "Paris" if right else "Rome", segment("It is in there"))


def looked_up(key: str, policy: str, right: bool) -> Trace:
    """Costs 55: another hundred to read, and the look-up."""
    events = retrieved(f"Question {key}?", "x"), segment("It is in there", prompt=200)
    return trace(key, policy, "Paris" if right else "Rome", *events)


def handed_over(key: str, policy: str, right: bool) -> Trace:
    """Costs 29 and 87: the same answer by the strong model."""
    events = segment("It is in there"), HandedOver("weak", "strong", ""), segment("It is in there", role="strong")
    return trace(key, policy, "Paris" if right else "Rome", *events)


def sometimes(skill: float, help_: Make) -> Make:
    """An arm that gets help on every second question, and is right where the question is easy enough for `skill`."""

    def make(key: str, policy: str, right: bool) -> Trace:
        del right
        return (help_ if int(key) % 2 else plain)(key, policy, bool(CHANCE[int(key)] < skill))

    return make


def group_of(path: Path, arms: dict[str, Make], skills: dict[str, float], keys: Sequence[str] = KEYS) -> Group:
    traces = [
        make(key, name, bool(CHANCE[int(key)] < skills.get(name, 0))) for name, make in arms.items() for key in keys
    ]
    questions = [question for question in QUESTIONS if question.id in keys]
    [group] = load_runs([write_run(path / "run", questions, traces, strong="big")])
    return group


ENDS: dict[str, Make] = {"closed-book": plain, "rag": looked_up, "strong": handed_over}
SKILLS = {"closed-book": 0.2, "rag": 0.4, "strong": 0.4}


@pytest.fixture
def better(tmp_path: Path) -> Group:
    """Retrieving during generation is right far more often than retrieving before it, at the same cost."""
    arms = {"p-ik": sometimes(0.3, looked_up), "mid-retrieve": sometimes(0.9, looked_up)}
    return group_of(tmp_path, {**ENDS, **arms}, SKILLS)


@pytest.fixture
def alike(tmp_path: Path) -> Group:
    """Every second question is answered right by one of the two and wrong by the other."""
    arms = {"p-ik": sometimes(0.5, looked_up), "flare": sometimes(0.5, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    other = np.random.default_rng(8).permutation(N)
    results = dict(group.arms["flare"].results)
    shuffled = {key: results[KEYS[other[place]]] for place, key in enumerate(KEYS)}
    group.arms["flare"] = Arm("flare", shuffled)
    return group


def test_a_moment_that_is_better_at_equal_cost_is_found_to_be(better: Group) -> None:
    verdict = judge(better, "mid", "pre", "retrieve")
    assert verdict.arms == (("mid-retrieve",), ("p-ik",))
    assert verdict.ends == ("closed-book", "rag")
    assert verdict.result.n == N
    assert verdict.result.budget == pytest.approx((29 + 55) / 2)
    assert verdict.result.score.interval.low > 0.3
    assert verdict.p.score < 0.001
    assert verdict.right.ours > 20
    assert verdict.right.theirs == 0
    assert verdict.p.right < 0.001


def test_and_is_cheaper_at_an_equal_score(better: Group) -> None:
    verdict = judge(better, "mid", "pre", "retrieve")
    assert verdict.result.cost.interval.high < 0
    turned = judge(better, "pre", "mid", "retrieve")
    assert turned.result.cost.interval.low > 0
    assert turned.result.cost.interval.estimate == pytest.approx(-verdict.result.cost.interval.estimate)


def test_two_sentences_say_so(better: Group) -> None:
    answers, costs = verdict_sentences(better, findings(better))
    assert answers.startswith(
        "On hotpotqa (n = 60, tiny + big), with 42 generated-token equivalents to spend on a question, retrieving "
        "during generation answers with F1 ."
    )
    assert " more than retrieving before generation (95% interval of the difference ." in answers
    assert answers.endswith("p < .001): deciding during generation is better.")
    assert costs.startswith("Chosen for F1 .")
    assert costs.endswith(": deciding during generation is cheaper.")


def test_without_a_difference_they_say_how_many_questions_one_would_take(alike: Group) -> None:
    answers, costs = verdict_sentences(alike, findings(alike))
    assert ": no difference can be shown, and were differences to spread as here, it would take about " in answers
    assert answers.endswith("questions to show one of .05 with a power of 80%.")
    assert costs.endswith("no difference in cost can be shown.")


def test_where_enough_questions_were_asked_they_say_that_one_would_have_been_shown(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.5, looked_up), "flare": sometimes(0.5, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    easy = [key for key in KEYS if CHANCE[int(key)] < 0.2]
    for name, keys in (("flare", easy[:2]), ("p-ik", easy[2:4])):  # two answers of either are nearly right instead
        results = group.arms[name].results
        nearly = {key: replace(results[key], f1=0.67) for key in keys}
        group.arms[name] = Arm(name, {**results, **nearly})
    answers, _ = verdict_sentences(group, findings(group))
    assert answers.endswith(": no difference can be shown, though one of .05 would have been with a power of 80%.")


def test_moments_whose_arms_are_not_worth_their_cost_are_alike(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.0, looked_up), "flare": sometimes(0.0, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    verdict = judge(group, "mid", "pre", "retrieve")
    assert (verdict.result.score.interval.estimate, verdict.result.score.spread, verdict.p.score) == (0, 0, 1)
    answers, _ = verdict_sentences(group, findings(group))
    assert "which is the same as retrieving before generation" in answers
    assert answers.endswith("no difference can be shown, since what is chosen of either answers alike.")


def test_all_comparisons_that_have_arms_are_made_and_corrected_together(tmp_path: Path) -> None:
    arms: dict[str, Make] = {
        "p-ik": sometimes(0.3, looked_up),
        "pre-escalate": sometimes(0.3, handed_over),
        "mid-retrieve": sometimes(0.6, looked_up),
        "escalate": sometimes(0.35, handed_over),
        "cascade": sometimes(0.3, handed_over),
    }
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    found = findings(group)
    made = [(one.ours, one.theirs, one.action) for one in found.verdicts]
    assert made == [
        ("mid", "pre", "retrieve"),
        ("mid", "pre", "escalate"),
        ("mid", "pre", "any"),
        ("mid", "post", "escalate"),
        ("pre", "post", "escalate"),
    ]
    first = found.find("mid", "pre", "retrieve")
    together = found.find("mid", "pre")
    assert first is not None
    assert together is not None
    assert together.action == "any"
    alone = judge(group, "mid", "pre", "retrieve")
    assert first.result == alone.result
    assert first.p.score >= alone.p.score
    assert found.find("post", "mid") is None
    answers, _ = verdict_sentences(group, found, pair=("mid", "post"))
    assert "escalating during generation" in answers
    assert "after Holm's correction for 5 comparisons" in answers


def test_what_cannot_be_compared_is_said_to_be_so(tmp_path: Path) -> None:
    group = group_of(tmp_path, {"closed-book": plain, "p-ik": looked_up, "escalate": handed_over}, SKILLS)
    assert findings(group).verdicts == ()
    [sentence] = verdict_sentences(group, findings(group))
    assert sentence == (
        "On hotpotqa deciding during generation and before generation cannot be compared. No two such arms do the same."
    )
    with pytest.raises(DataError, match="no arm of hotpotqa decides during generation on retrieving"):
        judge(group, "mid", "pre", "retrieve")


def test_too_few_questions_give_a_reason_and_no_verdict(tmp_path: Path) -> None:
    arms = {**ENDS, "p-ik": looked_up, "flare": looked_up}
    group = group_of(tmp_path, arms, SKILLS, KEYS[:5])
    found = findings(group)
    assert found.verdicts == ()
    [sentence] = verdict_sentences(group, found)
    assert "10 or more questions that all their arms finished, not 5" in sentence


def test_every_pair_of_moments_is_judged_once() -> None:
    assert len({frozenset(pair) for pair in PAIRS}) == len(PAIRS) == 3
