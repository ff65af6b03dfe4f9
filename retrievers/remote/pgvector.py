"""Vectors in a PostgreSQL table, by the extension pgvector (0.5 and newer, for its HNSW index).

`load` fills and indexes a new table and gives it the old one's name, all in one transaction: whoever searches meanwhile
finds what was there before, and a load that is killed leaves nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flarekit.errors import ConfigError, EngineUnavailable, RequestRejected
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers.base import Threaded
from flarekit.retrievers.lexical.analyzer import words
from flarekit.retrievers.remote.client import batches, one_line, required, with_defaults

if TYPE_CHECKING:
    from psycopg import Connection

    from flarekit.retrievers.dense.embedder import Embedder

_FIELDS = {"id": "id", "title": "title", "text": "text", "vector": "vector"}
_EMBEDDED_BY = "Passages with vectors of "
_BATCH = 256
_EF_SEARCH, _EF_LIMIT = 100, 1000
"""How many candidates HNSW keeps while it searches: never fewer than k, and pgvector takes no more than 1000."""


class PgVectorRetriever(Threaded):
    """Finds passages by their vectors in a table that the PostgreSQL server at `url` has.

    `fields` names the table's columns for "id", "title", "text" and "vector" where they are called something else.
    `timeout` is in seconds, for one search. One connection is kept open; searches at the same time take turns.

    Scores are cosines, between -1 and 1. A table is searched by its HNSW index where that has `vector_cosine_ops`, and
    is read whole otherwise; through the index a search finds 1000 passages at most. Searching raises `ConfigError` for
    `k` below 1, a table or column that is not there, or an embedder that is not the table's; `EngineUnavailable` where
    the server cannot be reached or is too slow; `RequestRejected` where it refuses, such as for a wrong password.
    """

    def __init__(
        self,
        url: str,
        table: str,
        embedder: Embedder,
        *,
        fields: Mapping[str, str] | None = None,
        password: str | None = None,
        timeout: float = 10.0,
        name: str = "pgvector",
    ) -> None:
        self.name = name
        self._url, self._table, self._embedder = url, table, embedder
        self._fields = with_defaults(fields, _FIELDS)
        self._password, self._timeout = password, timeout
        self._connection: Connection | None = None
        self._turn = threading.Lock()
        required("psycopg", "psycopg[binary]")
        required("pgvector.psycopg", "pgvector")

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        asked = list(dict.fromkeys(query for query in queries if words(query)))
        found: dict[str, list[Hit]] = {}
        if asked:
            vectors = self._embedder.embed(asked, query=True)
            with self._turn, _understood(f"table {self._table}"):
                found = dict(zip(asked, self._ask_again(list(vectors), k), strict=True))
        return [found.get(query, []) for query in queries]

    def _ask_again(self, vectors: Sequence[Any], k: int) -> list[list[Hit]]:
        """What `_ask` finds, through a new connection where the one that was kept open has been lost meanwhile."""
        kept = self._connection
        try:
            return self._ask(vectors, k)
        except required("psycopg", "psycopg[binary]").OperationalError:
            if kept is None or not kept.closed:
                raise
        return self._ask(vectors, k)

    def _ask(self, vectors: Sequence[Any], k: int) -> list[list[Hit]]:
        connection = self._connected()
        candidates = str(min(max(k, _EF_SEARCH), _EF_LIMIT))
        found: list[list[Hit]] = []
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [candidates])
            # One round trip for all: psycopg sends them as a pipeline.
            cursor.executemany(self._statement(), [{"vector": vector, "k": k} for vector in vectors], returning=True)
            for _ in vectors:
                found.append([Hit(Passage(str(id_), title, text), score) for id_, title, text, score in cursor])
                cursor.nextset()
        return found

    def _statement(self) -> Any:
        from psycopg import sql

        # In a table that was filled once, `ctid` is the order in which that was done.
        return sql.SQL(
            "SELECT {id}, coalesce({title}, ''), coalesce({text}, ''), 1 - ({vector} <=> %(vector)s) FROM {table} "
            "ORDER BY {vector} <=> %(vector)s, ctid LIMIT %(k)s"
        ).format(
            table=_identifier(self._table), **{key: sql.Identifier(column) for key, column in self._fields.items()}
        )

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = _connect(self._url, self._password, self._timeout)
            try:
                _register(connection)
                self._check(connection)
                connection.commit()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _check(self, connection: Connection) -> None:
        dimension, comment = _described(connection, self._table, self._fields["vector"])
        made_by = comment.partition(_EMBEDDED_BY)[2] or self._embedder.name
        if made_by != self._embedder.name or dimension not in (self._embedder.dimension, -1):
            raise ConfigError(
                f"table {self._table}: vectors of {dimension} numbers by {made_by}, not {self._embedder.dimension} by "
                f"{self._embedder.name}; name the embedder that made them"
            )


def load(
    url: str,
    table: str,
    passages: Iterable[Passage],
    embedder: Embedder,
    *,
    password: str | None = None,
    timeout: float = 10.0,
    on_progress: Callable[[int], None] = lambda more: None,
) -> int:
    """Make a table of the passages and their vectors, with an HNSW index; returns how many there are.

    It replaces one that was loaded before. `on_progress` is told how many more are done; the index, which takes longest
    for a large corpus, is built after the last. `timeout`, in seconds, is for connecting. The extension `vector` is
    created where the user may and it is not there. `ConfigError` for a table that was not made here; `DataError` for no
    passages or an id that occurs twice; and what `PgVectorRetriever` raises.
    """
    required("psycopg", "psycopg[binary]")
    from psycopg import sql

    fresh = f"{table}_{uuid4().hex[:8]}"
    with _understood(f"table {table}"), _connect(url, password, timeout) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.commit()
        _register(connection)
        with connection.transaction():
            if _is_there(connection, table) and not _described(connection, table, "vector")[1]:
                raise ConfigError(f"table {table} was not made here and is not overwritten; choose another name")
            connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (id text PRIMARY KEY, title text NOT NULL, text text NOT NULL, vector vector({}))"
                ).format(_identifier(fresh), sql.Literal(embedder.dimension))
            )
            count = _fill(connection, fresh, passages, embedder, on_progress)
            for statement in (
                "CREATE INDEX ON {fresh} USING hnsw (vector vector_cosine_ops)",
                "COMMENT ON TABLE {fresh} IS {comment}",
                "DROP TABLE IF EXISTS {table}",
                "ALTER TABLE {fresh} RENAME TO {name}",
            ):
                connection.execute(
                    sql.SQL(statement).format(
                        fresh=_identifier(fresh),
                        table=_identifier(table),
                        name=sql.Identifier(table.rpartition(".")[2]),
                        comment=sql.Literal(_EMBEDDED_BY + embedder.name),
                    )
                )
    return count


def _fill(
    connection: Connection,
    table: str,
    passages: Iterable[Passage],
    embedder: Embedder,
    on_progress: Callable[[int], None],
) -> int:
    from psycopg import sql

    count = 0
    statement = sql.SQL("COPY {} (id, title, text, vector) FROM STDIN (FORMAT BINARY)").format(_identifier(table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["text", "text", "text", "vector"])
        for batch in batches(passages, _BATCH):
            vectors = embedder.embed([f"{p.title} {p.text}".strip() for p in batch], query=False)
            for passage, vector in zip(batch, vectors, strict=True):
                copy.write_row((passage.id, passage.title, passage.text, vector))
            count += len(batch)
            on_progress(len(batch))
    return count


def _connect(url: str, password: str | None, timeout: float) -> Connection:
    psycopg = required("psycopg", "psycopg[binary]")
    settings = {"password": password} if password else {}
    connection: Connection = psycopg.connect(
        url,
        # The server's own unit is milliseconds; libpq takes whole seconds, and two at least.
        options=f"-c statement_timeout={round(timeout * 1000)}",
        connect_timeout=max(2, round(timeout)),
        **settings,
    )
    return connection


def _register(connection: Connection) -> None:
    """Let `connection` send and receive arrays as vectors; `ConfigError` where the extension is not there."""
    import psycopg

    try:
        required("pgvector.psycopg", "pgvector").register_vector(connection)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            "the database has no extension vector; load passages first, or CREATE EXTENSION it"
        ) from error


def _described(connection: Connection, table: str, column: str) -> tuple[int, str]:
    """The length of a table's vectors (-1 where it is not set), and the table's comment where it is one of ours."""
    row = connection.execute(
        "SELECT atttypmod, coalesce(obj_description(attrelid, 'pg_class'), '') FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attname = %s AND atttypid = 'vector'::regtype",
        [_identifier(table).as_string(connection), column],
    ).fetchone()
    if row is None:
        raise ConfigError(f"table {table} has no column {column!r} of type vector; name its column for the vector")
    dimension, comment = row
    return int(dimension), comment if _EMBEDDED_BY in comment else ""


def _is_there(connection: Connection, table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", [_identifier(table).as_string(connection)]).fetchone()
    return row is not None and row[0] is not None


def _identifier(table: str) -> Any:
    """A table's name, with its schema where that is written before a dot."""
    from psycopg import sql

    return sql.Identifier(*table.split(".", 1))


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """The client's errors as this project's."""
    import psycopg

    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise ConfigError(f"{where}: {one_line(error)}; load the passages first, or name others") from error
    except psycopg.errors.QueryCanceled as error:
        raise EngineUnavailable("no answer within the time-out", where=where) from error
    except psycopg.OperationalError as error:
        # A refused login has no class of its own.
        kind = RequestRejected if "authentication" in str(error) or "password" in str(error) else EngineUnavailable
        raise kind("the database does not answer", where=where, quote=one_line(error)) from error
    except psycopg.Error as error:
        raise RequestRejected("the database refuses", where=where, quote=one_line(error)) from error
