"""The server as its clients see it: OpenAI's own client, curl, and a tool that speaks the protocol.

The engine is scripted where the words and their probabilities must be known; the last tests ask a real one.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from conftest import TestServer

from fakes.scripted_vllm import Body, ScriptedVLLM, events, prompt_of, saying, usage
from fakes.scripted_vllm import chunk as sent_chunk
from fakes.serving import serving

ASKED: list[Any] = [{"role": "user", "content": "Where was Emma Reus born?"}]
FIRST, SECOND = "Emma Reus was born near the Danube in Graz. ", "It is a city."
ANSWER = FIRST + SECOND
DOUBTED = "G"
"""In doubt is the first letter of "Graz": a scripted model's tokens are characters."""


def client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, **options)


@pytest.fixture
def engine() -> Iterator[ScriptedVLLM]:
    with ScriptedVLLM(saying(ANSWER, doubt=DOUBTED)) as server:
        yield server


@pytest.fixture
def url(engine: ScriptedVLLM, tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "policies.yaml"
    path.write_text("{default: flare, policies: {watched: 'escalate:read=sentence,threshold=1'}}")
    with serving(engine.url, tmp_path / "corpus.jsonl", policy=str(path), strongs=[engine.url]) as address:
        yield address


def asked(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json={"model": "flare", "messages": ASKED, **body}, timeout=30)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# --- the protocol ---------------------------------------------------------------------------------------------------


def test_openais_client_gets_an_answer(url: str) -> None:
    answer = client(url).chat.completions.create(model="flare", messages=ASKED)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "flare"


def test_openais_client_streams_sentence_by_sentence(url: str) -> None:
    stream = client(url).chat.completions.create(model="flare", messages=ASKED, stream=True)
    parts = [chunk.choices[0].delta.content for chunk in stream]
    assert [part for part in parts if part] == [FIRST, SECOND]


def test_the_engines_own_name_stands_for_the_default_policy(url: str, engine: ScriptedVLLM) -> None:
    response = asked(url, model="scripted", flarekit={"events": True}).json()
    assert response["flarekit"]["events"][0]["kind"] == "fired"
    assert len(engine.completions) == 2


def test_a_policy_is_chosen_by_the_models_name(url: str) -> None:
    names = [card.id for card in client(url).models.list()]
    assert names == ["weak", "strong", "escalate", "flare", "watched", "scripted"]
    assert client(url).models.retrieve("flare").id == "flare"


def test_completions_are_continued(url: str, engine: ScriptedVLLM) -> None:
    engine.complete = saying("")
    text = "<|assistant|>"
    engine.complete = saying("One. Two.")
    answer = client(url).completions.create(model="flare", prompt=f"Count. {text}", max_tokens=9, logprobs=1)
    assert answer.choices[0].text == "One. Two."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs
    assert answer.choices[0].logprobs.text_offset == list(range(9))


def test_an_answer_that_is_cut_says_so(url: str) -> None:
    answer = client(url).chat.completions.create(model="flare", messages=ASKED, max_tokens=12)
    assert answer.choices[0].message.content == ANSWER[:12]
    assert answer.choices[0].finish_reason == "length"


def test_the_last_chunk_counts_every_model_and_discarded_drafts(url: str) -> None:
    stream = client(url).chat.completions.create(
        model="flare", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.choices == []
    assert last.usage
    draft = len(FIRST) + 1  # and the token that showed where the sentence ended
    assert last.usage.completion_tokens == len(ANSWER) + draft
    own = last.usage.model_extra["flarekit"]  # type: ignore[index]
    assert own["discarded_tokens"] == draft
    assert own["answer_tokens"] == len(ANSWER)
    assert own["retrievals"] == 2
    assert own["models"]["scripted"]["completion_tokens"] == last.usage.completion_tokens
    assert 0 < own["first_committed"] <= own["seconds"] + 1


def test_log_probabilities_are_told_to_who_asks(url: str) -> None:
    answer = client(url).chat.completions.create(model="flare", messages=ASKED, logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs
    content = answer.choices[0].logprobs.content or []
    assert "".join(one.token for one in content) == ANSWER
    assert all(len(one.top_logprobs) == 1 for one in content)
    assert content[ANSWER.index("G")].logprob < -1


@pytest.mark.parametrize("wanted", [1, 3, 10, 11, 19, 20, 20.0])
@pytest.mark.parametrize("chat", [True, False])
def test_as_many_alternatives_are_told_as_are_asked_for(
    url: str, engine: ScriptedVLLM, wanted: float, chat: bool
) -> None:
    def complete(body: Body) -> Iterator[bytes]:
        """Twice as many as fit into one answer's ten, the token that was sampled the last of them."""
        said = sent_chunk("a", [97], p=0.001, finish="stop")
        [told] = said["choices"][0]["logprobs"]["top_logprobs"]
        told.clear()
        told |= {"a": math.log(0.001)} | {chr(98 + n): math.log(0.3 / (n + 1)) for n in range(body["logprobs"])}
        yield events(said, usage(3, 1))

    engine.complete = complete
    if chat:
        answer = asked(url, model="watched", logprobs=True, top_logprobs=wanted).json()
        [place] = answer["choices"][0]["logprobs"]["content"]
        told = [one["token"] for one in place["top_logprobs"]]
    else:
        sent = {"model": "watched", "prompt": "x", "logprobs": wanted}
        answer = httpx.post(f"{url}/v1/completions", json=sent, timeout=30).json()
        told = list(answer["choices"][0]["logprobs"]["top_logprobs"][0])
    assert told == [chr(98 + n) for n in range(int(wanted))]


def test_parameters_that_are_not_known_here_reach_the_engine(url: str, engine: ScriptedVLLM) -> None:
    asked(url, temperature=0.7, top_p=0.9, min_p=0.1, something_new={"a": 1}, user="me", metadata={"x": "y"})
    body = engine.completions[-1]
    assert (body["temperature"], body["top_p"], body["min_p"]) == (0.7, 0.9, 0.1)
    assert body["something_new"] == {"a": 1}
    assert not {"user", "metadata", "messages"} & set(body)


def test_without_a_temperature_the_engine_takes_its_own(url: str, engine: ScriptedVLLM) -> None:
    asked(url)
    assert engine.completions[-1]["temperature"] is None


def test_the_query_is_the_last_user_turn_and_the_draft(url: str, engine: ScriptedVLLM) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        *ASKED,
    ]
    response = asked(url, messages=turns, flarekit={"events": True}).json()
    queries = [event["query"] for event in response["flarekit"]["events"] if event["kind"] == "retrieved"]
    assert queries[0] == "Where was Emma Reus born?"
    assert queries[1].startswith("Emma Reus was born near the Danube in")
    assert "Graz" not in queries[1]
    prompt = prompt_of(engine.completions[-1])
    assert prompt.startswith("<|system|>Be brief.\n<|user|>Hello!\n<|assistant|>Hi.\n<|user|>Passages")
    assert "[1] Emma Reus: Emma Reus was born in Vienna in 1901.\n" in prompt
    assert prompt.endswith("</passages>\n\nWhere was Emma Reus born?\n<|assistant|>")


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_come_in_order_between_the_text_for_who_asks(url: str) -> None:
    seen = chunks(asked(url, stream=True, flarekit={"events": True}))
    story = []
    for chunk in seen:
        story += [event["kind"] for event in chunk.get("flarekit", {}).get("events", [])]
        if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
            story.append(chunk["choices"][0]["delta"]["content"])
            assert chunk["flarekit"] == {"role": "weak"}
    assert story == ["fired", "retrieved", "segment", "fired", "retrieved", FIRST, SECOND, "segment"]
    retrieved = [e for chunk in seen for e in chunk.get("flarekit", {}).get("events", []) if e["kind"] == "retrieved"]
    assert retrieved[0]["sources"][0]["id"] == "p1"
    assert seen[-1]["usage"]["flarekit"]["retrievals"] == 2


def test_nobody_else_sees_events(url: str) -> None:
    assert "flarekit" not in asked(url, stream=True).text
    assert "flarekit" not in asked(url).json()


def test_a_hand_over_tells_to_whom(url: str) -> None:
    events = asked(url, model="escalate", flarekit={"events": True}).json()["flarekit"]["events"]
    assert [event["kind"] for event in events] == ["segment", "fired", "handed-over", "segment"]
    assert events[2] == {"kind": "handed-over", "at": events[2]["at"], "source": "weak", "target": "strong"} | {
        "model": "scripted"
    }


# --- what no policy applies to --------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "now", "parameters": {}}}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL]},
        {"n": 2},
        {"messages": [IMAGE]},
        {"response_format": {"type": "json_object"}},
        {"messages": [*ASKED, {"role": "assistant", "content": "It was"}], "continue_final_message": True},
        {"model": "weak"},
    ],
    ids=["tools", "n", "image", "format", "prefill", "weak"],
)
def test_requests_that_no_policy_applies_to_reach_the_engine_untouched(
    url: str, engine: ScriptedVLLM, more: dict[str, Any]
) -> None:
    said = (
        b'{"id":"x","choices":[{"message":{"content":"As it is."}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    )
    engine.complete = lambda body: iter([said])
    sent = {"model": "flare", "messages": ASKED, "seed": 7, **more}
    response = httpx.post(f"{url}/v1/chat/completions", json=sent)
    assert response.content == said
    assert engine.completions[-1] == {**sent, "model": "scripted", "max_tokens": 2048 if "n" in more else 4096}


# --- bad requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"messages": []}', 400, "model"),
        (b'{"model": "nobody", "messages": [{"role": "user", "content": "?"}]}', 404, "model"),
        (b'{"model": "flare", "messages": [{"role": "user", "content": "?"}], "max_tokens": 0}', 400, "max_tokens"),
        (b'{"model": "flare", "messages": [{"role": "user", "content": "?"}], "max_tokens": "9"}', 400, "max_tokens"),
        (b'{"model": "flare", "messages": [{"role": "user", "content": "?"}], "stop": [1]}', 400, "stop"),
        (b'{"model": "flare", "messages": [{"role": "user", "content": "?"}], "flarekit": 1}', 400, "flarekit"),
    ],
)
def test_bad_requests_are_refused_with_the_field_at_fault(
    url: str, body: bytes, status: int, param: str | None
) -> None:
    response = httpx.post(f"{url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_an_unknown_path_is_told_in_the_protocols_format(url: str) -> None:
    response = httpx.get(f"{url}/v1/nothing")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "no path /v1/nothing"


# --- other clients --------------------------------------------------------------------------------------------------


def test_curl_streams_an_answer(url: str) -> None:
    body = json.dumps({"model": "flare", "messages": ASKED, "stream": True})
    command = ["curl", "-sN", f"{url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body]
    said = subprocess.run(command, capture_output=True, check=True, text=True, timeout=30).stdout
    assert FIRST in said
    assert said.endswith("data: [DONE]\n\n")


def test_the_llm_tool_asks_it_without_knowing_it(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`llm` (Datasette's command-line tool) is given the address in its own configuration, and nothing else."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: flare\n  model_name: flare\n  api_base: {url}/v1\n  api_key_name: none\n"
    )
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    for streamed in ([], ["--no-stream"]):
        command = [
            sys.executable,
            "-m",
            "llm",
            "-m",
            "flare",
            "--key",
            "none",
            "--no-log",
            *streamed,
            "Where was Emma Reus born?",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip() == ANSWER


# --- operations -----------------------------------------------------------------------------------------------------


def test_health_and_metrics_tell_of_what_happened(url: str, engine: ScriptedVLLM) -> None:
    asked(url)
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "upstreams": {"weak-1": True}}
    told = httpx.get(f"{url}/metrics").text
    assert 'flarekit_upstream_healthy{upstream="weak-1"} 1.0' in told
    assert "127.0.0.1" not in told
    assert 'flarekit_triggers_fired_total{action="retrieve",moment="mid",signal="min-prob"} 1.0' in told
    assert (
        'flarekit_requests_total{endpoint="/v1/chat/completions",outcome="ok",policy="flare",status="200"} 1.0' in told
    )
    assert "flarekit_retrieval_seconds_count 2.0" in told


# --- a real engine --------------------------------------------------------------------------------------------------

STORY: list[Any] = [{"role": "user", "content": "Write three short sentences about the Danube."}]


class Cut:
    """A way to a server that breaks once, after so many bytes of an answer that is a stream of events."""

    def __init__(self, server: str, after: int) -> None:
        parsed = httpx.URL(server)
        self._server, self._after = (parsed.host, parsed.port or 80), after
        self.broken = 0

    def __enter__(self) -> Cut:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed, streaming = 0, False
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                streaming = streaming or (answers and b"text/event-stream" in data)
                passed += len(data) if streaming else 0
                if passed > self._after and not self.broken:
                    self.broken += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.vllm
def test_a_real_model_that_watches_and_never_acts_says_what_it_says_directly(
    vllm_server: TestServer, tmp_path: Path
) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: {watched: 'escalate:threshold=1,read=sentence'}")
    base = vllm_server.url.removesuffix("/v1")
    asking = {"messages": STORY, "max_tokens": 60, "temperature": 0}
    direct = client(base).chat.completions.create(model=vllm_server.model, **asking)  # type: ignore[call-overload]
    with serving(base, strongs=[base], policy=str(path)) as url:
        for model in ("watched", "weak"):
            answer = client(url).chat.completions.create(model=model, **asking)  # type: ignore[call-overload]
            assert answer.choices[0].message.content == direct.choices[0].message.content
            assert answer.choices[0].finish_reason == direct.choices[0].finish_reason
            stream = client(url).chat.completions.create(model=model, stream=True, **asking)  # type: ignore[call-overload]
            said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            assert said == direct.choices[0].message.content
        assert answer.usage
        assert direct.usage
        assert answer.usage.completion_tokens == direct.usage.completion_tokens


@pytest.mark.vllm
def test_a_real_answer_goes_on_as_if_its_connection_had_not_broken(vllm_server: TestServer, tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("policies: {watched: 'escalate:threshold=1,read=sentence'}")
    base = vllm_server.url.removesuffix("/v1")
    asking = {"messages": STORY, "max_tokens": 60, "temperature": 0, "ignore_eos": True}
    direct = asked(base, model=vllm_server.model, **asking).json()
    with Cut(base, after=12_000) as way, serving(way.url, strongs=[base], policy=str(path)) as url:
        answer = asked(url, model="watched", flarekit={"events": True}, **asking).json()
        assert way.broken == 1
        assert [event["part"] for event in answer["flarekit"]["events"] if event["kind"] == "failed"] == ["weak"]
        assert answer["choices"][0]["message"]["content"] == direct["choices"][0]["message"]["content"]


@pytest.mark.vllm
def test_a_real_model_looks_things_up_in_the_middle(vllm_server: TestServer, tmp_path: Path) -> None:
    base = vllm_server.url.removesuffix("/v1")
    with serving(base, tmp_path / "corpus.jsonl", policy="flare:theta=1") as url:
        answer = asked(url, model=vllm_server.model, flarekit={"events": True}, max_tokens=60, temperature=0).json()
        looked_up = [event for event in answer["flarekit"]["events"] if event["kind"] == "retrieved"]
        assert len(looked_up) >= 2
        assert looked_up[0]["sources"][0]["id"] == "p1"
        usage = answer["usage"]
        assert usage["completion_tokens"] == usage["flarekit"]["answer_tokens"] + usage["flarekit"]["discarded_tokens"]
        assert usage["prompt_tokens"] > 100


@pytest.mark.vllm
@pytest.mark.parametrize("model", ["weak", "flare"])
def test_a_real_engine_stops_when_the_client_leaves(vllm_server: TestServer, tmp_path: Path, model: str) -> None:
    base = vllm_server.url.removesuffix("/v1")

    def running() -> float:
        told = re.search(r"^vllm:num_requests_running\S* (\S+)", httpx.get(f"{base}/metrics").text, re.MULTILINE)
        assert told
        return float(told[1])

    def until(state: bool) -> None:
        for _ in range(500):
            if bool(running()) is state:
                return
            time.sleep(0.02)
        raise AssertionError(f"a request runs: {not state}")

    with serving(base, tmp_path / "corpus.jsonl", policy="flare") as url:
        sent = {"model": model, "messages": STORY, "max_tokens": 2000, "stream": True, "ignore_eos": True}
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as leaving:
            content = json.dumps(sent).encode()
            leaving.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
            )
            leaving.sendall(content)
            until(True)
        until(False)
