"""BM25 on disk: it finds what rank-bm25 finds, whatever the corpus, the tokenizer, the process and the batch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flarekit.errors import ConfigError, DataError
from flarekit.retrieval import Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.corpus.passages import Passages, write_passages
from flarekit.retrievers.index.ranked import IndexRetriever
from flarekit.retrievers.lexical import bm25_index
from flarekit.retrievers.lexical.bm25_index import BM25Part, tokenizer

CORPUS = [
    Passage("Oslo", "Oslo", "Oslo is the capital of Norway."),
    Passage("nothing", "", ""),
    Passage("Riga", "Riga", "Riga is the capital of Latvia. Trains run there."),
    Passage("copy", "Oslo", "Oslo is the capital of Norway."),
]
SEEDS = st.integers(0, 2**32 - 1)


def build(folder: Path, corpus: Sequence[Passage], **options: Any) -> BM25Part:
    passages = write_passages(folder, corpus)
    return BM25Part(folder, BM25Part.build(folder, passages, **options), passages)


def drawn_corpus(seed: int) -> tuple[list[Passage], list[str]]:
    """Passages and queries of words that are as unequally frequent as those of a language."""
    draw = np.random.default_rng(seed)
    size = int(draw.integers(1, 400))

    def text(longest: int) -> str:
        return " ".join(f"w{rank}" for rank in draw.zipf(1.3, draw.integers(0, longest)) if rank < 200)

    corpus = [Passage(str(number), "w1", text(15)) for number in range(size)]
    # A title of which half the passages have no word makes for lists of every length.
    corpus = [passage if draw.random() < 0.5 else Passage(passage.id, "", passage.text) for passage in corpus]
    return [*corpus, Passage("last", "", "w2 w1")], [text(8) for _ in range(10)]


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 30), st.sampled_from([(0.9, 0.4), (1.5, 0.75), (0.01, 0.0), (2.0, 1.0)]))
def test_ranks_and_scores_are_those_of_rank_bm25(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, parameters: tuple[float, float]
) -> None:
    (k1, b), (corpus, queries) = parameters, drawn_corpus(seed)
    part = build(tmp_path_factory.mktemp("index"), corpus, k1=k1, b=b)
    reference = asyncio.run(BM25Retriever(corpus, k1=k1, b=b).search_many(queries, len(corpus)))
    for (numbers, scores), hits in zip(part.rank(queries, k), reference, strict=True):
        assert np.allclose(scores, [hit.score for hit in hits[:k]], rtol=1e-5)
        of = {hit.passage.id: hit.score for hit in hits}
        # By their own scores, since rank-bm25 rounds apart what is equal.
        assert np.allclose(scores, [of[corpus[number].id] for number in numbers], rtol=1e-5)


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 30))
def test_the_best_k_are_the_first_k_of_all_and_ties_keep_the_order_of_the_corpus(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int
) -> None:
    corpus, queries = drawn_corpus(seed)
    part = build(tmp_path_factory.mktemp("index"), corpus)
    everything = part.rank(queries, len(corpus))
    for (numbers, scores), (all_numbers, all_scores) in zip(part.rank(queries, k), everything, strict=True):
        assert numbers.tolist() == all_numbers[:k].tolist()
        assert scores.tolist() == all_scores[:k].tolist()
        assert (np.diff(all_scores) <= 0).all()
        first_of_text: dict[str, int] = {}
        for number in all_numbers.tolist():
            words = " ".join(sorted(f"{corpus[number].title} {corpus[number].text}".split()))
            assert first_of_text.setdefault(words, number) <= number
            first_of_text[words] = number


@settings(max_examples=20)
@given(SEEDS)
def test_a_batch_finds_what_each_query_finds_alone_and_so_does_the_index_opened_anew(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    corpus, queries = drawn_corpus(seed)
    folder = tmp_path_factory.mktemp("index")
    part = build(folder, corpus)
    again = BM25Part(folder, {"tokenizer": "words"}, Passages(folder))
    for query, batch in zip(queries, part.rank(queries, 5), strict=True):
        for alone in (*part.rank([query], 5), *again.rank([query], 5)):
            assert [column.tolist() for column in alone] == [column.tolist() for column in batch]
    assert part.rank([], 5) == []


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    corpus, queries = drawn_corpus(7)
    ranked = [(numbers.tolist(), scores.tolist()) for numbers, scores in build(tmp_path, corpus).rank(queries, 9)]
    there = f"""
