"""A scripted flarekit server on a real socket: the page at `/`, and answers that are played chunk by chunk.

Scripted, because a real model cannot be made to doubt, to fail or to wait when a test wants it to.
"""

from __future__ import annotations

import json
import math
import re
import select
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import TracebackType
from typing import Any, Final, Self

from fakes.scripted_vllm import Refusal, event

POLICY = "default-src 'self'; style-src 'self'; script-src 'self'"
KINDS = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}
PAUSE: Final = "pause"
"""The play waits here until `ScriptedAnswers.go_on`."""
DROP: Final = "drop"
"""The connection is closed here."""
Part = Mapping[str, Any] | str
"""A chunk, or one of the words above."""


def model(name: str, about: str = "", *, default: bool = False, alias: str | None = None) -> dict[str, Any]:
    """An entry of `/v1/models`."""
    told = {"alias": alias} if alias else {"policy": name, "default": default, "about": about}
    return {"id": name, "object": "model", "created": 0, "owned_by": "flarekit", "flarekit": told}


MODELS = (
    model("flare", "looks up what it doubts", default=True),
    model("weak", "the weak model alone"),
    model("qwen2.5-0.5b", alias="flare"),
)


def tokens(text: str, **probabilities: float) -> list[dict[str, Any]]:
    """A token a word, each with the space before it; p = .99, or as said of the word."""
    return [
        {
            "token": word,
            "logprob": math.log(probabilities.get(word.strip(" .,"), 0.99)),
            "bytes": [],
            "top_logprobs": [],
        }
        for word in re.findall(r"\s*\S+", text)
    ]


def said(text: str, role: str | None = "weak", **probabilities: float) -> dict[str, Any]:
    """A chunk of committed text; without a role, as vLLM itself sends it."""
    logprobs = {"content": tokens(text, **probabilities)}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}
    return _chunk([choice], **({"flarekit": {"role": role}} if role else {}))


def happened(*events: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk of events; what they all have is filled in."""
    told = [{"at": 0.5, "seconds": 0.25, **one} for one in events]
    choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}
    return _chunk([choice], flarekit={"events": told})


def drafted(text: str, role: str = "weak", **probabilities: float) -> dict[str, Any]:
    """The event of a stream that ended with `text` uncommitted."""
    draft = tokens(text, **probabilities)
    return {"kind": "segment", "role": role, "tokens": len(draft), "draft": draft}


def finished(reason: str = "stop") -> dict[str, Any]:
    return _chunk([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}])


def usage(prompt: int, completion: int, cached: int = 0, **flarekit: float) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    details: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": cached}}
    return _chunk([], usage=counts | details | ({"flarekit": flarekit} if flarekit else {}))


def _chunk(choices: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    } | more


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ScriptedAnswers:
    """The server, as a context; `requests` are the bodies that it was sent, in order."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.plays: dict[str, Sequence[Part] | Refusal] = {}
        """By the name of the model that is asked for."""
        self.key = ""
        """What requests must bear, where it is not empty."""
        self.models: Sequence[Mapping[str, Any]] = MODELS
        self.left = threading.Event()
        """A client went away while its answer was paused."""
        self._turns: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def go_on(self, name: str = "flare") -> None:
        """Let the model's answer go on to its next pause."""
        self._turns[name].release()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if self.path == "/v1/models":
                    if self._is_known():
                        self._send_json(200, {"object": "list", "data": list(script.models)})
                    return None
                name = self.path.removeprefix("/") or "index.html"
                page = files("flarekit.serve").joinpath("page", name)
                if not page.is_file():
                    return self._send_json(404, {"error": {"message": "no such page"}})
                return self._send(200, page.read_bytes(), KINDS[name.rpartition(".")[2]])

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                script.requests.append(body)
                play = script.plays[body["model"]]
                if not self._is_known():
                    return
                if isinstance(play, Refusal):
                    self._send_json(play.status, play.error)
                else:
                    self._play(play, body["model"])

            def _is_known(self) -> bool:
                """Whether the request bears the key; otherwise it is refused here."""
                if not script.key or self.headers["Authorization"] == f"Bearer {script.key}":
                    return True
                self._send_json(401, {"error": {"message": "this server needs an API key"}})
                return False

            def _play(self, play: Sequence[Part], name: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.end_headers()
                self.close_connection = True  # the body ends where the connection does
                for part in play:
                    if part == PAUSE:
                        while not script._turns[name].acquire(timeout=0.02):
                            if self._is_left():
                                return script.left.set()
                    elif part == DROP:
                        return None
                    else:
                        self.wfile.write(event(part))
                self.wfile.write(b"data: [DONE]\n\n")
                return None

            def _is_left(self) -> bool:
                readable, _, _ = select.select([self.connection], [], [], 0)
                return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

            def _send_json(self, status: int, content: Any) -> None:
                self._send(status, json.dumps(content).encode(), "application/json")

            def _send(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Security-Policy", POLICY)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Stay silent."""

        return Handler
