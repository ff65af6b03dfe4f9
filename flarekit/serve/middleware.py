"""What a request must pass before it is read: a known key, a free place, and a body that is not too long.

Each gate is an ASGI application around another one; `gated` puts all of them around the server's. A gate refuses in
OpenAI's error format, and none does any work for the parts of a streamed answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flarekit.errors import ConfigError
from flarekit.io.files import read_text
from flarekit.io.keys import expect_key

Refused = Callable[[int], None]
"""Is told the status of every request that a gate refuses."""

PAGE = frozenset({"/", "/page.css", "/page.js"})
"""The paths of the page, which gets security headers."""
_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Headers of every answer: no page of another site may frame or embed it, or guess at its kind."""
_CONTENT = (
    b"default-src 'self'; style-src 'self'; script-src 'self'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
)
_PAGE_HEADERS = [*_SAFE, (b"content-security-policy", _CONTENT), (b"cross-origin-opener-policy", b"same-origin")]
UPLOAD = 30.0
"""Seconds in which a request's body must have come."""
_SMALL = 1 << 16
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Draining:
    """Whether the server is about to end: `/health` then answers 503, so that nobody sends it new requests."""

    on: bool = False


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object for an answer of `status`, or for an event in a stream that fails after its status was 200.

    `param` is the field of the request that is wrong; `code` is for programs, such as "model_not_found".
    """
    return {"error": {"message": message, "type": _error_type(status), "param": param, "code": code}}


def refusal(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The whole response for a request that is not answered."""
    return Response(orjson.dumps(error_body(status, message, param, code)), status, headers, "application/json")


def gated(
    app: ASGIApp,
    *,
    body_limit: int,
    concurrent: int,
    keys: Iterable[str] = (),
    refused: Refused = lambda status: None,
    upload: float = UPLOAD,
) -> ASGIApp:
    """`app` behind all gates; without `keys` it is open to everybody.

    A body has at most `body_limit` bytes and comes within `upload` seconds, and at most `concurrent` requests for an
    answer are at work. Put it around the whole Starlette application rather than among its middlewares: those don't see
    the answer to an exception.
    """
    app = limit_concurrency(app, concurrent, refused)
    app = limit_body(app, body_limit, refused, upload)
    if keys := list(keys):
        app = require_key(app, keys, refused)
    return with_request_id(with_safe_headers(app))


def with_request_id(app: ASGIApp) -> ASGIApp:
    """Every request under `/v1/` has an id: `request.state.request_id`, and its answer's `x-request-id`.

    It is the client's own where that is 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-".
    """

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if not for_api(scope):
            return await app(scope, receive, send)
        sent = header_of(scope, b"x-request-id")
        known = sent if sent is not None and _SANE_ID.fullmatch(sent) else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = known.decode()
        return await app(scope, receive, _with_headers(send, [(b"x-request-id", known)]))

    return gate


