"""Requests that no policy applies to: to the engine and back, byte by byte.

Nothing is parsed on the way but, once and at the end, the usage in the last bytes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import httpx
import orjson

from flarekit.errors import EngineError, StreamBroken
from flarekit.io.refusals import read_refusal, unreachable
from flarekit.io.retries import Retries
from flarekit.tokens import Usage

TAIL = 8192
"""Bytes at the end of an answer in which its usage is looked for."""
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that concern one connection (RFC 9110, section 7.6.1), besides those that `connection` names."""
TO_ENGINE = frozenset({"accept", "accept-language", "content-type", "traceparent", "tracestate", "user-agent"})
"""Request headers that are passed on. Others may concern other clients of the engine, as vLLM's for priorities,
sessions and request ids do, or its address and its keys, which are our own."""
OURS_TO_CLIENT = frozenset({"date", "server", "set-cookie", "location", "strict-transport-security", "alt-svc"})
"""Response headers that are our own server's to set; those for other origins (`access-control-`) are too."""
LATIN = "latin-1"
"""How ASGI reads and writes the bytes of headers; any bytes survive it."""

_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')  # inside a string of JSON its quotes would be escaped


async def relay(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    attempts: int = 3,
    longest: float = 10.0,
) -> Relayed:
    """Pass a request on; returns when the engine has sent the headers of its answer.

    `client` is addressed to an engine, best over `Upstreams`: another attempt then reaches another server. `headers`
    are those of the client's request. The engine gets the request `attempts` times at most, whatever goes wrong, and is
    waited for `longest` seconds where it asks for that. Raises the `EngineError` of what is no success (`refusals`), so
    `EngineUnavailable` where no attempt got an answer. Cancelling it stops the engine.
    """
    offered = httpx.Headers(headers, encoding=LATIN)
    passed = {name: value for name, value in offered.items() if name in TO_ENGINE}
    sent = httpx.Headers({**passed, "accept-encoding": "identity"}, encoding=LATIN)

    retries = Retries(attempts - 1, longest=longest)

    async def send() -> httpx.Response:
        return await _send(client, client.build_request(method, path, content=body, headers=sent), retries)

    return Relayed(await send(), send, retries)


class Relayed:
    """An answer on its way; iterate over its bytes once, and `aclose` it whatever happens.

    A stream of events that breaks before its first byte is asked for again; one that breaks later ends with an event
    that says so. Of any other body that breaks, `StreamBroken` is raised, so that the connection is broken off.
    """

    def __init__(
        self, response: httpx.Response, send: Callable[[], Awaitable[httpx.Response]], retries: Retries
    ) -> None:
        """An answer with `response`'s headers; `send` asks for it again, where `retries` allows it."""
        self.status = response.status_code
        self.headers = _end_to_end(httpx.Headers(response.headers.raw, encoding=LATIN))
        """What to send on, by lower-case names; the bytes are encoded as `content-encoding` says, if it is there."""
        self.streamed = _is_stream(response)
        """Whether it is a stream of server-sent events."""
        self.first: float | None = None
        """When the first byte of the body came, by `time.perf_counter`."""
        self.error = ""
        """What broke, if something did."""
        self._response = response
        self._send = send
        self._retries = retries
        self._tail = bytearray()

    @property
    def usage(self) -> Usage | None:
        """What the engine counted, read from the last bytes that came; None where it does not tell."""
        places = [*_USAGE.finditer(self._tail)]
        if not places:
            return None
        try:
            told, _ = json.JSONDecoder().raw_decode(self._tail[places[-1].end() :].decode(errors="replace"))
            cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
            return Usage(told["prompt_tokens"], cached, told.get("completion_tokens") or 0)
        except (ValueError, LookupError, AttributeError):
            return None

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            while True:
                try:
                    async for part in _body(self._response):
                        if self.first is None:
                            self.first = time.perf_counter()
                        self._remember(part)
                        yield part
                    return
                except httpx.TransportError as error:
                    if self._response.is_closed:  # by `aclose`, from another task
                        return
                    if not await self._renewed():
                        self.error = f"the engine's answer broke off ({type(error).__name__})"
                        if not self.streamed:
                            raise StreamBroken(self.error) from error
                        yield self._farewell()
                        return
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection to the engine, which stops it unless it was done. May be called more than once."""
        await self._response.aclose()

    def _remember(self, part: bytes) -> None:
        self._tail += part
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    async def _renewed(self) -> bool:
        """Whether the same answer begins again: only headers were sent on, and the new ones say the same."""
        if self.first is not None or not self.streamed or not self._retries.take():
            return False
        await self._response.aclose()
        try:
            self._response = await self._send()
        except EngineError:
            return False
        return self._response.status_code == self.status and _is_stream(self._response)

    def _farewell(self) -> bytes:
        """The last events of a stream that broke, after the rest of the line in which it did."""
        error = {"message": self.error, "type": "upstream_error", "param": None, "code": 502}
        begun = b"" if not self._tail or self._tail.endswith((b"\n\n", b"\n\r\n")) else b"\n\n"
        return begun + b"data: " + orjson.dumps({"error": error}) + b"\n\ndata: [DONE]\n\n"


async def _send(client: httpx.AsyncClient, request: httpx.Request, retries: Retries) -> httpx.Response:
    """An answer whose body is unread, after as many attempts as it takes."""
    # The waits are short, because another server may be there at once.
    async for attempt in retries.attempts(first_wait=0.05):
        with attempt:
            try:
                response = await client.send(request, stream=True)
            except httpx.TransportError as error:
                raise unreachable(error, str(request.url)) from error
            if not response.is_success:
                raise await read_refusal(response, str(request.url))
            return response
    raise AssertionError("it either returns or raises")


def _is_stream(response: httpx.Response) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.startswith("text/event-stream")


def _body(response: httpx.Response) -> httpx.AsyncByteStream:
    """The bytes as they come: `Response.aiter_raw` would take as long for each part as reading it did."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  (an asynchronous client's)
    return response.stream


def _end_to_end(headers: httpx.Headers) -> dict[str, str]:
    """An answer's headers but for those of one connection and those that are ours, by lower-case names."""
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    dropped = HOP_BY_HOP | OURS_TO_CLIENT | named
    return {
        name: value for name, value in headers.items() if name not in dropped and not name.startswith("access-control-")
    }
