"""A vLLM server that was recorded, on a real socket: it tokenizes as the real one did, and completes nothing.

It spells no ids either: candidates keep theirs, since the order in which they are asked for differs from run to run.

What it has to say beside completions is a map from requests to answers. With an `upstream` it fills that map, and lets
completions through, which belong into a store of completions.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import httpx

COMPLETIONS, SPELLING = "/v1/completions", "/detokenize"


class RecordedVLLM:
    """The server, as a context. `used` are the recorded answers that it gave, `missed` the requests that have none."""

    def __init__(self, exchanges: Mapping[str, Any], *, upstream: str | None = None) -> None:
        self.used: dict[str, Any] = {}
        self.missed: list[str] = []
        self._known = dict(exchanges)
        self._upstream = httpx.Client(base_url=upstream, trust_env=False, timeout=300) if upstream else None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._upstream:
            self._upstream.close()

    def _answer(self, method: str, path: str, body: bytes) -> Any:
        """What is recorded for a request, from now on where there is an upstream; None where there is nothing."""
        if path == SPELLING:
            return None
        key = f"{method} {path}"
        if body:
            # By digest: a prompt is long, and the ids that answer it are enough to read it by.
            key += f" {hashlib.sha256(json.dumps(json.loads(body), sort_keys=True).encode()).hexdigest()[:32]}"
        if key not in self._known and self._upstream:
            response = self._upstream.request(method, path, content=body, headers={"Content-Type": "application/json"})
            if response.is_success:
                self._known[key] = _told(path, response)
        if key in self._known:
            self.used[key] = self._known[key]
        else:
            self.missed.append(f"{method} {path} {body.decode()[-300:]}")
        return self._known.get(key)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._send(recorded._answer("GET", self.path, b""))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == COMPLETIONS and recorded._upstream:
                    self._pass(recorded._upstream, body)
                else:
                    self._send(recorded._answer("POST", self.path, body))

            def _pass(self, upstream: httpx.Client, body: bytes) -> None:
                """Let a completion through; a client that leaves ends it."""
                self.close_connection = True
                sent = {"Content-Type": "application/json"}
                with upstream.stream("POST", self.path, content=body, headers=sent) as response:
                    self.send_response(response.status_code)
                    self.send_header("Content-Type", response.headers["Content-Type"])
                    self.send_header("Connection", "close")
                    self.end_headers()
                    try:
                        for part in response.iter_raw():
                            self.wfile.write(part)
                    except OSError:
                        return

            def _send(self, answer: Any) -> None:
                missing = {"error": {"message": "this was not recorded", "type": "BadRequestError", "code": 400}}
                content = answer if isinstance(answer, str) else json.dumps(missing if answer is None else answer)
                self.send_response(400 if answer is None else 200)
                self.send_header("Content-Length", str(len(content.encode())))
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Stay silent."""

        return Handler


def _told(path: str, response: httpx.Response) -> Any:
    """What is kept of an answer: nothing that names the machine or differs from one start to the next."""
    if path == "/metrics":
        [info] = re.findall(r"^vllm:cache_config_info\{.*$", response.text, re.MULTILINE)
        kept = re.findall(r'\b(?:block_size|enable_prefix_caching|num_gpu_blocks)="[^"]*"', info)
        return f"vllm:cache_config_info{{{','.join(kept)}}} 1.0\n"
    answer = response.json()
    if path == "/v1/models":
        return {"data": [{key: card[key] for key in ("id", "max_model_len")} for card in answer["data"]]}
    return {key: answer[key] for key in ("tokens", "token_strs", "version") if answer.get(key) is not None}
