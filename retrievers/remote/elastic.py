"""BM25 in an OpenSearch or Elasticsearch cluster, through the official client opensearch-py.

Only requests that both engines have are made (`_msearch`, `_field_caps`; to load, `_bulk` and `_aliases`). Titles and
texts are searched as two fields whose scores are added (`multi_match` of type `most_fields`).

`load` never touches what is being searched: it fills a new index and moves an alias to it in one step when all
is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from flarekit.errors import ConfigError, DataError, EngineError, EngineUnavailable, RequestRejected
from flarekit.io.refusals import RETRIED
from flarekit.io.retries import Retries, retry_after
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers.base import Batched
from flarekit.retrievers.lexical.analyzer import STOPWORDS
from flarekit.retrievers.remote.client import one_line, required, with_defaults

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch, OpenSearch

Auth = tuple[str, str] | str
"""A user and a password, or an API key."""

_FIELDS = {"title": "title", "text": "text"}
_NUMBER = "number"
"""The field that keeps the corpus's order, by which ties are broken; an index without it is searched all the same."""
_BULK, _BULK_BYTES = 1000, 10 << 20
_TRIES, _BULK_TRIES = 3, 5


class ElasticRetriever(Batched):
    """Finds passages by their words in an index that the engine at `url` has.

    `fields` names the index's fields for "title" and "text" where they are called something else; ids are the engine's
    own. Scores are the engine's BM25, positive and comparable within one query; ties are in the order of loading.
    `timeout` is in seconds, for one request. Connections are kept open, and are closed with the event loop that they
    were opened in.

    Searching raises `ConfigError` for `k` below 1, and for an index or a field that is not there; `EngineUnavailable`
    where the engine cannot be reached, is too slow or overloaded; `RequestRejected` where it refuses, such as for wrong
    credentials or a `k` above the index's `max_result_window`; `DataError` for a document with something else than one
    string in a field (nothing in it counts as "").
    """

    def __init__(
        self,
        url: str,
        index: str,
        *,
        fields: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        ca_certs: Path | None = None,
        timeout: float = 10.0,
        name: str = "opensearch",
    ) -> None:
        self.name = name
        self._settings = _client_settings(url, auth, ca_certs, timeout)
        self._where, self._index = f"{url}/{index}", index
        self._fields, self._timeout = with_defaults(fields, _FIELDS), timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._checked = False

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What is found for each of the queries, by one request."""
        if not queries:
            return []
        lines = [line for query in queries for line in ({}, self._request(query, k))]
        async for attempt in Retries(_TRIES - 1, longest=self._timeout).attempts():
            with attempt, _understood(self._where), _readable(self._where):
                client = await self._connected()
                answer = await client.msearch(body=lines, index=self._index)
                return [self._hits(response) for response in answer["responses"]]
        raise AssertionError("it either returns or raises")

    def _request(self, query: str, k: int) -> dict[str, Any]:
        fields = list(self._fields.values())
        return {
            "query": {"multi_match": {"query": query, "fields": fields, "type": "most_fields"}},
            "size": k,
            "sort": [{"_score": "desc"}, {_NUMBER: {"order": "asc", "unmapped_type": "long"}}],
            "_source": fields,
            "track_total_hits": False,
        }

    def _hits(self, response: Mapping[str, Any]) -> list[Hit]:
        if "error" in response:
            raise _refused(int(response["status"]), self._where, _reason(response))
        # Where results are sorted, engines may leave `_score` out; it is the first value that they were sorted by.
        return [Hit(self._passage(hit), float(hit["sort"][0])) for hit in response["hits"]["hits"]]

    def _passage(self, hit: Mapping[str, Any]) -> Passage:
        values = {key: hit["_source"].get(field) or "" for key, field in self._fields.items()}
        for key, value in values.items():
            if not isinstance(value, str):
                raise DataError(
                    f"{self._where}: document {hit['_id']!r} has more than a string in {self._fields[key]!r}; "
                    f"name another field for the {key}"
                )
        return Passage(hit["_id"], **values)

    async def _connected(self) -> AsyncOpenSearch:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._connection = loop, self._connection_of_this_loop()
            self._client = await anext(self._connection)
        if not self._checked:
            await self._check(self._client)
            self._checked = True
        return self._client

    async def _connection_of_this_loop(self) -> AsyncGenerator[AsyncOpenSearch]:
        """The client; an event loop that ends runs its generators to their end, so that nobody else need close it."""
        client = required("opensearchpy", "opensearch-py").AsyncOpenSearch(
            **self._settings, connection_class=_telling_connection(), max_retries=0
        )
        try:
            yield client
        finally:
            await client.close()

    async def _check(self, client: AsyncOpenSearch) -> None:
        """A search in a field that is not there would find nothing, and never say so."""
        fields = list(self._fields.values())
        known = (await client.field_caps(index=self._index, fields=",".join(fields)))["fields"]
        for key, field in self._fields.items():
            if field not in known:
                raise ConfigError(f"{self._where}: the index has no field {field!r}; name its field for the {key}")


def load(
    url: str,
    index: str,
    passages: Iterable[Passage],
    *,
    auth: Auth | None = None,
    ca_certs: Path | None = None,
    timeout: float = 60.0,
    on_progress: Callable[[int], None] = lambda more: None,
) -> int:
    """Make `index` an alias of a new index with the passages; returns how many there are.

    What the alias meant before is deleted in the step that moves it; where anything fails before, the new index is
    deleted instead. `on_progress` is told how many more are done. BM25 has the parameters that `flarekit.retrievers`
    uses elsewhere; words are folded by the engine's own filters. `ConfigError` where `index` is an index itself,
    `DataError` for no passages or an id that occurs twice, and what `ElasticRetriever` raises.
    """
    settings = _client_settings(url, auth, ca_certs, timeout)
    client: OpenSearch = required("opensearchpy", "opensearch-py").OpenSearch(**settings)
    fresh = f"{index}-{uuid4().hex[:8]}"
    with _understood(f"{url}/{index}"):
        is_alias = client.indices.exists_alias(name=index)
        if not is_alias and client.indices.exists(index=index):
            raise ConfigError(f"{url}/{index} is an index and not overwritten; choose another name, or delete it first")
        client.indices.create(index=fresh, body=_DEFINITION)
        try:
            count = _fill(client, fresh, passages, on_progress)
            client.indices.put_settings(index=fresh, body={"index": {"refresh_interval": None}})
            client.indices.refresh(index=fresh)
            old = list(client.indices.get_alias(name=index)) if is_alias else []
            actions = [{"remove_index": {"index": name}} for name in old]
            client.indices.update_aliases(body={"actions": [*actions, {"add": {"index": fresh, "alias": index}}]})
        except BaseException:
            _delete(client, fresh)
            raise
    return count


def _fill(client: OpenSearch, index: str, passages: Iterable[Passage], on_progress: Callable[[int], None]) -> int:
    from opensearchpy.helpers import streaming_bulk

    def documents() -> Iterator[dict[str, Any]]:
        for number, passage in enumerate(passages):
            document = {"title": passage.title, "text": passage.text, _NUMBER: number}
            # "create" refuses an id that is there already, which "index" would overwrite.
            yield {"_op_type": "create", "_index": index, "_id": passage.id, "_source": document}

    count = 0
    done = streaming_bulk(client, documents(), chunk_size=_BULK, max_chunk_bytes=_BULK_BYTES, max_retries=_BULK_TRIES)
    for count, _ in enumerate(done, start=1):
        if count % _BULK == 0:
            on_progress(_BULK)
    if not count:
        raise DataError("no passages to load; give passages with text")
    if count % _BULK:
        on_progress(count % _BULK)
    return count


def _delete(client: OpenSearch, index: str) -> None:
    from opensearchpy.exceptions import OpenSearchException

    try:
        client.indices.delete(index=index)
    except OpenSearchException as error:
        logging.getLogger(__name__).warning("the unfinished index %s could not be deleted: %s", index, error)


def _client_settings(url: str, auth: Auth | None, ca_certs: Path | None, timeout: float) -> dict[str, Any]:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigError(f"{url!r} is no address of a search engine; write http://host:port or https://host:port")
    if address.password:
        raise ConfigError(f"the address of {address.hostname} holds a password; give it as auth")
    required("opensearchpy", "opensearch-py")
    # The client logs every failure that it raises too; without a handler Python would print it.
    logging.getLogger("opensearch").addHandler(logging.NullHandler())
    settings: dict[str, Any] = {"hosts": [url], "timeout": timeout}
    if isinstance(auth, str):
        settings["headers"] = {"Authorization": f"ApiKey {auth}"}
    elif auth:
        settings["http_auth"] = auth
    if ca_certs:
        if not ca_certs.is_file():
            raise ConfigError(f"{ca_certs}: no such file; name one with the certificates that {url} is checked against")
        settings["ca_certs"] = str(ca_certs)
    return settings


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """The client's errors as this project's."""
    from opensearchpy import exceptions
    from opensearchpy.helpers import BulkIndexError

    try:
        yield
    except exceptions.ConnectionTimeout as error:
        raise EngineUnavailable("no answer within the time-out", where=where) from error
    except exceptions.ConnectionError as error:
        reason = one_line(error.info)
        raise EngineUnavailable(
            "it cannot be reached; is the search engine running there?", where=where, quote=reason
        ) from error
    except exceptions.NotFoundError as error:
        raise ConfigError(f"{where}: {_reason(error.info)}; load the passages first, or name another index") from error
    except exceptions.TransportError as error:
        raise _refused(
            int(error.status_code), where, _reason(error.info), getattr(error, "retry_after", None)
        ) from error
    except BulkIndexError as error:
        [(_, failed)] = error.errors[0].items()
        if failed["status"] == 409:
            raise DataError(f"the id {failed['_id']!r} occurs twice; make ids unique") from error
        raise RequestRejected(f"{where}: passage {failed['_id']!r}: {_reason(failed)}") from error


def _refused(status: int, where: str, reason: str, hint: float | None = None) -> EngineError:
    kind = EngineUnavailable if status in RETRIED else RequestRejected
    return kind(f"status {status}", where=where, quote=reason, status=status, retry_after=hint)


def _telling_connection() -> type[Any]:
    """The client's connection, whose errors keep the server's `Retry-After`."""
    from opensearchpy import AIOHttpConnection
    from opensearchpy.exceptions import TransportError

    class Connection(AIOHttpConnection):
        async def perform_request(
            self,
            method: str,
            url: str,
            params: Mapping[str, Any] | None = None,
            body: bytes | None = None,
            timeout: float | None = None,  # noqa: ASYNC109 - it is the client's own
            ignore: Collection[int] = (),
            headers: Mapping[str, str] | None = None,
        ) -> Any:
            status, told, content = await super().perform_request(
                method, url, params, body, timeout, range(300, 600), headers
            )
            if 300 <= status < 600 and status not in ignore:
                try:
                    self._raise_error(status, content, told.get("content-type"))
                except TransportError as error:
                    vars(error)["retry_after"] = retry_after(told)
                    raise
            return status, told, content

    return Connection


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Around the reading of an answer: one that is not a search engine's is an error that says so."""
    from opensearchpy.exceptions import SerializationError

    try:
        yield
    except (SerializationError, LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = one_line(repr(error))
        raise RequestRejected("not what OpenSearch or Elasticsearch answers", where=where, quote=reason) from error


def _reason(answer: Any) -> str:
    """Why the engine refused, from its `{"error": {"root_cause": [{"reason": …}], …}}` where that is there."""
    error = answer.get("error") if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        causes = error.get("root_cause") or [error]
        error = causes[0].get("reason") or error.get("type")
    return one_line(error or "no reason given")


_DEFINITION: Mapping[str, Any] = {
    "settings": {
        "index": {"refresh_interval": "-1", "similarity": {"default": {"type": "BM25", "k1": 0.9, "b": 0.4}}},
        "analysis": {
            "filter": {
                "possessive": {"type": "stemmer", "language": "possessive_english"},
                "stopwords": {"type": "stop", "stopwords": sorted(STOPWORDS)},
            },
            "analyzer": {
                "default": {
                    "type": "custom",
                    "tokenizer": "standard",
                    "filter": ["lowercase", "possessive", "asciifolding", "stopwords"],
                }
            },
        },
    },
    "mappings": {
        "dynamic": False,
        "properties": {"title": {"type": "text"}, "text": {"type": "text"}, _NUMBER: {"type": "long"}},
    },
}
