"""Vectors, or BM25, in a Milvus cluster or a local file, through the official client pymilvus.

A collection holds either one dense vector a passage, searched by inner product, or the sparse vectors that Milvus makes
of a passage's words itself. A local file (`*.db`) is opened by milvus-lite, a small engine inside this process with the
same interface: for development, one process at a time. It keeps no note of which embedder made its vectors.

`load` never touches what is being searched: it fills a new collection and moves an alias to it when all is there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flarekit.errors import ConfigError, DataError, EngineUnavailable, RequestRejected
from flarekit.io.addresses import shown
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers.base import Threaded
from flarekit.retrievers.lexical.analyzer import asked_words, words
from flarekit.retrievers.remote.client import batches, one_line, required, with_defaults

if TYPE_CHECKING:
    from flarekit.retrievers.dense.embedder import Embedder

_FIELDS = {"id": "id", "title": "title", "text": "text", "vector": "vector"}
_NUMBER, _WORDS = "number", "words"
_EMBEDDED_BY = "Passages with vectors of "
_LONGEST = 65_535
"""Bytes of a VARCHAR."""
_EF = 128
"""How many candidates HNSW keeps while it searches: the engine wants k at least."""
_BATCH = 256
"""Rows of one insert: at their longest they stay below the 64 MiB of a gRPC message."""


class MilvusRetriever(Threaded):
    """Finds passages by their vectors, or without an `embedder` by their words, in a collection that `uri` has.

    `fields` names the collection's fields for "id", "title", "text" and "vector" where they are called something else.
    Without an embedder, "vector" is the output of a BM25 function, and queries are sent as the words that
    `flarekit.retrievers.lexical.analyzer` makes of them. `token` is "user:password" or an API key; `timeout` is in
    seconds, for one request.

    Scores are inner products, cosines or BM25, as the collection's index has it. Searching raises `ConfigError` for `k`
    below 1, a collection that is not there, or an embedder that is not the collection's; `EngineUnavailable` where
    Milvus cannot be reached or is too slow; `RequestRejected` where it refuses, such as a `k` above 16,384.
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        embedder: Embedder | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        name: str = "milvus",
    ) -> None:
        self.name = name
        self._uri, self._collection, self._embedder = uri, collection, embedder
        self._where = f"{shown(uri)}/{collection}"
        self._token, self._timeout = token, timeout
        self._fields = with_defaults(fields, _FIELDS)
        self._is_hnsw = False
        required("pymilvus", "pymilvus")

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        asked = list(dict.fromkeys(query for query in queries if words(query)))
        found: dict[str, list[Hit]] = {}
        if asked:
            with _understood(self._where):
                client = self._client
                results = client.search(
                    self._collection,
                    data=self._data(asked),
                    anns_field=self._fields["vector"],
                    limit=k,
                    search_params={"params": {"ef": max(k, _EF)}} if self._is_hnsw else {},
                    output_fields=[self._fields[key] for key in ("id", "title", "text")],
                    timeout=self._timeout,
                )
            found = {query: self._hits(hits) for query, hits in zip(asked, results, strict=True)}
        return [found.get(query, []) for query in queries]

    def _data(self, queries: Sequence[str]) -> list[Any]:
        if self._embedder is None:
            return [" ".join(asked_words(query)) for query in queries]
        return list(self._embedder.embed(queries, query=True))

    def _hits(self, results: Sequence[Any]) -> list[Hit]:
        # milvus-lite gives BM25, which is never negative, with its sign turned.
        scored = [(abs(hit.distance) if self._embedder is None else hit.distance, hit) for hit in results]
        scored.sort(key=lambda pair: (-pair[0], pair[1].id))
        return [Hit(self._passage(hit["entity"]), float(score)) for score, hit in scored]

    def _passage(self, entity: Mapping[str, Any]) -> Passage:
        id_, title, text = (entity[self._fields[key]] for key in ("id", "title", "text"))
        return Passage(str(id_), title or "", text or "")

    @functools.cached_property
    def _client(self) -> Any:
        if _is_file(self._uri) and not Path(self._uri).exists():
            raise DataError(f"{self._uri}: no such file; load the passages first")  # the client would make an empty one
        client = _connect(self._uri, self._token, self._timeout)
        self._check(client.describe_collection(self._collection, timeout=self._timeout))
        self._check_index(client)
        return client

    def _check(self, described: Mapping[str, Any]) -> None:
        fields = {field["name"]: field for field in described["fields"]}
        for key, name in self._fields.items():
            if name not in fields:
                raise ConfigError(f"{self._where}: the collection has no field {name!r}; name its field for the {key}")
        dimension = fields[self._fields["vector"]].get("params", {}).get("dim")
        if self._embedder is None:
            if dimension is not None:
                raise ConfigError(f"{self._where}: the collection has dense vectors; give the embedder that made them")
            return
        if dimension is None:
            raise ConfigError(f"{self._where}: the collection is one for BM25; leave the embedder out")
        made_by = described["description"].partition(_EMBEDDED_BY)[2] or self._embedder.name
        if made_by != self._embedder.name or int(dimension) != self._embedder.dimension:
            raise ConfigError(
                f"{self._where}: vectors of {dimension} numbers by {made_by}, not {self._embedder.dimension} by "
                f"{self._embedder.name}; name the embedder that made them"
            )

    def _check_index(self, client: Any) -> None:
        """A distance, of which less is better, must not be taken for a score."""
        [name] = client.list_indexes(self._collection, self._fields["vector"])
        index = client.describe_index(self._collection, name, timeout=self._timeout)
        metric, self._is_hnsw = index["metric_type"], index["index_type"] == "HNSW"
        usable = ("IP", "COSINE") if self._embedder else ("BM25",)
        if metric not in usable:
            raise ConfigError(f"{self._where}: its index measures {metric}; one of {' or '.join(usable)} is needed")


