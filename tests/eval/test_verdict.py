"""The verdict on the moments: recorded answers whose differences are known, and the sentences that they give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from fakes.groups import CHANCE, ENDS, KEYS, SKILLS, Make, N, group_of, handed_over, looked_up, plain, sometimes
from fakes.run_directories import retrieved, segment, trace
from flarekit.cli.evaluation.compare import compare
from flarekit.errors import ConfigError, DataError
from flarekit.eval.analysis.frontier.families import matrix
from flarekit.eval.analysis.verdict import PAIRS, compare_moments, judge, verdict_sentences
from flarekit.eval.analysis.wording import share
from flarekit.eval.results.groups import Arm, Group
from flarekit.stats.halves import halved_resamples
from flarekit.trace import Trace


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
    answers, costs = verdict_sentences(better, compare_moments(better))
    assert answers.startswith(
        "On hotpotqa (n = 60, tiny + big), with 42 generated-token equivalents to spend on a question, retrieving "
        "during generation answers with F1 ."
    )
    assert " more than retrieving before generation (95% interval of the difference ." in answers
    assert "p < .001)" in answers
    assert answers.endswith(": deciding during generation is better.")
    assert costs.startswith("Chosen for F1 .")
    assert costs.endswith(": deciding during generation is cheaper.")


def test_without_a_difference_they_say_how_large_an_advantage_is_excluded(alike: Group) -> None:
    found = compare_moments(alike)
    answers, costs = verdict_sentences(alike, found)
    interval = found.verdicts[0].result.score.interval
    assert answers.endswith(
        f": no difference can be shown; excluded is an advantage of more than {share(interval.high)} for deciding "
        f"during generation, and an advantage of more than {share(-interval.low)} for deciding before generation."
    )
    assert costs.endswith("no difference in cost can be shown.")


def test_no_sentence_says_what_power_a_comparison_had(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.5, looked_up), "flare": sometimes(0.5, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    easy = [key for key in KEYS if CHANCE[int(key)] < 0.2]
    for name, keys in (("flare", easy[:2]), ("p-ik", easy[2:4])):  # two answers of either are nearly right instead
        results = group.arms[name].results
        nearly = {key: replace(results[key], f1=0.67) for key in keys}
        group.arms[name] = Arm(name, {**results, **nearly})
    assert "power" not in " ".join(verdict_sentences(group, compare_moments(group)))


def test_moments_whose_arms_are_not_worth_their_cost_are_alike(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.0, looked_up), "flare": sometimes(0.0, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    verdict = judge(group, "mid", "pre", "retrieve")
    assert (verdict.result.score.interval.estimate, verdict.result.score.spread, verdict.p.score) == (0, 0, 1)
    answers, _ = verdict_sentences(group, compare_moments(group))
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
    found = compare_moments(group)
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
    assert compare_moments(group).verdicts == ()
    [sentence] = verdict_sentences(group, compare_moments(group))
    assert sentence == (
        "On hotpotqa deciding during generation and before generation cannot be compared. No two such arms do the same."
    )
    with pytest.raises(DataError, match="no arm of hotpotqa decides during generation on retrieving"):
        judge(group, "mid", "pre", "retrieve")


def test_too_few_questions_give_a_reason_and_no_verdict(tmp_path: Path) -> None:
    arms = {**ENDS, "p-ik": looked_up, "flare": looked_up}
    group = group_of(tmp_path, arms, SKILLS, KEYS[:5])
    found = compare_moments(group)
    assert found.verdicts == ()
    [sentence] = verdict_sentences(group, found)
    assert "10 or more questions that all their arms finished, not 5" in sentence


def test_every_pair_of_moments_is_judged_once() -> None:
    assert len({frozenset(pair) for pair in PAIRS}) == len(PAIRS) == 3


# --- budgets --------------------------------------------------------------------------------------------------------


def costing(skill: float, prompt: int) -> Make:
    """An arm that looks something up with a prompt of that length, so that it costs a quarter of it and five."""

    def make(key: str, policy: str, right: bool) -> Trace:
        events = retrieved(f"Question {key}?", "x"), segment("It is in there", prompt=prompt)
        return trace(key, policy, "Paris" if CHANCE[int(key)] < skill else "Rome", *events)

    return make


TWINS: dict[str, Make] = {"p-ik": sometimes(0.6, looked_up), "flare": sometimes(0.7, looked_up)}


def test_a_budget_lies_halfway_between_never_and_always_however_dear_an_arm_is(tmp_path: Path) -> None:
    dear = {"flare:theta=0.9": costing(0.95, 4000), "p-ik:threshold=0.1": costing(0.95, 6000)}
    group = group_of(tmp_path, {**ENDS, **TWINS, **dear}, SKILLS)
    assert judge(group, "mid", "pre", "retrieve").result.budget == pytest.approx((29 + 55) / 2)


@pytest.mark.parametrize(("skill", "top"), [(0.1, 55), (0.4, 55), (0.8, 205)])
def test_an_end_that_is_dearer_and_no_better_than_another_does_not_stretch_the_range(
    skill: float, top: float, tmp_path: Path
) -> None:
    arms: dict[str, Make] = {
        **ENDS,
        "rag:model=strong": costing(skill, 800),
        **TWINS,
        "pre-escalate": sometimes(0.5, handed_over),
        "escalate": sometimes(0.5, handed_over),
    }
    group = group_of(tmp_path, arms, SKILLS)
    verdict = judge(group, "mid", "pre", "any")
    assert "rag:model=strong" in verdict.ends
    assert verdict.result.budget == pytest.approx((29 + top) / 2)


def test_given_budgets_are_each_compared_and_corrected_for(better: Group) -> None:
    found = compare_moments(better, budgets=(35, 40, 50))
    assert [one.result.budget for one in found.verdicts] == [35, 40, 50]
    assert len({one.p.overall for one in found.verdicts}) == 1, "areas do not depend on the budget: one test of them"
    alone = judge(better, "mid", "pre", "retrieve", budget=40)
    assert found.verdicts[1].p.score >= alone.p.score
    assert found.verdicts[1].p.overall == alone.p.overall
    first, second, third, costs = verdict_sentences(better, found)
    assert "with 35 generated-token" in first
    assert second.startswith("With 40 generated-token")
    assert third.startswith("With 50 generated-token")
    assert "after Holm's correction for 3 comparisons" in second
    assert "Holm" not in costs


def test_a_budget_that_buys_nothing_is_refused(better: Group) -> None:
    with pytest.raises(DataError, match="a budget of 20 is less than the cheapest arm costs"):
        judge(better, "mid", "pre", "retrieve", budget=20)


def test_without_an_end_a_budget_must_be_given(tmp_path: Path) -> None:
    group = group_of(tmp_path, {"closed-book": plain, **TWINS}, SKILLS)
    with pytest.raises(DataError, match=r"always retrieving \(rag with the same k\).*give --budget"):
        judge(group, "mid", "pre", "retrieve")
    assert judge(group, "mid", "pre", "retrieve", budget=40).result.budget == 40


def test_every_comparison_tells_how_much_of_either_side_are_arms_that_decide(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.0, looked_up), "flare": sometimes(0.9, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    weights = judge(group, "mid", "pre", "retrieve").result.weights
    assert weights.budget[0] > 0.9
    assert all(0 < ours <= 1 for ours, _ in (weights.budget, weights.overall, weights.target))
    assert all(theirs == 0 for _, theirs in (weights.budget, weights.overall, weights.target))
    answers, costs = verdict_sentences(group, compare_moments(group))
    for weight, sentence in ((weights.budget[0], answers), (weights.target[0], costs)):
        said = f"though of the first's questions {weight:.0%} and of the other's 0% go to arms that decide"
        assert said in sentence


def test_where_most_of_either_side_decides_nothing_is_said_of_it(tmp_path: Path) -> None:
    arms = {"p-ik": sometimes(0.9, looked_up), "flare": sometimes(0.95, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    weights = judge(group, "mid", "pre", "retrieve").result.weights
    assert min(weights.budget) > 0.5
    assert "go to arms that decide" not in verdict_sentences(group, compare_moments(group))[0]


# --- help that is not alike -----------------------------------------------------------------------------------------


def test_an_end_with_another_k_is_no_end(tmp_path: Path) -> None:
    ends = {**ENDS, "rag:k=1": costing(0.5, 120), "rag:k=5": costing(0.95, 400)}
    group = group_of(tmp_path, {**ends, **TWINS}, SKILLS)
    found = compare_moments(group)
    assert [(one.k, one.ends) for one in found.verdicts] == [(3, ("closed-book", "rag"))]
    [warning] = found.unlike
    assert warning.startswith("rag:k=1 and rag:k=5: no arm that decides looks up as many passages (k = 3)")


def test_arms_are_compared_within_k(tmp_path: Path) -> None:
    arms: dict[str, Make] = {
        **ENDS,
        "rag:k=1": costing(0.3, 120),
        **TWINS,
        "flare:theta=0.5": sometimes(0.6, looked_up),
        "flare:k=1": sometimes(0.6, looked_up),
        "pre-retrieve:k=1": sometimes(0.6, looked_up),
        "mid-retrieve:k=5": sometimes(0.6, looked_up),
    }
    group = group_of(tmp_path, arms, SKILLS)
    found = compare_moments(group)
    assert [(one.k, one.arms, one.ends) for one in found.verdicts] == [
        (3, (("flare", "flare:theta=0.5"), ("p-ik",)), ("closed-book", "rag")),
        (1, (("flare:k=1",), ("pre-retrieve:k=1",)), ("closed-book", "rag:k=1")),
    ]
    assert found.unlike == ("Arms look up 1, 3 and 5 passages: they are compared within each number (k).",)
    said = verdict_sentences(group, found)
    assert [sentence.split(")")[0] for sentence in said if sentence.startswith("On")] == [
        "On hotpotqa (n = 60, tiny + big, k = 3",
        "On hotpotqa (n = 60, tiny + big, k = 1",
    ]


def test_moments_that_look_up_different_numbers_of_passages_are_not_compared(tmp_path: Path) -> None:
    arms = {"p-ik:k=5": sometimes(0.6, looked_up), "flare": sometimes(0.6, looked_up)}
    group = group_of(tmp_path, {**ENDS, **arms}, SKILLS)
    [sentence] = verdict_sentences(group, compare_moments(group))
    assert "arms that decide during generation look up 3 passages, those before generation 5" in sentence
    with pytest.raises(DataError, match="compared within one number"):
        judge(group, "mid", "pre", "retrieve")


def test_an_end_with_a_prompt_of_its_own_is_named_and_left_out(tmp_path: Path) -> None:
    group = group_of(tmp_path, {**ENDS, "closed-book:role=expert": plain, "direct": plain, **TWINS}, SKILLS)
    found = compare_moments(group)
    assert found.verdicts[0].ends == ("closed-book", "rag")
    assert found.unlike == (
        "closed-book:role=expert and direct: has a prompt of its own, so no comparison of moments holds it.",
    )


# --- the same question twice ----------------------------------------------------------------------------------------


def test_a_question_under_two_ids_never_lies_in_both_halves(tmp_path: Path) -> None:
    group = group_of(tmp_path, {**ENDS, **TWINS}, SKILLS)
    for one, other in zip(KEYS[:30], KEYS[30:], strict=True):
        group.questions[other] = replace(group.questions[other], text=f"  {group.questions[one].text.upper()} ")
    figures = matrix(group)
    for first, second in halved_resamples(figures.units, 5, 20, seed=1):
        assert not (first * second).any()
        assert (first[:, :30] == first[:, 30:]).all()
        assert ((first + second).sum(axis=1) == 60).all()
    assert judge(group, "mid", "pre", "retrieve").result.n == N


# --- the command ----------------------------------------------------------------------------------------------------


def compared(*words: str) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, words)


def test_compare_takes_budgets_and_warns_of_ends_that_are_none(tmp_path: Path) -> None:
    group_of(tmp_path, {**ENDS, "rag:k=1": costing(0.5, 120), **TWINS}, SKILLS)
    found = compared(str(tmp_path / "run"), "--budget", "40", "--budget", "50", "--out", str(tmp_path / "report"))
    assert found.exit_code == 0, found.output
    said = " ".join(found.stdout.split())
    assert "with 40 generated-token equivalents to spend" in said
    assert "With 50 generated-token equivalents to spend" in said
    assert "An oracle that takes the better of closed-book and rag on each question reaches F1" in said
    assert "Warning: rag:k=1: no arm that decides looks up as many passages (k = 3)" in found.stderr
    assert (tmp_path / "report" / "moments.csv").read_text().count("mid − pre retrieve") == 2


@pytest.mark.parametrize("budget", ["0", "-3", "inf", "nan"])
def test_a_budget_that_is_no_cost_is_refused(budget: str, tmp_path: Path) -> None:
    group_of(tmp_path, {**ENDS, **TWINS}, SKILLS)
    found = compared(str(tmp_path / "run"), f"--budget={budget}")
    assert isinstance(found.exception, ConfigError)
    assert "a mean cost of a question is a number above 0" in str(found.exception)
    assert not (tmp_path / "run" / "report").exists()
