"""What a server's failures are to us: the one place where an HTTP status or a broken connection becomes an error."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import orjson

from flarekit.errors import (
    EngineError,
    EngineUnavailable,
    MissingCapability,
    PromptTooLong,
    RequestRejected,
    UnknownModel,
)
from flarekit.io.retries import retry_after

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses that a second try may mend."""
ERROR_BYTES = 1 << 16
"""How much of an answer that is a refusal is read."""
EVENT_BYTES = 4 << 20
"""The most of a stream that comes without an end of an event: one that packs many tokens has some 100 KiB."""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,']*")
"""What a client library says of a connection, where it names no address."""
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
ANSWER_BYTES = 256 << 20
"""The most of an answer that is read whole: one with the log-probabilities of a long prompt has some 10 MiB."""


def refusal(status: int, content: bytes, headers: Mapping[str, str], where: str, hint: str = "") -> EngineError:
    """The error for a status that is no success, from vLLM's `{"error": {...}}` where there is one.

    `where` is the address that answered; `hint` is what to do about a request that was refused.
    """
    said, param = _said(content)
    told: dict[str, Any] = {"where": where, "quote": said, "status": status, "param": param}
    message = f"status {status}"
    if status in RETRIED:
        return EngineUnavailable(message, **told, retry_after=retry_after(headers))
    if status == 404 and "model" in said:
        return UnknownModel(f"{message}; the model is not served", **told)
    if status == 400 and param == "input_tokens":
        return PromptTooLong("the prompt does not fit into the model's context", **told)
    if status == 400 and param == "logprobs":
        return MissingCapability("log-probabilities are not sent as asked", **told)
    return RequestRejected(message + hint, **told)


def unreachable(error: httpx.HTTPError, where: str) -> EngineUnavailable:
    """The error for a request that got no answer."""
    if isinstance(error, httpx.TimeoutException):
        return EngineUnavailable(f"no answer within the time-out ({type(error).__name__})", where=where)
    said, hint = str(error), "; is a server running there?"
    if _PLAIN.fullmatch(said):
        return EngineUnavailable(said + hint, where=where)
    return EngineUnavailable(type(error).__name__ + hint, where=where, quote=said)


def read_bytes(response: httpx.Response, most: int = ANSWER_BYTES) -> bytes:
    """The body of a response that streams; of more than `most` bytes an `httpx.RemoteProtocolError`."""
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > most:
            raise httpx.RemoteProtocolError(f"an answer of more than {most} bytes")
    return bytes(content)


async def read_whole(response: httpx.Response, most: int = ANSWER_BYTES) -> httpx.Response:
    """The same answer, read and closed; one of more than `most` bytes is an `httpx.RemoteProtocolError`."""
    content = bytearray()
    try:
        async for part in response.aiter_bytes():
            content += part
            if len(content) > most:
                raise httpx.RemoteProtocolError(f"an answer of more than {most} bytes")
    finally:
        await response.aclose()
    kind = {"content-type": response.headers.get("content-type", "")}
    return httpx.Response(response.status_code, headers=kind, content=bytes(content), request=response.request)


class Events(httpx.AsyncByteStream):
    """A stream of server-sent events, of which none has more than `most` bytes: what reads it waits for their ends."""

    def __init__(self, stream: httpx.AsyncByteStream, most: int = EVENT_BYTES) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The parts, without a mark of their encoding; `httpx.RemoteProtocolError` for an event without an end."""
        size, before = 0, b""
        begin: bytes | None = b""
        async for part in self._stream:
            if begin is not None:
                begin += part
                if len(begin) < len(BOM_UTF8) and BOM_UTF8.startswith(begin):
                    continue
                part, begin = begin.removeprefix(BOM_UTF8), None
            last = max(part.rfind(end) for end in _ENDS)
            if last >= 0:
                size = len(part) - last
            elif any(end in before + part[:3] for end in _ENDS):  # it came in two parts
                size = len(part)
            else:
                size += len(part)
            if size > self._most:
                raise httpx.RemoteProtocolError(f"an event of more than {self._most} bytes")
            before = part[-3:] if len(part) > 2 else (before + part)[-3:]
            yield part

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._stream.aclose()


async def read_refusal(response: httpx.Response, where: str, hint: str = "") -> EngineError:
    """The error for a response that is no success and whose body is unread; it is closed."""
    content = bytearray()
    try:
        async for part in response.aiter_bytes():
            content += part
            if len(content) > ERROR_BYTES:
                break
    except httpx.HTTPError:
        pass  # the status says enough
    finally:
        await response.aclose()
    return refusal(response.status_code, bytes(content[:ERROR_BYTES]), response.headers, where, hint)


def _said(content: bytes) -> tuple[str, str | None]:
    """What the server says of it, and the field that it objects to."""
    try:
        error = orjson.loads(content)
        error = error.get("error", error)
        message, param = str(error["message"]), error.get("param")
    except (ValueError, LookupError, TypeError, AttributeError):
        message, param = content.decode(errors="replace"), None
    lines = message.strip().splitlines() or ["no message"]
    return lines[0], param if isinstance(param, str) else None
