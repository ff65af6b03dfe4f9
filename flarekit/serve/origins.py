"""Which hosts and origins a request may come by: what keeps other web pages from using a server that asks for no key.

A page of another site can make a browser post anything to this machine's own ports, and a name of its own can be made
to lead here. So a request must be addressed to a name that is known, must not come from a page that is not, and must
say that it is JSON, which no page can do unasked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from flarekit.errors import ConfigError, quoted
from flarekit.serve.middleware import Refused, for_api, header_of, refusal

ANY = "*"
EXPOSED = ("retry-after", "x-flarekit-policy", "x-request-id")
"""Headers of answers that pages of allowed origins may read."""
_PORT = re.compile(r":\d*$")
_PORTS = {"http": "80", "https": "443"}
_LOOPBACK = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def allow_origins(app: ASGIApp, origins: Iterable[str]) -> ASGIApp:
    """`app` for pages of these origins too, such as "https://chat.example": with keys, and with headers of theirs."""
    known = [_origin(origin) for origin in origins]
    if not known:
        return app
    return CORSMiddleware(
        app,
        allow_origins=known,
        allow_methods=["GET", "POST"],
        allow_headers=[ANY],
        allow_credentials=True,
        expose_headers=EXPOSED,
        max_age=600,
    )


def check_origin(
    app: ASGIApp, hosts: Collection[str], origins: Collection[str], refused: Refused, *, local: bool = True
) -> ASGIApp:
    """403 for a request that is addressed to another name than `hosts`, or comes from a page of another origin.

    Names of this machine itself are always known, and so is every address in numbers unless the server is `local`: no
    name can be made to lead elsewhere where none is used. `origins` are allowed beside the server's own.
    """
    names = {host.lower().rstrip(".") for host in hosts}
    known = {_origin(origin) for origin in origins}

    def is_known(host: str) -> bool:
        return ANY in names or host in names or _is_loopback(host) or (not local and _is_address(host))

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        sent = (header_of(scope, b"host") or b"").decode("latin-1").lower()
        message = ""
        if not is_known(_name(sent)):
            message = f"this server is not called {quoted(_name(sent))!r}; name it with --allow-host"
        elif (origin := header_of(scope, b"origin")) is not None:
            page = origin.decode("latin-1").lower()
            if not (_is_own(page, sent) or ANY in known or page in known):
                message = f"pages of {quoted(page)!r} may not use this server; allow them with --cors-origin"
        if not message:
            return await app(scope, receive, send)
        refused(403)
        return await refusal(403, message)(scope, receive, send)

    return gate


def require_json(app: ASGIApp, refused: Refused) -> ASGIApp:
    """415 for a POST under `/v1/` that does not say that it is JSON."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if not for_api(scope) or scope["method"] != "POST":
            return await app(scope, receive, send)
        kind = (header_of(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json")):
            return await app(scope, receive, send)
        refused(415)
        message = "the request must say that it is JSON: send the header 'Content-Type: application/json'"
        return await refusal(415, message)(scope, receive, send)

    return gate


def _origin(origin: str) -> str:
    """An origin as browsers send it; `ConfigError` for what is none."""
    if origin == ANY:
        return origin
    try:
        parts = urlsplit(origin.strip().rstrip("/").lower())
        known = parts.scheme and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"an origin such as https://chat.example or http://localhost:3000 is expected, not {origin!r}"
        )
    return f"{parts.scheme}://{parts.netloc.removesuffix(f':{_PORTS.get(parts.scheme)}')}"


def _is_own(page: str, host: str) -> bool:
    """Whether a page's origin is this server itself, also behind a proxy that speaks TLS for it."""
    scheme, _, netloc = page.partition("://")
    return scheme in _PORTS and _name(netloc) == _name(host) and _port(netloc, scheme) == _port(host, scheme)


def _port(netloc: str, scheme: str) -> str:
    found = _PORT.search(netloc)
    return found[0].lstrip(":") if found else _PORTS[scheme]


def _name(host: str) -> str:
    return _PORT.sub("", host).strip("[]").rstrip(".")


def _is_loopback(host: str) -> bool:
    named = host in _LOOPBACK or host.endswith(".localhost")
    return named or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
