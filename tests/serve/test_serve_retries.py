"""How often an engine is asked for one request, and what of its refusals is the client's to know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from fakes.scripted_opensearch import OpenSearch
from fakes.scripted_vllm import Body, Complete, Drop, Refusal, ScriptedVLLM, saying
from fakes.serving import CORPUS, serving
from flarekit.retrievers.remote import elastic

ANSWER = "Emma Reus was born in Graz. It is a city."
ASKED = [{"role": "user", "content": "Where was Emma Reus born?"}]
WATCHED = {"policies": {"watched": "escalate:read=sentence,threshold=1"}}
TRIES = 3


def refusing(*refusals: Refusal) -> Complete:
    """Each request gets the next of these, then the last one again."""
    left = list(refusals)

    def complete(body: Body) -> Iterator[bytes]:
        raise left.pop(0) if len(left) > 1 else left[0]
        yield b""

    return complete


def dropping(body: Body) -> Iterator[bytes]:
    yield next(saying(ANSWER)(body))
    raise Drop


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    (tmp_path / "policies.yaml").write_text(json.dumps(WATCHED))
    with ScriptedVLLM() as engine:
        options: dict[str, Any] = {"strongs": [engine.url], "policy": str(tmp_path / "policies.yaml")}
        with stamina.set_testing(True, attempts=100, cap=True), serving(engine.url, **options) as url:

            def ask(complete: Complete, **body: Any) -> tuple[httpx.Response, int]:
                engine.completions.clear()
                engine.complete = complete
                sent = {"messages": ASKED, **body}
                answer = httpx.post(f"{url}/v1/chat/completions", json=sent, timeout=60)
                assert engine.url not in answer.text
                assert engine.url.removeprefix("http://") not in answer.text
                return answer, len(engine.completions)

            yield ask


MODELS = pytest.mark.parametrize("model", ["watched", "weak", "strong"])


@MODELS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_all_layers_together_ask_three_times(server: Callable[..., Any], model: str, stream: bool, status: int) -> None:
    answer, asked = server(refusing(Refusal(status, "busy")), model=model, stream=stream)
    assert asked == TRIES
    assert answer.status_code == (status if status in (429, 503) else 502)


@MODELS
def test_broken_streams_and_refusals_take_from_the_same_tries(server: Callable[..., Any], model: str) -> None:
    calls = []

    def complete(body: Body) -> Iterator[bytes]:
        calls.append(body)
        if len(calls) == 2:
            raise Refusal(500)
        yield from dropping(body)

    _, asked = server(complete, model=model, stream=True)
    assert asked == (TRIES if model == "watched" else 1)  # what was passed on to the client cannot begin again


@MODELS
@pytest.mark.parametrize(
    ("refused", "status", "param"),
    [
        (Refusal(400, "temperature must not be negative", "temperature"), 400, "temperature"),
        (Refusal(413, "too long"), 413, None),
        (Refusal(422, "no such thing", "seed"), 422, "seed"),
        (Refusal(401, "invalid key at http://10.1.2.3:8000"), 502, None),
        (Refusal(403, "forbidden"), 502, None),
        (Refusal(404, "The model `scripted` does not exist"), 502, None),
        (Refusal(404, "Not Found"), 502, None),
        (Refusal(405, "not allowed"), 502, None),
        (Refusal(418, "teapot"), 502, None),
        (Refusal(301, "elsewhere"), 502, None),
    ],
)
def test_a_lasting_refusal_is_told_as_what_it_is_for_the_client(
    server: Callable[..., Any], model: str, refused: Refusal, status: int, param: str | None
) -> None:
    answer, asked = server(refusing(refused), model=model)
    assert (answer.status_code, asked) == (status, 1)
    error = answer.json()["error"]
    assert error["param"] == param
    said = refused.error["error"]["message"]
    assert (said in error["message"]) is (status < 500)
    assert "10.1.2.3" not in error["message"]


@MODELS
def test_what_an_engine_objects_to_is_quoted_without_addresses_and_not_at_length(
    server: Callable[..., Any], model: str
) -> None:
    answer, _ = server(refusing(Refusal(400, "see http://10.1.2.3:8000/docs: " + "x" * 10**6)), model=model)
    message = answer.json()["error"]["message"]
    assert "10.1.2.3" not in message
    assert len(message) < 300


@MODELS
@pytest.mark.parametrize(("status", "hint", "told"), [(429, "17", "17"), (503, "9999999", "3600"), (429, "soon", "1")])
def test_an_overload_is_told_with_the_time_to_come_back(
    server: Callable[..., Any], model: str, status: int, hint: str, told: str
) -> None:
    answer, asked = server(refusing(Refusal(status, headers={"Retry-After": hint})), model=model)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, told)
    assert asked == (TRIES if hint == "soon" else 1), "a hint of more than 10 s is the client's to wait for"


@pytest.mark.parametrize("model", ["watched", "weak"])
def test_the_engines_hint_is_waited_for(server: Callable[..., Any], model: str) -> None:
    calls: list[float] = []

    def complete(body: Body) -> Iterator[bytes]:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise Refusal(429, headers={"Retry-After": "1"})
        yield from saying(ANSWER)(body)

    with stamina.set_testing(False):
        answer, _ = server(complete, model=model)
    assert answer.status_code == 200
    assert calls[1] - calls[0] >= 1


def test_a_search_engine_is_asked_as_often_and_by_the_same_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus.yaml"
    named = {"policies": {"kept": {"policy": "rag", "strict": True}}}
    (tmp_path / "policies.yaml").write_text(json.dumps(named))
    with ScriptedVLLM(saying(ANSWER)) as engine, OpenSearch() as search:
        monkeypatch.setenv("FLAREKIT_ALLOWED_HOSTS", search.url.removeprefix("http://"))
        elastic.load(search.url, "passages", CORPUS)
        corpus.write_text(f"kind: opensearch\nurl: {search.url}\nindex: passages\n")
        policy = str(tmp_path / "policies.yaml")
        # `corpus` is not written by `serving`: it is what says where the passages are.
        with stamina.set_testing(True, attempts=100, cap=True), serving(engine.url, index=corpus, policy=policy) as url:
            search.asked.clear()
            search.refuse = lambda path: (429, {"error": "busy"}) if path.endswith("_msearch") else None
            answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "kept", "messages": ASKED}, timeout=30)
    assert [path for _, path, _ in search.asked if "_msearch" in path] == ["/passages/_msearch"] * TRIES
    assert answer.status_code == 502
    assert "127.0.0.1" not in answer.text
    assert "Reus" not in answer.text
