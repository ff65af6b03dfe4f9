"""Passages that a context cannot hold: the longest are cut first, in every session and with every engine."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted import ScriptedEngine
from fakes.scripted_vllm import ScriptedVLLM
from flarekit.errors import PromptTooLong
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config
from flarekit.eval.runs.runs import run as run_all
from flarekit.policies import Budget, parse_policy, with_settings
from flarekit.prompts.evidence import CAP, capped, cut, fit, shortened
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Hit, Passage
from flarekit.session.session import Session
from flarekit.trace import Failed, Trace

ANSWER = [" So", " the", " answer", " is", " Reus", "."]
TOKENS = 4
"""Characters of one token here."""


class Small(ScriptedEngine):
    """Four characters a token, and a context that it tells or keeps to itself; what is longer is refused anywhere."""

    def __init__(self, *answers: Sequence[str], context: int, told: bool = True) -> None:
        super().__init__(*answers)
        self.context = context
        if told:
            self.max_model_len = context

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        ids = [ord(text[place]) for place in range(0, len(text), TOKENS)]
        if len(ids) > self.context:
            raise PromptTooLong(f"{len(ids)} tokens")
        self.asked = text
        return ids


class Finds:
    name = "finds"

    def __init__(self, *texts: str) -> None:
        self.hits = [Hit(Passage(str(n), f"T{n}", text), 1.0) for n, text in enumerate(texts)]

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        return self.hits[:k]


GOOD = ("Emma was born in Reus.", "Reus lies in Catalonia.")
LONG = {
    "spaces": "Reus has many houses. " * 600,
    "no spaces": "x" * 13_000,
    "chinese": "奥地利的首都是维也纳" * 1300,
    "marks": "भाषा" * 3250,
    "emoji": "👩‍🚀" * 3000,
    "one line": "a\nb\n" * 3000,
}


async def run(engine: ScriptedEngine, retriever: Finds, *, strict: bool = True, answer: int = 160) -> Trace:
    policy = with_settings(parse_policy("rag"), Prompt(exemplars=()), Budget(answer, 4 * answer))
    return await Session(policy, "Where was Emma born?", weak=engine, retriever=retriever, strict=strict).run()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", LONG)
async def test_the_long_passage_is_cut_and_the_good_ones_stay(kind: str, place: int, strict: bool, told: bool) -> None:
    texts = list(GOOD)
    texts.insert(place, LONG[kind])
    engine = Small(ANSWER, context=400, told=told)
    trace = await run(engine, Finds(*texts), strict=strict)
    assert trace.answer == "Reus"
    assert all(f"] T{texts.index(good)}: {good}" in engine.asked for good in GOOD)
    assert f"[{place + 1}] T{place}: {LONG[kind].split()[0][:8]}" in engine.asked
    assert " ...\n" in engine.asked
    assert len(trace.retrievals[0].hits) == 3
    assert not [event for event in trace.events if isinstance(event, Failed)]


@pytest.mark.parametrize("kind", LONG)
async def test_a_passage_has_a_cap_in_tokens_however_large_the_context(kind: str) -> None:
    engine = Small(context=100_000)
    brief = Prompt().brief(Passage("1", "T", LONG[kind]))
    found = await capped(brief, engine)
    assert len(await engine.tokenize(found.text)) <= CAP + 1
    assert len(found.text) > 100


async def test_what_fits_is_left_as_it_is() -> None:
    engine = Small(ANSWER, context=2000)
    await run(engine, Finds(*GOOD, "A hundred words at most. " * 20))
    assert engine.asked.count("A hundred words at most.") == 20
    assert "..." not in engine.asked


async def test_room_for_the_answer_is_kept() -> None:
    engine = Small(ANSWER, context=400)
    await run(engine, Finds("x" * 1000, "y" * 1000, "z" * 1000), answer=90)
    assert 400 - 90 - 30 <= len(await engine.tokenize(engine.asked)) <= 400 - 90
    shown = [engine.asked.count(letter * 60) for letter in "xyz"]
    assert min(shown) == max(shown) > 0  # alike


@pytest.mark.parametrize("told", [True, False])
async def test_where_nothing_is_left_of_the_passages_a_strict_session_refuses(told: bool) -> None:
    bare = len(Prompt(exemplars=()).render("Where was Emma born?")) // TOKENS
    found = Finds("x" * 1000, "y" * 1000)
    with pytest.raises(PromptTooLong, match="the passages are too long") as error:
        await run(Small(ANSWER, context=bare + 12, told=told), found)
    assert "\n" not in str(error.value)
    trace = await run(Small(ANSWER, context=bare + 12, told=told), found, strict=False)
    [failed] = [event for event in trace.events if isinstance(event, Failed)]
    assert failed.error.startswith("the passages are too long")
    assert trace.answer == "Reus"


async def test_a_question_that_is_too_long_by_itself_is_refused() -> None:
    with pytest.raises(PromptTooLong):
        await run(Small(ANSWER, context=20), Finds(*GOOD), strict=False)


async def test_a_server_that_refuses_only_the_stream_gets_a_shorter_prompt() -> None:
    class Late(ScriptedEngine):
        def stream(self, prompt, **options):  # type: ignore[no-untyped-def]
            if len(prompt) > 1500:
                raise PromptTooLong(f"{len(prompt)} tokens")
            return super().stream(prompt, **options)

    engine = Late(ANSWER)
    trace = await run(engine, Finds("x" * 900, *GOOD))
    assert trace.answer == "Reus"
    assert all(good in engine.prompts[-1] for good in GOOD)
    assert "xxxx" in engine.prompts[-1]


async def test_judgements_and_criticisms_see_the_passages_that_the_answer_saw() -> None:
    engine = Small(ANSWER, [" It", " is", "."], ANSWER, context=400)
    policy = with_settings(parse_policy("critic"), Prompt(exemplars=()), Budget(90, 360))
    session = Session(policy, "Where was Emma born?", weak=engine, retriever=Finds(*GOOD))
    session._state.passages = [hit.passage for hit in Finds("x" * 13_000, *GOOD).hits]
    trace = await session.run()
    assert trace.answer == "Reus"
    assert [segment.prompt_tokens <= 400 for segment in trace.segments] == [True] * 3


# --- cutting ---------------------------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=6)


@given(SIZES, st.integers(0, 1500))
def test_cutting_keeps_to_the_room_and_wastes_little_of_it(sizes: list[int], room: int) -> None:
    passages = [Passage(str(n), "", "x" * size) for n, size in enumerate(sizes)]
    shown = shortened(passages, sizes, room)
    lengths = [len(passage.text.removesuffix(" ...")) for passage in shown]
    assert [passage.id for passage in shown] == [str(n) for n in range(len(shown))]  # the last in rank go first
    assert sum(lengths) <= room
    cuts = [length for length, size in zip(lengths, sizes, strict=False) if length < size]
    assert len(set(cuts)) <= 1
    assert all(length <= cuts[0] for length in lengths if cuts)
    if sum(sizes) <= room:
        assert shown == passages
    elif len(shown) == len(sizes):
        assert sum(lengths) > room - len(sizes)


@given(st.text(), st.integers(0, 40))
def test_a_cut_text_is_a_beginning_and_parts_no_character_from_its_marks(text: str, length: int) -> None:
    found = cut(text, length).removesuffix(" ...")
    assert text.startswith(found)
    assert len(found) <= length
    rest = text[len(found) :]
    if found and rest:
        assert not unicodedata.category(rest[0]).startswith("M")


@given(st.lists(st.text(max_size=300), max_size=4), st.integers(30, 200))
async def test_what_is_fitted_fits_or_holds_no_passage(texts: list[str], context: int) -> None:
    engine = Small(context=context)
    passages = [Passage(str(n), "T", text) for n, text in enumerate(texts)]

    async def render(shown: Sequence[Passage]) -> list[int]:
        return await engine.tokenize("Question" + "".join(f"\n{one.title}: {one.text}" for one in shown))

    fitted = await fit(render, engine, passages, context, context // 4)
    assert len(fitted.ids) <= context - context // 4 or not fitted.passages
    assert bool(fitted.left_out) == (len(fitted.passages) < len(passages))


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [True, False])
async def test_a_run_cuts_the_long_passage_and_misses_no_answer(tmp_path: Path, cache: bool) -> None:
    """One character a token: two good passages and one of 13,000 characters in a context of 6,000."""
    paragraphs: list[Any] = [["Long", ["Riga " + "x" * 13_000]], ["Riga", ["Riga lies on the Daugava."]]]
    paragraphs += [["Latvia", ["Riga is in Latvia."]]]
    item: dict[str, Any] = {"_id": "q", "type": "bridge", "question": "On which river is Riga?", "answer": "Daugava"}
    item |= {"context": paragraphs, "supporting_facts": [["Riga", 0]]}
    (tmp_path / "dev.json").write_text(json.dumps([item]))
    plan: dict[str, Any] = {"policies": ["rag"], "dataset": "hotpotqa", "data": tmp_path / "dev.json"}
    plan |= {"out": tmp_path / "run"} | ({"cache": tmp_path / "store.sqlite"} if cache else {})
    with ScriptedVLLM(max_model_len=6000) as server:
        await run_all(make_config(plan | {"engine": server.url}))
        [body] = server.completions
    asked = "".join(map(chr, body["prompt"]))
    assert "Riga lies on the Daugava." in asked
    assert "Riga is in Latvia." in asked
    assert asked.count("x" * 200)
    assert len(asked) <= 6000 - 160
    assert len(read_run(tmp_path / "run").answered) == 1