from pathlib import Path
from flarekit.retrievers.lexical.bm25_index import BM25Part
from flarekit.retrievers.corpus.passages import Passages
folder = Path({str(tmp_path)!r})
part = BM25Part(folder, {{"tokenizer": "words"}}, Passages(folder))
print([(numbers.tolist(), scores.tolist()) for numbers, scores in part.rank({queries!r}, 9)])
"""
    assert subprocess.check_output([sys.executable, "-c", there], text=True).strip() == str(ranked)


def test_the_long_lists_of_frequent_words_are_only_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = [Passage(str(number), "", f"town river {'Zanvoth ' * (number % 500 == 3)}") for number in range(2_000)]
    part = build(tmp_path, corpus)
    summed: list[int] = []
    sums = bm25_index._sums

    def noted(lists: Sequence[Any], count: int) -> Any:
        summed.append(len(lists))
        return sums(lists, count)

    monkeypatch.setattr(bm25_index, "_sums", noted)
    [(numbers, _)] = part.rank(["the town on the river Zanvoth"], 2)
    assert numbers.tolist() == [3, 503]
    assert summed == [1]


@pytest.mark.parametrize("words_at_a_time", [1, 7, 100])
def test_the_index_does_not_depend_on_how_much_is_sorted_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words_at_a_time: int
) -> None:
    corpus, _ = drawn_corpus(3)
    folders = [tmp_path / "whole", tmp_path / "pieces"]
    for folder in folders:
        folder.mkdir()
        build(folder, corpus)
        monkeypatch.setattr(bm25_index, "_RUN", words_at_a_time)
    whole, pieces = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert whole == pieces


def test_progress_adds_up_to_the_passages(tmp_path: Path) -> None:
    done: list[int] = []
    corpus = [Passage(str(number), "", "word") for number in range(2_500)]
    build(tmp_path, corpus, on_progress=done.append)
    assert done == [1000, 1000, 500]


# --- words ----------------------------------------------------------------------------------------------------------


def found(part: BM25Part, query: str, k: int = 10) -> list[str]:
    [(numbers, _)] = part.rank([query], k)
    return [CORPUS[number].id for number in numbers]


def test_only_passages_that_share_a_word_are_found(tmp_path: Path) -> None:
    part = build(tmp_path, CORPUS)
    assert found(part, "capital of Latvia") == ["Riga", "Oslo", "copy"]
    assert found(part, "Norway", k=1) == ["Oslo"]
    assert found(part, "tennis") == found(part, "Who is it?") == found(part, "") == []


def test_passages_and_queries_are_stemmed_alike_where_the_tokenizer_says_so(tmp_path: Path) -> None:
    plain, stemmed = tmp_path / "plain", tmp_path / "stemmed"
    plain.mkdir()
    stemmed.mkdir()
    assert found(build(plain, CORPUS), "running train") == []
    assert found(build(stemmed, CORPUS, tokenizer="english"), "running train") == ["Riga"]
    assert tokenizer("german")("Häuser") == tokenizer("german")("haus")


@settings(max_examples=60)
@given(st.text(max_size=30), st.sampled_from(["words", "english", "german", "turkish"]))
@example("ΟΔΥΣΣΕΥΣ ﬁn İstanbul 𝔘𝔫𝔦", "english")
def test_a_passage_is_found_by_its_own_text_if_that_has_a_word(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    text = text.encode(errors="replace").decode()  # no file has half a character
    folder = tmp_path_factory.mktemp("index")
    part = build(folder, [Passage("other", "", "zanvoth"), Passage("it", "", text)], tokenizer=name)
    [(numbers, _)] = part.rank([text], 2)
    assert (1 in numbers) == bool(tokenizer(name)(text))


def test_a_passage_of_ten_megabytes_is_found(tmp_path: Path) -> None:
    [(numbers, scores)] = build(tmp_path, [*CORPUS, Passage("long", "", "fjord " * 1_700_000)]).rank(["fjord"], 3)
    assert numbers.tolist() == [4]
    assert scores[0] > 0


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corpus", [[Passage("1", "", "")], [Passage("1", "The", "of the"), Passage("2", "", "!")]])
def test_a_corpus_without_words_is_refused(tmp_path: Path, corpus: list[Passage]) -> None:
    with pytest.raises(DataError, match=f"no words to index in a corpus of {len(corpus)} passages"):
        build(tmp_path, corpus)


def test_parameters_out_of_range_and_other_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="b=2"):
        build(tmp_path, CORPUS, b=2)
    with pytest.raises(ConfigError, match="no tokenizer is called 'klingon'; there are words, arabic, "):
        build(tmp_path, CORPUS, tokenizer="klingon")


def test_a_stemmer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    with pytest.raises(ConfigError, match="'english' needs PyStemmer: pip install PyStemmer"):
        tokenizer("english")


async def test_a_retriever_finds_the_passages_themselves(tmp_path: Path) -> None:
    retriever = IndexRetriever("bm25", CORPUS, build(tmp_path, CORPUS))
    [first] = await retriever.search("Norway", 1)
    assert first.passage == CORPUS[0]
    assert await retriever.search_many(["Norway", "tennis"], 1) == [[first], []]
    assert len(await retriever.search("capital", 99)) == 3
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        await retriever.search("Norway", 0)
