"""All of the server as one ASGI application: the protocol's routes, the page, and what operations ask for."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from flarekit.errors import quoted
from flarekit.serve.completions import Service
from flarekit.serve.middleware import UPLOAD, Draining, error_body, gated
from flarekit.serve.observers.metrics import Metrics
from flarekit.serve.origins import allow_origins, check_origin, require_json

CHAT, COMPLETIONS = ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
PAGE = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}


def create_app(
    service: Service,
    metrics: Metrics,
    *,
    keys: Iterable[str] = (),
    body_limit: int = 8 << 20,
    concurrent: int = 512,
    upload: float = UPLOAD,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    local: bool = True,
    upstreams: Callable[[], Mapping[str, bool]] = dict,
    draining: Draining | None = None,
) -> ASGIApp:
    """The application. `upstreams` tells for `/health` which engines answer; the server is well while one of them does.

    The rest is as in `flarekit.serve.middleware` and `flarekit.serve.origins`.
    """
    draining = draining or Draining()

    async def health(request: Request) -> Response:
        known = upstreams()
        well = not draining.on and (any(known.values()) or not known)
        state = "draining" if draining.on else "ok" if well else "no engine answers"
        return JSONResponse({"status": state, "upstreams": dict(known)}, 200 if well else 503)

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": service.offer.cards()})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        for card in service.offer.cards():
            if card["id"] == name:
                return JSONResponse(card)
        raise HTTPException(404, f"no model is called {quoted(name)!r}")

    async def measured(request: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [
        Route(CHAT, partial(service.respond, chat=True), methods=["POST"]),
        Route(COMPLETIONS, partial(service.respond, chat=False), methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/health", health),
        Route("/metrics", measured),
        *(Route(path, partial(_page, _asset(name), mimetypes.guess_type(name)[0])) for path, name in PAGE.items()),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    told = metrics.refused
    within = gated(
        require_json(app, told), keys=keys, body_limit=body_limit, concurrent=concurrent, refused=told, upload=upload
    )
    return allow_origins(check_origin(within, hosts, origins, told, local=local), origins)


def _asset(name: str) -> bytes:
    return (resources.files("flarekit.serve") / "page" / name).read_bytes()


async def _page(content: bytes, media_type: str | None, request: Request) -> Response:
    return Response(content, media_type=media_type)


async def _refused(request: Request, error: Exception) -> Response:
    """An unknown path or method, in the protocol's own format."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for those
    message = (
        error.detail
        if error.status_code != 404 or error.detail != "Not Found"
        else f"no path {quoted(request.url.path)}"
    )
    return JSONResponse(error_body(error.status_code, message), error.status_code, dict(error.headers or {}))
