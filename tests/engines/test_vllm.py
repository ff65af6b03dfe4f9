"""The engine against vLLM's protocol.

Most of it is scripted, because a real server cannot be made to pack tokens, to refuse or to break off when it is told
to: over a transport without a network, or on a socket where the wire itself fails. What a real server does is below.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
import stamina
from conftest import TestServer
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_vllm import Body, Drop, ScriptedVLLM, chunk, event, events, usage
from flarekit.engines.local.doctor import examine
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import (
    ConfigError,
    EngineError,
    EngineUnavailable,
    MissingCapability,
    PromptTooLong,
    RequestRejected,
    StreamBroken,
    UnknownModel,
)
from flarekit.eval.data.world import build_world
from flarekit.policies import parse_policy
from flarekit.retrievers import BM25Retriever
from flarekit.session.session import Session
from flarekit.tokens import Token, Usage, text_of

URL = "http://vllm.test:8000"
PARIS = (chunk(" Pa", [7]), chunk("ris", [8]), chunk(".", [9], finish="stop"))
Answer = httpx.Response | Exception


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Retries as many as the engine asks for, without their waits."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


def sse(content: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=content)


def refusal(status: int, message: str = "no", param: str | None = None) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "X", "param": param, "code": status}})


class Server(httpx.AsyncBaseTransport):
    """Gives the enqueued answers to `/v1/completions`, the last one again and again."""

    def __init__(self, *answers: Answer, **pages: Any) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        self._pages = {"models": {"data": [{"id": "tiny", "max_model_len": 100}]}, "metrics": None} | pages

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name in self._pages:
            page = self._pages[name]
            return page if isinstance(page, httpx.Response) else httpx.Response(200, json=page)
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def engine(server: Server, model: str | None = None, **options: Any) -> VLLMEngine:
    return VLLMEngine(URL, model, transport=server, **options)


async def read(server: Server, **options: Any) -> tuple[list[Token], Usage, str]:
    async with engine(server) as tiny, tiny.stream([1, 2], max_tokens=5, **options) as stream:
        return [token async for token in stream], stream.usage, stream.finish


async def failure(kind: type[EngineError], server: Server) -> str:
    """The message of the error that a stream of this server ends with."""
    with pytest.raises(kind) as error:
        await read(server)
    assert type(error.value) is kind
    return checked(error.value)


def checked(error: Exception, url: str = URL) -> str:
    """An error's message, which is one line and names the server."""
    message = str(error)
    assert url in message
    assert "\n" not in message
    return message


# --- what a stream says ---------------------------------------------------------------------------------------------


async def test_tokens_come_with_ids_and_probabilities() -> None:
    tokens, counted, finish = await read(Server(sse(events(*PARIS, usage(2, 3, cached=1)))))
    assert text_of(tokens) == " Paris."
    assert [token.id for token in tokens] == [7, 8, 9]
    assert tokens[0].logprob == tokens[0].top["token_id:7"] == pytest.approx(-0.0513, abs=1e-4)
    assert set(tokens[0].top) == {"token_id:7", "token_id:126"}
    assert (counted, finish) == (Usage(prompt=2, cached=1, completion=3), "stop")


async def test_a_request_asks_for_what_signals_need() -> None:
    server = Server(sse(events(*PARIS)))
    tiny = engine(server, api_key="secret", priority=3)
    async with tiny, tiny.stream([1, 2], max_tokens=500, stop=["\n"], top_logprobs=20) as stream:
        _ = [token async for token in stream]
    sent = httpx.Response(200, content=server.requests[0].content).json()
    assert (sent["prompt"], sent["stop"], sent["logprobs"], sent["temperature"]) == ([1, 2], ["\n"], 20, 0)
    assert sent["return_token_ids"]
    assert sent["return_tokens_as_token_ids"], "texts of tokens that are parts of a character are one"
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["max_tokens"] == 98, "no more than the context has room for"
    assert sent["priority"] == 3
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


async def test_a_server_that_does_not_count_cached_tokens_leaves_them_unknown() -> None:
    _, counted, _ = await read(Server(sse(events(*PARIS, usage(2, 3)))))
    assert (counted.prompt, counted.cached, counted.completion) == (2, None, 3)


async def test_a_stream_at_its_token_limit_says_so() -> None:
    _, _, finish = await read(Server(sse(events(chunk("a", [1], finish="length")))))
    assert finish == "length"


