"""Embedders that count words, in this process and behind an endpoint."""

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flarekit.engines.encoders import normalized
from flarekit.retrieval import Passage
from flarekit.retrievers.index.ranked import Ranking
from flarekit.retrievers.lexical.analyzer import words

VOCABULARY = ["oslo", "riga", "capital", "norway", "latvia", "river", "novel", "born"]


class WordVectors:
    """An embedder without a model: a random direction for each word, always the same one, added up."""

    name, dimension = "word vectors", 24

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        rows = np.array([sum(map(self._direction, words(text)), np.full(24, 0.1)) for text in texts])
        return normalized(rows)

    def _direction(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(list(word.encode())).normal(size=24)


def corpus_of(texts: Sequence[str]) -> list[Passage]:
    return [Passage(f"p{number}", "", text) for number, text in enumerate(texts)]


def plain(rankings: Sequence[Ranking]) -> list[tuple[list[int], list[float]]]:
    return [(numbers.tolist(), scores.tolist()) for numbers, scores in rankings]


Answer = tuple[int, Any]


class Endpoint(ThreadingHTTPServer):
    """Answers as vLLM does; `refusals` are sent first, each once. Its vectors are (length of the text, 1)."""

    def __init__(self, served: Sequence[str] = ("e5",), refusals: Sequence[Answer] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served, self.refusals = list(served), list(refusals)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def embeddings(self, body: dict[str, Any]) -> Answer:
        self.asked.append(body)
        if self.refusals:
            return self.refusals.pop(0)
        if body["model"] not in self.served:
            message = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}
        data = [
            {"object": "embedding", "index": number, "embedding": [len(text), 1.0]}
            for number, text in enumerate(body["input"])
        ]
        # In another order than they were sent: the index counts.
        return 200, {"object": "list", "model": body["model"], "data": data[::-1], "usage": {"prompt_tokens": 1}}


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": model} for model in self.server.served]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Authorization"])
        self._send(*self.server.embeddings(body))

    def _send(self, status: int, answer: Any) -> None:
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Counting:
    """An embedder that counts its passages; the third batch is too much for it."""

    name, dimension = "counting", 8

    def __init__(self, third: Callable[[], object] = lambda: None) -> None:
        self.embedded: list[str] = []
        self._batches, self._third = 0, third

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        if not query and len(texts) > 1:  # one is for the check of an index that is opened
            self._batches += 1
            if self._batches == 3:
                self._third()
            self.embedded += texts
        return normalized(np.array([np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]))
