"""HTTP for the server's own requests: httpx's interface over aiohttp's connections.

httpx's own transport takes four times the processor time for a chunk of a stream and, with a thousand connections open,
several milliseconds for every request.
"""

from __future__ import annotations

import asyncio
import io
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache, cached_property

import aiohttp
import httpx
import yarl

from flarekit.engines.vllm import LOOPBACK

KEPT_ALIVE = 4.0
"""Seconds; vLLM closes idle connections after 5, and a request must not be sent into one that is being closed."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 for `httpx` by aiohttp: any number of connections, certificates as httpx checks them.

    Parts of a body that have already arrived come as one; at most about 128 KiB are read ahead of the reader.
    """

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # At the first request, because it needs a running event loop.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_ALIVE, ssl=httpx.create_ssl_context())
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; errors are httpx's."""
        asked = request.extensions.get("timeout", {})
        connect, write, read = (asked.get(phase) for phase in ("connect", "write", "read"))
        headers = [(name.decode("ascii"), value.decode(errors="replace")) for name, value in request.headers.raw]
        content = await request.aread()
        # aiohttp itself would wait for ever for a server that does not read a long prompt.
        longest = None if None in (connect, write, read) else connect + write + read
        with _errors_of_httpx():
            async with asyncio.timeout(longest):
                response = await self._session.request(
                    request.method,
                    yarl.URL(str(request.url), encoded=True),
                    # A file is written part by part, so that a long prompt does not hold up the other streams.
                    data=io.BytesIO(content) if content else None,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=read),
                    proxy=_proxy(request.url.scheme, request.url.host),
                    allow_redirects=False,
                )
        return httpx.Response(response.status, headers=list(response.raw_headers), stream=_Arriving(response))

    async def aclose(self) -> None:
        """Close all connections."""
        if "_session" in self.__dict__:
            await self._session.close()


class _Arriving(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of_httpx():
            async for part in self._response.content.iter_any():
                yield part

    async def aclose(self) -> None:
        # After the last byte the connection has gone back to the pool; before, closing it stops the server.
        self._response.close()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(str(error)) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(str(error)) from error
    except aiohttp.ClientPayloadError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(str(error)) from error


@cache
def _proxy(scheme: str, host: str) -> str | None:
    """The environment's proxy; it must not be asked for this machine's own ports."""
    if host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)
