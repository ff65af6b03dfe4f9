"""OpenSearch and Elasticsearch, as their documentation says that they answer."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.elsewhere import CORPUS, find, free_port, ids
from fakes.scripted_opensearch import OpenSearch
from flarekit.errors import ConfigError, DataError, EngineUnavailable, FlarekitError, RequestRejected
from flarekit.retrieval import Passage
from flarekit.retrievers.remote import elastic


@pytest.fixture
def opensearch() -> Iterator[OpenSearch]:
    pytest.importorskip("opensearchpy", reason="needs opensearch-py")
    with OpenSearch() as server:
        yield server


def test_a_batch_of_queries_is_one_request(opensearch: OpenSearch) -> None:
    elastic.load(opensearch.url, "passages", CORPUS)
    opensearch.asked.clear()
    retriever = elastic.ElasticRetriever(opensearch.url, "passages")
    asyncio.run(retriever.search_many(["Oslo", "Riga"], 3))
    asyncio.run(retriever.search_many(["Norway"], 3))
    assert [path.partition("?")[0] for _, path, _ in opensearch.asked] == [
        "/passages/_field_caps",
        "/passages/_msearch",
        "/passages/_msearch",
    ]
    [_, first, _, second] = opensearch.asked[1][2]
    assert first == {
        "query": {"multi_match": {"query": "Oslo", "fields": ["title", "text"], "type": "most_fields"}},
        "size": 3,
        "sort": [{"_score": "desc"}, {"number": {"order": "asc", "unmapped_type": "long"}}],
        "_source": ["title", "text"],
        "track_total_hits": False,
    }
    assert second["query"]["multi_match"]["query"] == "Riga"


def test_loading_fills_a_new_index_and_then_moves_the_alias(opensearch: OpenSearch) -> None:
    told: list[int] = []
    corpus = [Passage(str(number), "", f"town {number}") for number in range(2500)]
    assert elastic.load(opensearch.url, "passages", corpus, on_progress=told.append) == 2500
    assert told == [1000, 1000, 500]
    first = opensearch.aliases["passages"]
    definition = opensearch.indexes[first]["definition"]
    assert definition["settings"]["index"]["similarity"]["default"] == {"type": "BM25", "k1": 0.9, "b": 0.4}
    assert opensearch.indexes[first]["documents"]["7"] == {"title": "", "text": "town 7", "number": 7}
    elastic.load(opensearch.url, "passages", CORPUS)
    assert list(opensearch.indexes) == [opensearch.aliases["passages"]] != [first]


def test_a_load_into_opensearch_that_fails_leaves_what_was_there(opensearch: OpenSearch) -> None:
    elastic.load(opensearch.url, "passages", CORPUS)
    there = list(opensearch.indexes)
    for broken, kind, message in [
        ([*CORPUS, CORPUS[0]], DataError, "the id 'Oslo' occurs twice"),
        ([], DataError, "no passages to load"),
        ([Passage("x" * 600, "", "a")], RequestRejected, "too long"),
    ]:
        with pytest.raises(kind, match=message):
            elastic.load(opensearch.url, "passages", broken)
        assert list(opensearch.indexes) == there
    with pytest.raises(ConfigError, match="is an index and not overwritten"):
        elastic.load(opensearch.url, there[0], CORPUS)


def test_an_index_of_ones_own_is_searched_by_its_own_names(opensearch: OpenSearch) -> None:
    properties = {"headline": {"type": "text"}, "body": {"type": "text"}}
    documents: dict[str, Any] = {"a": {"headline": "Oslo", "body": "A city."}, "b": {"headline": "Riga", "body": "7"}}
    own = {"definition": {"mappings": {"properties": properties}}, "documents": documents, "refreshed": True}
    opensearch.indexes["own"] = own
    fields = {"title": "headline", "text": "body"}
    documents["c"] = {"body": "Oslo."}
    documents["d"] = {"headline": "Tallinn", "body": ["Two", "strings"]}
    retriever = elastic.ElasticRetriever(opensearch.url, "own", fields=fields)
    assert {hit.passage for hit in find(retriever, "Oslo")} == {
        Passage("a", "Oslo", "A city."),
        Passage("c", "", "Oslo."),
    }
    with pytest.raises(DataError, match="document 'd' has more than a string in 'body'"):
        find(retriever, "Tallinn")
    with pytest.raises(ConfigError, match="has no field 'text'; name its field for the text"):
        find(elastic.ElasticRetriever(opensearch.url, "own", fields={"title": "headline"}), "Oslo")
    with pytest.raises(ConfigError, match="no field is called 'body'; there are title, text"):
        elastic.ElasticRetriever(opensearch.url, "own", fields={"body": "text"})


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": "Unauthorized"}, RequestRejected, r"status 401 \(Unauthorized\)"),
        (403, {"error": {"root_cause": [{"reason": "no permissions"}]}}, RequestRejected, "no permissions"),
        (429, {"error": {"root_cause": [], "type": "rejected", "reason": "queue full"}}, EngineUnavailable, "queue"),
        (503, b"<html>", EngineUnavailable, "status 503"),
        (200, b"<html>", RequestRejected, "not what OpenSearch or Elasticsearch answers"),
        (200, {"hello": "world"}, RequestRejected, "not what OpenSearch or Elasticsearch answers"),
    ],
)
def test_what_the_engine_refuses_is_said_in_one_line(
    opensearch: OpenSearch, status: int, body: Any, kind: type[FlarekitError], message: str
) -> None:
    opensearch.refuse = lambda path: (status, body)
    with pytest.raises(kind, match=message) as caught:
        find(elastic.ElasticRetriever(opensearch.url, "passages"), "Oslo")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{opensearch.url}/passages: ")


def test_the_engine_may_be_away_or_hold_something_else(opensearch: OpenSearch) -> None:
    with pytest.raises(ConfigError, match=r"no such index \[passages\]; load the passages first"):
        find(elastic.ElasticRetriever(opensearch.url, "passages"), "Oslo")
    elastic.load(opensearch.url, "passages", CORPUS)
    with pytest.raises(RequestRejected, match=r"status 400 \(Result window is too large\)"):
        find(elastic.ElasticRetriever(opensearch.url, "passages"), "Oslo", 20_000)
    with pytest.raises(EngineUnavailable, match="is the search engine running there"):
        find(elastic.ElasticRetriever(f"http://127.0.0.1:{free_port()}", "passages"), "Oslo")
    opensearch.refuse = lambda path: time.sleep(0.5)
    with pytest.raises(EngineUnavailable, match="no answer within the time-out"):
        find(elastic.ElasticRetriever(opensearch.url, "passages", timeout=0.05), "Oslo")


def test_nothing_is_printed_and_no_connection_is_left_open(
    opensearch: OpenSearch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    elastic.load(opensearch.url, "passages", CORPUS)
    retriever = elastic.ElasticRetriever(opensearch.url, "passages")
    assert ids(find(retriever, "Riga")) == ids(find(retriever, "Riga"))  # each in an event loop of its own
    with pytest.raises(EngineUnavailable):
        find(elastic.ElasticRetriever(f"http://127.0.0.1:{free_port()}", "passages"), "Oslo")
    del retriever
    assert not [record for record in caplog.records if record.name == "asyncio"]
    assert capfd.readouterr() == ("", "")