async def test_a_stream_that_is_left_early_is_closed_and_counts_what_came() -> None:
    tiny = engine(Server(sse(events(*PARIS, usage(2, 3)))))
    async with tiny, tiny.stream([1, 2], max_tokens=5) as stream:
        async for _ in stream:
            break
    counted = stream.usage
    assert stream.finish == "closed"
    assert (counted.prompt, counted.cached, counted.completion) == (2, None, 1)


CACHE = httpx.Response(
    200, text='vllm:cache_config_info{block_size="4",enable_prefix_caching="True",num_gpu_blocks="9"} 1.0\n'
)


async def test_what_a_closed_stream_read_from_the_prefix_cache_is_reckoned() -> None:
    async with engine(Server(sse(events(*PARIS)), metrics=CACHE)) as tiny:
        counts = []
        for _ in range(2):
            async with tiny.stream(range(10), max_tokens=5) as stream:
                async for _token in stream:
                    break
            counts.append((stream.usage.cached, stream.usage.estimated))
    assert counts == [(0, True), (8, True)]


async def test_several_tokens_in_one_chunk_are_told_apart() -> None:
    packed = chunk(" Paris.", [7, 8, 9], strings=[" Pa", "ris", "."], finish="stop")
    tokens, _, _ = await read(Server(sse(events(packed))))
    assert [(token.text, token.id) for token in tokens] == [(" Pa", 7), ("ris", 8), (".", 9)]


async def test_a_packed_chunk_does_not_end_the_stream_before_its_last_token() -> None:
    packed = chunk("ab", [1, 2], strings=["a", "b"], finish="stop")
    async with engine(Server(sse(events(packed)))) as tiny, tiny.stream([1], max_tokens=5) as stream:
        assert [(token.text, stream.finish) async for token in stream] == [("a", "closed"), ("b", "stop")]


@given(st.lists(st.text(max_size=4), min_size=2, max_size=6), st.data())
async def test_a_packed_chunk_has_one_token_an_id_and_no_other_text_than_its_own(
    strings: Sequence[str], data: st.DataObject
) -> None:
    # A stop string is cut off the chunk's text only; some tokenizers drop a leading space of a token on its own.
    whole = "".join(strings)
    text = data.draw(st.sampled_from([whole, whole[:-1], whole.strip(), " ".join(strings)]))
    packed = chunk(text, range(len(strings)), strings=strings, finish="stop")
    tokens, _, _ = await read(Server(sse(events(packed))))
    assert text_of(tokens) == text
    assert [token.id for token in tokens] == list(range(len(strings)))
    if text == whole:
        assert [token.text for token in tokens] == strings


async def test_a_character_split_over_tokens_comes_with_the_last_of_them() -> None:
    stream = events(chunk("", [1]), chunk("", [2]), chunk("語", [3], finish="stop"))
    tokens, _, _ = await read(Server(sse(stream)))
    assert [(token.text, token.id) for token in tokens] == [("", 1), ("", 2), ("語", 3)]


async def test_a_last_chunk_without_tokens_ends_the_stream() -> None:
    last = {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}
    tokens, _, finish = await read(Server(sse(events(chunk("a", [1]), last))))
    assert (len(tokens), finish) == (1, "stop")


async def test_leaving_the_context_closes_the_response() -> None:
    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield event(PARIS[0])

        async def aclose(self) -> None:
            self.closed = True

    body = Endless()
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body)
    async with engine(Server(response)) as tiny:
        async with tiny.stream([1], max_tokens=5) as stream:
            async for _ in stream:
                break
            assert not body.closed
        assert body.closed


async def test_scores_are_read_by_token_id() -> None:
    scored = [None, {"5": {"logprob": -1.0}, "9": {"logprob": -0.1}}, {"6": {"logprob": -2.0}}]
    server = Server(httpx.Response(200, json={"choices": [{"prompt_logprobs": scored}]}))
    async with engine(server) as tiny:
        assert await tiny.score([4, 5, 6]) == [-1.0, -2.0]


# --- trying again ---------------------------------------------------------------------------------------------------

PASSING = {
    "connection refused": httpx.ConnectError("All connection attempts failed"),
    "connection reset": httpx.ReadError(""),
    "no answer in time": httpx.ReadTimeout(""),
    "busy": refusal(429),
    "an error inside": refusal(500, "first line\nsecond line"),
    "starting": httpx.Response(503, content=b""),
    "a proxy's page": httpx.Response(502, content=b"<html>\n<title>Bad gateway</title>"),
}


