"""What holds for every engine that runs elsewhere: Milvus and PostgreSQL for real, OpenSearch scripted."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from fakes.elsewhere import CORPUS, K_ABOVE_ALL, QUERIES, Letters, find, ids
from fakes.scripted_opensearch import OpenSearch
from flarekit.errors import ConfigError
from flarekit.retrieval import BatchRetriever
from flarekit.retrievers.remote import elastic, milvus, pgvector


@pytest.fixture(scope="module", params=["opensearch", "milvus_bm25", "milvus", "pgvector"])
def loaded(request: pytest.FixtureRequest) -> Iterator[BatchRetriever]:
    """The corpus in each of the engines."""
    if request.param == "opensearch":
        pytest.importorskip("opensearchpy", reason="needs opensearch-py")
        with OpenSearch() as server:
            elastic.load(server.url, "passages", CORPUS)
            yield elastic.ElasticRetriever(server.url, "passages")
    elif request.param == "pgvector":
        database: str = request.getfixturevalue("database")
        pgvector.load(database, "passages", CORPUS, Letters())
        yield pgvector.PgVectorRetriever(database, "passages", Letters())
    else:
        milvus_lite: str = request.getfixturevalue("milvus_lite")
        embedder = Letters() if request.param == "milvus" else None
        milvus.load(milvus_lite, request.param, CORPUS, embedder)
        yield milvus.MilvusRetriever(milvus_lite, request.param, embedder)


def test_passages_come_back_as_they_were(loaded: BatchRetriever) -> None:
    assert find(loaded, "Gerd Müller footballer Germany so")[0].passage == CORPUS[2]


def test_a_query_finds_the_same_alone_and_among_others(loaded: BatchRetriever) -> None:
    together = asyncio.run(loaded.search_many(QUERIES, 4))
    assert [ids(hits) for hits in together] == [ids(find(loaded, query, 4)) for query in QUERIES]
    assert all(ids(hits) for query, hits in zip(QUERIES, together, strict=True) if query.startswith("capital"))
    assert asyncio.run(loaded.search_many([], 4)) == []


def test_the_best_come_first_and_ties_in_the_order_of_the_corpus(loaded: BatchRetriever) -> None:
    hits = find(loaded, "Oslo capital Norway", K_ABOVE_ALL)
    assert ids(hits)[:2] == ["Oslo", "copy"]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(isinstance(score, float) for score in scores)


def test_a_query_without_a_word_finds_nothing(loaded: BatchRetriever) -> None:
    assert [find(loaded, query) for query in ["", "Who is it?", "  \n"]] == [[], [], []]


def test_k_may_exceed_the_corpus_but_not_be_below_one(loaded: BatchRetriever) -> None:
    assert 4 <= len(set(ids(find(loaded, "town capital Oslo", K_ABOVE_ALL)))) <= len(CORPUS)
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        find(loaded, "Oslo", 0)


async def test_searches_at_the_same_time_do_not_disturb_each_other(loaded: BatchRetriever) -> None:
    alone = [ids(await loaded.search(query, 3)) for query in QUERIES]
    assert [ids(hits) for hits in await asyncio.gather(*(loaded.search(query, 3) for query in QUERIES))] == alone


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("opensearchpy", "pymilvus", "psycopg"):
        monkeypatch.setitem(sys.modules, module, None)
    makers: list[tuple[Callable[[], BatchRetriever], str]] = [
        (lambda: elastic.ElasticRetriever("http://a", "b"), "opensearch-py"),
        (lambda: milvus.MilvusRetriever("http://a", "b"), "pymilvus"),
        (lambda: pgvector.PgVectorRetriever("postgresql://a", "b", Letters()), "psycopg[binary]"),
    ]
    for make, package in makers:
        with pytest.raises(ConfigError, match=re.escape(f"{package} is not installed")):
            make()
