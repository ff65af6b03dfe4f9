"""`flarekit demo`: the main job on a machine that has nothing yet, from a server of its own to the report."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flarekit.cli.evaluation.compare import compare
from flarekit.cli.evaluation.run import execute
from flarekit.cli.vllm import started_server
from flarekit.io.terminal import console, styled

POLICIES = ("closed-book", "rag", "flare", "pre-retrieve", "mid-retrieve")


def demo(
    model: Annotated[str, typer.Option(help="A small model's name, a folder or a Hugging Face id.")] = "smollm2-135m",
    limit: Annotated[int, typer.Option(help="Questions of the built-in world.", min=1)] = 24,
    out: Annotated[Path, typer.Option(help="The run directory; an interrupted demo is finished.")] = Path("demo"),
) -> None:
    """Start a small model, ask it two dozen questions under five policies, and report which was the better buy."""
    signal.signal(signal.SIGTERM, _stop)
    notes = console(stderr=True, soft_wrap=True)
    notes.print(styled(("1/3", "bold"), f" starting vLLM with {model} (downloaded once; about a minute)"))
    with started_server(model, log=out.with_suffix(".vllm.log")) as server:
        asked = f" asking {limit} questions of the built-in world under {', '.join(POLICIES)}"
        notes.print(styled(("2/3", "bold"), asked))
        execute({"policies": list(POLICIES), "engine": server.url, "limit": limit, "concurrency": 12, "out": out})
    notes.print(styled(("3/3", "bold"), " comparing"))
    compare([out], out=out / "report")


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """End as on Ctrl-C, so that the server is stopped."""
    raise KeyboardInterrupt
