"""From settings to a server that answers until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp

from flarekit.engines.vllm import LOOPBACK, VLLMEngine
from flarekit.errors import ConfigError, EngineUnavailable
from flarekit.io.addresses import shown
from flarekit.io.keys import key_of
from flarekit.retrievers import open_index
from flarekit.retrievers.batching import Shared
from flarekit.retrievers.index.build import destinations
from flarekit.serve.app import ENDPOINTS, create_app
from flarekit.serve.catalog import Offer, offer
from flarekit.serve.completions import Limits, Service
from flarekit.serve.connection import Connection, limited
from flarekit.serve.middleware import UPLOAD, Draining
from flarekit.serve.observers.logs import Logs, configure
from flarekit.serve.observers.metrics import Metrics
from flarekit.serve.observers.record import Observer
from flarekit.serve.observers.spans import Spans, export
from flarekit.serve.upstream.pool import Upstreams
from flarekit.trace import Role

ENGINE_KEY, STRONG_KEY = "FLAREKIT_ENGINE_KEY", "FLAREKIT_STRONG_KEY"
"""Environment variables with the bearer keys of the engines themselves."""


FAREWELL = 3
"""Seconds in which answers that are ended by the server's own end may say so."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that `flarekit serve` can be told."""

    engines: Sequence[str]
    """URLs of the servers of the model that answers."""
    policy: str = "weak"
    """A policy's specification, or a YAML file that names several."""
    index: Path | None = None
    strongs: Sequence[str] = ()
    model: str | None = None
    strong_model: str | None = None
    strict: bool = False
    host: str = "127.0.0.1"
    port: int = 8080
    keys: Sequence[str] = ()
    hosts: Sequence[str] = ()
    """Names by which clients may call the server, beside this machine's own; "*" for any."""
    origins: Sequence[str] = ()
    """Origins whose pages may use it, such as "https://chat.example"; "*" for any."""
    client_timeout: float = UPLOAD
    """Seconds that a client may take to send a request, and to take any part of its answer."""
    body_limit: int = 8 << 20
    """Bytes of a request."""
    concurrent: int = 512
    drain: int = 30
    """Seconds that answers may still take once the server is told to end."""
    engine_timeout: float = 120.0
    """Seconds that an engine may be silent."""
    limits: Limits = field(default_factory=Limits)
    log_text: bool = False
    otlp: str | None = None
    embedder: str | None = None
    """Who embeds queries, in place of the embedder that the index names."""


@dataclass(frozen=True, slots=True)
class Running:
    """An application whose engines were found."""

    app: ASGIApp
    offer: Offer
    draining: Draining
    service: Service
    connection: type[Connection]


