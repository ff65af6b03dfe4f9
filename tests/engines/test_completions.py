"""The store of completions: what is in the file, with several processes, damage, a bound and a full disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.engines.cache.store import CompletionStore
from flarekit.errors import ConfigError


def test_what_was_put_is_got_again_by_whoever_opens_the_file(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "a" / "store") as store:
        store.put(b"key", b"value")
        assert store.get(b"other") is None
    with CompletionStore(tmp_path / "a" / "store") as store:
        assert store.get(b"key") == b"value"
        assert store.known([b"key", b"other"]) == {b"key"}


@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=8)), min_size=1))
def test_of_several_values_the_one_of_highest_rank_stays(values: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as folder, CompletionStore(Path(folder) / "store") as store:
        for rank, value in values:
            store.put(b"key", value, rank)
        highest = max(rank for rank, _ in values)
        assert store.get(b"key") == [value for rank, value in values if rank == highest][-1]


def test_a_damaged_value_is_as_good_as_none(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store") as store:
        store.put(b"key", b"value", 5)
        store.put(b"whole", b"value")
    with sqlite3.connect(tmp_path / "store") as file:
        file.execute("UPDATE completions SET value = ? WHERE key = ?", (b"nonsense", b"key"))
    with CompletionStore(tmp_path / "store") as store:
        assert store.get(b"key") is None
        assert (store.damaged, store.failure) == (1, "")
        store.put(b"key", b"new", 1)
        assert (store.get(b"key"), store.get(b"whole")) == (b"new", b"value")


def test_a_value_under_the_wrong_key_is_damage_too(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store") as store:
        store.put(b"key", b"value")
    with sqlite3.connect(tmp_path / "store") as file:
        file.execute("UPDATE completions SET key = ?", (b"other",))
    with CompletionStore(tmp_path / "store") as store:
        assert store.get(b"other") is None


def test_it_stays_below_its_size_and_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store", max_bytes=400_000) as store:
        for number in range(200):
            store.put(b"%d" % number, os.urandom(5_000))
            assert store.size <= 400_000 + 8_192
        with sqlite3.connect(tmp_path / "store") as file:
            file.execute("UPDATE completions SET used = 0 WHERE key != '199'")
        store.put(b"new", os.urandom(300_000))
        assert store.get(b"199") is not None
        assert store.get(b"new") is not None


WRITER = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from flarekit.engines.cache.store import CompletionStore
with CompletionStore(Path(sys.argv[1])) as store:
    for number in range(300):
        store.put(b"%d" % number, b"x" * number, number + int(sys.argv[2]))
        assert store.get(b"%d" % number) is not None
    assert not store.failure, store.failure
"""


def test_several_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "store"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(rank)]) for rank in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    with CompletionStore(path) as store:
        assert store.count == 300
        assert all(store.get(b"%d" % number) == b"x" * number for number in range(300))


@pytest.mark.parametrize("content", [b"no database at all, but something else", None], ids=["a file", "a folder"])
def test_something_else_in_its_place_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "store"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be used as a cache of completions") as error:
        CompletionStore(path)
    assert "\n" not in str(error.value)
    assert content is None or path.read_bytes() == content


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store") as file:
        file.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigError, match="another version"):
        CompletionStore(tmp_path / "store")


def test_a_store_that_cannot_be_written_goes_on_answering_and_says_why(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "store") as store:
        store.put(b"key", b"value")
        store._connection.execute("PRAGMA query_only=ON")  # as a full disk does: reading works, writing does not
        store.put(b"other", b"value")
        assert "cannot be written" in store.failure
        assert (store.get(b"key"), store.get(b"other")) == (b"value", None)
