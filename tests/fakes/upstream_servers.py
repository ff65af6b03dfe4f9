"""Servers that break, stay silent or answer by a script, and clients of several of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

import httpx

from flarekit.serve.upstream.pool import Upstreams

NEVER = 3600.0


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


Script = Callable[[asyncio.Transport], Awaitable[None]]
"""What a server does with a request."""


def framed(*parts: bytes) -> bytes:
    """Parts of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def plain(content: bytes = b"ok", status: int = 200, *, headers: str = "") -> Script:
    async def answer(transport: asyncio.Transport) -> None:
        transport.write(f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    return answer


def streaming(*parts: bytes) -> Script:
    """The beginning of a stream that goes on until the client leaves."""

    async def answer(transport: asyncio.Transport) -> None:
        transport.write(STREAM + framed(*parts))

    return answer


async def silent(transport: asyncio.Transport) -> None:
    """Never an answer."""


async def breaking(transport: asyncio.Transport) -> None:
    """A body that ends too early."""
    transport.write(STREAM + framed(b"data: 1\n\n"))
    transport.close()


class Server:
    """A server on a real socket that answers by its script; its `requests` are heads and bodies, but for probes."""

    def __init__(self, script: Script | None = None, *, health: Script | None = None, port: int = 0) -> None:
        self.script = script or plain()
        self.health = health or plain()
        self.port = port
        self.requests: list[tuple[str, bytes]] = []
        self.connections: list[asyncio.Transport] = []
        """Open ones."""
        self.asked = asyncio.Event()
        """Set when a request came."""
        self.left = asyncio.Event()
        """Set when a connection was closed."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self.connections:
            connection.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._answering: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.append(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        if ended and len(body) == int(rest.partition(b"\r\n")[0] or 0):
            self._received = b""
            probed = b"/health " in head
            if not probed:
                self._server.requests.append((head.decode(), body))
                self._server.asked.set()
            script = self._server.health if probed else self._server.script
            self._answering = asyncio.ensure_future(script(self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering:
            self._answering.cancel()
        self._server.connections.remove(self._transport)
        self._server.left.set()


def over(*servers: Server, probe_every: float = NEVER, **told: Any) -> Upstreams:
    return Upstreams([server.url for server in servers], probe_every=probe_every, **told)


def client_of(upstreams: Upstreams, timeout: float = 5.0) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=upstreams.url, transport=upstreams, timeout=timeout)