def load(
    uri: str,
    collection: str,
    passages: Iterable[Passage],
    embedder: Embedder | None = None,
    *,
    token: str | None = None,
    timeout: float = 60.0,
    on_progress: Callable[[int], None] = lambda more: None,
) -> int:
    """Make `collection` an alias of a new collection with the passages; returns how many there are.

    With an embedder it is searched by vectors, without one by BM25 over titles and texts. What the alias meant before
    is dropped once it is moved; where anything fails before, the new collection is dropped instead. `on_progress` is
    told how many more are done. `ConfigError` where `collection` is a collection itself; `DataError` for no passages,
    an id that occurs twice, or a field beyond 65,535 bytes; and what `MilvusRetriever` raises.
    """
    with _understood(f"{shown(uri)}/{collection}"):
        client = _connect(uri, token, timeout)
        old = None
        if client.has_collection(collection, timeout=timeout):
            old = client.describe_collection(collection, timeout=timeout)["collection_name"]
            if old == collection:
                raise ConfigError(f"{collection} is a collection and not overwritten; choose another name, or drop it")
        fresh = f"{collection}_{uuid4().hex[:8]}"
        client.create_collection(fresh, timeout=timeout, **_definition(client, embedder))
        try:
            count = _fill(client, fresh, passages, embedder, on_progress)
            client.flush(fresh, timeout=timeout)
            (client.alter_alias if old else client.create_alias)(fresh, collection, timeout=timeout)
        except BaseException:
            client.drop_collection(fresh, timeout=timeout)
            raise
        if old:
            client.drop_collection(old, timeout=timeout)
    return count


