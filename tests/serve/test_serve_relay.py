"""Requests that are passed on: what arrives is what was sent, and nothing stays behind when somebody leaves."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.upstream_servers import STREAM, Script, Server, breaking, client_of, framed, over, plain, silent, streaming
from flarekit.errors import EngineUnavailable, RequestRejected, StreamBroken
from flarekit.serve.passthrough import TAIL, Relayed, relay
from flarekit.serve.upstream.pool import Status, Upstreams
from flarekit.tokens import Usage

PATH = "/v1/chat/completions"
COUNTED = {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": None}
JSON = "Content-Type: application/json\r\n"


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def said(text: str) -> bytes:
    return event({"choices": [{"delta": {"content": text}}], "usage": None})


def whole(*parts: bytes) -> Script:
    """A stream to its end."""

    async def answer(transport: asyncio.Transport) -> None:
        transport.write(STREAM + framed(*parts) + b"0\r\n\r\n")

    return answer


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@asynccontextmanager
async def client_to(*servers: Server, seconds: float = 5.0) -> AsyncIterator[httpx.AsyncClient]:
    async with over(*servers) as upstreams:
        yield client_of(upstreams, seconds)


async def passed(script: Script, **options: Any) -> tuple[Relayed, bytes]:
    """An answer of a server with this script, and its bytes."""
    async with Server(script) as server, client_to(server) as client:
        relayed = await relay(client, "POST", PATH, b"{}", **options)
        return relayed, b"".join([part async for part in relayed])


# --- what arrives ---------------------------------------------------------------------------------------------------


async def test_a_stream_arrives_byte_by_byte() -> None:
    parts = (said("Pa"), said("ris")[:7], said("ris")[7:], "data: …\r\n\r\n".encode(), b"data: [DONE]\n\n")
    relayed, content = await passed(whole(*parts))
    assert content == b"".join(parts)
    assert (relayed.status, relayed.streamed, relayed.error) == (200, True, "")
    assert relayed.first is not None


@settings(max_examples=25)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
async def test_any_bytes_arrive_as_they_were_sent(parts: list[bytes]) -> None:
    relayed, content = await passed(whole(*parts))
    assert content == b"".join(parts)
    assert (relayed.first is None) == (not parts)


async def test_parts_come_as_soon_as_they_are_sent() -> None:
    async with (
        Server(streaming(said("a"))) as server,
        client_to(server) as client,
        aclosing(await relay(client, "POST", PATH)) as relayed,
    ):
        parts = aiter(relayed)
        assert await anext(parts) == said("a")
        server.connections[0].write(framed(said("b")))
        assert await anext(parts) == said("b")


async def test_a_refusal_is_an_error_that_keeps_what_the_engine_says() -> None:
    body = b'{"error": {"message": "too hot", "param": "temperature"}}'
    with pytest.raises(RequestRejected) as refused:
        await passed(plain(body, 400, headers=JSON))
    assert (refused.value.status, refused.value.param, refused.value.quote) == (400, "temperature", "too hot")


async def test_the_request_arrives_but_for_what_concerns_the_client_alone() -> None:
    theirs = {"Authorization": "Bearer theirs", "Host": "flarekit", "Connection": "close, X-Hop", "X-Hop": "1"}
    theirs |= {"Content-Length": "99", "Accept-Encoding": "br", "Content-Type": "application/json"}
    theirs |= {"traceparent": "00-ab", "User-Agent": "Zoë".encode().decode("latin-1")}
    others = (
        "X-Request-Id",
        "X-Data-Parallel-Rank",
        "X-Session-Id",
        "X-Priority",
        "Cookie",
        "X-Forwarded-For",
        "Forwarded",
    )
    theirs |= dict.fromkeys(others, "7")
    async with Server() as server, client_to(server) as client:
        client.headers["Authorization"] = "Bearer ours"
        relayed = await relay(client, "POST", f"{PATH}?a=b", b'{"model": "m"}', theirs)
        assert [part async for part in relayed] == [b"ok"]
    ((head, body),) = server.requests
    lines = head.split("\r\n")
    assert lines[0] == f"POST {PATH}?a=b HTTP/1.1"
    arrived = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert body == b'{"model": "m"}'
    assert (arrived["authorization"], arrived["content-length"]) == ("Bearer ours", "14")
    assert (arrived["content-type"], arrived["traceparent"]) == ("application/json", "00-ab")
    assert (arrived["accept-encoding"], arrived["user-agent"]) == ("identity", "Zoë")
    assert not {"x-hop", *map(str.lower, others)} & set(arrived)


async def test_headers_of_one_connection_are_not_sent_on() -> None:
    hop = "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nUpgrade: h2c\r\n"
    relayed, _ = await passed(plain(headers=f"{hop}Server: uvicorn\r\nDate: today\r\nX-Request-Id: 7\r\n{JSON}"))
    assert relayed.headers == {"x-request-id": "7", "content-type": "application/json", "content-length": "2"}


async def test_compressed_bytes_stay_compressed_and_say_so() -> None:
    body = gzip.compress(b"{}")
    relayed, content = await passed(plain(body, headers="Content-Encoding: gzip\r\n"))
    assert (content, relayed.headers["content-encoding"]) == (body, "gzip")
    assert relayed.usage is None


async def test_a_get_has_no_body() -> None:
    async with Server(plain(b'{"data": []}')) as server, client_to(server) as client:
        relayed = await relay(client, "GET", "/v1/models")
        assert [part async for part in relayed] == [b'{"data": []}']
    assert "content-length" not in server.requests[0][0].lower()


# --- what it took ---------------------------------------------------------------------------------------------------


async def test_usage_is_read_from_the_end_of_a_stream() -> None:
    counted = COUNTED | {"prompt_tokens_details": {"cached_tokens": 8}}
    relayed, _ = await passed(whole(said("a"), event({"choices": [], "usage": counted}), b"data: [DONE]\n\n"))
    assert relayed.usage == Usage(prompt=9, cached=8, completion=3)


async def test_usage_is_read_from_a_plain_answer() -> None:
    body = json.dumps({"choices": [{"message": {"content": "x" * 3 * TAIL}}], "usage": COUNTED, "more": {"a": 1}})
    relayed, _ = await passed(plain(body.encode(), headers=JSON))
    assert relayed.usage == Usage(prompt=9, cached=None, completion=3)


async def test_embeddings_complete_nothing() -> None:
    relayed, _ = await passed(plain(b'{"data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}', headers=JSON))
    assert relayed.usage == Usage(prompt=4, cached=None, completion=0)


async def test_the_last_of_several_counts_is_the_usage() -> None:
    running = [event({"choices": [], "usage": COUNTED | {"completion_tokens": n}}) for n in range(5)]
    relayed, _ = await passed(whole(*running))
    assert relayed.usage == Usage(prompt=9, cached=None, completion=4)


async def test_a_usage_that_the_model_writes_is_not_counted() -> None:
    text = json.dumps({"usage": COUNTED})
    for content in (said(text), said(json.dumps({"nested": text}))):
        relayed, _ = await passed(whole(content, b"data: [DONE]\n\n"))
        assert relayed.usage is None


@pytest.mark.parametrize(
    "end",
    [b"", said("a"), b'data: {"usage": {"prompt_tok', b'{"usage": {}}', b'{"usage": {"prompt_tokens_details": 3}}'],
)
async def test_where_nothing_is_told_there_is_no_usage(end: bytes) -> None:
    relayed, _ = await passed(whole(said("a"), end) if end else whole())
    assert relayed.usage is None


# --- when the engine fails ------------------------------------------------------------------------------------------


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    async with Server() as server:
        pass
    async with client_to(server) as client:
        with pytest.raises(EngineUnavailable, match="is a server running there") as error:
            await relay(client, "POST", PATH)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("script", "message"), [(silent, "no answer within the time-out"), (plain(status=503), "status 503")]
)
async def test_an_engine_that_never_answers_is_unavailable_after_all_attempts(script: Script, message: str) -> None:
    async with Server(script) as server, client_to(server, seconds=0.05) as client:
        with pytest.raises(EngineUnavailable, match=message):
            await relay(client, "POST", PATH, attempts=2)
    assert len(server.requests) == 2


async def test_another_attempt_reaches_another_server() -> None:
    async with Server(plain(status=503)) as one, Server(whole(said("a"))) as two, client_to(one, two) as client:
        relayed = await relay(client, "POST", PATH, b"{}")
        assert [part async for part in relayed] == [said("a")]
    assert [len(server.requests) for server in (one, two)] == [1, 1]


async def headers_only(transport: asyncio.Transport) -> None:
    """As vLLM does that dies while it reads the prompt."""
    transport.write(STREAM)
    transport.close()


async def test_a_stream_that_breaks_before_its_first_byte_begins_again_elsewhere() -> None:
    async with Server(headers_only) as one, Server(whole(said("a"))) as two, client_to(one, two) as client:
        relayed = await relay(client, "POST", PATH, b"{}")
        assert [part async for part in relayed] == [said("a")]
    assert (relayed.error, two.requests[0][1]) == ("", b"{}")


async def test_a_stream_that_never_begins_ends_with_an_error() -> None:
    async with Server(headers_only) as server, client_to(server) as client:
        relayed = await relay(client, "POST", PATH, attempts=3)
        content = b"".join([part async for part in relayed])
    assert content.startswith(b'data: {"error":')
    assert (len(server.requests), relayed.first) == (3, None)


async def test_a_stream_that_is_refused_at_the_second_attempt_ends_with_an_error() -> None:
    async with Server(headers_only) as one, Server(plain(status=400)) as two, client_to(one, two) as client:
        relayed = await relay(client, "POST", PATH)
        assert b"".join([part async for part in relayed]).startswith(b'data: {"error":')


async def test_a_stream_that_breaks_in_the_middle_ends_with_an_event_that_says_so() -> None:
    relayed, content = await passed(breaking)
    first, last, done, rest = content.split(b"\n\n")
    assert (first, done, rest) == (b"data: 1", b"data: [DONE]", b"")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error == {"message": relayed.error, "type": "upstream_error", "param": None, "code": 502}
    assert "broke off" in relayed.error
    assert relayed.first is not None


async def test_a_stream_that_falls_silent_ends_with_an_event_that_says_so() -> None:
    async with Server(streaming(said("a"))) as server, client_to(server, seconds=0.05) as client:
        relayed = await relay(client, "POST", PATH)
        content = b"".join([part async for part in relayed])
        assert content.startswith(said("a") + b'data: {"error":')
        await asyncio.wait_for(server.left.wait(), 10)


async def test_half_an_event_is_ended_before_the_error_is_told() -> None:
    async def half(transport: asyncio.Transport) -> None:
        transport.write(STREAM + framed(b'data: {"choi'))
        transport.close()

    _, content = await passed(half)
    assert content.startswith(b'data: {"choi\n\ndata: {"error":')


async def test_a_plain_answer_that_breaks_is_broken_off() -> None:
    async def half(transport: asyncio.Transport) -> None:
        transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Type: application/json\r\n\r\n{"choi')
        transport.close()

    async with Server(half) as server, client_to(server) as client:
        relayed = await relay(client, "POST", PATH)
        parts = aiter(relayed)
        assert await anext(parts) == b'{"choi'
        with pytest.raises(StreamBroken, match="broke off"):
            await anext(parts)
    assert relayed.error


# --- when the client leaves -----------------------------------------------------------------------------------------


async def left(upstreams: Upstreams, server: Server) -> None:
    """The server sees its connection closed, and nothing is counted as running or failed."""
    await asyncio.wait_for(server.left.wait(), 10)
    assert upstreams.status() == {server.url: Status(healthy=True, running=0)}


async def test_a_client_that_leaves_in_the_middle_stops_the_engine() -> None:
    async with Server(streaming(said("a"))) as server, over(server) as upstreams:
        async with aclosing(await relay(client_of(upstreams), "POST", PATH)) as relayed:
            async for _ in relayed:
                break
        await left(upstreams, server)


async def test_a_client_that_leaves_before_the_first_byte_stops_the_engine() -> None:
    async with Server(streaming()) as server, over(server) as upstreams:
        relayed = await relay(client_of(upstreams), "POST", PATH)
        await relayed.aclose()  # nobody began to read
        await left(upstreams, server)


async def test_an_answer_that_is_closed_while_it_is_waited_for_is_not_asked_for_again() -> None:
    async with Server(streaming()) as server, over(server) as upstreams:
        relayed = await relay(client_of(upstreams), "POST", PATH)
        reading = asyncio.ensure_future(anext(aiter(relayed), None))
        await asyncio.sleep(0)  # it waits for the first byte
        await relayed.aclose()
        assert await reading is None
        await left(upstreams, server)
    assert (len(server.requests), relayed.error) == (1, "")


@pytest.mark.parametrize("script", [silent, streaming(), streaming(said("a"))])
async def test_a_request_that_is_cancelled_stops_the_engine(script: Script) -> None:
    async with Server(script) as server, over(server) as upstreams:

        async def read() -> None:
            async for _ in await relay(client_of(upstreams), "POST", PATH):
                pass

        reading = asyncio.create_task(read())
        await asyncio.wait_for(server.asked.wait(), 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await left(upstreams, server)


async def test_a_slow_reader_holds_the_engine_up_instead_of_filling_the_memory() -> None:
    written = 0

    async def flood(transport: asyncio.Transport) -> None:
        nonlocal written
        part = framed(b"x" * 16384)
        transport.write(STREAM)
        while written < 64 << 20:
            if transport.get_write_buffer_size() > 1 << 20:
                await asyncio.sleep(0.001)
                continue
            transport.write(part)
            written += len(part)

    async with (
        Server(flood) as server,
        client_to(server) as client,
        aclosing(await relay(client, "POST", PATH)) as relayed,
    ):
        read = 0
        async for part in relayed:
            assert len(part) < 1 << 20
            read += len(part)
            before = -1
            while before != written:  # until it stands still
                before = written
                await asyncio.sleep(0.02)
            if read > 1 << 20:
                break
        # What the kernel holds of a loopback connection is a few MiB.
        assert written < 32 << 20


async def test_many_streams_at_once_are_all_passed_on() -> None:
    parts = [said(str(number)) for number in range(20)]
    async with Server(whole(*parts)) as one, Server(whole(*parts)) as two, client_to(one, two) as client:

        async def read() -> bytes:
            return b"".join([part async for part in await relay(client, "POST", PATH)])

        answers = await asyncio.gather(*(read() for _ in range(200)))
    assert set(answers) == {b"".join(parts)}
    assert [len(server.requests) for server in (one, two)] == [100, 100]
