"""A scripted vLLM server on a real socket, for what a real one cannot be made to do: to fail at a chosen moment.

Its tokens are characters and their ids are code points, so that prompts and answers can be read in its requests.
Digits are doubtful (p = .3), everything else is not (p = .95).
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Body = Mapping[str, Any]
Complete = Callable[[Body], Iterator[bytes]]
"""The parts of a completion's body, as they are sent; or raises `Refusal` before the first, `Drop` at any time."""


class Refusal(Exception):
    def __init__(
        self, status: int, message: str = "no", param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.headers = status, headers or {}
        self.error = {"error": {"message": message, "type": "BadRequestError", "param": param, "code": status}}


class Drop(Exception):
    """The connection is closed in the middle of the body."""


def chunk(
    text: str, ids: Sequence[int], *, strings: Sequence[str] = (), p: float = 0.95, finish: str | None = None
) -> dict[str, Any]:
    """What vLLM sends for the tokens `ids`; a server that tells no ids names them by their own `strings` instead."""
    names, other = (list(strings), "~") if strings else ([f"token_id:{id_}" for id_ in ids], "token_id:126")
    logprob = math.log(p)
    logprobs = {
        "tokens": names,
        "token_logprobs": [logprob] * len(ids),
        "top_logprobs": [{name: logprob, other: math.log(1 - p)} for name in names],
        "text_offset": [0] * len(ids),
    }
    return {
        "choices": [
            {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish, "token_ids": list(ids)},
        ]
    }


def usage(prompt: int, completion: int, cached: int | None = None) -> dict[str, Any]:
    details = None if cached is None else {"cached_tokens": cached}
    return {
        "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details},
    }


def event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def events(*chunks: Any) -> bytes:
    """A whole stream."""
    return b"".join(map(event, chunks)) + b"data: [DONE]\n\n"


def answer(question: str) -> str:
    """What the scripted model says to a question."""
    return f" It has {len(question)} letters. So the answer is {question.split()[-1].strip('?')}."


def prompt_of(body: Body) -> str:
    return "".join(map(chr, body["prompt"]))


def question_of(body: Body) -> str:
    return prompt_of(body).rpartition("Question: ")[2].partition("\n")[0]


def chat_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """The scripted model's chat template."""
    return "".join(f"<|{turn['role']}|>{turn['content']}\n" for turn in messages) + "<|assistant|>"


def saying(text: str, *, doubt: str = "") -> Complete:
    """A model that says `text` in a conversation, whatever it is asked, in chunks of the completions API.

    The characters of `doubt` have p = .3.
    """

    def complete(body: Body) -> Iterator[bytes]:
        prompt = prompt_of(body) if "prompt" in body else chat_prompt(body["messages"])
        said = prompt.rpartition("<|assistant|>")[2]
        assert text.startswith(said)
        rest = text[len(said) :][: body.get("max_tokens")]
        for place, character in enumerate(rest, start=1):
            ended = "length" if len(said) + place < len(text) else "stop"
            p = 0.3 if character in doubt else 0.95
            yield event(chunk(character, [ord(character)], p=p, finish=ended if place == len(rest) else None))
        yield events(usage(len(prompt), len(rest), cached=0))

    return complete


def complete(body: Body) -> Iterator[bytes]:
    """Go on with the answer to the prompt's last question, after what the prompt already holds of it."""
    said = prompt_of(body).rpartition("\nAnswer:")[2]
    rest = answer(question_of(body)).removeprefix(said)[: body["max_tokens"]]
    for place, character in enumerate(rest, start=1):
        ended = "length" if place == body["max_tokens"] else "stop"
        p = 0.3 if character.isdigit() else 0.95
        yield event(chunk(character, [ord(character)], p=p, finish=ended if place == len(rest) else None))
    if not rest:  # the prompt holds the whole answer: it ends at once
        ending = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop", "token_ids": None}
        yield event({"choices": [ending]})
    yield events(usage(len(body["prompt"]), len(rest), cached=0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves, or stops in the middle of its request, is no error."""
        if not isinstance(sys.exception(), ConnectionError | json.JSONDecodeError):
            super().handle_error(request, client_address)


class ScriptedVLLM:
    """The server, as a context; `completions` are the bodies that it was sent, in order."""

    def __init__(
        self,
        complete: Complete = complete,
        *,
        model: str = "scripted",
        max_model_len: int = 8192,
        pages: Mapping[str, Any] | None = None,
    ) -> None:
        """`pages` are what GET answers with: text, or anything else as JSON."""
        self.completions: list[Body] = []
        self.complete = complete
        cards = [{"id": model, "max_model_len": max_model_len}]
        self.pages = {"/v1/models": {"data": cards}, "/version": {"version": "0.32.0"}, "/metrics": ""} | dict(
            pages or {}
        )
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

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
                page = script.pages.get(self.path)
                self._send(404 if page is None else 200, page)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    text = body["prompt"] if "prompt" in body else chat_prompt(body["messages"])
                    return self._send(200, {"tokens": [ord(character) for character in text]})
                if self.path == "/detokenize":
                    return self._send(200, {"prompt": "".join(map(chr, body["tokens"]))})
                script.completions.append(body)
                parts = script.complete(body)
                try:
                    first = next(parts)
                except Refusal as refusal:
                    return self._send(refusal.status, refusal.error, refusal.headers)
                return self._stream(first, parts)

            def _stream(self, first: bytes, rest: Iterator[bytes]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for part in itertools.chain([first], rest):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.write(b"0\r\n\r\n")
                except (Drop, OSError):  # OSError: the client has left
                    self.close_connection = True

            def _send(self, status: int, page: Any, headers: Mapping[str, str] | None = None) -> None:
                content = page.encode() if isinstance(page, str) else json.dumps(page).encode()
                self.send_response(status)
                for header in (headers or {}).items():
                    self.send_header(*header)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Stay silent."""

        return Handler
