"""A response that is written while it is made, and that ends all beneath it as soon as its reader leaves.

`Live` runs a coroutine that writes the response. A reader who goes away cancels that coroutine wherever it waits, and
with it the session, its streams and its look-ups: leaving their contexts closes their connections, which stops the
engines. A reader who reads slowly makes `Outgoing.send` wait, and nothing beneath it reads ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send


class Outgoing:
    """The response on its way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.of_events = False
        """Whether what was started is a stream of events, into which an error can still be written."""
        self.headers: dict[str, str] = {}
        """What is said in the headers of this response beside those that it is started with."""

    async def start(self, headers: Mapping[str, str], status: int = 200) -> None:
        """Send the status and the headers; once."""
        self.started = True
        self.of_events = headers.get("content-type", "").startswith("text/event-stream")
        both = {**headers, **self.headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in both.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def send(self, data: bytes) -> None:
        """Send a part of the body; waits while the reader is slower than we are."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def whole(self, data: bytes, status: int = 200) -> None:
        """The whole response, as JSON."""
        await self.start({"content-type": "application/json", "content-length": str(len(data))}, status)
        await self.send(data)

    async def _end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class Live(Response):
    """A response that `write` sends; `write` is cancelled when the reader leaves."""

    def __init__(self, write: Callable[[Outgoing], Awaitable[None]]) -> None:
        self._write = write
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `write` and watch the reader; returns once both have ended."""
        outgoing = Outgoing(send)
        writing = asyncio.ensure_future(self._written(outgoing))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not writing.done():
                writing.cancel()
            await asyncio.wait((writing, leaving))
        if not writing.cancelled():
            writing.result()

    async def _written(self, outgoing: Outgoing) -> None:
        await self._write(outgoing)
        await outgoing._end()


async def _left(receive: Receive) -> None:
    message: Message = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
