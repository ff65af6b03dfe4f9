"""What routers learn from: outcomes out of recorded runs and files, joined by question and stacked by dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.run_directories import segment, trace, write_run
from fakes.toy_outcomes import toy
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.outcomes import TARGETS, Outcomes, find_arm, label
from flarekit.escalation.training import train_router
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.outcomes import read_answers, read_outcomes
from flarekit.policies.spec import split_arm
from flarekit.tokens import text_of
from flarekit.trace import Trace


@pytest.mark.parametrize(
    ("alone", "helped", "came_true"),
    [
        (0.0, 0.0, {"wrong"}),
        (0.0, 1.0, {"wrong", "helps", "strong-wins"}),
        (0.4, 0.2, {"wrong", "hurts"}),
        (0.5, 1.0, {"strong-wins"}),
        (1.0, 1.0, set()),
        (1.0, 0.0, {"hurts"}),
    ],
)
def test_the_targets_are_kept_apart(alone: float, helped: float, came_true: set[str]) -> None:
    assert {target for target in TARGETS if label(alone, helped, target)} == came_true


@pytest.mark.parametrize(
    ("wanted", "place"),
    [("rag", 1), ("flare", 2), ("flare:theta=0.5", 2), ("m/rag:k=5", 4), ("m/rag", 4)],
)
def test_an_arm_is_named_in_full_or_as_far_as_it_is_the_only_one(wanted: str, place: int) -> None:
    assert find_arm(["closed-book", "rag", "flare:theta=0.5", "n/rag:k=3", "m/rag:k=5"], wanted) == place


def test_an_arm_that_fits_none_or_several_is_refused() -> None:
    with pytest.raises(ConfigError, match="'strong' is no arm; there are a/rag, b/rag"):
        find_arm(["a/rag", "b/rag"], "strong")
    with pytest.raises(ConfigError, match="'rag' fits several arms; there are a/rag, b/rag"):
        find_arm(["a/rag", "b/rag"], "rag")


def test_a_path_in_a_parameter_is_no_model() -> None:
    assert split_arm("pre-retrieve:router=runs/a") == ("", "pre-retrieve:router=runs/a")
    assert split_arm("org/qwen/pre-retrieve:router=runs/a") == ("org/qwen", "pre-retrieve:router=runs/a")


# --- what outcomes are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": ["q", "q"]}, "'q' occurs twice"),
        ({"questions": ["Who?"]}, "one score and cost of each"),
        ({"scores": np.zeros((2, 2))}, "one score and cost of each"),
        ({"costs": np.array([[1.0], [np.nan]])}, "missing or not finite"),
        ({"costs": np.array([[1.0], [-1.0]])}, "costs at least 0"),
        ({"scores": np.array([[1.0], [1.5]])}, "from 0 to 1"),
    ],
)
def test_outcomes_that_are_not_whole_are_refused(changes: dict[str, Any], says: str) -> None:
    whole = {
        "ids": ["q", "r"],
        "questions": ["Who?", "When?"],
        "arms": ["rag"],
        "scores": np.zeros((2, 1)),
        "costs": np.zeros((2, 1)),
    }
    with pytest.raises(DataError, match=says):
        Outcomes(**{**whole, **changes})


def test_arms_and_questions_are_taken_in_the_order_that_is_asked_for() -> None:
    part = toy(6).only(["rag", "closed-book"]).take([2, 0])
    assert (list(part.ids), list(part.arms)) == (["q2", "q0"], ["rag", "closed-book"])
    assert part.scores.tolist() == [[0.0, 0.25], [0.5, 1.0]]


# --- files ----------------------------------------------------------------------------------------------------------


def outcome(**changes: object) -> str:
    """One line of recorded outcomes."""
    record = {"id": "q1", "question": "Who?", "answers": ["Emma"], "no_retrieval": "Ann", "one_retrieval": "Emma"}
    return json.dumps({key: value for key, value in (record | changes).items() if value is not None}) + "\n"


def test_a_file_has_two_arms_and_costs_of_one_and_two(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text(outcome() + outcome(id="q2", no_retrieval="Emma"))
    found = read_outcomes([tmp_path / "some.jsonl"])
    assert (list(found.ids), list(found.arms)) == (["q1", "q2"], ["closed-book", "rag"])
    assert found.scores.tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert found.costs.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert found.labels(0, 1, "helps").tolist() == [True, False]


def test_the_type_of_a_question_may_be_there_or_missing_or_null(tmp_path: Path) -> None:
    null = outcome(id="q3").replace("{", '{"type": null, ', 1)
    (tmp_path / "some.jsonl").write_text(outcome(type="bridge") + outcome(id="q2") + null)
    found = read_outcomes([tmp_path / "some.jsonl"])
    assert list(found.kinds) == ["bridge", "", ""]


def test_a_line_separator_within_a_question_is_part_of_it(tmp_path: Path) -> None:
    line = outcome().replace("Who?", "Who\u2028was?")
    (tmp_path / "some.jsonl").write_text(line, encoding="utf-8")
    assert list(read_outcomes([tmp_path / "some.jsonl"]).questions) == ["Who\u2028was?"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense\n", "not JSON"),
        ("[]\n", "a list"),
        (outcome(answers=None), "no field 'answers'"),
        (outcome(answers="Emma"), "'answers' must be a list"),
        (outcome(answers=[]), "at least one answer"),
        (outcome(no_retrieval=3), "'no_retrieval' must be a string"),
        (outcome(question=None), "no field 'question'"),
        (outcome(), "'q1' occurs twice"),
    ],
)
def test_a_malformed_outcome_is_named_by_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(outcome() + line)
    with pytest.raises(DataError) as error:
        read_outcomes([path])
    assert f"{path}:2: " in str(error.value)
    assert says in str(error.value)


def test_outcomes_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_outcomes([tmp_path / "nowhere.jsonl"])


def test_ids_that_two_datasets_share_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(outcome() + outcome(id="q2"))
    (tmp_path / "b.jsonl").write_text(outcome(question="When?") + outcome(id="q3"))
    found = read_outcomes([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert list(found.ids) == ["a/q1", "q2", "b/q1", "q3"]


@pytest.mark.parametrize("dataset", ["hotpotqa", "2wikimultihopqa"])
def test_real_outcomes_are_predicted_better_than_by_chance(shared_data: Path, dataset: str) -> None:
    found = read_outcomes([shared_data / "outcomes" / f"{dataset}.train.jsonl"])
    assert len(found.ids) == 500
    metrics = [train_router("tfidf-lr", found, seed=seed).manifest["metrics"] for seed in range(5)]
    assert sum(made["auroc"]["estimate"] for made in metrics) / 5 > 0.55


# --- runs -----------------------------------------------------------------------------------------------------------

QUESTIONS = [Question(f"q{number}", f"Who is number {number}?", ("Emma",)) for number in range(3)]


def answered(policy: str, *answers: str) -> list[Trace]:
    """What a policy answered to the first questions."""
    return [trace(f"q{number}", policy, answer, segment(answer)) for number, answer in enumerate(answers)]


def recorded(
    path: Path, *arms: Sequence[Trace], weak: str = "small", dataset: str = "hotpotqa", questions: Any = QUESTIONS
) -> Path:
    return write_run(path, questions, [one for arm in arms for one in arm], weak=weak, dataset=dataset)


def test_a_run_gives_what_all_its_policies_answered(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", answered("closed-book", "Ann", "Emma", "Ann"), answered("rag", "Emma", "Ann"))
    found = read_outcomes([run])
    assert list(found.questions) == ["Who is number 0?", "Who is number 1?"]
    assert found.scores.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found.costs[0].tolist() == [100 * 0.25 + 1, 100 * 0.25 + 1]
    assert len(read_outcomes([run], arms=["closed-book"]).ids) == 3


def test_runs_of_one_model_are_joined_by_question(tmp_path: Path) -> None:
    one = recorded(tmp_path / "a", answered("closed-book", "Ann", "Emma"))
    other = recorded(tmp_path / "b", answered("rag", "Emma", "Emma", "Emma"))
    found = read_outcomes([one, other, one])
    assert list(found.arms) == ["closed-book", "rag"]
    assert found.scores.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_runs_of_several_models_give_arms_with_the_models_names_and_prices(tmp_path: Path) -> None:
    small = recorded(tmp_path / "a", answered("closed-book", "Ann"))
    large = recorded(tmp_path / "b", answered("closed-book", "Emma"), weak="org/large")
    found = read_outcomes([small, large], weak="small/closed-book")
    assert list(found.arms) == ["small/closed-book", "org/large/closed-book"]
    assert found.costs.tolist() == [[26.0, 78.0]]  # three times the price by default
    with pytest.raises(ConfigError, match="say which arm is the weak one: small/closed-book, org/large/closed-book"):
        read_outcomes([small, large])


def test_datasets_are_stacked_over_the_arms_that_all_have(tmp_path: Path) -> None:
    one = recorded(tmp_path / "a", answered("closed-book", "Ann"), answered("rag", "Emma"), answered("flare", "Ann"))
    questions = [Question("q0", "When?", ("Emma",))]
    other = recorded(tmp_path / "b", answered("rag", "Ann"), answered("closed-book", "Ann"), dataset="musique",
                     questions=questions)  # fmt: skip
    found = read_outcomes([one, other])
    assert (list(found.ids), list(found.arms)) == (["hotpotqa/q0", "musique/q0"], ["closed-book", "rag"])
    assert found.scores.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    one = recorded(tmp_path / "a", answered("rag", "Emma"))
    again = recorded(tmp_path / "b", answered("rag", "Ann"))
    with pytest.raises(DataError, match="rag answered question 'q0' in another source too"):
        read_outcomes([one, again])
    changed = recorded(tmp_path / "c", answered("closed-book", "Ann"), questions=[Question("q0", "Else?", ("Emma",))])
    with pytest.raises(DataError, match="differs from the one of that id"):
        read_outcomes([one, changed])
    musique = recorded(tmp_path / "d", answered("flare", "Ann"), dataset="musique")
    with pytest.raises(DataError, match="no arm answered questions of every dataset"):
        read_outcomes([one, musique])
    with pytest.raises(ConfigError, match="'flare' is no arm"):
        read_outcomes([one], arms=["flare"])
    late = recorded(tmp_path / "e", answered("closed-book", "Ann", "Ann")[1:])
    with pytest.raises(DataError, match="no question was answered by all of rag, closed-book"):
        read_outcomes([one, late])


def test_the_samples_of_self_consistency_are_scored_one_by_one(tmp_path: Path) -> None:
    said = [segment(f"So the answer is {name}.") for name in ("Emma", "Ann", "Emma")]
    run = recorded(tmp_path / "a", [trace("q0", "self-consistency:samples=3", "Emma", *said)], answered("rag", "Ann"))
    assert read_outcomes([run]).samples == [[(1.0, 0.0, 1.0), (0.0,)]]


def test_answers_are_the_kept_tokens_by_the_ids_of_the_outcomes(tmp_path: Path) -> None:
    kept = trace("q0", "closed-book", "Emma", segment("It was Ann", kept=2))
    one = recorded(tmp_path / "a", [kept])
    other = recorded(tmp_path / "b", answered("closed-book", "Ann"), dataset="musique")
    found = read_answers([one, other])
    assert {id_: text_of(tokens) for id_, tokens in found.items()} == {"hotpotqa/q0": "It was", "musique/q0": "Ann"}
