"""Prompts whose words are the client's, and untrusted passages in them.

What a tokenizer makes of them is read off real ones: SmolLM2's through a real server here, others' marks as text.
"""

from __future__ import annotations

import pytest
from conftest import TestServer
from hypothesis import given
from hypothesis import strategies as st

from fakes.injections import ATTEMPTS, SPECIAL
from fakes.scripted import ScriptedEngine
from flarekit.engines.vllm import VLLMEngine
from flarekit.prompts.chat import Continuation, Conversation, neutral
from flarekit.retrieval import Passage

QUESTION = "Where is Vienna?"
ASKED = Conversation(messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}))
VIENNA = Passage("p", "Vienna", "Vienna lies on the Danube.")


def text_of_ids(ids: list[int]) -> str:
    return "".join(map(chr, ids))


async def test_passages_stand_in_the_last_user_turn_and_nothing_else_changes() -> None:
    ids = await ASKED.ids(ScriptedEngine(), QUESTION, [VIENNA, VIENNA])
    first, _, last = text_of_ids(ids).partition("<|user|>")
    assert first == "<|system|>Be brief."
    section, _, asked = last.partition("</passages>\n\n")
    assert asked == f"{QUESTION}<|assistant|>"
    assert section.endswith(
        "<passages>\n[1] Vienna: Vienna lies on the Danube.\n[2] Vienna: Vienna lies on the Danube.\n"
    )


async def test_without_passages_the_turns_are_as_they_came() -> None:
    ids = await ASKED.ids(ScriptedEngine(), QUESTION)
    assert text_of_ids(ids) == f"<|system|>Be brief.<|user|>{QUESTION}<|assistant|>"


async def test_another_model_goes_on_from_what_was_said() -> None:
    ids = await ASKED.ids(ScriptedEngine(), QUESTION, said="It lies")
    assert text_of_ids(ids).endswith("<|assistant|>It lies")


def test_the_question_is_the_last_user_turns_text() -> None:
    parts = [{"type": "text", "text": "Where is"}, {"type": "text", "text": "Graz?"}]
    turns = ({"role": "user", "content": "Hi"}, {"role": "user", "content": parts}, {"role": "tool", "content": "x"})
    assert Conversation(messages=turns).question == "Where is\nGraz?"


def test_the_question_of_a_plain_text_is_the_end_of_its_last_paragraph() -> None:
    assert Continuation(text="Once.\n\nWhere is Graz?\nAnswer:").question == "Where is Graz? Answer:"
    assert len(Continuation(text="word " * 500).question.split()) == 64


def test_passages_stand_above_a_text_that_is_to_be_continued() -> None:
    form = Continuation(text="Once upon a time")
    assert form.render("", [VIENNA]).endswith("</passages>\n\nOnce upon a time")
    assert form.render("") == "Once upon a time"


def test_an_answer_is_whole_and_ends_where_the_model_ends_it() -> None:
    assert not ASKED.ends_answer("So the answer is 7.")
    assert ASKED.read_answer("One. Two.") == "One. Two."


# --- untrusted passages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda passage: passage.id)
def test_no_attempt_ends_its_section_or_holds_a_mark(attempt: Passage) -> None:
    section = ASKED.section([attempt])
    _notice, begin, line, end, *rest = section.split("\n")
    assert (begin, end, rest) == ("<passages>", "</passages>", ["", ""])
    assert line.startswith("[1] Vienna")
    assert len(line.splitlines()) == 1
    assert not [mark for mark in SPECIAL if mark in line]


@given(st.lists(st.one_of(st.text(), st.sampled_from([*SPECIAL, "<", ">", "[", "]", "|", "/", " ", "\n", "~"]))))
def test_whatever_a_passage_holds_no_mark_is_left_and_no_letter_lost(parts: list[str]) -> None:
    text = "".join(parts)
    made = neutral(text)
    assert len(made.splitlines()) <= 1
    assert not [mark for mark in SPECIAL if mark in made]
    assert "".join(made.split()) == "".join(text.split())


@given(st.text(alphabet="abc XYZ.,;:'\"()-0123456789%&"))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert neutral(text) == " ".join(text.split())


@pytest.mark.parametrize("text", ["a < b and c > d", "see [1] and [citation needed]", "f(x) < 3", "e-mail <at> once"])
def test_comparisons_and_citations_are_left_readable(text: str) -> None:
    assert neutral(text).replace("< ", "<") == text.replace("< ", "<")


@pytest.mark.vllm
async def test_a_real_tokenizer_finds_no_more_special_tokens_than_the_turns_have(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as engine:
        marks = {mark: await engine.tokenize(mark, begin=False) for mark in SPECIAL}
        special = {ids[0] for ids in marks.values() if len(ids) == 1}
        assert len(special) >= 3, "this model's own marks are single tokens"
        bare = [one for one in await ASKED.ids(engine, QUESTION) if one in special]
        assert len(bare) >= 5
        for start in range(0, len(ATTEMPTS), 8):
            ids = await ASKED.ids(engine, QUESTION, ATTEMPTS[start : start + 8])
            assert [one for one in ids if one in special] == bare


@pytest.mark.vllm
async def test_the_models_own_template_makes_the_turns(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as engine:
        ids = await ASKED.ids(engine, QUESTION, [VIENNA])
        text = await _detokenized(engine, ids)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nPassages")
    assert text.endswith(f"</passages>\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n")


async def _detokenized(engine: VLLMEngine, ids: list[int]) -> str:
    response = await engine._send("POST", "/detokenize", {"model": engine.model, "tokens": ids})
    return str(response.json()["prompt"])
