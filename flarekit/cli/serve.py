"""`flarekit serve`: an OpenAI-compatible server that answers by a policy, in front of a vLLM server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flarekit.cli.searching import EmbedderOption
from flarekit.io.keys import key_of
from flarekit.io.terminal import say

_ENGINES = "URL of the vLLM server that answers; give it several times where several servers serve the model."


def serve(
    engine: Annotated[list[str], typer.Option(help=_ENGINES)],
    policy: Annotated[str, typer.Option(help="A policy, such as flare, or a YAML file that names several.")] = "flare",
    index: Annotated[
        Path | None,
        typer.Option(help="What is searched: an index, JSONL of id, title, text, or a YAML file."),
    ] = None,
    embedder: EmbedderOption = None,
    strong: Annotated[list[str] | None, typer.Option(help="URL of the vLLM server that is called for help.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    model: Annotated[str | None, typer.Option(help="The model, where the server serves several.")] = None,
    strong_model: Annotated[str | None, typer.Option(help="The strong one, where its server serves several.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail with the retriever or strong model; do not go on without it.")
    ] = False,
    api_keys: Annotated[
        Path | None, typer.Option(help="A file with the keys that clients must have one of, one a line.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which clients may call the server, beside localhost; * for any. May be repeated."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="An origin whose pages may use the server, such as https://chat.example. May be repeated."),
    ] = None,
    client_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a client may take to send a request, or take of its answer.")
    ] = 30.0,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Answers at work; more are refused with 429.")] = 512,
    max_body: Annotated[int, typer.Option(min=1, help="KiB of a request.")] = 8192,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 4096,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take.")] = 600.0,
    engine_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an engine may be silent.")] = 120.0,
    retrieval_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that a look-up may take.")] = 5.0,
    drain: Annotated[int, typer.Option(min=0, help="Seconds to finish answers in after SIGTERM.")] = 30,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log questions, queries and answers too.")] = False,
    otlp: Annotated[str | None, typer.Option(help="Where traces go (OTLP over HTTP); needs flarekit[otel].")] = None,
) -> None:
    """Put a policy in front of a vLLM server: OpenAI's API, metrics, and a page to watch it at work.

    The environment may hold FLAREKIT_API_KEY, a key that clients must have, and FLAREKIT_ENGINE_KEY and
    FLAREKIT_STRONG_KEY, those of the engines.
    """
    # A server's libraries are not loaded for every other command.
    import uvloop

    from flarekit.serve import server as start
    from flarekit.serve.completions import Limits
    from flarekit.serve.middleware import read_keys

    own = key_of("FLAREKIT_API_KEY")
    keys = [*([own] if own else []), *(read_keys(api_keys) if api_keys else [])]
    settings = start.Settings(
        engine,
        policy,
        index,
        strong or (),
        model,
        strong_model,
        strict,
        host,
        port,
        keys=keys,
        hosts=allow_host or (),
        origins=cors_origin or (),
        client_timeout=client_timeout,
        body_limit=max_body << 10,
        concurrent=max_concurrent,
        drain=drain,
        engine_timeout=engine_timeout,
        limits=Limits(timeout, retrieval_timeout, max_tokens),
        log_text=log_text,
        otlp=otlp,
        embedder=embedder,
    )
    uvloop.run(start.serve(settings, lambda url: say(f"ready: {url}/v1  page {url}/")))