@pytest.mark.parametrize("passing", PASSING.values(), ids=PASSING)
async def test_a_passing_failure_is_tried_again(passing: Answer) -> None:
    server = Server(passing, passing, sse(events(*PARIS)))
    tokens, _, _ = await read(server)
    assert (len(tokens), len(server.requests)) == (3, 3)


@pytest.mark.parametrize("lasting", PASSING.values(), ids=PASSING)
async def test_a_failure_that_lasts_is_given_up(lasting: Answer) -> None:
    server = Server(lasting)
    await failure(EngineUnavailable, server)
    assert len(server.requests) == 4


async def test_each_wait_is_longer_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    with stamina.set_testing(False):
        await failure(EngineUnavailable, Server(refusal(503)))
    backed_off = [wait for wait in waits if wait]
    assert len(backed_off) == 3
    assert all(wait >= 0.2 * 2**place for place, wait in enumerate(backed_off))


async def test_a_stream_that_has_begun_is_not_asked_for_again() -> None:
    server = Server(sse(event(PARIS[0])))
    await failure(StreamBroken, server)
    assert len(server.requests) == 1


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal(404, "The model `tiny` does not exist."), UnknownModel, "does not exist"),
        (refusal(400, "This model's maximum context is 100.", "input_tokens"), PromptTooLong, "maximum context"),
        (refusal(400, "logprobs must be at most 5", "logprobs"), MissingCapability, "at most 5"),
        (refusal(400, "stop: bad\nvalue", "stop"), RequestRejected, "status 400 (stop: bad)"),
        (refusal(401, ""), RequestRejected, "status 401"),
        (httpx.Response(403, content=b"\n \nno entry\n"), RequestRejected, "no entry"),
        (httpx.Response(418, json=["teapot"]), RequestRejected, "teapot"),
    ],
)
async def test_a_refusal_is_not_tried_again(answer: Answer, kind: type[EngineError], says: str) -> None:
    server = Server(answer)
    assert says in await failure(kind, server)
    assert len(server.requests) == 1


def without(key: str) -> dict[str, Any]:
    poor = chunk("a", [1])
    del poor["choices"][0][key]
    return poor


@pytest.mark.parametrize(
    ("key", "says"), [("logprobs", "sends no log-probabilities"), ("token_ids", "sends no token ids")]
)
async def test_a_server_that_leaves_out_what_signals_need_is_named(key: str, says: str) -> None:
    message = await failure(MissingCapability, Server(sse(events(without(key)))))
    assert says in message
    assert "flarekit doctor" in message


BROKEN = {
    "malformed JSON": b"data: {nonsense\n\n",
    "not an object": event([1]),
    "a number": event(1),
    "no choices": event({"hello": 1}),
    "lists of different lengths": event(chunk("ab", [1, 2], strings=["a"])),
    "fewer probabilities than ids": event(chunk("ab", [1, 2, 3], strings=["a", "b"])),
    "an error object": event({"error": {"message": "the engine died\nTraceback ...", "code": 500}}),
    "an error text": event({"error": "the engine died\nTraceback ..."}),
    "usage without counts": event({"choices": [], "usage": {"total": 3}}),
    "not UTF-8": b'data: {"choices": "\xff"}\n\n',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_goes_wrong_says_so_after_its_good_tokens(broken: bytes) -> None:
    async with engine(Server(sse(event(PARIS[0]) + broken))) as tiny, tiny.stream([1, 2], max_tokens=5) as stream:
        tokens = aiter(stream)
        assert (await anext(tokens)).text == " Pa"
        with pytest.raises(StreamBroken) as error:
            await anext(tokens)
    assert "tiny" in checked(error.value)


@given(st.integers(0, events(*PARIS).index(b"data: [DONE]") - 1))
async def test_a_stream_cut_anywhere_before_its_last_token_is_broken(end: int) -> None:
    await failure(StreamBroken, Server(sse(events(*PARIS)[:end])))


async def test_an_answer_that_is_no_stream_is_broken() -> None:
    await failure(StreamBroken, Server(httpx.Response(200, json={"choices": []})))


@pytest.mark.parametrize("length", [100, 5000])
async def test_a_prompt_beyond_the_context_is_not_even_sent(length: int) -> None:
    server = Server(sse(events(*PARIS)))
    async with engine(server) as tiny:
        with pytest.raises(PromptTooLong) as error:
            async with tiny.stream([1] * length, max_tokens=5):
                pass
    assert f"the prompt has {length} tokens and the context holds 100" in checked(error.value)
    assert not server.requests


def next_token(id_: int, **top: float) -> httpx.Response:
    """What a server answers that generated the token `id_`, with the log-probabilities `top` of tokens such as t7."""
    told = {f"token_id:{key.removeprefix('t')}": value for key, value in top.items()}
    logprobs = {"tokens": [f"token_id:{id_}"], "token_logprobs": [told[f"token_id:{id_}"]], "top_logprobs": [told]}
    counted = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}
    return httpx.Response(200, json={"choices": [{"logprobs": logprobs}], "usage": counted})


