"""A store of completions on disk, so that no model is asked twice: keys and values of bytes in one SQLite file.

Several processes may share it: SQLite locks, and of two values for a key the one of higher `rank` stays, so that a
stream which one process has carried further is never cut short by another. Every value is checksummed, and one that
does not match is dropped as if it had never been there; what a value says is checked by whoever reads it, who then
`drop`s it, since a checksum tells of accidents only. Above its size the least recently used are dropped. A store that
can no longer be written (a full disk) goes on answering, and says why in `failure`: it saves work, it is no part of a
result. One that can no longer be read is a `DataError`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flarekit.errors import ConfigError, DataError
from flarekit.io.files import open_own

_LOG = logging.getLogger("flarekit")
_SCHEMA = (
    "CREATE TABLE completions ( key BLOB PRIMARY KEY, rank INTEGER NOT NULL, used INTEGER NOT NULL, "
    "checksum BLOB NOT NULL, value BLOB NOT NULL ) WITHOUT ROWID",
    "CREATE INDEX by_use ON completions (used)",
)
_FORMAT = 1
LARGEST = 1 << 28
"""Bytes of a value: a hundred alternatives of each of 32,000 tokens take half as many."""
_PATIENCE = 60.0
"""Seconds to wait for another process that is writing."""
_FRESH = 3_600_000
"""A value's last use is noted again after so many milliseconds only: a hit should not have to write."""


class CompletionStore:
    """The store in the file `path`, made where there is none; use it as a context, or `close` it."""

    def __init__(self, path: Path, *, max_bytes: int = 4 << 30) -> None:
        """`max_bytes` bounds what the file holds. `ConfigError` where `path` holds something else."""
        self.path, self._max_bytes = path, max_bytes
        self.damaged = 0
        """Values that were found not to match their checksum."""
        self.failure = ""
        """Why nothing is stored any more; empty while all is well."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(open_own(path, os.O_RDWR))  # SQLite would follow a link
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        # Text in a forged row need not be UTF-8.
        self._connection.text_factory = bytes
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error
        except ConfigError:
            self.close()
            raise

    def _open(self) -> None:
        ((version,),) = self._connection.execute("PRAGMA user_version")
        if version not in (0, _FORMAT):
            raise ConfigError(f"{self.path}: a cache of another version of flarekit ({version}); choose another")
        if self._schema() - set(_SCHEMA):
            raise self._unusable("a database of something else")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA auto_vacuum=NONE")
        self._connection.execute("BEGIN IMMEDIATE")
        there = self._schema()
        for statement in _SCHEMA:
            if statement not in there:
                self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version={_FORMAT}")
        self._connection.execute("COMMIT")

    def _schema(self) -> set[str]:
        """The statements that made what the file holds: tables, indexes, views and triggers."""
        rows = self._connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {" ".join(bytes(sql).decode("utf-8", "replace").split()) for (sql,) in rows}

    def _unusable(self, why: object) -> ConfigError:
        reason = (why.strerror if isinstance(why, OSError) else None) or why
        return ConfigError(f"{self.path}: cannot be used as a cache of completions ({reason}); choose another")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(self._read("SELECT count(*) FROM completions")[0][0])

    @property
    def size(self) -> int:
        """Bytes in use, without the room that deleted values left in the file."""
        pages, free, page = (
            self._read(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None where there is none that is whole; `DataError` where the file cannot be read."""
        rows = self._read(
            "SELECT used, checksum, CASE WHEN length(value) <= ? THEN value END FROM completions WHERE key = ?",
            (LARGEST, key),
        )
        if not rows:
            return None
        used, checksum, packed = rows[0]
        value = _unpacked(packed) if isinstance(packed, bytes) and checksum == _checksum(key, packed) else None
        if value is None or not isinstance(used, int):
            self.drop(key)
            return None
        if (now := _now()) - used > _FRESH:
            self._write("UPDATE completions SET used = ? WHERE key = ?", (now, key))
        return value

    def drop(self, key: bytes) -> None:
        """Forget the value of `key`, which is not what it should be; the first time, the log is told."""
        if not self.damaged:
            _LOG.warning("%s: a stored completion is not what was written; such ones are asked for again", self.path)
        self.damaged += 1
        self._write("DELETE FROM completions WHERE key = ?", (key,))

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` that have a value."""
        wanted = list(keys)
        places = ",".join("?" * len(wanted))
        found = self._read(f"SELECT key FROM completions WHERE key IN ({places})", wanted)  # noqa: S608 - question marks alone
        return {key for (key,) in found}

    def put(self, key: bytes, value: bytes, rank: int = 0) -> None:
        """Store `value`, unless one of a higher `rank` is there; of two that are equal the later stays.

        One above `LARGEST` is not stored, since it would not be read again.
        """
        if len(value) > LARGEST:
            return
        packed = zlib.compress(value, 1)
        self._write(
            "INSERT INTO completions VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET rank = excluded.rank, "
            "used = excluded.used, checksum = excluded.checksum, value = excluded.value "
            "WHERE excluded.rank >= rank OR typeof(rank) != 'integer'",
            (key, rank, _now(), _checksum(key, packed), packed),
        )
        if self.size > self._max_bytes:
            self._evict()

    def _evict(self) -> None:
        """Drop what was not used for longest, until a tenth is free."""
        while self.size > 0.9 * self._max_bytes and self.count and not self.failure:
            some = max(1, self.count // 20)
            self._write(
                "DELETE FROM completions WHERE key IN (SELECT key FROM completions ORDER BY used, rank LIMIT ?)",
                (some,),
            )

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise DataError(
                f"{self.path}: the cache of completions cannot be read ({error}); delete it or choose another"
            ) from error

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        if self.failure:
            return
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self.failure = f"{self.path}: cannot be written ({error}); nothing more is stored"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _unpacked(packed: bytes) -> bytes | None:
    """The value that was packed; None where it is none, is cut off, or would be larger than values are."""
    unpacker = zlib.decompressobj()
    try:
        value = unpacker.decompress(packed, LARGEST)
    except zlib.error:
        return None
    return value if unpacker.eof else None


def _checksum(key: bytes, packed: bytes) -> bytes:
    return blake2b(packed, digest_size=8, key=key[:64]).digest()