def with_safe_headers(app: ASGIApp) -> ASGIApp:
    """No answer can be framed or embedded elsewhere; the page may load nothing but its own parts."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        return await app(scope, receive, _with_headers(send, _PAGE_HEADERS if scope["path"] in PAGE else _SAFE))

    return gate


def require_key(app: ASGIApp, keys: Iterable[str], refused: Refused) -> ASGIApp:
    """401 for a request under `/v1/` that has none of `keys` as its bearer token."""
    # Digests are of one length, so that a comparison's time does not even tell how long a key is.
    digests = [hashlib.sha256(expect_key(key, "a client's key").encode()).digest() for key in keys]

    def known(token: bytes) -> bool:
        offered = hashlib.sha256(token).digest()
        # Against all of them, whichever it is.
        return sum(hmac.compare_digest(offered, digest) for digest in digests) > 0

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if not for_api(scope):
            return await app(scope, receive, send)
        scheme, _, token = (header_of(scope, b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer" and known(token.strip()):
            return await app(scope, receive, send)
        refused(401)
        message = "a key of this server is needed: send the header 'Authorization: Bearer KEY' with a valid one"
        response = refusal(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return await response(scope, receive, send)

    return gate


def limit_concurrency(app: ASGIApp, most: int, refused: Refused) -> ASGIApp:
    """429 for a POST under `/v1/` while `most` others are at work.

    One is at work until `app` returns: when its last byte was sent, its client has left, or it failed.
    """
    running = 0

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        if not for_api(scope) or scope["method"] != "POST":
            return await app(scope, receive, send)
        if running >= most:
            refused(429)
            message = f"the server is at work on {running} requests, its limit; try again in a second"
            response = refusal(429, message, code="rate_limit_exceeded", headers={"Retry-After": "1"})
            return await response(scope, receive, send)
        running += 1
        try:
            return await app(scope, receive, send)
        finally:
            running -= 1

    return gate


def limit_body(app: ASGIApp, most: int, refused: Refused, seconds: float = UPLOAD) -> ASGIApp:
    """413 for a body of more than `most` bytes, as soon as its announced or its received length says so.

    The body of a POST under `/v1/` is held back until it is whole, so that a client that sends it slowly takes no
    place from others: 408 where it is not there after `seconds`, 429 where too many long ones are on their way.
    """
    uploads = _Uploads(most)

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        chunked = header_of(scope, b"transfer-encoding") is not None
        status = 0 if chunked or _fits(header_of(scope, b"content-length") or b"0", most) else 413
        if not status and (chunked or (for_api(scope) and scope["method"] == "POST")):
            try:
                async with asyncio.timeout(seconds):
                    message = await uploads.read(receive)
                return await app(scope, _starting_with(message, receive), send)
            except _TooLong as error:
                status = error.status
            except TimeoutError:
                status = 408
        elif not status:
            return await app(scope, receive, send)
        refused(status)
        messages = {
            408: f"the request's body was not there after {seconds:g} s",
            413: f"the request's body has more than {most} bytes, the server's limit; send a shorter one",
            429: "too many long requests are on their way; try again in a second",
        }
        # What is left of the body is not waited for.
        headers = {"Connection": "close"} | ({"Retry-After": "1"} if status == 429 else {})
        return await refusal(status, messages[status], headers=headers)(scope, receive, send)

    return gate


class _TooLong(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class _Uploads:
    """The bodies that are on their way, which all together have a limit too."""

    def __init__(self, most: int) -> None:
        self._most, self._room = most, max(8 * most, 64 << 20)

    async def read(self, receive: Receive) -> Message:
        """The whole body as one message, or that the client left; `_TooLong` as soon as it is."""
        body = bytearray()
        held = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body += message.get("body", b"")
                if len(body) > self._most:
                    raise _TooLong(413)
                if not message.get("more_body", False):
                    return {"type": "http.request", "body": bytes(body), "more_body": False}
                # Short ones are always taken: connections are counted too.
                more = max(0, len(body) - _SMALL) - held
                if more > self._room:
                    raise _TooLong(429)
                held, self._room = held + more, self._room - more
        finally:
            self._room += held


def read_keys(path: Path) -> list[str]:
    """The keys in a file, one a line; blank lines and lines that begin with "#" are left out.

    `ConfigError` for a file that cannot be read or has no keys, and for a key that no header can carry.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start + 1}); write one key a line") from error
    keys = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        keys.append(expect_key(line, f"{path}:{number}"))
    if not keys:
        raise ConfigError(f"{path}: no keys; write one key a line")
    return keys


def _error_type(status: int) -> str:
    match status:
        case 401 | 403:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "server_error" if status >= 500 else "invalid_request_error"


def for_api(scope: Scope) -> bool:
    """Whether a request is for the API, rather than for the page or for operations."""
    path: str = scope.get("path", "")  # the lifespan has none
    return scope["type"] == "http" and path.startswith("/v1/")


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this name, in lower case."""
    return next((value for key, value in scope["headers"] if key == name), None)


def _fits(length: bytes, most: int) -> bool:
    """Whether a Content-Length is a number, and at most `most`; one of more than 19 digits is not turned into one."""
    return length.isdigit() and len(length) < 20 and int(length) <= most


def _starting_with(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def receive_next() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_next


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    """`send`, with these headers of the response in place of others of the same names."""
    names = {name for name, _ in headers}

    # Not a coroutine of its own: that would be one more for every part of a stream.
    def send_on(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
            message = {**message, "headers": kept + headers}
        return send(message)

    return send_on
