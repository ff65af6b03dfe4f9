"""A scripted vLLM server that sends tokens at any rate: `python benchmarks/blast.py PORT [--rate TOKENS_PER_SECOND]`.

A real model cannot be made to send 100,000 tokens a second, nor to keep 1,000 streams open on two cores. Every stream
has `max_tokens` tokens, all of them certain; a sentence has 20. Its parts are made once, so that sending costs little.
`GET /metrics` tells how many streams are open and how many were left by their clients.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from functools import cache
from typing import cast

import httptools
import orjson
import uvloop

MODEL = "blast"
CERTAIN = math.log(0.98)


@cache
def part(number: int, chat: bool, alternatives: int, last: bool) -> bytes:
    """One token of a stream as a chunk of the HTTP body."""
    text = ". Next" if number % 20 == 0 else " word"
    finish = "length" if last else None
    choice: dict[str, object] = {"index": 0, "finish_reason": finish, "stop_reason": None}
    if chat:
        choice |= {"delta": {"content": text}, "logprobs": None, "token_ids": None}
    else:
        top = {text: CERTAIN} | {f" other{n}": -4.0 - n for n in range(alternatives - 1)}
        logprobs = {"text_offset": [0], "token_logprobs": [CERTAIN], "tokens": [text], "top_logprobs": [top]}
        choice |= {"text": text, "logprobs": logprobs, "token_ids": [number % 20], "prompt_token_ids": None}
    kind = "chat.completion.chunk" if chat else "text_completion"
    chunk = {"id": "blast-0123456789abcdef", "object": kind, "created": 1, "model": MODEL, "choices": [choice]}
    return _framed(b"data: " + orjson.dumps(chunk) + b"\n\n")


def ending(tokens: int) -> bytes:
    """The usage, and the end of the stream and of the body."""
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    told = orjson.dumps({"id": "blast", "object": "x", "created": 1, "model": MODEL, "choices": [], "usage": usage})
    return _framed(b"data: " + told + b"\n\ndata: [DONE]\n\n") + b"0\r\n\r\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One client's connection."""

    rate = 0.0
    open = 0
    left = 0
    sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()
        self._url = b""
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self._task and not self._task.done():
            Connection.left += 1
            self._task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url == b"/tokenize":
            self._answer({"tokens": list(range(100)), "count": 100, "max_model_len": 100_000})
        elif self._url == b"/v1/models":
            self._answer({"object": "list", "data": [{"id": MODEL, "max_model_len": 100_000}]})
        elif self._url == b"/metrics":
            self._answer(f"open {Connection.open}\nleft {Connection.left}\nsent {Connection.sent}\n")
        elif self._body:
            self._task = asyncio.get_running_loop().create_task(self._stream(orjson.loads(self._body)))
        else:
            self._answer({})

    def _answer(self, page: object) -> None:
        content = page.encode() if isinstance(page, str) else orjson.dumps(page)
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)

    async def _stream(self, asked: dict[str, object]) -> None:
        tokens, chat = int(str(asked.get("max_tokens", 100))), "messages" in asked
        alternatives = int(str(asked.get("logprobs") or 0)) if not chat else 0
        header = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        Connection.open += 1
        try:
            self._transport.write(header)
            begin = asyncio.get_running_loop().time()
            for number in range(1, tokens + 1):
                if self.rate:
                    wait = begin + number / self.rate - asyncio.get_running_loop().time()
                    await asyncio.sleep(max(wait, 0))
                elif number % 8 == 0:
                    await asyncio.sleep(0)  # the others' turn
                await self._room.wait()
                self._transport.write(part(number, chat, alternatives, number == tokens))
                Connection.sent += 1
            self._transport.write(ending(tokens))
        finally:
            Connection.open -= 1


async def main(port: int) -> None:
    """Serve until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=4096)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("port", type=int)
    arguments.add_argument("--rate", type=float, default=0.0, help="tokens a second of each stream; 0: all at once")
    given = arguments.parse_args()
    Connection.rate = given.rate
    uvloop.run(main(given.port))
