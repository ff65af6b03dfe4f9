"""Reranking what any retriever finds by a cross-encoder: a tiny one, with random weights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes.cross_encoders import TEXTS, read_alone, tiny_model
from flarekit.errors import ConfigError
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers import build_index, open_index, rerank, write_corpus
from flarekit.retrievers.rerank import Reranker


class Told:
    """A retriever that has been told what to find, for every query the same."""

    name = "told"

    def __init__(self, texts: Sequence[str]) -> None:
        self._hits = [Hit(Passage(str(n), "", text), float(-n)) for n, text in enumerate(texts)]
        self.asked: list[int] = []

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        self.asked.append(k)
        return self._hits[:k]

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        return [await self.search(query, k) for query in queries]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def find(retriever: Reranker, query: str, k: int) -> Sequence[Hit]:
    return asyncio.run(retriever.search(query, k))


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


# --- what it finds ---------------------------------------------------------------------------------------------------


def test_the_first_passages_come_in_the_order_of_the_cross_encoder(cross_encoder: str) -> None:
    texts = TEXTS[::8]
    hits = find(Reranker(Told(texts), cross_encoder, depth=6), "riga novel", 4)
    expected = {str(n): read_alone(cross_encoder, "riga novel", text) for n, text in enumerate(texts[:6])}
    assert ids(hits) == sorted(expected, key=lambda number: -expected[number])[:4]
    assert ids(hits) != sorted(ids(hits))
    assert [hit.score for hit in hits] == pytest.approx([expected[number] for number in ids(hits)], abs=1e-5)
    assert all(type(hit.score) is float for hit in hits)


def test_a_title_is_read_before_the_text(cross_encoder: str) -> None:
    told = Told(["river"])
    told._hits = [Hit(Passage("0", "latvia", "river"), 1.0)]
    [hit] = find(Reranker(told, cross_encoder), "riga novel", 1)
    assert hit.score == pytest.approx(read_alone(cross_encoder, "riga novel", "latvia river"), abs=1e-5)


def test_where_more_is_asked_for_more_is_read(cross_encoder: str) -> None:
    told = Told(TEXTS[:40])
    reranker = Reranker(told, cross_encoder, depth=5)
    assert [len(find(reranker, "riga", k)) for k in (3, 5, 30, 100)] == [3, 5, 30, 40]
    assert told.asked == [5, 5, 30, 100]


@given(
    texts=st.lists(st.sampled_from(TEXTS[:4]), max_size=25),
    query=st.sampled_from(["", "riga", "oslo river capital", "unheard-of"]),
    k=st.integers(1, 30),
    depth=st.integers(1, 30),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_it_only_reorders_and_ties_keep_the_retrievers_order(
    cross_encoder: str, texts: list[str], query: str, k: int, depth: int
) -> None:
    hits = find(Reranker(Told(texts), cross_encoder, depth=depth), query, k)
    read = [str(number) for number in range(min(len(texts), max(k, depth)))]
    assert len(hits) == min(k, len(read))
    assert len(set(ids(hits))) == len(hits)
    assert set(ids(hits)) <= set(read)
    places = [(-hit.score, int(hit.passage.id)) for hit in hits]
    assert places == sorted(places)


def test_passages_of_one_text_tie(cross_encoder: str) -> None:
    assert ids(find(Reranker(Told(["riga river"] * 5), cross_encoder), "oslo", 3)) == ["0", "1", "2"]


def test_over_an_index_a_query_finds_in_a_batch_what_it_finds_alone(tmp_path: Path, cross_encoder: str) -> None:
    write_corpus(tmp_path / "corpus.jsonl", [Passage(str(n), "", text) for n, text in enumerate(TEXTS)])
    build_index(tmp_path / "corpus.jsonl", tmp_path / "index", "bm25")
    reranker = Reranker(open_index(tmp_path / "index"), cross_encoder, depth=8)
    queries = ["capital of norway", "who", "riga river novel", "capital of norway"]
    together = asyncio.run(reranker.search_many(queries, 5))
    assert together == [find(reranker, query, 5) for query in queries]
    assert [len(hits) for hits in together] == [5, 0, 5, 5]
    assert asyncio.run(reranker.search_many([], 5)) == []


def test_texts_longer_than_the_model_reads_are_cut(cross_encoder: str) -> None:
    long = "riga " * 200_000
    [hit] = find(Reranker(Told([long]), cross_encoder), long, 1)
    assert np.isfinite(hit.score)


# --- how it runs -----------------------------------------------------------------------------------------------------


class Held:
    """A model that reads once it is let; it notes the queries, and how many runs there were at once."""

    def __init__(self) -> None:
        self.let, self.begun = threading.Event(), threading.Event()
        self.read: list[str] = []
        self.at_once = self.most_at_once = 0

    def predict(self, pairs: Sequence[tuple[str, str]], **options: Any) -> NDArray[np.float32]:
        self.read.append(pairs[0][0])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        assert self.let.wait(30)
        self.at_once -= 1
        return np.zeros(len(pairs), np.float32)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    pytest.importorskip("torch")
    model = Held()
    monkeypatch.setattr(rerank, "_load", lambda name: model)
    return model


async def test_one_run_of_the_model_at_a_time_while_the_event_loop_goes_on(held: Held) -> None:
    reranker = Reranker(Told(TEXTS[:3]), "held")
    searches = asyncio.gather(*(reranker.search_many([query, f"{query}!"], 2) for query in "abc"))
    await asyncio.to_thread(held.begun.wait, 30)  # the loop is free while the model reads
    held.let.set()
    assert [[ids(hits) for hits in found] for found in await searches] == [[["0", "1"]] * 2] * 3
    assert sorted(held.read) == ["a", "a!", "b", "b!", "c", "c!"]
    assert held.most_at_once == 1


async def test_a_search_that_is_cancelled_is_not_read_for_any_more(held: Held) -> None:
    reranker = Reranker(Told(TEXTS[:3]), "held")
    cancelled = asyncio.create_task(reranker.search_many(["a", "b", "c"], 2))
    await asyncio.to_thread(held.begun.wait, 30)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    held.let.set()
    assert ids(await reranker.search("d", 2)) == ["0", "1"]
    assert held.read == ["a", "d"]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_its_name_tells_the_retriever_and_the_model(cross_encoder: str) -> None:
    assert Reranker(Told([]), cross_encoder).name == f"told reranked by {cross_encoder}"


def test_what_is_out_of_range_is_refused(cross_encoder: str) -> None:
    told = Told(TEXTS[:3])
    with pytest.raises(ConfigError, match="depth >= 1, not 0"):
        Reranker(told, "any", depth=0)
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        find(Reranker(told, cross_encoder), "riga", 0)
    assert told.asked == []


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (3, "gives 3 scores for a passage; one is needed"),
        (None, "is no cross-encoder (BertModel, which scores nothing)"),
    ],
)
def test_a_model_that_is_no_cross_encoder_is_one_clear_line(tmp_path: Path, scores: int | None, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        Reranker(Told([]), str(tiny_model(tmp_path, scores=scores)))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="nowhere' cannot be loaded") as error:
        Reranker(Told([]), str(tmp_path / "nowhere"))
    assert "\n" not in str(error.value)
