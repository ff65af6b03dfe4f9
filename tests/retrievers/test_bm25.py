"""BM25: its words, its ranks against rank-bm25's own, and what it finds in real questions."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Plus

from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Dataset
from flarekit.eval.data.formats import load_2wikimultihopqa, load_hotpotqa, load_musique
from flarekit.eval.data.metrics import supporting_recall
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.lexical.analyzer import STOPWORDS, words

DATA = Path(__file__).parents[2].parent / "shared" / "data"

CORPUS = [
    Passage("Oslo", "Oslo", "Oslo is the capital of Norway."),
    Passage("Riga", "Riga", "Riga is the capital of Latvia."),
    Passage("Müller", "Gerd Müller", "A footballer from Germany."),
    Passage("copy", "Oslo", "Oslo is the capital of Norway."),
]
VOCABULARY = ["oslo", "riga", "capital", "norway", "müller", "Born", "the", "river"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
CORPORA = st.lists(TEXTS, min_size=1, max_size=20).filter(lambda texts: any(words(text) for text in texts))


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


async def find(query: str, k: int = 10) -> list[Hit]:
    return list(await BM25Retriever(CORPUS).search(query, k))


def test_words_are_folded_and_stopwords_left_out() -> None:
    assert words("Müller's Häuser, in the ŁÓDŹ of 1999") == ["muller", "hauser", "lodz", "1999"]
    assert words("Who was it?") == []


@given(st.text())
def test_case_never_matters_and_no_stopword_is_left(text: str) -> None:
    assert words(text) == words(text.casefold())
    assert STOPWORDS.isdisjoint(words(text))


async def test_an_accent_need_not_be_typed() -> None:
    assert ids(await find("MULLER")) == ids(await find("Müller")) == ["Müller"]


async def test_titles_are_searched_too() -> None:
    assert ids(await find("Gerd")) == ["Müller"]


async def test_only_passages_sharing_a_word_are_found() -> None:
    assert ids(await find("capital of Latvia")) == ["Riga", "Oslo", "copy"]
    assert await find("tennis") == await find("Who is it?") == await find("") == []


async def test_equal_scores_keep_the_order_of_the_corpus() -> None:
    assert ids(await find("Norway", k=1)) == ["Oslo"]
    assert ids(await find("Norway")) == ["Oslo", "copy"]


async def test_k_below_one_and_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        await find("Oslo", k=0)
    with pytest.raises(ConfigError, match="b=2"):
        BM25Retriever(CORPUS, b=2)


@pytest.mark.parametrize("corpus", [[], [Passage("1", "", "")], [Passage("1", "The", "of the")]])
def test_a_corpus_without_words_is_refused(corpus: list[Passage]) -> None:
    with pytest.raises(DataError, match="no words to index"):
        BM25Retriever(corpus)


@settings(deadline=None)
@given(CORPORA, TEXTS, st.integers(1, 25))
def test_ranks_and_scores_are_those_of_rank_bm25(texts: list[str], query: str, k: int) -> None:
    corpus = [Passage(str(number), "", text) for number, text in enumerate(texts)]
    hits = asyncio.run(BM25Retriever(corpus, k1=1.2, b=0.6).search(query, k))
    scores = BM25Plus([words(text) for text in texts], k1=1.2, b=0.6).get_scores(words(query))
    sharing = [i for i, text in enumerate(texts) if not set(words(text)).isdisjoint(words(query))]
    best = sorted(sharing, key=lambda i: -scores[i])[:k]
    assert [int(hit.passage.id) for hit in hits] == best
    assert np.allclose([hit.score for hit in hits], scores[best])
    assert all(hit.score > 0 for hit in hits)


async def test_a_large_search_leaves_the_event_loop_running() -> None:
    corpus = [Passage(str(i), f"Town {i}", f"A town on river {i % 97} of land {i % 13}") for i in range(20_000)]
    search = asyncio.create_task(BM25Retriever(corpus).search("town river land " * 5, 2))
    beats = 0
    while not search.done():
        await asyncio.sleep(0.005)
        beats += 1
    assert beats > 3


@pytest.mark.parametrize(
    ("load", "file", "at_2", "at_5"),
    [
        (load_hotpotqa, "hotpotqa/hotpot_dev_distractor_v1.json", 0.57, 0.77),
        (load_2wikimultihopqa, "2wikimultihopqa/dev.json", 0.54, 0.64),
        (load_musique, "musique/musique_ans_v1.0_dev.jsonl", 0.47, 0.58),
    ],
)
async def test_supporting_passages_of_real_questions_are_found(
    load: Callable[[Path], Dataset], file: str, at_2: float, at_5: float
) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    data = load(DATA / file)
    retriever = BM25Retriever(data.corpus)
    hits = [ids(list(await retriever.search(question.text, 5))) for question in data.questions]
    for k, bound in ((2, at_2), (5, at_5)):
        recalls = [supporting_recall(h[:k], q.supporting) for h, q in zip(hits, data.questions, strict=True)]
        assert np.mean([recall for recall in recalls if recall is not None]) >= bound
