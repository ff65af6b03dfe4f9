"""The gates, behind a real uvicorn on a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from flarekit.errors import ConfigError
from flarekit.serve.middleware import error_body, gated, read_keys, refusal

KEY, OTHER = "sk-first", "sk-second"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
LAST = {"Connection": "close"}  # after a bug uvicorn closes the connection, whatever comes on it next
LIMIT, PLACES = 1000, 2
SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Running:
    url: str
    handled: list[str] = field(default_factory=list)
    """The paths of the requests that passed the gates."""
    refused: list[int] = field(default_factory=list)
    """The statuses of those that did not."""

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=AUTHORIZED | headers, trust_env=False, verify=False)

    def raw(self, request: bytes) -> tuple[int, dict[bytes, bytes]]:
        """The status and the headers of the answer to these bytes, of which no more follow until it has come."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(request)
            received = b""
            while b"\r\n\r\n" not in received:
                part = connection.recv(4096)
                assert part, received
                received += part
        first, *lines = received.partition(b"\r\n\r\n")[0].split(b"\r\n")
        pairs = (line.partition(b": ") for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}


def application(running: Running) -> Starlette:
    release = asyncio.Event()

    async def echo(request: Request) -> Response:
        running.handled.append(request.url.path)
        body = await request.body()
        return PlainTextResponse(f"{len(body)} {request.state.request_id}", headers={"X-Request-ID": "an upstream's"})

    async def stream(request: Request) -> Response:
        """A part at once, and another one when it is asked for, which for some readers is never."""
        release.clear()

        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            await release.wait()
            yield b"two"

        return StreamingResponse(parts())

    async def go_on(request: Request) -> Response:
        release.set()
        return Response()

    async def fail(request: Request) -> Response:
        raise RuntimeError("a bug")

    async def page(request: Request) -> Response:
        return PlainTextResponse("page")

    return Starlette(
        routes=[
            Route("/v1/echo", echo, methods=["GET", "POST"]),
            Route("/v1/stream", stream, methods=["POST"]),
            Route("/v1/fail", fail, methods=["POST"]),
            Route("/go-on", go_on),
            *(Route(path, page) for path in ("/", "/page.css", "/page.js", "/health", "/metrics")),
        ]
    )


@contextmanager
def serving(*keys: str) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = Running(f"http://127.0.0.1:{listening.getsockname()[1]}")
        app = gated(
            application(running), body_limit=LIMIT, concurrent=PLACES, keys=keys, refused=running.refused.append
        )
        config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield running
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(KEY, OTHER) as running:
        yield running


@pytest.fixture
def fresh() -> Iterator[Running]:
    """A server of whose places none is still taken by a reader of an earlier test."""
    with serving(KEY) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen_yet(running: Running) -> None:
    running.handled.clear()
    running.refused.clear()


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_each_of_several_keys_lets_in(running: Running, key: str) -> None:
    with running.client(Authorization=f"bearer {key}") as client:
        assert client.get("/v1/echo").status_code == 200


@pytest.mark.parametrize("sent", [{}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"Basic {KEY}"}])
def test_a_request_without_a_key_is_refused_as_openai_refuses_it(running: Running, sent: dict[str, str]) -> None:
    answer = httpx.post(f"{running.url}/v1/echo", headers=sent, trust_env=False)
    error = answer.json()["error"]

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (error["type"], error["param"], error["code"]) == ("authentication_error", None, "invalid_api_key")
    assert "Authorization: Bearer KEY" in error["message"]
    assert KEY not in answer.text
    assert (running.handled, running.refused) == ([], [401])


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/health", "/metrics"])
def test_what_is_not_under_v1_needs_no_key(running: Running, path: str) -> None:
    assert httpx.get(running.url + path, trust_env=False).status_code == 200


@pytest.mark.parametrize("path", ["/v1/echo", "/%76%31/echo", "/v1/%65cho", "/v1/../v1/echo", "/v1//echo"])
def test_no_spelling_of_a_path_goes_around_the_key(running: Running, path: str) -> None:
    status, _ = running.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert (status, running.handled) == (401, [])


