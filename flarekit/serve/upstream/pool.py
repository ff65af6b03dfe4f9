"""Several vLLM servers of one model behind one address, as a transport for `httpx`.

Whoever sends (`VLLMEngine`, the relay) addresses the first of them and tries again on failures; `Upstreams` sends each
try to the server with the fewest running requests and leaves out those that have just failed.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from flarekit.errors import ConfigError, quoted
from flarekit.io.addresses import shown
from flarekit.serve.upstream.transport import AiohttpTransport

EJECTING = frozenset({502, 503, 504})
"""Statuses that say of a server that it is not there, rather than of a request that it failed."""
FAILURES = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""What is raised for a server that does not answer, or not to the end."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one server."""

    healthy: bool
    running: int
    """Requests whose responses have not been closed yet."""


@dataclass(slots=True, eq=False)
class _Upstream:
    url: httpx.URL
    """Without the user and the password that it was given with."""
    login: str | None = None
    """Those, as its `Authorization` header."""
    running: int = 0
    ejected: int | None = None
    """When, on the counter of all ejections; None while it is healthy."""

    def prefix(self) -> bytes:
        return self.url.raw_path.rstrip(b"/")


_pinned: ContextVar[dict[Upstreams, _Upstream] | None] = ContextVar("pinned", default=None)


@contextmanager
def sticky() -> Iterator[None]:
    """Around one session: its requests go to one server of each `Upstreams`, as long as that is healthy.

    The first request chooses by load; the others find their prompt in that server's prefix cache. It holds for the
    tasks that are started inside as well.
    """
    before = _pinned.get()
    _pinned.set({})
    try:
        yield
    finally:
        # Not `reset`, which refuses where a generator is closed by another task than the one that began it.
        _pinned.set(before)


class Upstreams(httpx.AsyncBaseTransport):
    """Sends each request to the healthy server with the fewest running ones (the first of these).

    A server is ejected by a connection error, a time-out, a body that breaks off, and a status 502, 503 or 504; it is
    readmitted as soon as it answers `GET /health`. Where all are ejected, requests are still tried, on the server that
    was ejected longest ago.

    Use it as an asynchronous context. Clients share it and may be entered and closed in any order: connections are
    closed when the last context is left, not by `aclose`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        on_change: Callable[[str, bool], None] | None = None,
        on_error: Callable[[str], None] | None = None,
        probe_every: float = 3.0,
    ) -> None:
        """Servers at `urls` (with or without "/v1"); `ConfigError` for what is no URL or is there twice.

        `on_change(url, healthy)` is called when a server is ejected or readmitted, `on_error(url)` at every failure.
        Ejected servers are asked every `probe_every` seconds, and have as long to answer.
        """
        self._upstreams = [_Upstream(*_parse(url)) for url in urls]
        if not self._upstreams:
            raise ConfigError("no engine's URL is given; name at least one")
        names = [str(upstream.url) for upstream in self._upstreams]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"the engine's URL {doubled} is given twice; name each server once")
        self.url = names[0]
        """Where requests are to be addressed."""
        self._transport = transport or AiohttpTransport()
        self._on_change = on_change
        self._on_error = on_error
        self._probe_every = probe_every
        self._ejections = itertools.count()
        self._entered = 0
        self._probing: asyncio.Task[None] | None = None

    def status(self) -> dict[str, Status]:
        """Each server by its URL, in the order in which they were named."""
        return {str(each.url): Status(each.ejected is None, each.running) for each in self._upstreams}

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe())
            await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._entered -= 1
        if self._probing is not None and self._entered == 0:
            probing, self._probing = self._probing, None
            probing.cancel()
            await asyncio.wait([probing])
            await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request that is addressed to the first server to the one whose turn it is."""
        upstream = self._choose()
        was_ejected = upstream.ejected is not None
        upstream.running += 1
        try:
            response = await self._transport.handle_async_request(self._addressed(request, upstream))
        except BaseException as error:
            upstream.running -= 1
            if isinstance(error, FAILURES):
                self._eject(upstream)
            raise
        if response.status_code in EJECTING:
            self._eject(upstream)
        elif was_ejected:
            self._readmit(upstream)
        body = _Body(response.stream, upstream, self._eject)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=body, extensions=response.extensions
        )

    def _choose(self) -> _Upstream:
        pinned = _pinned.get()
        kept = pinned.get(self) if pinned else None
        if kept and kept.ejected is None:
            return kept
        healthy = [each for each in self._upstreams if each.ejected is None]
        if healthy:
            chosen = min(healthy, key=lambda each: each.running)
        else:
            chosen = min(self._upstreams, key=lambda each: each.ejected or 0)
        if pinned is not None:
            pinned[self] = chosen
        return chosen

    def _addressed(self, request: httpx.Request, upstream: _Upstream) -> httpx.Request:
        path = request.url.raw_path.removeprefix(self._upstreams[0].prefix())
        url = upstream.url.copy_with(raw_path=upstream.prefix() + path)
        headers = request.headers.copy()
        headers["Host"] = url.netloc.decode("ascii")
        if upstream.login:
            headers["Authorization"] = upstream.login
        return httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)

    def _eject(self, upstream: _Upstream) -> None:
        was_healthy = upstream.ejected is None
        upstream.ejected = next(self._ejections)
        if self._on_error is not None:
            self._on_error(str(upstream.url))
        if self._on_change is not None and was_healthy:
            self._on_change(str(upstream.url), False)

    def _readmit(self, upstream: _Upstream) -> None:
        was_ejected = upstream.ejected is not None
        upstream.ejected = None
        if self._on_change is not None and was_ejected:
            self._on_change(str(upstream.url), True)

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(self._probe_every)
            ejected = [each for each in self._upstreams if each.ejected is not None]
            # Whatever a probe ends with concerns its own server, which stays out until the next one.
            await asyncio.gather(*map(self._ask, ejected), return_exceptions=True)

    async def _ask(self, upstream: _Upstream) -> None:
        timeout = httpx.Timeout(self._probe_every).as_dict()
        url = upstream.url.copy_with(raw_path=upstream.prefix() + b"/health")
        headers = {"Authorization": upstream.login} if upstream.login else {}
        response = await self._transport.handle_async_request(
            httpx.Request("GET", url, headers=headers, extensions={"timeout": timeout})
        )
        # Its page may be of any length.
        await response.aclose()
        # Servers without that page answer 404, and are there.
        if response.status_code < 500:
            self._readmit(upstream)


class _Body(httpx.AsyncByteStream):
    """A response's body, which says when it breaks off and when it is closed."""

    def __init__(
        self,
        stream: httpx.SyncByteStream | httpx.AsyncByteStream,
        upstream: _Upstream,
        eject: Callable[[_Upstream], None],
    ) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101  (an asynchronous transport's)
        self._stream = stream
        self._upstream = upstream
        self._eject = eject
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except FAILURES:
            if not self._closed:
                self._eject(self._upstream)
            raise

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._upstream.running -= 1
            await self._stream.aclose()


def _parse(url: str) -> tuple[httpx.URL, str | None]:
    """A server's URL without "/v1" and without a login, and that."""
    said = quoted(shown(url))
    try:
        parsed = httpx.URL(url.rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL as error:
        raise ConfigError(f"an engine's URL is expected, not {said!r} ({quoted(error)})") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ConfigError(f"an engine's URL is expected, such as http://localhost:8000, not {said!r}")
    if not parsed.userinfo:
        return parsed, None
    login = base64.b64encode(f"{parsed.username}:{parsed.password}".encode()).decode()
    return parsed.copy_with(userinfo=b""), f"Basic {login}"
