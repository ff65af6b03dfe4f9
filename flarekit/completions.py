"""A store of completions on disk, so that no model is asked twice: keys and values of bytes in one SQLite file.

Several processes may share it: SQLite locks, and of two values for a key the one of higher `rank` stays, so that a
stream which one process has carried further is never cut short by another. Every value is checksummed, and one that
does not match is dropped as if it had never been there. Above its size the least recently used are dropped. A store
that can no longer be written (a full disk) goes on answering, and says why in `failure`: it saves work, it is no part
of a result.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from flarekit.errors import ConfigError
from flarekit.files import open_own

_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB PRIMARY KEY, rank INTEGER NOT NULL, used INTEGER NOT NULL, checksum BLOB NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON completions (used);
"""
_FORMAT = 1
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
            self._open()
        except (OSError, sqlite3.Error) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise ConfigError(f"{path}: cannot be used as a cache of completions ({reason}); choose another") from error

    def _open(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _FORMAT):
            raise ConfigError(f"{self.path}: a cache of another version of flarekit ({version}); choose another")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute("PRAGMA auto_vacuum=NONE")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version={_FORMAT}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def count(self) -> int:
        """How many values there are."""
        (count,) = self._connection.execute("SELECT count(*) FROM completions").fetchone()
        return int(count)

    @property
    def size(self) -> int:
        """Bytes in use, without the room that deleted values left in the file."""
        pages, free, page = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None where there is none that is whole."""
        row = self._connection.execute("SELECT used, checksum, value FROM completions WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        used, checksum, packed = row
        if checksum != _checksum(key, packed):
            self.damaged += 1
            self._write("DELETE FROM completions WHERE key = ?", (key,))
            return None
        if (now := _now()) - used > _FRESH:
            self._write("UPDATE completions SET used = ? WHERE key = ?", (now, key))
        return zlib.decompress(packed)

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` that have a value."""
        wanted = list(keys)
        places = ",".join("?" * len(wanted))
        found = self._connection.execute(f"SELECT key FROM completions WHERE key IN ({places})", wanted)  # noqa: S608 - question marks alone
        return {key for (key,) in found}

    def put(self, key: bytes, value: bytes, rank: int = 0) -> None:
        """Store `value`, unless one of a higher `rank` is there; of two that are equal the later stays."""
        packed = zlib.compress(value, 1)
        self._write(
            "INSERT INTO completions VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET rank = excluded.rank, "
            "used = excluded.used, checksum = excluded.checksum, value = excluded.value WHERE excluded.rank >= rank",
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

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        if self.failure:
            return
        try:
            self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self.failure = f"{self.path}: cannot be written ({error}); nothing more is stored"


def _now() -> int:
    return time.time_ns() // 1_000_000


def _checksum(key: bytes, packed: bytes) -> bytes:
    return blake2b(packed, digest_size=8, key=key[:64]).digest()
