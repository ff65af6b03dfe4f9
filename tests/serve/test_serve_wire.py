"""Clients that send too much, too slowly or not at all, and that do not read: on real sockets, each with a limit."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.scripted_vllm import Body, ScriptedVLLM, event, saying
from fakes.serving import serving
from flarekit.serve import connection as wire
from flarekit.serve.connection import LONGEST_HEAD, LONGEST_URL, MOST_HEADERS, limited

ANSWER = "In Graz. It is a city."
PATIENCE = 0.6
ASKED = {"model": "weak", "messages": [{"role": "user", "content": "?"}]}
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedVLLM]:
    with ScriptedVLLM(saying(ANSWER)) as server:
        yield server


@pytest.fixture(scope="module")
def url(engine: ScriptedVLLM) -> Iterator[str]:
    with serving(engine.url, policy="weak", concurrent=2, client_timeout=PATIENCE) as address:
        yield address


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)


def answer(url: str) -> int:
    return httpx.post(f"{url}/v1/chat/completions", json=ASKED, timeout=10).status_code


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes; b"" where it does so without a word."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def status_of(received: bytes) -> int:
    return int(received.split(b" ", 2)[1]) if received else 0


def pushed(connection: socket.socket, first: bytes, rest: bytes, times: int) -> None:
    """`first`, and `rest` as often as the server reads it."""
    try:
        connection.sendall(first)
        for _ in range(times):
            connection.sendall(rest)
    except OSError:
        pass


# --- too much ---------------------------------------------------------------------------------------------------------

ENDLESS: dict[str, tuple[bytes, bytes, set[int]]] = {
    "an address": (b"GET /", b"x" * 65536, {414, 431}),
    "an address that ends": (b"GET /" + b"x" * (LONGEST_URL + 1) + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", b"", {414}),
    "a query": (b"GET /health?", b"x" * 65536, {414, 431}),
    "a method": (b"", b"G" * 65536, {400, 431}),
    "a header": (b"GET /health HTTP/1.1\r\nx: ", b"x" * 65536, {431}),
    "a header's name": (b"GET /health HTTP/1.1\r\n", b"x" * 65536, {431}),
    "headers": (b"GET /health HTTP/1.1\r\n", b"x: " + b"y" * 1000 + b"\r\n", {431}),
    "small headers": (b"GET /health HTTP/1.1\r\n", b"a: b\r\n" * 1000, {431}),
    "empty lines": (b"", b"\r\n" * 32768, {400, 431}),
    "a chunk's size": (HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n5;x=", b"x" * 65536, {400, 431}),
    "trailers": (HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: yyyyyyyyy\r\n" * 1000, {400, 431}),
    "a trailer": (HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"x" * 65536, {400, 431}),
}


@pytest.mark.parametrize(("first", "rest", "statuses"), ENDLESS.values(), ids=ENDLESS)
def test_a_head_without_end_is_refused_while_it_comes(url: str, first: bytes, rest: bytes, statuses: set[int]) -> None:
    with connect(url) as connection:
        sender = threading.Thread(target=pushed, args=(connection, first, rest, 400))
        sender.start()
        received = said(connection)
        sender.join(20)
    assert status_of(received) in {0, *statuses}
    assert answer(url) == 200


@pytest.mark.parametrize(("size", "status"), [(LONGEST_HEAD // 2, 200), (LONGEST_HEAD + 1, 431)])
def test_headers_have_a_size(url: str, size: int, status: int) -> None:
    assert httpx.get(f"{url}/health", headers={"x": "y" * size}).status_code == status


@pytest.mark.parametrize(("count", "status"), [(MOST_HEADERS - 10, 200), (MOST_HEADERS + 1, 431)])
def test_headers_have_a_number(url: str, count: int, status: int) -> None:
    assert httpx.get(f"{url}/health", headers={f"x{n}": "y" for n in range(count)}).status_code == status


def test_what_is_no_http_is_refused_in_the_protocols_format(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"hello\r\n\r\n")
        received = said(connection)
    assert status_of(received) == 400
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


# --- too slow ---------------------------------------------------------------------------------------------------------

HALF: dict[str, bytes] = {
    "nothing": b"",
    "a line": b"POST /v1/chat",
    "a head": HEAD.encode(),
    "an empty line": b"\r\n",
    "a body": HEAD.encode() + b"content-length: 100\r\n\r\n{",
    "no body": HEAD.encode() + b"content-length: 100\r\n\r\n",
    "a chunk": HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
    "no chunk": HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n",
    "no last chunk": HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a body nobody wants": b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n",
    "a second head": b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /he",
    "an empty line after an answer": b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n\r\n",
}


@pytest.mark.parametrize("part", HALF.values(), ids=HALF)
def test_who_stops_in_the_middle_is_not_waited_for_and_takes_no_place(url: str, part: bytes) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(url)) for _ in range(4)]
        for connection in connections:
            connection.sendall(part)
        assert answer(url) == 200, "two may be at work, and those are not"
        began = time.monotonic()
        for connection in connections:
            assert status_of(said(connection)) in (0, 200, 408)
        assert time.monotonic() - began < PATIENCE + wire.LINGER + 3
    assert answer(url) == 200


def test_who_sends_a_byte_at_a_time_is_not_waited_for_either(url: str) -> None:
    with connect(url) as connection:
        began = time.monotonic()
        try:
            for byte in HEAD.encode() * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            pass
        assert time.monotonic() - began < 2 * PATIENCE + 2


# --- who does not read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_who_does_not_read_gives_the_place_back(url: str, engine: ScriptedVLLM, stream: bool) -> None:
    line = event({"choices": [{"index": 0, "text": "x" * 4000, "finish_reason": None, "token_ids": [1]}]})

    def endless(body: Body) -> Iterator[bytes]:
        for _ in range(50_000):
            yield line

    content = json.dumps({**ASKED, "stream": stream}).encode()
    usual = engine.complete
    engine.complete = endless
    with ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(connect(url))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(HEAD.encode() + b"content-length: %d\r\n\r\n" % len(content) + content)
        time.sleep(0.3)
        engine.complete = usual
        until(lambda: answer(url) == 200)


def until(what: Callable[[], bool]) -> None:
    for _ in range(200):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within 20 s")


# --- how many ---------------------------------------------------------------------------------------------------------


def test_a_connection_too_many_is_told_so(engine: ScriptedVLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_descriptors", lambda: wire.RESERVE + 20)
    with serving(engine.url, policy="weak") as url, ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(url))
        with connect(url) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            received = said(connection)
        assert status_of(received) == 429
        assert b"retry-after: 1" in received
        stack.close()
        until(lambda: httpx.get(f"{url}/health").status_code == 200)


@pytest.mark.parametrize(("descriptors", "concurrent"), [(1024, 512), (256, 512), (65536, 512), (70, 512), (10_000, 1)])
def test_all_that_may_be_open_fits_into_the_descriptors(
    descriptors: int, concurrent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_descriptors", lambda: descriptors)
    kind, at_work = limited(1.0, concurrent)
    assert 0 < at_work <= concurrent
    assert kind.most >= at_work
    others = (wire.PER_REQUEST - 1) * at_work
    assert kind.most + others + wire.RESERVE <= max(descriptors, wire.RESERVE + 2 * wire.PER_REQUEST)


def test_as_many_descriptors_are_asked_for_as_there_may_be() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert wire._descriptors() >= min(hard if hard > 0 else 1 << 16, 1 << 16)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["watched", "weak"])
def test_a_stream_that_does_not_end_in_time_ends_with_an_error_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    def slowly(body: Body) -> Iterator[bytes]:
        for part in saying("It is. " * 200)(body):
            time.sleep(0.02)
            yield part

    (tmp_path / "policies.yaml").write_text("policies: {watched: 'escalate:read=sentence,threshold=1'}")
    services: list[Any] = []
    with (
        ScriptedVLLM(slowly) as engine,
        serving(
            engine.url, strongs=[engine.url], policy=str(tmp_path / "policies.yaml"), started=services.append
        ) as url,
        httpx.stream(
            "POST", f"{url}/v1/chat/completions", json={**ASKED, "model": model, "stream": True}, timeout=30
        ) as response,
    ):
        parts = response.iter_raw()
        received = next(parts)
        services[0].end()
        received += b"".join(parts)
    *_, error, done = received.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "shutting_down"
