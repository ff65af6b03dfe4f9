"""What shows of a question by its form: two-way or open, and warnings where a label lies in one type."""

from __future__ import annotations

import numpy as np
import pytest

from flarekit.escalation.baselines import OWN, RULE, by_type, lengths_of, lopsided, strata_of, types_of
from flarekit.text.question_type import length, two_way


@pytest.mark.parametrize(
    "question",
    [
        "Were Scott Derrickson and Ed Wood of the same nationality?",
        "Are Sutera and Rhodotypos both types of shrub?",
        "are the films from one country",
        "Is it true?",
        "  “Is Paris larger than Rome?”",
        "Did John Updike and Tom Clancy both publish novels?",
        "Do both films have directors that share a nationality?",
        "Does she?",
        "Has he won?",
        "Have they met?",
        "Had he been there?",
        "Can a penguin fly?",
        "Isn't it older?",
        "Isn’t it older?",
        "Was the director who made it American?",
        "Will it rain in Spain?",
        "Which film came out first, Alien or Blade Runner?",
        "What is larger, the Atlantic OR the Pacific?",
        "Who was born earlier, Ann\nor Emma?",
        "Between Ann and Emma, was it Ann or Emma that won?",
    ],
)
def test_a_choice_and_a_yes_or_no_question_are_two_way(question: str) -> None:
    assert two_way(question)


@pytest.mark.parametrize(
    "question",
    [
        "Who directed Alien?",
        "What profession did Alan Crosland and Kurt Voss both hold?",
        "The Havanese and the Black Mouth Cur are both which kind of animal?",
        "In which year was the author born?",
        "Isabel Allende was born where?",
        "Area 51 lies in which state?",
        "Doric columns are found in what temple?",
        "Hassan II ruled which country?",
        "Canada borders which country?",
        "Will Smith starred in which film of 1996?",
        "May Robson played whom?",
        "Which orchestra played it?",
        "Where is the Oregon Trail?",
        "For whom was it written?",
        "",
        "?",
    ],
)
def test_all_others_are_open(question: str) -> None:
    assert not two_way(question)


def test_a_question_is_as_long_as_it_has_words() -> None:
    assert [length(one) for one in ("Who was Ann?", "", "  Who's — Ann?")] == [3, 0, 3]
    assert lengths_of(["Who?", "Who was it?"]).tolist() == [1, 3]


def test_the_dataset_s_types_stand_beside_the_rule_where_it_tells_two_or_more() -> None:
    questions = ["Is it?", "Who is it?"]
    assert types_of(questions) == {RULE: ["two-way or yes/no", "open"]}
    assert list(types_of(questions, ["bridge", "bridge"])) == [RULE]
    assert types_of(questions, ["comparison", ""])[OWN] == ["comparison", "untold"]
    assert strata_of(questions, ["comparison", "bridge"]) == (OWN, ["comparison", "bridge"])


def test_types_are_ordered_by_what_was_fitted_on_alone() -> None:
    types, labels = ["a", "a", "b", "b", "c"], np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    fitted_on = np.array([0, 2])
    assert by_type(types, labels, fitted_on, np.array([1, 3, 4])).tolist() == [2, 0, 1]  # c was not seen: in between
    unlike = np.where(np.isin(np.arange(5), fitted_on), labels, 1 - labels)
    assert by_type(types, unlike, fitted_on, np.array([1, 3, 4])).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("yes", "no", "warned"),
    [
        ({"open": 33}, {"open": 16, "two-way": 11}, "33 of the 33 questions with the label are of the type 'open'"),
        ({"open": 19, "two-way": 1}, {"open": 10, "two-way": 10}, "19 of the 20 questions with the label"),
        ({"open": 10, "two-way": 10}, {"two-way": 20}, "20 of the 20 questions without the label"),
        ({"open": 20}, {"open": 20}, ""),  # there is one type: it tells nothing
        ({"open": 19, "two-way": 1}, {"open": 19, "two-way": 1}, ""),
        ({"open": 15, "two-way": 5}, {"open": 5, "two-way": 15}, ""),
        ({"open": 5}, {}, ""),
        ({"open": 4}, {"open": 5, "two-way": 40}, ""),  # too few to tell
    ],
)
def test_a_label_that_lies_in_one_type_is_warned_of(yes: dict[str, int], no: dict[str, int], warned: str) -> None:
    types = [one for side in (yes, no) for one, count in side.items() for _ in range(count)]
    labels = np.repeat([1.0, 0.0], [sum(yes.values()), sum(no.values())])
    said = lopsided(labels, types)
    assert warned in said
    assert bool(said) == bool(warned)
