"""Milvus, as milvus-lite."""

import asyncio
from typing import Any

import pytest

from fakes.elsewhere import CORPUS, K_ABOVE_ALL, QUERIES, Letters, cosines, find, free_port, ids
from flarekit.errors import ConfigError, DataError, EngineUnavailable
from flarekit.retrieval import Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.remote import milvus


def test_milvus_ranks_vectors_by_inner_product(milvus_lite: str) -> None:
    told: list[int] = []
    assert milvus.load(milvus_lite, "exact", CORPUS, Letters(), on_progress=told.append) == len(CORPUS) == sum(told)
    hits = find(milvus.MilvusRetriever(milvus_lite, "exact", Letters()), "capital of Latvia", 3)
    expected = cosines("capital of Latvia")
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-5)
    assert ids(hits)[0] == "Riga"


def test_milvus_finds_by_words_what_bm25_finds(milvus_lite: str) -> None:
    milvus.load(milvus_lite, "lexical", CORPUS)
    retriever = milvus.MilvusRetriever(milvus_lite, "lexical")
    for query in QUERIES:
        found = ids(find(retriever, query, K_ABOVE_ALL))
        assert set(found) == set(ids(asyncio.run(BM25Retriever(CORPUS).search(query, K_ABOVE_ALL)))), query
    assert ids(find(retriever, "capital Latvia"))[0] == "Riga"
    assert ids(find(retriever, "müller")) == ids(find(retriever, "MULLER")) == ["Müller"]


def test_loading_again_replaces_what_was_there_and_leaves_nothing_else(milvus_lite: str) -> None:
    milvus.load(milvus_lite, "twice", CORPUS)
    before = len(pytest.importorskip("pymilvus").MilvusClient(milvus_lite).list_collections())
    milvus.load(milvus_lite, "twice", CORPUS[:2])
    with pytest.raises(DataError, match="'Oslo' occurs twice"):
        milvus.load(milvus_lite, "twice", [*CORPUS, CORPUS[0]])
    with pytest.raises(DataError, match="no passages to load"):
        milvus.load(milvus_lite, "twice", [])
    with pytest.raises(DataError, match=r"'long' has 70,004 bytes, Milvus keeps 65,535"):
        milvus.load(milvus_lite, "twice", [Passage("long", "row", "x" * 70_000)])
    assert len(pytest.importorskip("pymilvus").MilvusClient(milvus_lite).list_collections()) == before
    assert ids(find(milvus.MilvusRetriever(milvus_lite, "twice"), "capital")) == ["Oslo", "Riga"]


def test_milvus_says_what_does_not_fit(milvus_lite: str) -> None:
    milvus.load(milvus_lite, "dense", CORPUS[:3], Letters())
    milvus.load(milvus_lite, "sparse", CORPUS[:3])
    short = Letters()
    short.dimension = 47
    for retriever, message in [
        (milvus.MilvusRetriever(milvus_lite, "nowhere"), "'nowhere' does not exist"),
        (milvus.MilvusRetriever(milvus_lite, "dense", short), "vectors of 48 numbers by letters, not 47 by letters"),
        (milvus.MilvusRetriever(milvus_lite, "dense"), "give the embedder"),
        (milvus.MilvusRetriever(milvus_lite, "sparse", Letters()), "leave the embedder out"),
        (
            milvus.MilvusRetriever(milvus_lite, "dense", Letters(), fields={"text": "body"}),
            "no field 'body'.* for the text",
        ),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            find(retriever, "Oslo")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such file; load the passages first"):
        find(milvus.MilvusRetriever(f"{milvus_lite}.other.db", "dense"), "Oslo")
    with pytest.raises(ConfigError, match="is a collection and not overwritten"):
        milvus.load(milvus_lite, _own_collection(milvus_lite), CORPUS)
    with pytest.raises(EngineUnavailable, match="is Milvus running there"):
        find(milvus.MilvusRetriever(f"http://127.0.0.1:{free_port()}", "dense", timeout=1), "Oslo")


def test_a_cluster_knows_which_embedder_made_its_vectors() -> None:
    """What a cluster says of a collection; milvus-lite keeps no description."""
    fields: list[dict[str, Any]] = [{"name": name, "params": {}} for name in ("id", "title", "text")]
    fields += [{"name": "vector", "params": {"dim": 48}}]
    retriever = milvus.MilvusRetriever("http://cluster", "passages", Letters())
    retriever._check({"description": "Passages with vectors of letters", "fields": fields})
    retriever._check({"description": "ours", "fields": fields})
    with pytest.raises(ConfigError, match="48 numbers by other, not 48 by letters"):
        retriever._check({"description": "Passages with vectors of other", "fields": fields})


def test_a_distance_is_not_taken_for_a_score(milvus_lite: str) -> None:
    with pytest.raises(ConfigError, match="measures L2; one of IP or COSINE is needed"):
        find(milvus.MilvusRetriever(milvus_lite, _own_collection(milvus_lite), Letters()), "Oslo")


def _own_collection(milvus_lite: str) -> str:
    """A collection that was made by somebody else, with fields of the usual names."""
    pymilvus = pytest.importorskip("pymilvus")
    client, kinds = pymilvus.MilvusClient(milvus_lite), pymilvus.DataType
    if not client.has_collection("own"):
        schema, index = client.create_schema(), client.prepare_index_params()
        schema.add_field("id", kinds.INT64, is_primary=True)
        for name in ("title", "text"):
            schema.add_field(name, kinds.VARCHAR, max_length=100)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=48)
        index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
        client.create_collection("own", schema=schema, index_params=index)
    return "own"


def test_the_server_of_a_file_is_pinged_less_often_than_it_allows(milvus_lite: str) -> None:
    milvus.load(milvus_lite, "pinged", CORPUS)
    client = milvus._connect(milvus_lite, None, 60.0)
    assert client._handler._grpc_options["grpc.keepalive_time_ms"] > 300_000  # gRPC takes no more than one in 5 minutes
    assert len(find(milvus.MilvusRetriever(milvus_lite, "pinged"), "capital", 2)) == 2