async def serve(settings: Settings, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve until SIGTERM or SIGINT: then no request is accepted, and those at work are finished within `drain`.

    `ready` is told the server's URL as soon as it answers.
    """
    configure()
    _tell(settings)
    with export(settings.otlp) as provider:
        # Without a collector of ours there may still be one that whoever runs this process has set up.
        async with running(settings, [Spans(provider, text=settings.log_text)]) as service:
            _collect_garbage_seldom()
            await Server(settings, service, ready).serve()


def _tell(settings: Settings) -> None:
    """Log who may use the server, and where queries go."""
    log = structlog.get_logger("flarekit.serve")
    count = len(settings.keys)
    asked = f"clients need one of {count}" if count else "none is asked of clients (--api-keys asks for one)"
    log.info(f"keys: {asked}")
    for host in destinations(settings.index, embedder=settings.embedder) if settings.index else ():
        log.info(f"queries are sent to {host}")


def _collect_garbage_seldom() -> None:
    """Tokens live as long as their streams: with Python's own thresholds a fifth of the time went into finding that."""
    gc.collect()
    gc.freeze()  # what is there before the first request stays
    gc.set_threshold(50_000, 10, 10)


@asynccontextmanager
async def running(settings: Settings, observers: Sequence[Observer] = ()) -> AsyncIterator[Running]:
    """The application, with `observers` beside its metrics and its log.

    `FlarekitError` where an engine, the index or a policy is not what it must be.
    """
    index = Shared(open_index(settings.index, embedder=settings.embedder)) if settings.index else None
    async with AsyncExitStack() as stack:
        yield await _open(settings, index, observers, stack)


async def _open(
    settings: Settings, index: Shared | None, observers: Sequence[Observer], stack: AsyncExitStack
) -> Running:
    has = {"strong": bool(settings.strongs), "retriever": index is not None}
    offered = offer(settings.policy, **has, strict=settings.strict)
    metrics = Metrics(endpoints=ENDPOINTS, policies=offered.policies)
    if index:
        metrics.shares(index)
    weak, pool = await _engine("weak", settings.engines, settings.model, ENGINE_KEY, settings, metrics, stack)
    strong = None
    if settings.strongs:
        strong, _ = await _engine(
            "strong", settings.strongs, settings.strong_model, STRONG_KEY, settings, metrics, stack
        )
    offered = replace(offered, model=weak.model)
    watching: list[Observer] = [metrics, Logs(text=settings.log_text), *observers]
    service = Service(offered, weak, strong, index, limits=settings.limits, observers=watching)
    draining = Draining()
    connection, at_work = limited(settings.client_timeout, settings.concurrent)
    app = create_app(
        service,
        metrics,
        keys=settings.keys,
        body_limit=settings.body_limit,
        concurrent=at_work,
        upload=settings.client_timeout,
        hosts=[*settings.hosts, settings.host],
        origins=settings.origins,
        local=settings.host in LOOPBACK,
        upstreams=lambda: _healthy(pool, "weak"),
        draining=draining,
    )
    return Running(app, offered, draining, service, connection)


def _names(urls: Iterable[str], role: Role) -> dict[str, str]:
    """What servers are called where anybody can read it: their addresses are in the log alone."""
    return {url: f"{role}-{place}" for place, url in enumerate(urls, start=1)}


def _healthy(pool: Upstreams, role: Role) -> dict[str, bool]:
    status = pool.status()
    names = _names(status, role)
    return {names[url]: state.healthy for url, state in status.items()}


async def _engine(
    role: Role,
    urls: Sequence[str],
    model: str | None,
    key: str,
    settings: Settings,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> tuple[VLLMEngine, Upstreams]:
    api_key = key_of(key)
    if len(urls) > 1:
        await _expect_one_model(urls, model, api_key)
    names: dict[str, str] = {}
    log = structlog.get_logger("flarekit.serve")

    def changed(url: str, up: bool) -> None:
        metrics.upstream_healthy(names[url], up)
        log.log(logging.INFO if up else logging.WARNING, "engine", engine=names[url], url=url, answers=up)

    pool = Upstreams(urls, on_change=changed, on_error=lambda url: metrics.upstream_error(names[url]))
    names |= _names(pool.status(), role)
    await stack.enter_async_context(pool)
    for url, name in names.items():
        metrics.upstream_healthy(name, True)
        log.info("engine", engine=name, url=url, answers=True)
    engine = VLLMEngine(pool.url, model, api_key=api_key, timeout=settings.engine_timeout, transport=pool)
    return await stack.enter_async_context(engine), pool


async def _expect_one_model(urls: Sequence[str], model: str | None, api_key: str | None) -> None:
    """`ConfigError` where servers that are to stand for each other serve different models; one may be away."""
    served: dict[str, str] = {}
    for url in urls:
        with suppress(EngineUnavailable):
            async with VLLMEngine(url, model, api_key=api_key, attempts=1) as engine:
                served[url] = engine.model
    if len(set(served.values())) > 1:
        told = ", ".join(f"{name} at {shown(url)}" for url, name in served.items())
        raise ConfigError(f"the engine's URLs serve different models: {told}")


class Server(uvicorn.Server):
    """uvicorn's, which tells where it listens, and on `/health` that it is about to end."""

    def __init__(self, settings: Settings, running: Running, ready: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                running.app,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=running.connection,
                ws="none",
                # What has not ended by then is told so, and has this long to say it.
                timeout_graceful_shutdown=settings.drain + FAREWELL,
                backlog=4096,
            )
        )
        self._draining, self._ready = running.draining, ready
        self._service, self._drain = running.service, settings.drain

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen; `ConfigError` where that is not possible."""
        host, port = self.config.host, self.config.port
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise ConfigError(f"cannot listen on {host} port {port}; choose another with --port") from error
        port = self.servers[0].sockets[0].getsockname()[1]
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host  # noqa: S104 - it is read, not bound
        self._ready(f"http://{name}:{port}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End by SIGTERM and SIGINT; uvicorn itself would repeat the signal afterwards, and a drained end is none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
        for sig in signals:
            loop.add_signal_handler(sig, self.handle_exit, sig, None)
        try:
            yield
        finally:
            for sig in signals:
                loop.remove_signal_handler(sig)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say so before the last answers are finished."""
        if not self._draining.on:
            self._draining.on = True
            asyncio.get_running_loop().call_later(self._drain, self._service.end)
        super().handle_exit(sig, frame)
