"""A real `flarekit serve` on a real socket, in a thread of the tests' own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from flarekit.retrieval import Passage
from flarekit.retrievers import write_corpus
from flarekit.serve.completions import Limits, Service
from flarekit.serve.server import Server, Settings, running

CORPUS = (
    Passage("p1", "Emma Reus", "Emma Reus was born in Vienna in 1901."),
    Passage("p2", "Vienna", "Vienna lies on the Danube."),
    Passage("p3", "Bordeaux", "Bordeaux lies on the Garonne."),
)


class _FromAnotherThread:
    def __init__(self, service: Service) -> None:
        self._loop, self._service = asyncio.get_running_loop(), service

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._service.end)


@contextmanager
def serving(engine: str | list[str], corpus: Path | None = None, **settings: Any) -> Iterator[str]:
    """The server's URL; `corpus` is written there, and searched. `started` is told the service, to end it."""
    if corpus is not None:
        write_corpus(corpus, CORPUS)
    engines = [engine] if isinstance(engine, str) else engine
    limits = settings.pop("limits", None) or Limits()
    begun = settings.pop("started", lambda service: None)
    settings.setdefault("index", corpus)
    chosen = Settings(engines, port=0, limits=limits, **settings)
    servers: list[Server] = []
    urls: list[str] = []
    started, failed = threading.Event(), []

    def ready(url: str) -> None:
        urls.append(url)
        started.set()

    async def main() -> None:
        async with running(chosen) as service:
            servers.append(Server(chosen, service, ready))
            begun(_FromAnotherThread(service.service))
            await servers[0].serve()

    def run() -> None:
        try:
            uvloop.run(main())
        except BaseException as error:  # told to whoever waits for the start
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    if not urls:
        raise failed[0] if failed else TimeoutError("the server did not start")
    try:
        yield urls[0]
    finally:
        servers[0].should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"
        if failed:
            raise failed[0]
