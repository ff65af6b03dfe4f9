"""Several servers behind one address: who is chosen, who is left out, and what is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import cast

import httpx
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_vllm import ScriptedVLLM, prompt_of
from fakes.upstream_servers import NEVER, Script, Server, breaking, client_of, over, plain, silent, streaming
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import ConfigError, EngineUnavailable
from flarekit.serve.upstream.pool import FAILURES, Status, Upstreams, sticky
from flarekit.tokens import text_of

OFTEN = 0.01


class Changes(list[tuple[str, bool]]):
    """What `on_change` was told; `back` is set when somebody is readmitted."""

    def __init__(self) -> None:
        self.back = asyncio.Event()

    def __call__(self, url: str, healthy: bool) -> None:
        self.append((url, healthy))
        if healthy:
            self.back.set()


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@asynccontextmanager
async def requests_to(upstreams: Upstreams) -> AsyncIterator[Callable[[], Awaitable[httpx.Response]]]:
    """Starts requests that run until their responses are closed, at the latest on leaving."""
    responses = []
    client = client_of(upstreams)

    async def start() -> httpx.Response:
        response = await client.send(client.build_request("POST", "/v1/completions", content=b"{}"), stream=True)
        responses.append(response)
        return response

    yield start
    for response in responses:
        await response.aclose()


@asynccontextmanager
async def two_busy_servers() -> AsyncIterator[tuple[Upstreams, Callable[[], Awaitable[httpx.Response]]]]:
    """Two servers whose answers do not end, and what starts requests to them."""
    one, two = Server(streaming()), Server(streaming())
    async with one, two, over(one, two) as upstreams, requests_to(upstreams) as start:
        yield upstreams, start


def running(upstreams: Upstreams) -> list[int]:
    return [status.running for status in upstreams.status().values()]


def healthy(upstreams: Upstreams) -> list[bool]:
    return [status.healthy for status in upstreams.status().values()]


# --- who is chosen --------------------------------------------------------------------------------------------------


async def test_the_load_is_spread_and_a_closed_response_is_no_load() -> None:
    async with (
        Server(streaming()) as one,
        Server(streaming()) as two,
        Server(streaming()) as three,
        over(one, two, three) as upstreams,
    ):
        async with requests_to(upstreams) as start:
            responses = [await start() for _ in range(6)]
            assert running(upstreams) == [2, 2, 2]
            for place in (1, 4):  # both of the second server
                await responses[place].aclose()
            assert running(upstreams) == [2, 0, 2]
            for _ in range(2):
                await start()
            assert running(upstreams) == [2, 2, 2]
            assert [len(server.requests) for server in (one, two, three)] == [2, 4, 2]
        assert upstreams.status()[one.url] == Status(healthy=True, running=0)


async def test_the_requests_of_a_session_stay_on_one_server_and_its_first_goes_where_the_load_is_least() -> None:
    async with two_busy_servers() as (upstreams, start):
        await start()
        with sticky():
            for _ in range(3):
                await start()
            await asyncio.gather(start(), start())
        assert running(upstreams) == [1, 5]
        await start()
        assert running(upstreams) == [2, 5]


async def test_sessions_side_by_side_do_not_mix() -> None:
    async with two_busy_servers() as (upstreams, start):

        async def session() -> None:
            with sticky():
                for _ in range(3):
                    await start()

        await asyncio.gather(session(), session())
        assert running(upstreams) == [3, 3]


async def test_a_session_leaves_a_server_that_fails_for_good() -> None:
    async with Server(plain(status=503)) as one, Server() as two, over(one, two) as upstreams:
        client = client_of(upstreams)
        with sticky():
            statuses = [(await client.post("/v1/completions")).status_code for _ in range(4)]
        assert statuses == [503, 200, 200, 200]


async def test_a_session_holds_one_server_of_each_model() -> None:
    async with Server() as weak, Server() as strong, over(weak) as some, over(strong) as others:
        with sticky():
            for upstreams in (some, others, some):
                await client_of(upstreams).get("/v1/models")
    assert (len(weak.requests), len(strong.requests)) == (2, 1)


async def test_requests_are_readdressed_to_the_chosen_server() -> None:
    async with Server() as one, Server() as two, Upstreams([f"{one.url}/a/v1", f"{two.url}/b/"]) as upstreams:
        async with client_of(upstreams) as client, client.stream("GET", "/v1/models?x=%2F"):
            await client.post("/tokenize", content=b"body")
        assert one.requests[0][0].startswith("GET /a/v1/models?x=%2F HTTP/1.1")
        assert two.requests[0][0].startswith("POST /b/tokenize HTTP/1.1")
        assert f"host: 127.0.0.1:{two.port}\r\n" in two.requests[0][0].lower()
        assert two.requests[0][1] == b"body"


# --- who is left out ------------------------------------------------------------------------------------------------


async def test_a_dead_server_is_ejected_and_readmitted_when_it_is_back() -> None:
    changes = Changes()
    async with Server() as one:
        pass
    async with Server() as two, over(one, two, on_change=changes, probe_every=OFTEN) as upstreams:
        client = client_of(upstreams)
        with pytest.raises(httpx.ConnectError, match=str(one.port)):
            await client.get("/v1/models")
        assert [(await client.get("/v1/models")).status_code for _ in range(3)] == [200] * 3
        assert changes == [(one.url, False)]
        async with Server(port=one.port) as back:
            await asyncio.wait_for(changes.back.wait(), 10)
            await client.get("/v1/models")
            assert len(back.requests) == 1
    assert changes == [(one.url, False), (one.url, True)]
    assert len(two.requests) == 3


async def test_a_server_that_says_it_is_not_well_stays_out() -> None:
    changes, asked = Changes(), asyncio.Semaphore(0)

    async def unwell(transport: asyncio.Transport) -> None:
        asked.release()
        await plain(status=503)(transport)

    unwell_one = Server(plain(status=503), health=unwell)
    async with unwell_one as one, Server() as two, over(one, two, on_change=changes, probe_every=OFTEN) as upstreams:
        await client_of(upstreams).get("/v1/models")
        for _ in range(3):
            await asyncio.wait_for(asked.acquire(), 10)
        assert healthy(upstreams) == [False, True]
        one.health = plain(status=404)  # as a server answers that has no such page
        await asyncio.wait_for(changes.back.wait(), 10)
        assert healthy(upstreams) == [True, True]


@pytest.mark.parametrize("script", [breaking, silent, plain(status=502), plain(status=503), plain(status=504)])
async def test_a_server_is_ejected_by_what_says_that_it_is_not_there(script: Script) -> None:
    errors: list[str] = []
    async with Server(script) as one, Server() as two, over(one, two, on_error=errors.append) as upstreams:
        try:
            answer = await client_of(upstreams, timeout=0.05).post("/v1/completions")
            assert answer.status_code > 500
        except FAILURES:
            pass
        assert upstreams.status() == {one.url: Status(False, 0), two.url: Status(True, 0)}
    assert errors == [one.url]


async def test_a_server_that_does_not_even_read_a_long_prompt_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        async with Upstreams([f"http://127.0.0.1:{stuck.getsockname()[1]}"], probe_every=NEVER) as upstreams:
            with pytest.raises(httpx.ReadTimeout):
                await client_of(upstreams, timeout=0.05).post("/v1/completions", content=b"x" * (16 << 20))
            assert running(upstreams) == [0]


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
async def test_other_answers_eject_nobody(status: int) -> None:
    async with Server(plain(status=status)) as one, over(one) as upstreams:
        await client_of(upstreams).post("/v1/completions")
        assert upstreams.status() == {one.url: Status(True, 0)}


async def test_where_all_are_out_they_are_tried_in_turn_and_one_that_answers_is_back() -> None:
    changes = Changes()
    async with Server(plain(status=503)) as one, Server(plain(status=503)) as two, Server(plain(status=503)) as three:
        servers = [one, two, three]
        async with over(*servers, on_change=changes) as upstreams:
            client = client_of(upstreams)
            for _ in range(6):
                await client.post("/v1/completions")
            assert [len(server.requests) for server in servers] == [2, 2, 2]
            assert changes == [(server.url, False) for server in servers]
            two.script = plain()
            statuses = [(await client.post("/v1/completions")).status_code for _ in range(4)]
            assert statuses == [503, 200, 200, 200]
            assert healthy(upstreams) == [False, True, False]


async def test_leaving_a_response_while_it_is_read_is_not_the_servers_fault() -> None:
    one = Server(streaming(b"data: 1\n\n"))
    async with one, over(one) as upstreams, requests_to(upstreams) as start:
        response = await start()
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in response.aiter_raw():
                begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        await response.aclose()
        with pytest.raises(httpx.ReadError):
            await reading
        assert upstreams.status() == {one.url: Status(True, 0)}


# --- an engine over several servers ---------------------------------------------------------------------------------


async def test_an_engine_answers_as_long_as_one_of_its_servers_does() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(ScriptedVLLM()) for _ in range(2)]
        upstreams = Upstreams([server.url for server in servers], probe_every=NEVER)
        async with upstreams, VLLMEngine(upstreams.url, transport=upstreams) as engine:
            prompt = await engine.tokenize("Question: Who?\nAnswer:")

            async def answer() -> str:
                async with engine.stream(prompt, max_tokens=99) as stream:
                    return text_of([token async for token in stream])

            before = await asyncio.gather(*(answer() for _ in range(4)))
            assert all(server.completions for server in servers)
            servers[0].__exit__(None, None, None)  # what is kept alive is still served, nothing new is
            after = await asyncio.gather(*(answer() for _ in range(4)))
    assert {*before, *after} == {" It has 4 letters. So the answer is Who."}
    assert prompt_of(servers[1].completions[0]).startswith("Question")


async def test_an_engine_says_when_none_of_its_servers_is_there() -> None:
    async with Server() as one, Server() as two:
        pass
    async with over(one, two) as upstreams:
        with pytest.raises(EngineUnavailable, match="is a server running there"):
            await VLLMEngine(upstreams.url, transport=upstreams).__aenter__()
        assert healthy(upstreams) == [False, False]


# --- what is counted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [silent, streaming(b"data: 1\n\n")])
async def test_a_cancelled_request_frees_its_count_and_its_connection(script: Script) -> None:
    async with Server(script) as one, over(one) as upstreams:
        client = client_of(upstreams)
        reading = asyncio.create_task(client.post("/v1/completions"))
        await asyncio.wait_for(one.asked.wait(), 10)
        assert running(upstreams) == [1]
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert upstreams.status() == {one.url: Status(True, 0)}
        await asyncio.wait_for(one.left.wait(), 10)


async def test_closing_a_response_twice_counts_once() -> None:
    async with Server(streaming()) as one, over(one) as upstreams, requests_to(upstreams) as start:
        first, _second = await start(), await start()
        stream = cast(httpx.AsyncByteStream, first.stream)
        await stream.aclose()
        await stream.aclose()
        assert running(upstreams) == [1]


class Instant(httpx.AsyncBaseTransport):
    """Answers without a network: as `ending` says."""

    def __init__(self) -> None:
        self.ending = "answer"
        self.chosen = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.chosen = f"http://{request.url.host}"
        if self.ending == "error":
            raise httpx.ConnectError("no")
        if self.ending == "cancelled":
            raise asyncio.CancelledError
        return httpx.Response(503 if self.ending == "busy" else 200, content=b"ok")


ENDINGS = st.sampled_from(["answer", "answer", "error", "busy", "cancelled"])


@given(servers=st.integers(1, 4), steps=st.lists(st.tuples(ENDINGS, st.integers(0, 99), st.booleans()), max_size=40))
async def test_counts_are_right_whatever_begins_and_ends_when(
    servers: int, steps: Sequence[tuple[str, int, bool]]
) -> None:
    wire = Instant()
    urls = [f"http://{number}.test" for number in range(servers)]
    upstreams = Upstreams(urls, transport=wire, probe_every=NEVER)
    async with upstreams, requests_to(upstreams) as start:
        open_: list[tuple[str, httpx.Response]] = []
        for ending, place, begins in steps:
            if begins or not open_:
                loads = {url: status.running for url, status in upstreams.status().items() if status.healthy}
                wire.ending = ending
                with suppress(httpx.ConnectError, asyncio.CancelledError):
                    response = await start()
                    open_.append((wire.chosen, response))
                assert not loads or loads.get(wire.chosen) == min(loads.values()), "the fewest of the healthy"
            else:
                _, response = open_.pop(place % len(open_))
                await response.aclose()
            assert running(upstreams) == [sum(chosen == url for chosen, _ in open_) for url in urls]


# --- addresses and connections --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ([], "no engine's URL is given"),
        (["localhost:8000"], "an engine's URL is expected, such as http://localhost:8000, not 'localhost:8000'"),
        (["http://"], "not 'http://'"),
        (["http://host:port"], "not 'http://host:port'"),
        (["http://host/?a=1"], "such as"),
        (["http://host:1/v1", "http://other", "http://host:1/"], "the engine's URL http://host:1 is given twice"),
    ],
)
def test_an_address_that_is_none_or_is_there_twice_is_refused_in_one_line(urls: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as error:
        Upstreams(urls)
    assert message in str(error.value)


async def test_clients_share_connections_which_close_with_the_last_context() -> None:
    async with Server() as one:
        async with over(one) as upstreams:
            async with client_of(upstreams) as first:
                await first.get("/v1/models")
            second = client_of(upstreams)
            await second.get("/v1/models")
            await second.aclose()
            await client_of(upstreams).get("/v1/models")
            assert len(one.connections) == 1, "the connection of the first was used again"
            assert not one.left.is_set()
        await asyncio.wait_for(one.left.wait(), 10)


async def test_an_answer_is_what_the_server_said_and_nothing_is_followed_or_remembered() -> None:
    headers = "Location: /elsewhere\r\nSet-Cookie: a=b\r\n"
    async with Server(plain(status=307, headers=headers)) as one, over(one) as upstreams:
        for _ in range(2):
            response = await client_of(upstreams).get("/v1/models", headers={"accept": "x/y"})
            assert (response.status_code, response.headers["location"]) == (307, "/elsewhere")
    assert [head.partition(" HTTP")[0] for head, _ in one.requests] == ["GET /v1/models"] * 2
    last = one.requests[-1][0].lower()
    assert "cookie" not in last
    assert last.count("accept:") == last.count("user-agent:") == last.count("host:") == 1


async def test_this_machines_own_ports_are_not_asked_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as one, over(one) as upstreams:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert (await client_of(upstreams).get("/v1/models")).text == "ok"


async def test_a_proxy_of_the_environment_is_asked_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as proxy, Upstreams(["http://vllm.test:8000"]) as upstreams:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert (await client_of(upstreams).get("/v1/models")).text == "ok"
    assert proxy.requests[0][0].startswith("GET http://vllm.test:8000/v1/models")