async def test_chosen_tokens_are_read_in_the_order_in_which_they_were_asked_for() -> None:
    server = Server(next_token(7, t7=-0.5, t9=-2.0, t4=-9.0))
    async with engine(server) as tiny:
        assert await tiny.choose([1, 2, 3], [9, 7]) == ([-2.0, -0.5], Usage(3, 2, 1))
    body = json.loads(server.requests[0].content)
    assert (body["logprobs"], body["max_tokens"]) == (20, 1)


async def test_a_chosen_token_that_is_unlikely_is_asked_for_alone() -> None:
    server = Server(next_token(7, t7=-0.5), next_token(9, t9=-12.0))
    async with engine(server) as tiny:
        assert await tiny.choose([1, 2, 3], [9, 7]) == ([-12.0, -0.5], Usage(6, 4, 2))
    body = json.loads(server.requests[1].content)
    assert (body["allowed_token_ids"], body["logprobs"], body["max_tokens"]) == ([9], 0, 1)


async def test_a_server_that_does_not_know_allowed_tokens_is_told_as_such() -> None:
    async with engine(Server(next_token(7, t7=-0.5), next_token(7, t7=-0.5))) as tiny:
        with pytest.raises(MissingCapability, match="does not know allowed_token_ids"):
            await tiny.choose([1, 2, 3], [9, 7])


async def test_a_sampled_stream_has_a_temperature_and_a_seed() -> None:
    server = Server(sse(events(*PARIS, usage(2, 3))))
    async with engine(server) as tiny, tiny.stream([1, 2], max_tokens=5, temperature=0.7, seed=3) as stream:
        assert [token.id async for token in stream] == [7, 8, 9]
    body = json.loads(server.requests[0].content)
    assert (body["temperature"], body["seed"]) == (0.7, 3)


async def test_a_server_without_prompt_logprobs_cannot_score() -> None:
    server = Server(httpx.Response(200, json={"choices": [{"text": "x"}]}))
    async with engine(server) as tiny:
        with pytest.raises(MissingCapability) as error:
            await tiny.score([1, 2])
    checked(error.value)


# --- finding the server ---------------------------------------------------------------------------------------------

TWO = {"data": [{"id": "small"}, {"id": "large", "max_model_len": 10}]}


async def entered(server: Server, model: str | None = None) -> VLLMEngine:
    async with engine(server, model) as entered:
        return entered


async def test_the_only_model_is_taken() -> None:
    tiny = await entered(Server())
    assert (tiny.model, tiny.max_model_len) == ("tiny", 100)


async def test_one_of_several_models_is_chosen_by_name() -> None:
    assert (await entered(Server(models=TWO), "large")).max_model_len == 10


@pytest.mark.parametrize(
    ("page", "model", "says"),
    [
        (TWO, None, "several models, name one of them: small, large"),
        (TWO, "huge", "does not serve 'huge', but small, large"),
        ({"data": []}, "huge", "does not serve 'huge', but no model"),
        ({"data": []}, None, "no model"),
    ],
)
async def test_a_model_that_is_not_served_is_refused_with_those_that_are(page: Any, model: str, says: str) -> None:
    with pytest.raises(UnknownModel) as error:
        await entered(Server(models=page), model)
    assert says in checked(error.value)


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(200, content=b"<!doctype html>\n<title>It works!</title>"),
        httpx.Response(404, content=b"<!doctype html>\n<title>Not found</title>"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(200, json={"models": []}),
        httpx.Response(200, json=["tiny"]),
        httpx.Response(200, json={"data": ["tiny"]}),
        httpx.Response(200, json=None),
        httpx.Response(301, headers={"Location": "https://elsewhere.test"}),
    ],
)
async def test_what_is_no_vllm_server_is_told_as_such(page: httpx.Response) -> None:
    with pytest.raises(RequestRejected) as error:
        await entered(Server(models=page))
    assert "is this a vLLM server?" in checked(error.value)