@given(st.binary(max_size=80) | st.sampled_from([KEY, OTHER]).flatmap(lambda key: st.sampled_from(near(key))))
def test_no_other_header_value_lets_in(running: Running, value: bytes) -> None:
    value = value.translate(None, b"\r\n")
    if value.strip().lower().removeprefix(b"bearer").strip() in (KEY.encode(), OTHER.encode()):
        return
    status, _ = running.raw(b"GET /v1/echo HTTP/1.1\r\nHost: x\r\nAuthorization: " + value + b"\r\n\r\n")

    assert status in (400, 401)  # 400 by uvicorn, of what is not HTTP
    assert not running.handled


def near(key: str) -> list[bytes]:
    """What is almost `key`."""
    return [f"Bearer {form}".encode() for form in (key[:-1], key + "x", key.upper(), key + " " + key, key + "\0")]


def test_without_keys_the_server_is_open() -> None:
    with serving() as running:
        assert httpx.get(f"{running.url}/v1/echo", trust_env=False).status_code == 200


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf# ours\r\nsk-1\r\n\r\n  sk-2  \n#sk-3\n")

    assert read_keys(path) == ["sk-1", "sk-2"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"# nobody yet\n\n", "no keys"),
        (b"sk-1\nmy key\n", ":2: a key is made of ASCII characters without spaces"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_of_keys_is_told_in_one_line(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=complaint) as error:
        read_keys(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


# --- the body's length ------------------------------------------------------------------------------------------------


@given(st.integers(LIMIT - 3, LIMIT + 3) | st.integers(0, 3 * LIMIT), st.integers(1, LIMIT) | st.none())
def test_a_body_passes_whole_if_it_is_within_the_limit(running: Running, size: int, chunk: int | None) -> None:
    body = b"x" * size
    parts = body if chunk is None else (body[at : at + chunk] for at in range(0, size, chunk))
    with running.client() as client:
        answer = client.post("/v1/echo", content=parts)

    if size <= LIMIT:
        assert answer.text.split()[0] == str(size)
    else:
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


def test_a_body_that_is_announced_as_too_long_is_refused_before_it_is_sent(running: Running) -> None:
    status, _ = running.raw(post("/v1/echo", f"Content-Length: {LIMIT + 1}"))

    assert (status, running.handled, running.refused) == (413, [], [413])


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long(running: Running) -> None:
    chunk = b"%x\r\n%s\r\n" % (LIMIT, b"x" * LIMIT)
    status, _ = running.raw(post("/v1/echo", "Transfer-Encoding: chunked") + chunk + b"1\r\ny\r\n")

    assert (status, running.handled) == (413, [])


def test_whoever_leaves_in_the_middle_of_a_chunked_body_frees_the_place(fresh: Running) -> None:
    host, port = fresh.url.removeprefix("http://").split(":")
    for _ in range(PLACES):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(post("/v1/echo", "Transfer-Encoding: chunked") + b"1\r\nx\r\n")
    with fresh.client() as client:
        eventually_let_in(client)


def post(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


# --- places -----------------------------------------------------------------------------------------------------------


@contextmanager
def occupied(client: httpx.Client, count: int = PLACES) -> Iterator[list[Iterator[bytes]]]:
    """So many streams, of each of which the first part was read."""
    if not count:
        yield []
        return
    with client.stream("POST", "/v1/stream") as answer, occupied(client, count - 1) as others:
        parts = answer.iter_raw()
        assert next(parts) == b"one"
        yield [parts, *others]


def eventually_let_in(client: httpx.Client) -> None:
    """That a client has left takes a moment to be seen; of a place that is never freed this loop is the proof."""
    for _ in range(1000):
        if client.post("/v1/echo").status_code == 200:
            return
        time.sleep(0.01)
    pytest.fail("the place was never freed")


def test_a_stream_is_sent_part_by_part_through_all_gates(fresh: Running) -> None:
    with fresh.client() as client, occupied(client, 1) as [parts]:
        client.get("/go-on")
        assert list(parts) == [b"two"]


def test_one_request_too_many_is_refused_at_once(fresh: Running) -> None:
    with fresh.client() as client, occupied(client):
        answer = client.post("/v1/echo")
        error = answer.json()["error"]

        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert SANE.fullmatch(answer.headers["x-request-id"])
        assert (fresh.handled, fresh.refused) == ([], [429])


def test_what_asks_for_no_answer_needs_no_place(fresh: Running) -> None:
    with fresh.client() as client, occupied(client):
        assert client.get("/v1/echo").status_code == 200
        assert client.get("/health").status_code == 200


def test_an_unknown_client_takes_no_place(fresh: Running) -> None:
    with fresh.client() as client, occupied(client):
        assert httpx.post(f"{fresh.url}/v1/echo", trust_env=False).status_code == 401


def test_a_stream_that_was_sent_whole_frees_its_place(fresh: Running) -> None:
    with fresh.client() as client, occupied(client) as streams:
        client.get("/go-on")
        for parts in streams:
            assert list(parts) == [b"two"]
        eventually_let_in(client)


def test_a_client_that_leaves_frees_its_place(fresh: Running) -> None:
    with fresh.client() as client:
        with occupied(client):
            assert client.post("/v1/echo").status_code == 429
        eventually_let_in(client)


def test_a_request_that_fails_frees_its_place(fresh: Running) -> None:
    with fresh.client() as client:
        statuses = [client.post("/v1/fail", headers=LAST).status_code for _ in range(PLACES + 1)]
        assert statuses == [500] * (PLACES + 1)
        assert client.post("/v1/echo").status_code == 200


# --- headers and errors -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=70) | st.from_regex(SANE, fullmatch=True).map(str.encode))
def test_every_request_has_an_id_that_is_the_clients_own_if_it_is_sane(running: Running, sent: bytes) -> None:
    sent = sent.translate(None, b"\r\n").strip()
    request = f"GET /v1/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nX-Request-Id: ".encode()
    status, headers = running.raw(request + sent + b"\r\n\r\n")
    if status == 400:  # by uvicorn, of what is not HTTP
        assert not SANE.fullmatch(sent.decode("latin-1"))
        return
    given_back = headers[b"x-request-id"].decode()

    assert SANE.fullmatch(given_back)
    assert (given_back == sent.decode("latin-1")) == bool(SANE.fullmatch(sent.decode("latin-1")))


def test_a_route_reads_the_id_that_the_answer_carries(running: Running) -> None:
    with running.client() as client:
        first, second = client.get("/v1/echo"), client.get("/v1/echo")

    assert first.text.split()[1] == first.headers["x-request-id"]
    assert first.headers.get_list("x-request-id") == [first.headers["x-request-id"]]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_answers_to_failures_and_unknown_paths_carry_an_id_too(running: Running) -> None:
    with running.client(**{"X-Request-Id": "mine"}) as client:
        answers = (
            client.post("/v1/fail", headers=LAST),
            client.get("/v1/nothing"),
            client.post("/v1/echo", content=b"x" * 2 * LIMIT),
        )

    assert [answer.status_code for answer in answers] == [500, 404, 413]
    assert {answer.headers["x-request-id"] for answer in answers} == {"mine"}


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js"])
def test_the_page_may_load_its_own_parts_only(running: Running, path: str) -> None:
    headers = httpx.get(running.url + path, trust_env=False).headers

    allowed = set(headers["content-security-policy"].split("; "))
    assert {"default-src 'self'", "style-src 'self'", "script-src 'self'", "frame-ancestors 'none'"} <= allowed
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "content-security-policy" not in httpx.get(f"{running.url}/health", trust_env=False).headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_an_error_has_openais_fields_and_types(status: int, kind: str) -> None:
    response = refusal(status, "no", "temperature", "c")

    assert response.status_code == status
    assert json.loads(bytes(response.body)) == error_body(status, "no", "temperature", "c")
    assert error_body(status, "no") == {"error": {"message": "no", "type": kind, "param": None, "code": None}}
