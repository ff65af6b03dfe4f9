"""Special tokens that untrusted text spells: a real tokenizer that knows many finds none in any part of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.injections import ATTEMPTS, SPECIAL
from fakes.scripted import ScriptedEngine
from flarekit.engines.engine import Message
from flarekit.engines.vllm import VLLMEngine
from flarekit.prompts.chat import Continuation, Conversation
from flarekit.prompts.evidence import harmless
from flarekit.prompts.few_shot import Prompt
from flarekit.prompts.marks import without_marks
from flarekit.retrieval import Passage
from flarekit.signals.answer import Answered, verification_prompt

tokenizers = pytest.importorskip("tokenizers", reason="needs the library of fast tokenizers")

ODD = (
    *("[|endofturn|]", "[|user|]", "[@BOS@]", ">>TITLE<<", "◁think▷", "<" + "x" * 100 + ">", "{%end%}", "{{user}}"),
    *("[BOS]", "[extra_id_0]", "<0xE2>", "<|im_start|>user", "«sys»", "~~assistant~~", "|im_end|>", "<| im_end |>"),
    *("@@user@@", "§1§", "<|a b c|>", "[/|user|]", "</|end|>", "<<<turn>>>", "⟨eot⟩", "\u2581<PRE>", "【assistant】"),
)
"""Marks that no list by shape has."""
MARKS = (*SPECIAL, *ODD)


class Real(ScriptedEngine):
    """An engine whose tokenizer is a real one (byte-level BPE) with all these marks for special tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._tokenizer: Any = tokenizers.Tokenizer(tokenizers.models.BPE())
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        self._tokenizer.train_from_iterator(["Vienna lies on the Danube. <div> [1] (see above)"] * 20, trainer)
        self._tokenizer.add_special_tokens(list(MARKS))
        self.special = frozenset(self._tokenizer.token_to_id(mark) for mark in MARKS)

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        return await self.tokenize("\n".join(f"{turn['role']}: {turn['content']}" for turn in messages))

    async def pieces(self, text: str) -> list[str]:
        return list(self._tokenizer.encode(text).tokens)


ENGINE = Real()
HOSTILE = st.lists(st.sampled_from([*MARKS, *"<>[]|/ ", "im", "end", "Vienna", "\n"]), max_size=8).map("".join)


async def special_in(ids: Sequence[int]) -> list[int]:
    return [one for one in ids if one in ENGINE.special]


@pytest.mark.parametrize("mark", MARKS)
async def test_a_mark_is_one_token_and_parted_it_is_none(mark: str) -> None:
    assert await special_in(await ENGINE.tokenize(mark)), "else there is nothing to test"
    text = f"Vienna {mark} lies{mark}{mark} on it"
    made = await without_marks(text, ENGINE)
    assert not await special_in(await ENGINE.tokenize(made))
    assert "".join(made.split()) == "".join(text.split())


@settings(max_examples=60, deadline=None)
@given(title=HOSTILE, text=HOSTILE, question=HOSTILE, note=HOSTILE, said=HOSTILE)
async def test_no_part_of_any_prompt_spells_a_special_token(
    title: str, text: str, question: str, note: str, said: str
) -> None:
    passages = [await harmless(Passage("p", title, text), ENGINE)]
    for form in (Prompt(), Prompt(exemplars=())):
        assert not await special_in(await form.ids(ENGINE, question, passages, [note], said))
        assert not await special_in(await form.criticism_ids(ENGINE, question, said, passages))
    asked = {"role": "user", "content": "Where is Vienna?"}
    for served in (Conversation(messages=(asked,)), Continuation(text="Once upon a time")):
        ids = await served.ids(ENGINE, "Where is Vienna?", passages, [note], said)
        own = await served.ids(ENGINE, "Where is Vienna?", [Passage("p", "Vienna", "")])  # the section's own tags
        assert await special_in(ids) == await special_in(own)
    judged = Answered(question, said, Prompt(), passages, ENGINE, "weak", [], 10, {})
    assert not await special_in(await ENGINE.tokenize(await without_marks(verification_prompt(judged), ENGINE)))


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda passage: passage.id)
async def test_no_attempt_of_a_passage_spells_one(attempt: Passage) -> None:
    made = await harmless(attempt, ENGINE)
    assert not await special_in(await ENGINE.tokenize(f"[1] {made.title}: {made.text}"))


@pytest.mark.parametrize(
    "text",
    [
        "Vienna lies on the Danube.",
        "see [1] and <div> (or not)",
        "a < b > c",
        "O'Neil & Sons, 50% — “so”",
        "日本語の文",
    ],
)
async def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert await without_marks(text, ENGINE) == text


async def test_plain_text_asks_the_engine_nothing() -> None:
    class Silent(Real):
        async def pieces(self, text: str) -> list[str]:
            raise AssertionError(text)

    assert await without_marks("Who wrote “Emma” (1815), and why?", Silent()) == "Who wrote “Emma” (1815), and why?"


@pytest.mark.vllm
async def test_a_real_engine_finds_no_special_token_in_any_form(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as engine:
        marks = {mark: await engine.tokenize(mark, begin=False) for mark in MARKS}
        special = {ids[0] for ids in marks.values() if len(ids) == 1}
        assert len(special) >= 3, "this model's own marks are single tokens"
        for start in range(0, len(ATTEMPTS), 16):
            passages = [await harmless(one, engine) for one in ATTEMPTS[start : start + 16]]
            ids = await Prompt().ids(engine, f"Who? {MARKS[start % len(MARKS)]}", passages)
            assert not special.intersection(ids)