async def test_a_server_that_does_not_tokenize_is_told_as_such() -> None:
    async with engine(Server(tokenize={"ids": []})) as tiny:
        with pytest.raises(RequestRejected) as error:
            await tiny.tokenize("Hello")
    checked(error.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://host:port", "http://[::1", "/v1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        VLLMEngine(url)
    assert repr(url) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}/v1", f"{URL}/v1/"])
def test_a_url_is_taken_with_or_without_its_version(url: str) -> None:
    assert VLLMEngine(url).url == URL


async def generate(real: VLLMEngine, prompt: Sequence[int], count: int) -> list[Token]:
    async with real.stream(prompt, max_tokens=count) as stream:
        return [token async for token in stream]


# --- the wire -------------------------------------------------------------------------------------------------------


def half_a_line(_: Body) -> Iterator[bytes]:
    yield event(PARIS[0]) + event(PARIS[1])[:20]


def dropped(_: Body) -> Iterator[bytes]:
    yield event(PARIS[0])
    raise Drop


def silent(_: Body) -> Iterator[bytes]:
    yield event(PARIS[0])
    time.sleep(5)


def deaf(_: Body) -> Iterator[bytes]:
    time.sleep(5)
    yield event(PARIS[0])


async def wire_failure(script: Callable[[Body], Iterator[bytes]], kind: type[EngineError]) -> str:
    with ScriptedVLLM(script) as server, pytest.raises(kind) as error:
        async with VLLMEngine(server.url, timeout=0.3, attempts=2) as real:
            await generate(real, [1], 5)
    assert type(error.value) is kind
    return checked(error.value, server.url)


@pytest.mark.parametrize("script", [half_a_line, dropped])
async def test_a_connection_that_drops_breaks_the_stream(script: Callable[[Body], Iterator[bytes]]) -> None:
    await wire_failure(script, StreamBroken)


async def test_a_stream_that_falls_silent_is_broken() -> None:
    assert "fell silent" in await wire_failure(silent, StreamBroken)


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    assert "no answer within the time-out" in await wire_failure(deaf, EngineUnavailable)


async def test_a_port_where_nothing_listens_is_unavailable() -> None:
    with ScriptedVLLM() as server:
        pass
    with pytest.raises(EngineUnavailable) as error:
        async with VLLMEngine(server.url):
            pass
    assert "is a server running there?" in checked(error.value, server.url)


# --- a real server --------------------------------------------------------------------------------------------------

CAPITAL = "The capital of France is"


@pytest.mark.vllm
async def test_a_real_stream_has_all_that_signals_need(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize(CAPITAL)
        async with real.stream(prompt, max_tokens=8) as stream:
            tokens = [token async for token in stream]
    assert (real.model, stream.finish) == (vllm_server.model, "length")
    assert (stream.usage.prompt, stream.usage.completion) == (len(prompt), len(tokens)) == (len(prompt), 8)
    assert "Paris" in text_of(tokens)
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top) >= 9
        assert token.logprob == max(token.top.values()), "greedy decoding takes the likeliest"


