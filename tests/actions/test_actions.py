"""What is looked up."""

from __future__ import annotations

import pytest

from fakes.scripted import Said, tokens
from flarekit.actions import QueryContext, masked_draft_query, question_and_answer_query, question_query
from flarekit.text.words import words

PHRASE = "So the answer is"


def draft(*sentence: Said) -> QueryContext:
    return QueryContext("Who wrote Emma?", "It is a novel.", tokens(*sentence), PHRASE)


def test_the_question_alone() -> None:
    assert question_query(draft()) == "Who wrote Emma?"


def test_the_question_and_the_answer_so_far() -> None:
    assert question_and_answer_query(draft()) == "Who wrote Emma? It is a novel."


def test_uncertain_words_are_left_out_of_the_draft() -> None:
    assert masked_draft_query(0.4)(draft(" Emma", " was", " by", (" Bront", 0.4), "ë", ".")) == "Emma was by."


def test_beta_is_inclusive_and_apart_from_theta() -> None:
    query = draft(" Emma", (" was", 0.41), (" by", 0.4))
    assert masked_draft_query(0.4)(query) == "Emma was"


def test_a_draft_without_a_certain_word_asks_the_question_instead() -> None:
    assert masked_draft_query(0.4)(draft((" Emma", 0.1), (" was", 0.2), ".")) == "Who wrote Emma?"


def test_the_sentence_that_gives_the_answer_is_asked_with_the_question() -> None:
    said = draft(" So", " the", " answer", " is", " Jane", " Austen", ".")
    assert masked_draft_query(0.4)(said) == "Who wrote Emma? Jane Austen."


def test_an_answer_that_is_masked_leaves_the_question() -> None:
    assert masked_draft_query(0.4)(draft(" So", " the", " answer", " is", (" Jane", 0.2), ".")) == "Who wrote Emma?"


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_ends_of_beta_mask_nothing_or_all(beta: float) -> None:
    expected = "Emma was." if beta == 0 else "Who wrote Emma?"
    assert masked_draft_query(beta)(draft(" Emma", (" was", 0.001), ".")) == expected


def test_tokens_are_joined_to_words_with_their_lowest_probability() -> None:
    joined = words(tokens(" Em", ("ma", 0.5), " was", "."))
    assert [text for text, _ in joined] == [" Emma", " was", "."]
    assert joined[0][1] == pytest.approx(-0.693, abs=1e-3)
