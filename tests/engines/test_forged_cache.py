"""Caches of completions from anywhere: what is no whole row is asked for again, what is no whole file is refused."""

from __future__ import annotations

import itertools
import random
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from fakes.cached_engines import ANSWER, PROMPT, opened, read
from fakes.forging import changed, places
from fakes.scripted_vllm import ScriptedVLLM
from flarekit.engines.cache import store as completions
from flarekit.engines.cache.engine import CachedEngine
from flarekit.engines.cache.store import CompletionStore, _checksum
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import FlarekitError
from flarekit.tokens import Usage, admit, text_of

OTHERS: tuple[Any, ...] = (None, True, -1, 10**18, 2.5, -1e300, "", "x" * 300, [], [None], {}, {"a": []})


@pytest.fixture(autouse=True)
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let engines score and choose, which the scripted server does not know; the calls that were made."""
    calls: list[str] = []

    async def choose(self: VLLMEngine, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        calls.append("choose")
        return [-0.5] * len(choices), Usage(len(prompt), 0, 1)

    async def score(self: VLLMEngine, prompt: Sequence[int]) -> list[float]:
        calls.append("score")
        return [-0.5] * (len(prompt) - 1)

    monkeypatch.setattr(VLLMEngine, "choose", choose)
    monkeypatch.setattr(VLLMEngine, "score", score)
    return calls


async def asked(engine: CachedEngine) -> None:
    """Ask in every way that is stored."""
    tokens = await read(engine, PROMPT)
    assert all(admit(*token) == token and type(token.id) is int and type(token.text) is str for token in tokens)
    chosen, usage = await engine.choose(PROMPT, [65, 66])
    scores = await engine.score(PROMPT)
    assert (len(chosen), len(scores)) == (2, len(PROMPT) - 1)
    assert all(isinstance(value, int | float) and value <= 0 for value in (*chosen, *scores))
    assert 0 <= usage.prompt <= 3 * len(PROMPT)


def rows(path: Path) -> dict[bytes, Any]:
    with sqlite3.connect(path) as file:
        found = file.execute("SELECT key, value FROM completions").fetchall()
    return {key: orjson.loads(zlib.decompress(value)) for key, value in found}


def forge(path: Path, key: bytes, content: bytes) -> None:
    """Put `content` there as the store itself would have done."""
    packed = zlib.compress(content)
    with sqlite3.connect(path) as file:
        file.execute(
            "UPDATE completions SET value = ?, checksum = ? WHERE key = ?", (packed, _checksum(key, packed), key)
        )


async def test_a_row_with_any_value_changed_is_told_whole_or_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store"
    with ScriptedVLLM() as server:
        async with opened(server, path) as engine:
            await asked(engine)
        others = itertools.cycle(OTHERS)
        for key, whole in rows(path).items():
            for place in places(whole):
                for _ in range(3):
                    forge(path, key, orjson.dumps(changed(whole, place, next(others))))
                    async with opened(server, path) as engine:
                        await asked(engine)
        assert "asked for again" in caplog.text


BAD_TOKENS: dict[str, Callable[[list[Any]], Any]] = {
    "text of a number": lambda t: [5, *t[1:]],
    "no text": lambda t: [None, *t[1:]],
    "an id of text": lambda t: [t[0], "12", *t[2:]],
    "an id that is no whole number": lambda t: [t[0], 1.5, *t[2:]],
    "an id that is true": lambda t: [t[0], True, *t[2:]],
    "an id below 0": lambda t: [t[0], -1, *t[2:]],
    "an id above 63 bits": lambda t: [t[0], 2**63, *t[2:]],
    "no log-probability": lambda t: [*t[:2], None, t[3]],
    "a logit": lambda t: [*t[:2], 3.5, t[3]],
    "a log-probability of text": lambda t: [*t[:2], "-1", t[3]],
    "a list of candidates": lambda t: [*t[:3], [1]],
    "a candidate of null": lambda t: [*t[:3], {"token_id:1": None}],
    "a candidate of text": lambda t: [*t[:3], {"token_id:1": "-1"}],
    "too short": lambda t: t[:3],
    "too long": lambda t: [*t, 1],
    "no list": lambda _: "token",
    "nothing": lambda _: None,
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_token_that_is_none_and_all_after_it_are_asked_for_again_and_stored(
    tmp_path: Path, bad: Callable[[list[Any]], Any]
) -> None:
    path = tmp_path / "store"
    with ScriptedVLLM() as server:
        async with opened(server, path) as engine:
            await read(engine, PROMPT)
        ((key, (ended, times, tokens)),) = rows(path).items()
        # Longer than the right one, whose rank would be lower.
        forge(path, key, orjson.dumps([ended, [*times, *times], [*tokens[:5], bad(tokens[5]), *tokens[6:], *tokens]]))
        for _ in range(2):
            async with opened(server, path) as engine:
                assert text_of(await read(engine, PROMPT)) == ANSWER
        assert len(server.completions) == 2
        assert len(server.completions[1]["prompt"]) == len(PROMPT) + 5


@pytest.mark.parametrize("content", [b"", b"null", b"[" * 100_000, b"9" * 10_000, b"[true, [], [[]]]", b"\xff"])
async def test_a_value_that_is_no_record_is_asked_for_again(tmp_path: Path, content: bytes, scored: list[str]) -> None:
    path = tmp_path / "store"
    with ScriptedVLLM() as server:
        async with opened(server, path) as engine:
            await asked(engine)
        for key in rows(path):
            forge(path, key, content)
        for _ in range(2):
            async with opened(server, path) as engine:
                await asked(engine)
        assert (len(server.completions), len(scored)) == (2, 4)


def test_a_value_that_would_unpack_to_more_than_any_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "LARGEST", 10_000)
    with CompletionStore(tmp_path / "store") as store:
        store.put(b"large", b"x" * 10_001)
        store.put(b"key", b"value")
        assert store.get(b"large") is None
        assert not store.damaged
    forge(tmp_path / "store", b"key", b"x" * 10_001)
    with CompletionStore(tmp_path / "store") as store:
        assert store.get(b"key") is None
        assert store.damaged == 1


@pytest.mark.parametrize("column", ["rank", "used", "checksum", "value"])
@pytest.mark.parametrize("value", ["x'ff'", "'text'", "CAST(x'ff' AS TEXT)", "2.5", "-1", "9223372036854775807"])
def test_a_column_of_another_type_is_damage_and_can_be_written_over(tmp_path: Path, column: str, value: str) -> None:
    with CompletionStore(tmp_path / "store") as store:
        store.put(b"key", b"value", 5)
    with sqlite3.connect(tmp_path / "store") as file:
        file.execute(f"UPDATE completions SET {column} = {value}")
    with CompletionStore(tmp_path / "store") as store:
        assert store.get(b"key") in (None, b"value")
        store.put(b"key", b"new", 2**63 - 1)
        assert store.get(b"key") == b"new"
        assert not store.failure


def used(path: Path) -> None:
    with CompletionStore(path) as store:
        for number in range(40):
            store.known([b"%d" % number])
            store.get(b"%d" % number)
            store.put(b"%d" % number, b"new", 9)
        assert store.count >= 0
        assert store.size > 0


def complaint(path: Path) -> str:
    try:
        used(path)
    except FlarekitError as error:
        return str(error)
    return ""


def filled(path: Path) -> bytes:
    with CompletionStore(path) as store:
        for number in range(40):
            store.put(b"%d" % number, random.Random(number).randbytes(3_000), 1)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_a_file_that_is_damaged_anywhere_works_or_is_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    path, dice = tmp_path / "store", random.Random(seed)
    content = bytearray(filled(path))
    if seed % 2:
        del content[dice.randrange(len(content)) :]
    for _ in range(dice.choice([1, 30])):
        if content:
            place, length = dice.randrange(min(len(content), dice.choice([100, 5_000, 10**9]))), dice.choice([1, 4_000])
            content[place : place + length] = dice.randbytes(min(length, len(content) - place))
    path.write_bytes(content)
    said = complaint(path)
    assert said.count("\n") == 0
    assert not said or str(path) in said


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE TABLE completions (key, rank, used, checksum, value)",
        "CREATE TABLE completions (id INTEGER)",
        "CREATE TABLE other (id INTEGER)",
        "CREATE VIEW completions AS SELECT 1 AS key, 2 AS rank, 3 AS used, 4 AS checksum, 5 AS value",
        "WITH",
        "TRIGGER",
    ],
)
def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "store"
    if statements in ("WITH", "TRIGGER"):
        filled(path)
        statements = (
            "CREATE TABLE more (id)"
            if statements == "WITH"
            else "CREATE TRIGGER t AFTER INSERT ON completions BEGIN DELETE FROM completions; END"
        )
    with sqlite3.connect(path) as file:
        file.execute(statements)
    before = path.read_bytes()
    assert "cannot be used as a cache of completions" in complaint(path)
    assert path.read_bytes() == before


def test_a_store_that_somebody_else_keeps_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store"
    filled(path)
    monkeypatch.setattr(completions, "_PATIENCE", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("DELETE FROM completions WHERE key = x'00'")
    assert "locked" in complaint(path)
    holder.close()
    assert not complaint(path)
