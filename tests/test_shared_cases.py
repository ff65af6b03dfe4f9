"""Small inputs that failed once, from files beside the repository where they are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fakes.scripted import ScriptedEngine
from flarekit import Session, parse_policy
from flarekit.eval.data.metrics import normalize_answer
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Passage
from flarekit.retrievers import build_index, open_index, write_corpus
from flarekit.retrievers.lexical.bm25 import BM25Retriever
from flarekit.text.sentences import SentenceSplitter, split_sentences

CASES = Path(__file__).parents[2] / "shared" / "cases"
OTHERS = [Passage("1", "Danube", "The Danube flows through Vienna."), Passage("2", "巴黎", "巴黎是法国的城市。")]


def cases(name: str) -> list[Any]:
    path = CASES / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tokens(text: str) -> list[str]:
    return re.findall(r"\s*\w+|\s*\W", text)


@pytest.mark.parametrize("case", cases("answers"))
async def test_answers_are_read_whole_and_generation_waits_for_them(case: dict[str, str]) -> None:
    text, expected = case["text"], normalize_answer(case["answer"])
    assert normalize_answer(Prompt().read_answer(text)) == expected
    for pieces in (tokens(text), list(text), [text], tokens(f"{text} It is well known. The rest is silence.")):
        trace = await Session(parse_policy("closed-book"), "?", weak=ScriptedEngine(pieces)).run()
        assert normalize_answer(trace.answer) == expected


@pytest.mark.parametrize("case", cases("sentences"))
def test_sentences_end_however_the_text_is_cut(case: dict[str, Any]) -> None:
    text = case["text"]
    assert len(split_sentences(text)) == case["sentences"]
    for pieces in (list(text), tokens(text)):
        splitter = SentenceSplitter()
        assert sum(splitter.push(piece) for piece in pieces) + 1 == case["sentences"]


@pytest.mark.parametrize("case", cases("words"))
async def test_lexical_search_finds_words_and_no_parts_of_them(case: dict[str, Any], tmp_path: Path) -> None:
    corpus = [Passage("0", case["title"], case["text"]), *OTHERS]
    write_corpus(tmp_path / "corpus.jsonl", corpus)
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index", "bm25")
    for retriever in (BM25Retriever(corpus), open_index(tmp_path / "index")):
        hits = await retriever.search(case["query"], 3)
        assert any(hit.passage.id == "0" and hit.score > 0 for hit in hits) == case["found"]