def _definition(client: Any, embedder: Embedder | None) -> dict[str, Any]:
    """The collection's schema and index; the corpus's order is its key, so that ties can be broken by it."""
    pymilvus = required("pymilvus", "pymilvus")
    kinds = pymilvus.DataType
    index = client.prepare_index_params()
    schema = client.create_schema(description=_EMBEDDED_BY + embedder.name if embedder else "Passages for BM25")
    schema.add_field(_NUMBER, kinds.INT64, is_primary=True)
    for name in ("id", "title", "text"):
        schema.add_field(name, kinds.VARCHAR, max_length=_LONGEST)
    if embedder:
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=embedder.dimension)
        graph = {"M": 16, "efConstruction": 200}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
    else:
        analyzer = {"tokenizer": "standard", "filter": ["lowercase"]}
        schema.add_field(_WORDS, kinds.VARCHAR, max_length=_LONGEST, enable_analyzer=True, analyzer_params=analyzer)
        schema.add_field("vector", kinds.SPARSE_FLOAT_VECTOR)
        schema.add_function(pymilvus.Function("bm25", pymilvus.FunctionType.BM25, [_WORDS], ["vector"]))
        parameters = {"bm25_k1": 0.9, "bm25_b": 0.4}
        index.add_index("vector", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=parameters)
    return {"schema": schema, "index_params": index}


def _fill(
    client: Any,
    collection: str,
    passages: Iterable[Passage],
    embedder: Embedder | None,
    on_progress: Callable[[int], None],
) -> int:
    count = 0
    for batch in batches(passages, _BATCH):
        rows = [_row(count + place, passage) for place, passage in enumerate(batch)]
        if embedder:
            vectors = embedder.embed([f"{p.title} {p.text}".strip() for p in batch], query=False)
            rows = [row | {"vector": vector} for row, vector in zip(rows, vectors, strict=True)]
        else:
            rows = [row | {_WORDS: " ".join(words(f"{row['title']} {row['text']}"))} for row in rows]
        client.insert(collection, rows)
        count += len(batch)
        on_progress(len(batch))
    return count


def _row(number: int, passage: Passage) -> dict[str, Any]:
    if (size := len(f"{passage.title} {passage.text}".encode())) > _LONGEST:
        raise DataError(f"passage {passage.id!r} has {size:,} bytes, Milvus keeps {_LONGEST:,}; make shorter passages")
    return {_NUMBER: number, "id": passage.id, "title": passage.title, "text": passage.text}


def _connect(uri: str, token: str | None, timeout: float) -> Any:
    if _is_file(uri):
        required("milvus_lite", "milvus-lite")
        # Its server logs each request that it does not have, though the client does without; unheard, Python prints it.
        logging.getLogger("grpc._server").addHandler(logging.NullHandler())
    pymilvus = required("pymilvus", "pymilvus")
    # Every error that it raises it prints too, with a traceback.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    # Its default, a ping every 10 s also where nothing is asked, is more than a gRPC server allows that was not told
    # so: milvus-lite's ends the connection ("Too many pings").
    pings = {"grpc.keepalive_time_ms": 360_000} if _is_file(uri) else {}
    return pymilvus.MilvusClient(uri, token=token or "", timeout=timeout, grpc_options=pings)


def _is_file(uri: str) -> bool:
    return "://" not in uri


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """The client's errors as this project's."""
    grpc = required("grpc", "pymilvus")
    errors = required("pymilvus.exceptions", "pymilvus")
    unreachable = required("pymilvus.client.types", "pymilvus").Status.CONNECT_FAILED
    try:
        yield
    except errors.MilvusException as error:
        reason = one_line(error.message)
        if error.code == errors.ErrorCode.COLLECTION_NOT_FOUND:
            raise ConfigError(f"{where}: {reason}; load the passages first, or name another collection") from error
        # Where all tries at a request failed on the way, its code is one of gRPC's.
        if isinstance(error.code, grpc.StatusCode) or error.code in (unreachable, errors.ErrorCode.RATE_LIMIT):
            raise EngineUnavailable("no answer; is Milvus running there?", where=where, quote=reason) from error
        raise RequestRejected("Milvus refuses", where=where, quote=reason) from error
    except grpc.RpcError as error:
        reason = one_line(error.details())
        late = error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        raise (EngineUnavailable if late else RequestRejected)("Milvus fails", where=where, quote=reason) from error
