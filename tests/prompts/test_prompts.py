"""The prompt, and the answer that is read out of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Passage

PROMPT = Prompt()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Oslo is the capital. So the answer is Oslo.", "Oslo"),
        ("so the answer is: the Black Sea. And so on.", "the Black Sea"),
        ("So the answer is St. Louis.", "St. Louis"),
        ("So the answer is 3.14.", "3.14"),
        ('So the answer is "Emma".', "Emma"),
        ("So the answer is yes", "yes"),
        ("The answer is Oslo. The end.", "Oslo"),
        ("It is Oslo. It must be Oslo.", "It must be Oslo"),
        ("So the answer is", ""),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_phrase_or_else_the_last_sentence(text: str, answer: str) -> None:
    assert PROMPT.read_answer(text) == answer


def test_a_prompt_with_a_phrase_of_its_own_is_read_by_it() -> None:
    prompt = Prompt(answer_phrase="Result:")
    assert prompt.ends_answer("Result: Oslo.")
    assert not prompt.ends_answer("So the answer is Oslo.")
    assert prompt.read_answer("It is in Norway. Result: Oslo. More.") == "Oslo"


def test_the_first_answer_counts() -> None:
    assert PROMPT.read_answer("So the answer is A. So the answer is B.") == "A"


def test_passages_stand_best_first_between_the_exemplars_and_the_question() -> None:
    rendered = PROMPT.render("Who?", [Passage("1", "First", "One."), Passage("2", "Second", "Two.")])
    assert rendered.endswith("Passages:\n[1] First: One.\n[2] Second: Two.\n\nQuestion: Who?\nAnswer:")


def test_the_stable_part_comes_first_so_that_a_prefix_cache_can_serve_it() -> None:
    alone, helped = PROMPT.render("Who?"), PROMPT.render("Where?", [Passage("1", "First", "One.")])
    stable = alone.index("Question: Who?")
    assert alone[:stable] == helped[:stable]


def test_long_passages_are_cut() -> None:
    rendered = Prompt(max_passage_words=3).render("Who?", [Passage("1", "T", "a b c d e")])
    assert "T: a b c ...\n" in rendered


@given(st.text(), st.text())
def test_neither_question_nor_passage_can_begin_a_new_part_of_the_prompt(question: str, text: str) -> None:
    plain = PROMPT.render("q", [Passage("1", "t", "x")])
    assert PROMPT.render(question, [Passage("1", "t", text)]).count("\nQuestion:") == plain.count("\nQuestion:")
