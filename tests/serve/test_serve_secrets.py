"""What clients and logs are told when things fail, what of a request reaches the engine, and answers without end."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_vllm import Body, Refusal, ScriptedVLLM, event, events, saying
from fakes.serving import serving
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import (
    ConfigError,
    DataError,
    EngineError,
    EngineUnavailable,
    MissingCapability,
    PromptTooLong,
    RequestRejected,
    RetrieverFailed,
    StreamBroken,
    UnknownModel,
)
from flarekit.io.addresses import shown
from flarekit.io.refusals import Events
from flarekit.retrieval import Hit
from flarekit.serve import server as start
from flarekit.serve.failures import Ending, failure_of
from flarekit.serve.observers import logs
from flarekit.serve.protocol.bounds import MOST_ANSWERS, bounded
from flarekit.serve.protocol.request import NotUnderstood

SECRET = "PrivateQuestion"
ADDRESS = "10.20.30.40"
WHERE = f"http://{ADDRESS}:9200/passages"
ASKED = [{"role": "user", "content": f"Where is {SECRET}?"}]
ANSWER = "In Graz. It is a city."


# --- one place for all failures ---------------------------------------------------------------------------------------

KINDS = [
    EngineUnavailable,
    UnknownModel,
    PromptTooLong,
    MissingCapability,
    RequestRejected,
    StreamBroken,
    RetrieverFailed,
]


@pytest.mark.parametrize("kind", [EngineError, RetrieverFailed, *KINDS])
@pytest.mark.parametrize("status", [None, 301, 400, 401, 403, 404, 413, 418, 422, 429, 500, 502, 503, 504])
def test_no_failure_of_an_engine_tells_its_address(kind: type[EngineError], status: int | None) -> None:
    for error in (
        kind("it failed", where=WHERE, quote=f"see {WHERE} or {ADDRESS}:9200 or http://u:p@{ADDRESS}", status=status),
        kind(f"{WHERE}: it failed ({SECRET})", status=status),
    ):
        failure = failure_of(error, 600)
        assert ADDRESS not in failure.message
        assert "u:p" not in failure.message
        assert SECRET not in failure.message
        assert failure.status in (400, 413, 422, 429, 502, 503)
        assert (failure.retry_after is not None) == (failure.status in (429, 503))


@pytest.mark.parametrize("kind", [ConfigError, DataError, KeyError, OSError, RuntimeError, ValueError, ConnectionError])
def test_no_other_failure_tells_anything(kind: type[Exception]) -> None:
    failure = failure_of(kind(f"{SECRET} at {WHERE}"), 600)
    assert failure.status == 500
    assert SECRET not in failure.message
    assert ADDRESS not in failure.message


def test_a_time_out_of_the_whole_is_told_from_an_end_of_the_server() -> None:
    assert failure_of(TimeoutError(), 600).status == 504
    assert failure_of(Ending(), 600).status == 503


# --- with a server around it ------------------------------------------------------------------------------------------


class Failing:
    """A retriever whose errors quote the query and its own address."""

    name = "failing"
    kind: Callable[[str], Exception] = OSError

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise type(self).kind(f"{WHERE}: no answer to {queries[0]!r}")


def rejected(said: str) -> Exception:
    return RequestRejected("status 400", where=WHERE, quote=said, status=400)


@pytest.mark.parametrize(
    "kind", [OSError, KeyError, TimeoutError, ConfigError, EngineUnavailable, RequestRejected, rejected]
)
@pytest.mark.parametrize("model", ["kept", "flare"])
@pytest.mark.parametrize("text", [False, True])
def test_a_retrievers_failure_is_told_by_status_and_kept_from_the_log(
    kind: Any, model: str, text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(Failing, "kind", staticmethod(kind))
    monkeypatch.setattr(start, "open_index", lambda path, **_: Failing())
    (tmp_path / "policies.yaml").write_text("policies: {kept: {policy: flare, strict: true}}")
    handlers = logging.getLogger().handlers[:]
    logs.configure(log)
    options: dict[str, Any] = {"policy": str(tmp_path / "policies.yaml"), "log_text": text}
    try:
        with ScriptedVLLM(saying(ANSWER)) as engine, serving(engine.url, tmp_path / "c.jsonl", **options) as url:
            body = {"model": model, "messages": ASKED, "flarekit": {"events": True}}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
    finally:
        logging.getLogger().handlers[:] = handlers
    assert answer.status_code == (502 if model == "kept" else 200)
    assert ADDRESS not in answer.text
    assert SECRET not in answer.text.replace(json.dumps(ASKED[0]["content"]), "")
    assert (SECRET in log.getvalue()) is text


@pytest.mark.parametrize("said", [Refusal(400, f"bad: {SECRET}"), Refusal(500, SECRET), Refusal(429, SECRET)])
@pytest.mark.parametrize("model", ["watched", "weak"])
def test_what_an_engine_says_of_a_question_stays_out_of_the_log(said: Refusal, model: str, tmp_path: Path) -> None:
    log = io.StringIO()
    (tmp_path / "policies.yaml").write_text("policies: {watched: 'escalate:read=sentence,threshold=1'}")

    def refuse(body: Body) -> Iterator[bytes]:
        raise said
        yield b""

    handlers = logging.getLogger().handlers[:]
    logs.configure(log)
    options: dict[str, Any] = {"policy": str(tmp_path / "policies.yaml")}
    try:
        with (
            stamina.set_testing(True, attempts=2),
            ScriptedVLLM(refuse) as engine,
            serving(engine.url, strongs=[engine.url], **options) as url,
        ):
            httpx.post(f"{url}/v1/chat/completions", json={"model": model, "messages": ASKED}, timeout=30)
    finally:
        logging.getLogger().handlers[:] = handlers
    assert "status" in log.getvalue()
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/"])
def test_no_page_tells_where_the_engines_are(path: str) -> None:
    with ScriptedVLLM(saying(ANSWER)) as engine, serving(engine.url, policy="weak") as url:
        told = httpx.get(url + path).text
        assert engine.url.removeprefix("http://") not in told


# --- logins in addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://user:pass@host:8000/v1", "http://host:8000/v1"),
        ("https://token@host", "https://host"),
        ("postgresql://u:p%40ss@db/x", "postgresql://db/x"),
        ("http://u:p@ss@host/a@b", "http://host/a@b"),
        ("http://host:8000", "http://host:8000"),
        ("two http://a:b@c and http://d:e@f", "two http://c and http://f"),
    ],
)
def test_a_login_is_not_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


async def test_an_engine_is_asked_with_its_login_and_never_named_with_it() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        return httpx.Response(401, json={})

    engine = VLLMEngine("http://user:pass@host:8000", transport=httpx.MockTransport(answer))
    assert engine.url == "http://host:8000"
    with pytest.raises(RequestRejected) as refused:
        await engine.__aenter__()
    assert asked == ["Basic dXNlcjpwYXNz"]
    assert "pass" not in str(refused.value)


def test_each_server_gets_its_own_login_alone(tmp_path: Path) -> None:
    with ScriptedVLLM(saying(ANSWER)) as one, ScriptedVLLM(saying(ANSWER)) as two:
        urls = [one.url.replace("//", "//a:secret1@"), two.url.replace("//", "//b:secret2@")]
        log = io.StringIO()
        handlers = logging.getLogger().handlers[:]
        logs.configure(log)
        try:
            with serving(urls, policy="weak") as url:
                body = {"model": "weak", "messages": ASKED}
                assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 200
        finally:
            logging.getLogger().handlers[:] = handlers
    assert one.url in log.getvalue(), "the log says which engine is which"
    assert "secret" not in log.getvalue()


# --- what reaches the engine ------------------------------------------------------------------------------------------

TEXT = {"model": "weak", "prompt": "?", "messages": ASKED}


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize(
    "field", ["priority", "cache_salt", "request_id", "session_id", "kv_transfer_params", "flarekit"]
)
def test_fields_that_touch_other_clients_are_dropped(field: str, chat: bool) -> None:
    assert field not in bounded({**TEXT, field: 1, "seed": 2}, "m", 100, chat)
    assert bounded({**TEXT, "seed": 2}, "m", 100, chat)["seed"] == 2


_COUNTS = st.none() | st.integers(1, 600) | st.sampled_from([1.0, 50.0, 1e6, 1e300, 2**70])


@given(_COUNTS, _COUNTS, _COUNTS, _COUNTS, st.none() | st.integers(0, 10**6), st.integers(1, 300), st.booleans())
def test_all_answers_of_a_request_together_obey_the_limit(
    n: Any, best: Any, longest: Any, most: Any, least: Any, prompts: int, chat: bool
) -> None:
    body = {**TEXT, "n": n, "best_of": best, "max_tokens": longest, "max_completion_tokens": most, "min_tokens": least}
    body["prompt"] = ["?"] * prompts
    try:
        sent = bounded(body, "m", 1000, chat)
    except NotUnderstood:
        return
    answers = max(sent["n"] or 1, sent["best_of"] or 1) * (1 if chat else prompts)
    assert answers <= MOST_ANSWERS
    for field in ("max_tokens", *(["max_completion_tokens"] if chat and most else [])):
        assert 0 < sent[field] * answers <= 1000
    assert (sent["min_tokens"] or 0) <= sent["max_tokens"]


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 100_000},
        {"n": 500},
        {"best_of": 500},
        {"n": 2, "max_tokens": 100_000},
        {"echo": True, "max_tokens": 100_000},
        {"tools": [{}], "max_completion_tokens": 100_000},
        {"chat_template": "x", "max_tokens": 100_000},
        {"chat_template": "x"},
        {"use_beam_search": True, "n": 64},
        {"prompt_logprobs": 1, "max_tokens": 100_000},
        {},
    ],
)
@pytest.mark.parametrize("model", ["weak", "flare"])
def test_no_request_sends_more_than_the_limit_to_the_engine(tmp_path: Path, model: str, more: dict[str, Any]) -> None:
    from flarekit.serve.completions import Limits

    with (
        ScriptedVLLM(saying(ANSWER)) as engine,
        serving(engine.url, tmp_path / "c.jsonl", policy="flare", limits=Limits(tokens=100)) as url,
    ):
        body = {"model": model, "messages": ASKED, "priority": -9, "cache_salt": "x", "request_id": "y", **more}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        assert answer.status_code in (200, 400)
        for sent in engine.completions:
            assert sent["max_tokens"] * sent.get("n", 1) <= 400, "with the drafts that a session may throw away"
            assert not {"priority", "cache_salt", "request_id"} & set(sent)


# --- answers without end ----------------------------------------------------------------------------------------------


class Parts(httpx.AsyncByteStream):
    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@given(st.data())
async def test_a_stream_of_any_length_passes_while_its_events_are_short(line_end: bytes, data: st.DataObject) -> None:
    content = (b"data: " + b"x" * 50 + line_end * 2) * 20
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=40)))
    parts = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    read = [part async for part in Events(Parts([part for part in parts if part]), most=len(content) // 2)]
    assert b"".join(read) == content


@pytest.mark.parametrize("line", [b"x" * 1000, b"data: x\n", b": ping\n", b"\r", b"data: x\r\n"])
async def test_an_event_without_an_end_is_an_error(line: bytes) -> None:
    if line == b"\r":
        line = b"x\r"
    with pytest.raises(httpx.RemoteProtocolError):
        [part async for part in Events(Parts([line] * 10_000), most=5000)]


def test_a_line_without_end_ends_the_answer_and_nobody_elses(tmp_path: Path) -> None:
    sent = 0

    def endless(body: Body) -> Iterator[bytes]:
        nonlocal sent
        yield b'data: {"choices": "'
        for _ in range(1000):
            sent += 1 << 20
            yield b"x" * (1 << 20)

    (tmp_path / "policies.yaml").write_text("policies: {watched: 'escalate:read=sentence,threshold=1'}")
    options: dict[str, Any] = {"policy": str(tmp_path / "policies.yaml")}
    with (
        stamina.set_testing(True, attempts=2),
        ScriptedVLLM(endless) as engine,
        serving(engine.url, strongs=[engine.url], **options) as url,
    ):
        answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "watched", "messages": ASKED}, timeout=60)
        assert answer.status_code == 502
        assert sent < 200 << 20
        assert httpx.get(f"{url}/health", timeout=5).status_code == 200


def test_values_of_a_stream_that_are_none_are_a_failure_of_the_engine(tmp_path: Path) -> None:
    bad = {"choices": [{"index": 0, "text": None, "logprobs": math.pi, "finish_reason": None, "token_ids": [1]}]}
    (tmp_path / "policies.yaml").write_text("policies: {watched: 'escalate:read=sentence,threshold=1'}")
    options: dict[str, Any] = {"policy": str(tmp_path / "policies.yaml")}
    with (
        stamina.set_testing(True, attempts=2),
        ScriptedVLLM(lambda body: iter([event(bad), events()])) as engine,
        serving(engine.url, strongs=[engine.url], **options) as url,
    ):
        answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "watched", "messages": ASKED}, timeout=60)
        assert answer.status_code == 502