@pytest.mark.vllm
async def test_a_real_model_goes_on_from_ids_as_if_it_had_not_been_stopped(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize("Once upon a time in Zürich, 東京 and Kraków")
        whole = await generate(real, prompt, 24)
        for cut in (1, 7, 16):
            ids = [*prompt, *(token.id for token in whole[:cut])]
            rest = await generate(real, ids, 24 - cut)
            assert [(t.id, t.text) for t in whole] == [(t.id, t.text) for t in [*whole[:cut], *rest]]


async def running(real: VLLMEngine) -> float:
    found = re.search(r"^vllm:num_requests_running\S* (\S+)", (await real.get("/metrics")).text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.vllm
async def test_closing_a_stream_stops_a_real_server_within_two_seconds(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        async with real.stream(await real.tokenize("One, two, three, four,"), max_tokens=2000) as stream:
            async for _ in stream:
                break
            assert await running(real) >= 1
        closed = time.monotonic()
        while await running(real):
            assert time.monotonic() - closed < 2
            await asyncio.sleep(0.05)


@pytest.mark.vllm
async def test_real_chosen_tokens_have_the_probabilities_that_the_stream_tells(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize("The capital of France is the city of")
        async with real.stream(prompt, max_tokens=1) as stream:
            [token] = [token async for token in stream]
        unlikely = (await real.tokenize(" banana"))[-1]
        (likely, not_likely), counted = await real.choose(prompt, [token.id, unlikely])
    assert likely == pytest.approx(token.logprob, abs=1e-3)
    assert not_likely < likely
    assert (counted.prompt, counted.completion) == (2 * len(prompt), 2)


@pytest.mark.vllm
async def test_streams_keep_their_log_probabilities_while_others_ask_for_chosen_tokens(vllm_server: TestServer) -> None:
    """What one request asks for must not change what its neighbours in a batch are sent."""
    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize("Once upon a time there was")
        banana = (await real.tokenize(" banana"))[-1]

        async def streamed() -> list[Token]:
            async with real.stream(prompt, max_tokens=40) as stream:
                return [token async for token in stream]

        alone = await streamed()
        asking = asyncio.gather(*(real.choose(prompt[:4], [banana]) for _ in range(8)))
        together = await streamed()
        await asking
    assert [token.id for token in together] == [token.id for token in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.top == pytest.approx(other.top, abs=1e-3)


@pytest.mark.vllm
async def test_a_real_sample_is_repeated_by_its_seed(vllm_server: TestServer) -> None:
    async def sample(seed: int) -> list[int]:
        async with real.stream(prompt, max_tokens=12, temperature=1.0, seed=seed) as stream:
            return [token.id async for token in stream]

    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize("Once upon a time")
        assert await sample(1) == await sample(1)
        assert len({tuple(await sample(seed)) for seed in range(1, 6)}) > 1


@pytest.mark.vllm
async def test_the_server_that_flarekit_starts_survives_seeded_samples_of_long_prompts(vllm_server: TestServer) -> None:
    """vLLM's CPU build dies of a seed where a prompt is read in more than one step (`engines.local.launch`)."""

    async def sample(seed: int) -> int:
        prompt = [1000 + seed, *(100 + (7 * place + seed) % 9000 for place in range(700))]
        async with real.stream(prompt, max_tokens=2, temperature=0.7, seed=seed) as stream:
            return len([token async for token in stream])

    async with VLLMEngine(vllm_server.url) as real:
        assert all(await asyncio.gather(*map(sample, range(1, 7))))


@pytest.mark.vllm
async def test_a_real_score_is_one_log_probability_a_token_after_the_first(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        likely, unlikely = await real.tokenize(f"{CAPITAL} Paris"), await real.tokenize(f"{CAPITAL} banana")
        scores = await real.score(likely)
        assert len(scores) == len(likely) - 1
        assert max(scores) <= 0
        assert scores[-1] > (await real.score(unlikely))[len(scores) - 1]


@pytest.mark.vllm
async def test_a_real_prompt_beyond_the_context_is_refused(vllm_server: TestServer) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        real.max_model_len = 10**6  # so that the server itself has to say it
        with pytest.raises(PromptTooLong) as error:
            await generate(real, [5] * 5000, 4)
    checked(error.value, real.url)


@pytest.mark.vllm
async def test_the_server_that_flarekit_starts_is_found_good(vllm_server: TestServer) -> None:
    findings = await examine(vllm_server.url)
    assert [finding for finding in findings if not finding.good] == []
    assert len(findings) == 6


@pytest.mark.vllm
async def test_confident_drafts_are_kept_token_for_token(vllm_server: TestServer) -> None:
    """FLARE that doubts nothing is rag: the same tokens, generated once; FLARE that doubts everything is not."""
    world = build_world()
    retriever = BM25Retriever(world.corpus)
    async with VLLMEngine(vllm_server.url) as engine:
        for question in world.questions[:4]:
            traces = {
                spec: await Session(parse_policy(spec), question.text, weak=engine, retriever=retriever).run()
                for spec in ("rag", "flare:theta=0", "flare:theta=1")
            }
            sure, rag, unsure = traces["flare:theta=0"], traces["rag"], traces["flare:theta=1"]
            assert [token.id for token in sure.segments[0].tokens] == [token.id for token in rag.segments[0].tokens]
            assert len(sure.segments) == len(rag.segments) == 1
            # At most the one token that showed that the answer had ended.
            assert sure.costs().discarded_tokens == rag.costs().discarded_tokens <= 1
            assert unsure.costs().retrievals > 1
