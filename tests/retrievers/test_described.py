"""Retrieval described in a YAML file: an index of one's own or an engine elsewhere, its fusion and its reranker."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Flarekit

from fakes.cross_encoders import TEXTS, read_alone, tiny_model
from fakes.elsewhere import CORPUS
from fakes.embedders import WordVectors, corpus_of
from fakes.scripted_opensearch import OpenSearch
from flarekit.errors import ConfigError, DataError
from flarekit.retrieval import BatchRetriever, Hit
from flarekit.retrievers import build_index, open_index, write_corpus
from flarekit.retrievers.dense import embedder as embed
from flarekit.retrievers.remote import elastic, milvus
from flarekit.retrievers.remote.destinations import ALLOWED

QUERY = "latvia novel capital"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An index of each of two kinds and a cross-encoder, side by side; no model makes the vectors."""
    folder = tmp_path_factory.mktemp("described")
    write_corpus(folder / "corpus.jsonl", corpus_of(TEXTS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "open_embedder", lambda *name, **options: WordVectors())
        build_index(folder / "corpus.jsonl", folder / "words", "bm25")
        build_index(folder / "corpus.jsonl", folder / "both", "hybrid")
        yield folder


@pytest.fixture(scope="module")
def cross_encoder(folder: Path) -> Path:
    return tiny_model(folder / "models" / "tiny")


@pytest.fixture
def opensearch(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSearch]:
    pytest.importorskip("opensearchpy", reason="needs opensearch-py")
    with OpenSearch() as server:
        monkeypatch.setenv(ALLOWED, server.url.removeprefix("http://"))
        elastic.load(server.url, "passages", CORPUS)
        yield server


def described(folder: Path, content: str) -> Path:
    path = folder / "passages.yaml"
    path.write_text(content)
    return path


def find(retriever: BatchRetriever, query: str, k: int = 5) -> Sequence[Hit]:
    return asyncio.run(retriever.search(query, k))


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


# --- an index --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["words", "both"])
def test_an_index_without_settings_is_searched_as_its_folder(
    folder: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = described(folder, f"kind: index\npath: {index}\n")
    assert find(open_index(path), QUERY) == find(open_index(folder / index), QUERY) != []
    assert open_index(path).name == open_index(folder / index).name
    monkeypatch.chdir(folder.parent)  # relative to the file, wherever one is
    assert find(open_index(Path(folder.name, path.name)), QUERY) == find(open_index(folder / index), QUERY)


def test_fusion_and_weights_are_those_of_the_file(folder: Path) -> None:
    def scores(settings: str, k: int = 192) -> dict[str, float]:
        path = described(folder, f"kind: index\npath: both\n{settings}")
        return {hit.passage.id: hit.score for hit in find(open_index(path), QUERY, k)}

    words, meaning = scores("weights: [1, 0]"), scores("weights: [0, 1]")
    for settings, weights in [("", (0.6, 0.4)), ("weights: [0.25, 0.75]\nfusion: weighted", (0.25, 0.75))]:
        expected = {id_: weights[0] * words[id_] + weights[1] * meaning[id_] for id_ in words}
        assert scores(settings) == pytest.approx(expected, abs=1e-5)
    assert words != meaning
    of_bm25 = [hit.passage.id for hit in find(open_index(folder / "words"), QUERY, 192)]
    by_rank = scores("fusion: ranks")
    shares = {round(1 / (60 + rank), 6) for rank in range(1, 193)}
    assert {round(by_rank[id_] - 1 / (61 + place), 6) for place, id_ in enumerate(of_bm25)} <= shares


def test_a_cross_encoder_beside_the_file_reads_the_first_passages(folder: Path, cross_encoder: Path) -> None:
    found = find(open_index(folder / "words"), QUERY, 20)
    path = described(folder, "kind: index\npath: words\nrerank: models/tiny\ndepth: 7\n")
    hits = find(open_index(path), QUERY, 4)
    expected = {hit.passage.id: read_alone(str(cross_encoder), QUERY, hit.passage.text) for hit in found[:7]}
    assert ids(hits) == sorted(expected, key=lambda id_: -expected[id_])[:4] != ids(found[:4])
    assert open_index(path).name == f"bm25 reranked by {cross_encoder}"
    described(folder, f"kind: index\npath: words\nrerank: {cross_encoder}\n")
    assert set(ids(find(open_index(path), QUERY, 20))) == set(ids(found))  # 20 where nothing is said


def test_what_is_fused_can_be_reranked(folder: Path, cross_encoder: Path) -> None:
    settings = "kind: index\npath: both\nfusion: ranks\n"
    found = find(open_index(described(folder, settings)), QUERY, 5)
    hits = find(open_index(described(folder, f"{settings}rerank: {cross_encoder}\ndepth: 5\n")), QUERY, 5)
    assert set(ids(hits)) == set(ids(found))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_nothing_heavy_is_imported_for_an_index_of_words(folder: Path) -> None:
    path = described(folder, "kind: index\npath: words\n")
    code = "import sys; from pathlib import Path; from flarekit.retrievers import open_index; "
    code += "open_index(Path(sys.argv[1])); print([m for m in ('torch', 'sentence_transformers') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


# --- an engine that runs elsewhere -----------------------------------------------------------------------------------


def test_a_file_names_an_engine_and_where_its_secrets_are(
    opensearch: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_SECRET", "s3cret")
    common = f"kind: elasticsearch\nurl: {opensearch.url}\nindex: passages\n"
    for login, sent in [
        ("", None),
        ("user: me\npassword_env: SEARCH_SECRET\n", "Basic bWU6czNjcmV0"),
        ("api_key_env: SEARCH_SECRET\n", "ApiKey s3cret"),
    ]:
        retriever = open_index(described(tmp_path, common + login))
        assert retriever.name == "elasticsearch"
        assert ids(find(retriever, "Riga")) == ["Riga"]
        assert opensearch.authorizations[-1] == sent


def test_what_an_engine_finds_can_be_reranked(opensearch: OpenSearch, tmp_path: Path, cross_encoder: Path) -> None:
    path = described(
        tmp_path, f"kind: opensearch\nurl: {opensearch.url}\nindex: passages\nrerank: {cross_encoder}\ndepth: 3\n"
    )
    retriever = open_index(path)
    hits = find(retriever, "capital of Norway", 2)
    assert opensearch.asked[-1][2][1]["size"] == 3
    assert len(hits) == 2
    for hit in hits:
        text = f"{hit.passage.title} {hit.passage.text}"
        assert hit.score == pytest.approx(read_alone(str(cross_encoder), "capital of Norway", text), abs=1e-5)
    assert retriever.name == f"opensearch reranked by {cross_encoder}"


def test_a_milvus_file_is_beside_the_one_that_names_it(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="needs milvus-lite")
    milvus.load(str(tmp_path / "passages.db"), "passages", CORPUS)
    path = described(tmp_path, "kind: milvus\nurl: passages.db\nindex: passages\n")
    assert ids(find(open_index(path), "Riga")) == ["Riga"]


def test_nothing_is_asked_of_an_engine_before_the_first_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "127.0.0.1")
    for kind, url in [("milvus", "http://127.0.0.1:1"), ("pgvector", "postgresql://127.0.0.1:1/a")]:
        content = f"kind: {kind}\nurl: {url}\nindex: passages\nembedder: all-MiniLM-L6-v2\n"
        assert open_index(described(tmp_path, content)).name == kind


# --- what is refused -------------------------------------------------------------------------------------------------


WORDS, BOTH = "kind: index\npath: words\n", "kind: index\npath: both\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "valid dictionary"),
        ("kind: solr\nurl: http://a\nindex: b", "'index', 'opensearch', 'elasticsearch', 'milvus', 'pgvector'"),
        ("kind: index", "path: Field required"),
        (f"{WORDS}paht: both", "paht: Extra inputs"),
        (f"{WORDS}fusion: ranks", "a bm25 index has no fusion; leave it out"),
        (f"{WORDS}weights: [0.5, 0.5]", "a bm25 index has no weights; leave it out"),
        (f"{WORDS}depth: 5", "depth is how many passages rerank reads; name a model as rerank"),
        (f"{WORDS}rerank: a\ndepth: 0", "depth: Input should be greater than 0"),
        (f"{BOTH}fusion: borda", "fusion: Input should be 'weighted' or 'ranks'"),
        (f"{BOTH}fusion: ranks\nweights: [0.5, 0.5]", "fusion of ranks has no weights"),
        (f"{BOTH}weights: [1.5, -0.5]", "none below 0"),
        (f"{BOTH}weights: [0, 0]", "one above"),
        (f"{BOTH}weights: [0.2, 0.3, 0.5]", "2 parts need as many weights"),
        (f"{BOTH}weights: much", "weights: Input should be a valid list"),
        ("kind: opensearch\nindex: b", "url: Field required"),
        ("kind: opensearch\nurl: http://a\nindex: b\nidnex: c", "idnex: Extra inputs"),
        ("kind: opensearch\nurl: http://a\nindex: b\nfusion: ranks", "fusion: Extra inputs"),
        ("kind: opensearch\nurl: http://a\nindex: b\ndepth: 5", "depth is how many passages rerank reads"),
        ("kind: opensearch\nurl: http://u:p@a\nindex: b", "the url holds a password"),
        ("kind: opensearch\nurl: http://a\nindex: b\nuser: c", "user and password_env go together"),
        ("kind: opensearch\nurl: http://a\nindex: b\napi_key_env: NOT_SET", "variable NOT_SET is not set"),
        ("kind: opensearch\nurl: a:9200\nindex: b", "no address of a search engine"),
        ("kind: opensearch\nurl: https://a\nindex: b\nca_certs: c", "/c: no such file"),
        ("kind: opensearch\nurl: http://a\nindex: b\nfields: {body: c}", "no field is called 'body'"),
        ("kind: pgvector\nurl: postgresql://a\nindex: b", "embedder: Field required"),
    ],
)
def test_a_setting_that_does_not_apply_is_refused_in_one_line_that_names_the_file(
    folder: Path, content: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, "a")
    path = described(folder, content)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        open_index(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


def test_a_cross_encoder_that_cannot_be_loaded_is_told_when_the_index_is_opened(folder: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (folder / "models" / "empty").mkdir(parents=True, exist_ok=True)
    for model in ("models/empty", folder / "models" / "nowhere"):
        path = described(folder, f"{WORDS}rerank: {model}")
        with pytest.raises(ConfigError, match=r"the cross-encoder '.*' cannot be loaded") as caught:
            open_index(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kind: [", "passages.yaml: not YAML"),
        ("kind: index\npath: 2024-13-32", "passages.yaml: not YAML"),
        (b"kind: index\npath: \xff", "passages.yaml: not YAML"),
        ("kind: index\npath: nowhere", "nowhere is no index"),
        ("kind: index\npath: passages.yaml", "passages.yaml is no index"),
        ("kind: index\npath: corpus.jsonl", "corpus.jsonl is no index"),
    ],
)
def test_a_file_that_cannot_be_read_and_a_path_to_no_index_are_refused(
    folder: Path, content: str | bytes, message: str
) -> None:
    path = folder / "passages.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        open_index(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    for name in ("missing.yaml", "missing.yml"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            open_index(tmp_path / name)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_searches_what_the_file_describes(folder: Path, cross_encoder: Path, flarekit: Flarekit) -> None:
    def searched(settings: str) -> list[tuple[str, float]]:
        ended = flarekit("index", "search", described(folder, settings), QUERY, "-k", "3", "--json")
        assert (ended.status, ended.err) == (0, "")
        return [(hit["id"], hit["score"]) for hit in map(json.loads, ended.out.splitlines())]

    for settings in (WORDS, BOTH, f"{BOTH}fusion: ranks", f"{BOTH}fusion: ranks\nrerank: models/tiny\ndepth: 9\n"):
        hits = find(open_index(described(folder, settings)), QUERY, 3)
        assert searched(settings) == [(hit.passage.id, hit.score) for hit in hits]
    assert len({searched(settings)[0][1] for settings in (WORDS, BOTH, f"{BOTH}fusion: ranks")}) == 3


def test_the_command_refuses_a_setting_in_one_line(folder: Path, flarekit: Flarekit) -> None:
    path = described(folder, f"{WORDS}fusion: ranks")
    ended = flarekit("index", "search", path, QUERY)
    assert (ended.status, ended.out) == (2, "")
    assert ended.complaint == f"{path}: a bm25 index has no fusion; leave it out, or build a hybrid one"
