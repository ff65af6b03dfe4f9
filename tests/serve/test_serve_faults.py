"""What the server does when something beneath it fails, and when its clients leave: scripted, on real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from fakes.scripted_vllm import Body, Complete, Drop, Refusal, ScriptedVLLM, event, prompt_of, saying
from fakes.serving import serving
from flarekit.retrieval import Hit
from flarekit.serve import server as start
from flarekit.serve.completions import Limits

ASKED = [{"role": "user", "content": "Where was Emma Reus born?"}]
ANSWER = "Emma Reus was born in Graz. It is a city. It lies on the Mur."
FIRST = "Emma Reus was born in Graz. "


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


def post(url: str, **body: Any) -> httpx.Response:
    sent = {"model": "watched", "messages": ASKED, **body}
    return httpx.post(f"{url}/v1/chat/completions", json=sent, timeout=30)


def streamed(url: str, **body: Any) -> list[dict[str, Any]]:
    response = post(url, stream=True, flarekit={"events": True}, **body)
    assert response.status_code == 200, response.text
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def text_of(chunks: Sequence[dict[str, Any]]) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk.get("choices")]
    return "".join(delta.get("content", "") for delta in deltas)


def failures(chunks: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    events = [event for chunk in chunks for event in chunk.get("flarekit", {}).get("events", [])]
    return [(event["part"], event["error"]) for event in events if event["kind"] == "failed"]


def policies(folder: Path, **named: Any) -> str:
    """A file of policies; `watched` watches each sentence and never acts."""
    path = folder / "policies.yaml"
    path.write_text(json.dumps({"policies": {"watched": "escalate:read=sentence,threshold=1", **named}}))
    return str(path)


@pytest.fixture
def chosen(tmp_path: Path) -> dict[str, Any]:
    return {"policy": policies(tmp_path)}


def until(what: Callable[[], bool]) -> None:
    for _ in range(200):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 4 s")


# --- an engine that fails in the middle -----------------------------------------------------------------------------


def once(fault: Callable[[Iterator[bytes]], Iterator[bytes]], say: Complete) -> Complete:
    """The first stream goes wrong, those after it do not."""
    asked = []

    def complete(body: Body) -> Iterator[bytes]:
        asked.append(body)
        return fault(say(body)) if len(asked) == 1 else say(body)

    return complete


def killed(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(33):
        yield next(parts)
    raise Drop


def half_a_line(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(33):
        yield next(parts)
    yield next(parts)[:40]
    raise Drop


def ended_early(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(33):
        yield next(parts)


def malformed(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(33):
        yield next(parts)
    yield b"data: {'choices': oops}\n\n"


def error_after_ten(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(10):
        yield next(parts)
    yield event({"error": {"message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}})


def hanging(parts: Iterator[bytes]) -> Iterator[bytes]:
    for _ in range(33):
        yield next(parts)
    time.sleep(1.5)


FAULTS = [killed, half_a_line, ended_early, malformed, error_after_ten, hanging]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_answer_goes_on_from_its_committed_ids(fault: Any, chosen: dict[str, Any]) -> None:
    with (
        ScriptedVLLM(once(fault, saying(ANSWER))) as engine,
        serving(engine.url, strongs=[engine.url], engine_timeout=0.5, **chosen) as url,
    ):
        chunks = streamed(url)
        assert text_of(chunks) == ANSWER
        assert [part for part, _ in failures(chunks)] == ["weak"]
        first, second = (prompt_of(body) for body in engine.completions)
        committed = "" if fault is error_after_ten else FIRST
        assert second == first + committed
        assert chunks[-1]["usage"]["flarekit"]["answer_tokens"] == len(ANSWER)
        assert "flarekit_failures_total" in httpx.get(f"{url}/metrics").text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_engine_that_never_recovers_ends_in_a_clear_error_event(fault: Any, chosen: dict[str, Any]) -> None:
    def always(body: Body) -> Iterator[bytes]:
        return fault(saying(ANSWER)(body)) if prompt_of(body).endswith("|>") else iter([b"data: no\n\n"])

    with (
        ScriptedVLLM(always) as engine,
        serving(engine.url, strongs=[engine.url], engine_timeout=0.3, **chosen) as url,
    ):
        chunks = streamed(url)
        assert text_of(chunks) == ("" if fault is error_after_ten else FIRST)
        assert len(failures(chunks)) == 2
        error = chunks[-1]["error"]
        assert error["type"] == "server_error"
        assert error["message"] in (
            "the engine failed: a stream sent malformed JSON",
            "the engine failed: status 500",
        ) or (fault is error_after_ten and error["message"] == "the engine failed: a stream ended in an error")
        assert engine.url.removeprefix("http://") not in error["message"]


def test_a_failure_before_the_first_text_has_a_status_of_its_own(chosen: dict[str, Any]) -> None:
    def refuse(body: Body) -> Iterator[bytes]:
        raise Refusal(503, "overloaded")
        yield b""

    with ScriptedVLLM(refuse) as engine, serving(engine.url, strongs=[engine.url], **chosen) as url:
        for stream in (True, False):
            response = post(url, stream=stream)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "overloaded"


def test_another_server_goes_on_where_one_was_killed(chosen: dict[str, Any]) -> None:
    """Two servers of one model: the one that answers is ended in the middle of its stream, for good."""
    answering: list[ScriptedVLLM] = []

    def on(server: ScriptedVLLM) -> Complete:
        def complete(body: Body) -> Iterator[bytes]:
            parts = saying(ANSWER)(body)
            if answering:
                yield from parts
                return
            answering.append(server)
            for _ in range(33):
                yield next(parts)
            server._server.socket.close()  # nobody can connect any more
            raise Drop

        return complete

    with ScriptedVLLM() as one, ScriptedVLLM() as two:
        one.complete, two.complete = on(one), on(two)
        with serving([one.url, two.url], strongs=[two.url], **chosen) as url:
            chunks = streamed(url)
            assert text_of(chunks) == ANSWER
            dead = answering[0]
            health = httpx.get(f"{url}/health")
            assert health.json()["upstreams"] == {"weak-1": one is not dead, "weak-2": two is not dead}
            assert text_of(streamed(url)) == ANSWER


# --- a strong engine or a retriever that fails -----------------------------------------------------------------------


def test_without_the_strong_model_the_answer_goes_on_with_the_weak_one(tmp_path: Path) -> None:
    with (
        ScriptedVLLM(saying(ANSWER, doubt="G")) as weak,
        ScriptedVLLM(saying(ANSWER), model="big") as strong,
        serving(
            weak.url, strongs=[strong.url], policy=policies(tmp_path, kept={"policy": "escalate", "strict": True})
        ) as url,
    ):
        strong.complete = once(lambda parts: (_ for _ in [next(parts)]), saying(ANSWER))
        chunks = streamed(url, model="escalate")
        assert text_of(chunks) == ANSWER
        assert [part for part, _ in failures(chunks)] == ["strong"]

        def broken(body: Body) -> Iterator[bytes]:
            raise Refusal(500, "out of memory")
            yield b""

        strong.complete = broken
        chunks = streamed(url, model="escalate")
        assert text_of(chunks) == ANSWER
        assert failures(chunks) == [("strong", "status 500")]

        response = post(url, model="kept")
        assert response.status_code == 502, "a strict policy fails with its strong engine"
        assert response.json()["error"]["message"] == "the engine failed: status 500"


class SlowRetriever:
    name = "slow"

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        await asyncio.sleep(30)
        return []


class BrokenRetriever:
    name = "broken"

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        raise ConnectionError("the index has gone away")


@pytest.mark.parametrize(
    ("retriever", "reason"),
    [(SlowRetriever(), "no answer within 0.2 s"), (BrokenRetriever(), "ConnectionError")],
    ids=["slow", "broken"],
)
def test_without_the_retriever_the_answer_goes_on_as_it_is(
    retriever: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "open_index", lambda path, **_: retriever)
    named = policies(tmp_path, kept={"policy": "flare", "strict": True})
    limits = Limits(retrieval=0.2)
    with (
        ScriptedVLLM(saying(ANSWER, doubt="G")) as engine,
        serving(engine.url, tmp_path / "corpus.jsonl", strongs=[engine.url], policy=named, limits=limits) as url,
    ):
        chunks = streamed(url, model="flare")
        assert text_of(chunks) == ANSWER
        assert failures(chunks) == [("retriever", reason)] * 2
        assert 'flarekit_failures_total{part="retriever"} 2.0' in httpx.get(f"{url}/metrics").text
        kept = post(url, model="kept")
        assert (kept.status_code, kept.json()["error"]["message"]) == (502, f"the retriever failed: {reason}")


# --- clients that leave ----------------------------------------------------------------------------------------------


class Slowly:
    """Says `ANSWER` a character every few milliseconds, and knows how many of its streams are open."""

    def __init__(self, pause: float = 0.004) -> None:
        self.open = 0
        self.asked = 0
        self._pause = pause
        self._lock = threading.Lock()

    def __call__(self, body: Body) -> Iterator[bytes]:
        with self._lock:
            self.open += 1
            self.asked += 1
        try:
            for part in saying(ANSWER, doubt="G")(body):
                time.sleep(self._pause)
                yield part
        finally:
            with self._lock:
                self.open -= 1


def request_bytes(**body: Any) -> bytes:
    content = json.dumps({"model": "flare", "messages": ASKED, **body}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content) + content
    )


def test_a_client_that_leaves_at_any_point_ends_everything_beneath_it(tmp_path: Path, chosen: dict[str, Any]) -> None:
    slowly = Slowly()
    with (
        ScriptedVLLM(slowly) as engine,
        serving(engine.url, tmp_path / "corpus.jsonl", strongs=[engine.url], **chosen) as url,
    ):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))

        def running() -> float:
            told = httpx.get(f"{url}/metrics").text
            return float(told.partition("\nflarekit_running_requests ")[2].partition("\n")[0])

        whole = request_bytes(stream=True, flarekit={"events": True})
        # In the middle of its request's header and body, ...
        for cut in (10, 60, len(whole) - 5):
            with socket.create_connection(address) as client:
                client.sendall(whole[:cut])
        # ... at once, and after every so many bytes of the answer, which come while the engine is at work, ...
        for policy in ("flare", "escalate", "weak"):
            for read in (0, 1, 200, 700, 1500, 2500, 3500, 4500):
                with socket.create_connection(address) as client:
                    client.sendall(request_bytes(model=policy, stream=True, flarekit={"events": True}))
                    while read > 0 and (got := client.recv(read)):
                        read -= len(got)
        # ... and while an answer is made that is sent as a whole.
        for wait in (0.0, 0.05, 0.15):
            with socket.create_connection(address) as client:
                client.sendall(request_bytes())
                time.sleep(wait)
        until(lambda: slowly.open == 0 and running() == 0)
        assert slowly.asked > 10
        assert 'outcome="left"' in httpx.get(f"{url}/metrics").text
        assert 'outcome="failed"' not in httpx.get(f"{url}/metrics").text
        assert post(url).status_code == 200, "and the next one is answered"


def test_a_client_that_leaves_during_a_look_up_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Waiting(SlowRetriever):
        async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
            try:
                return await super().search_many(queries, k)
            finally:
                ended.set()

    monkeypatch.setattr(start, "open_index", lambda path, **_: Waiting())
    with (
        ScriptedVLLM(saying(ANSWER)) as engine,
        serving(engine.url, tmp_path / "corpus.jsonl", limits=Limits(retrieval=60), policy="flare") as url,
    ):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(request_bytes(stream=True))
            time.sleep(0.2)
            assert not ended.is_set()
        assert ended.wait(4)


@pytest.mark.parametrize("model", ["watched", "weak"])
def test_a_slow_reader_holds_its_engine_back(model: str, chosen: dict[str, Any]) -> None:
    """The engine would say 200 MB; while nobody reads, it gets rid of no more than the buffers between hold.

    The system's own, on both ways, may grow to some 40 MB.
    """
    sent = 0
    line = event({"choices": [{"index": 0, "text": "x" * 4000, "finish_reason": None, "token_ids": [1]}]})
    told = saying(("y" * 2000 + ". ") * 4)

    def endless(body: Body) -> Iterator[bytes]:
        nonlocal sent
        parts = [line] if model == "weak" else list(told({**body, "max_tokens": 10**6}))[:-1]
        for _ in range(50_000 if model == "weak" else 200):
            for part in parts:
                yield part
                sent += len(part)

    with ScriptedVLLM(endless) as engine, serving(engine.url, strongs=[engine.url], **chosen) as url:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            client.sendall(request_bytes(model=model, stream=True, logprobs=True, top_logprobs=2, max_tokens=10**6))
            client.recv(100)
            before = -1
            while sent != before:  # until the engine stands still
                before = sent
                time.sleep(0.7)
            assert sent < 80_000_000
        until(lambda: "flarekit_running_requests 0.0" in httpx.get(f"{url}/metrics").text)


# --- limits, and the end ----------------------------------------------------------------------------------------------


def test_an_answer_that_takes_too_long_is_ended(chosen: dict[str, Any]) -> None:
    limits = Limits(seconds=0.5)
    with (
        ScriptedVLLM(Slowly(0.05)) as engine,
        serving(engine.url, strongs=[engine.url], limits=limits, **chosen) as url,
    ):
        response = post(url)
        assert response.status_code == 504
        assert "longer than 0.5 s" in response.json()["error"]["message"]


def test_more_answers_at_a_time_than_allowed_are_refused_at_once(chosen: dict[str, Any]) -> None:
    slowly = Slowly(0.02)
    with ScriptedVLLM(slowly) as engine, serving(engine.url, strongs=[engine.url], concurrent=1, **chosen) as url:
        waiting = threading.Thread(target=post, args=(url,))
        waiting.start()
        until(lambda: slowly.open == 1)
        refused = post(url)
        waiting.join()
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert post(url).status_code == 200


def test_keys_are_asked_for_where_there_are_some(chosen: dict[str, Any]) -> None:
    with (
        ScriptedVLLM(saying(ANSWER)) as engine,
        serving(engine.url, strongs=[engine.url], keys=["secret"], **chosen) as url,
    ):
        assert post(url).status_code == 401
        known = httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer secret"})
        assert known.status_code == 200
        assert httpx.get(f"{url}/").status_code == httpx.get(f"{url}/health").status_code == 200


def test_sigterm_lets_answers_end_and_accepts_no_more(tmp_path: Path) -> None:
    slowly = Slowly(0.02)
    with ScriptedVLLM(slowly) as engine:
        program = "from flarekit.cli import main; main()"
        options = ["--engine", engine.url, "--policy", "weak", "--port", "0"]
        server = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        assert server.stdout
        url = server.stdout.readline().split()[1].removesuffix("/v1")
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(post(url, model="weak", stream=True)))
        asking.start()
        until(lambda: slowly.open == 1)
        server.send_signal(signal.SIGTERM)
        until(lambda: _refuses(url))
        asking.join(30)
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
        assert answers[0].text.endswith("data: [DONE]\n\n")
        lines = [json.loads(line) for line in log.splitlines()]
        assert [line["outcome"] for line in lines if "outcome" in line] == ["ok"]
        assert "Emma" not in log


def _refuses(url: str) -> bool:
    try:
        httpx.get(f"{url}/health")
    except (httpx.ConnectError, httpx.ReadError):  # the latter where it came as the door was closed
        return True
    return False
