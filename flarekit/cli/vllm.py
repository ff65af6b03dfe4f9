"""`flarekit vllm`: run a vLLM server in the foreground, with the flags that flarekit found to work on this machine.

`started_server` shows a person the same progress (the model's download, then the wait) and serves any command that
starts a server of its own. Everything but the line that says "ready" goes to stderr.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flarekit.engines.local.launch import LocalServer, local_server
from flarekit.engines.local.models import resolve
from flarekit.io.terminal import console, say


@contextlib.contextmanager
def started_server(model: str, port: int = 0, **options: Any) -> Iterator[LocalServer]:
    """`flarekit.engines.local.launch.local_server`, with its options, showing on stderr what it waits for."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        # The display ends before the caller goes on, while the server stays with the caller.
        with Progress(*columns, console=console(stderr=True), transient=True) as display:
            task = display.add_task(model, total=None)
            resolved = resolve(model, lambda what, done, total: _show(display, task, what, done, total))
            _show(display, task, f"starting vLLM with {model}", 0, None)
            server = stack.enter_context(local_server(resolved, port, **options))
        yield server


def _show(display: Progress, task: Any, what: str, done: int, total: int | None) -> None:
    display.update(task, description=what, completed=done, total=total)


def vllm(
    model: Annotated[str, typer.Argument(help="A small model's name, a model folder or a Hugging Face id.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    dtype: Annotated[str | None, typer.Option(help="Default: float32 on a CPU, vLLM's choice on a GPU.")] = None,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Context in tokens. Default: 4096 on a CPU, the model's own on a GPU.")
    ] = None,
    kv_cache_gib: Annotated[int | None, typer.Option(min=1, help="CPU only: attention cache. Default: 2.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="GPU only: share of its memory to take.")
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Embed texts, for dense retrieval, in place of writing them.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Write the server's own output to this file.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it must be ready.")] = 600.0,
) -> None:
    """Start a vLLM server that sends what flarekit needs, and keep it running until Ctrl-C."""
    signal.signal(signal.SIGTERM, _terminated)
    options: dict[str, Any] = {"host": host, "dtype": dtype, "max_model_len": max_model_len}
    options |= {"kv_cache_gib": kv_cache_gib, "gpu_memory": gpu_memory, "embed": embed, "log": log, "timeout": timeout}
    try:
        with started_server(model, port, **options) as server:
            say(f"ready: {server.url.replace('127.0.0.1', 'localhost')}  model {server.model}")
            status = server.wait()
            say(f"vLLM ended by itself with status {status}", stderr=True)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    raise typer.Exit(status)


def _terminated(*_: object) -> NoReturn:
    # Unwinds through the server's context, as Ctrl-C does.
    raise SystemExit(128 + signal.SIGTERM)
