"""One count of tries for all layers, and the server's own hint when to come back."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from flarekit.errors import (
    ConfigError,
    DataError,
    EngineError,
    EngineUnavailable,
    RequestRejected,
    quoted,
    summary,
    told,
)
from flarekit.io.refusals import RETRIED, refusal
from flarekit.io.retries import Retries, retry_after

WHERE = "http://10.0.0.9:8000/v1/completions"


async def tries(retries: Retries, error: EngineError) -> int:
    made = 0
    try:
        async for attempt in retries.attempts():
            with attempt:
                made += 1
                raise error
    except EngineError:
        return made
    raise AssertionError("its error must not be lost")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    noted: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        noted.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return noted


async def test_whoever_tries_again_takes_from_one_count(waits: list[float]) -> None:
    retries = Retries(3)
    assert retries.take()
    assert await tries(retries, EngineUnavailable("busy")) == 3
    assert await tries(retries, EngineUnavailable("busy")) == 1
    assert not retries.take()


async def test_only_what_may_pass_is_tried_again() -> None:
    assert await tries(Retries(3), RequestRejected("no")) == 1


@pytest.mark.parametrize("hint", [0.0, 1.0, 7.0])
async def test_the_servers_hint_is_waited_for(hint: float, waits: list[float]) -> None:
    with stamina.set_testing(False):
        assert await tries(Retries(2, longest=10), EngineUnavailable("busy", retry_after=hint)) == 3
    backed_off = [wait for wait in waits if wait]
    assert len(backed_off) == 2
    assert all(hint < wait <= 1.1 * hint + 0.2 for wait in backed_off)


async def test_a_server_that_wants_to_be_left_alone_for_long_is() -> None:
    assert await tries(Retries(2, longest=10), EngineUnavailable("busy", retry_after=11)) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("99999999999999999999", 86_400),
        *((value, None) for value in ("-1", "1.5", "soon", "", "Wed, 99 Nov 2026", "²")),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2150 07:28:00 GMT", 86_400),
    ],
)
def test_hints_are_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_a_date_is_so_many_seconds_away() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 <= (retry_after({"retry-after": value}) or 0) <= 30


@given(st.text())
def test_no_hint_is_more_than_not_understood(value: str) -> None:
    assert 0 <= (retry_after({"retry-after": value}) or 0) <= 86_400


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529])
def test_what_is_tried_again_is_what_may_pass(status: int) -> None:
    error = refusal(status, b"no", {"retry-after": "3"}, WHERE)
    assert isinstance(error, EngineUnavailable) is (status in RETRIED)
    assert (error.status, error.retry_after) == (status, 3 if status in RETRIED else None)


@given(st.binary(max_size=2000), st.sampled_from([400, 401, 404, 429, 500, 503]))
def test_whatever_a_server_says_only_the_whole_text_quotes_it(content: bytes, status: int) -> None:
    error = refusal(status, b"secret" + content, {}, WHERE)
    assert str(error).startswith(f"{WHERE}: status {status} (secret")
    assert len(str(error)) < 400
    assert "\n" not in str(error)
    assert "secret" not in summary(error)
    assert told(error) in summary(error)
    assert "10.0.0.9" not in told(error)


@pytest.mark.parametrize(
    "foreign",
    ["x" * 10**7, "x y\n" * 10**6, ["a" * 10**6], {"a": "b" * 10**6}, 10**5000, b"\0" * 10**6, 1e300, None],
    ids=lambda foreign: type(foreign).__name__,
)
def test_nothing_foreign_is_quoted_at_length(foreign: object) -> None:
    assert len(quoted(foreign)) <= 1000 if isinstance(foreign, bytes) else len(quoted(foreign)) <= 200
    assert "\n" not in quoted(foreign)


def test_what_is_short_is_quoted_whole() -> None:
    assert quoted(" two\nlines ") == "two lines"
    assert quoted(1.5) == "1.5"
    assert quoted("x" * 200) == "x" * 200


@given(st.text(min_size=500, max_size=3000) | st.just("x" * 10**6) | st.just("x y " * 10**6))
def test_no_error_quotes_anything_at_length(foreign: str) -> None:
    for error in (
        ConfigError(f"no policy is called {foreign!r}; there are flare, rag"),
        DataError(f"the id '{foreign.replace(chr(39), '')}' occurs twice; make ids unique"),
        EngineError("it refuses; try again", where=WHERE, quote=foreign),
    ):
        said = str(error)
        assert len(said) < 4000
        assert not re.search(r"[^\s/]{202,}", said)
        assert said.startswith(("no policy is called", "the id", WHERE))


def test_what_is_long_but_our_own_stays_whole() -> None:
    names = ", ".join(f"policy-{number}" for number in range(60))
    said = f"the engine's answer isn't what the server's policies want; there are {names}"
    assert str(ConfigError(said)) == said
    path = "/".join(["folder" * 8] * 20)
    assert str(DataError(f"{path}: no such file")) == f"{path}: no such file"
