"""`flarekit sweep`: a grid of policies over a cache of completions, planned, resumable, with progress."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flarekit.cli.evaluation.run import RunProgress, spared
from flarekit.eval.runs import sweeps
from flarekit.eval.runs.runs import read_settings
from flarekit.io.terminal import console, say


def sweep(
    experiment: Annotated[Path, typer.Argument(help="The experiment as a YAML file.")],
    plan_only: Annotated[bool, typer.Option("--plan", help="Print the plan and stop.")] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Ask for every arm anew, to check on the cache.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Ask the first N questions.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Questions at a time.")] = None,
    engine: Annotated[str | None, typer.Option(help="URL of the vLLM server that answers.")] = None,
    strong: Annotated[str | None, typer.Option(help="URL of the vLLM server that is called for help.")] = None,
    data: Annotated[Path | None, typer.Option(help="The dataset's file in its official format.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the runs go; interrupted ones are finished.")] = None,
) -> None:
    """Run a grid of policies, signals, thresholds, moments, retrievers and models, asking no model twice."""
    given = {"limit": limit, "concurrency": concurrency, "engine": engine, "strong": strong, "data": data, "out": out}
    settings = read_settings(experiment) | {key: value for key, value in given.items() if value is not None}
    configs = sweeps.make_sweep(settings | ({"cache": None} if no_cache else {}))
    plans = sweeps.plan(configs)
    _print_plan(plans, console(stderr=not plan_only))
    if plan_only:
        return
    with RunProgress() as progress:
        tally = asyncio.run(sweeps.sweep(configs, progress.started, progress.finished, progress.noted))
    if not no_cache:
        say(spared(tally), stderr=True)
    say(f"compare with: flarekit compare {shlex.join(str(config.out) for config in configs)}", stderr=True)


def _print_plan(plans: list[sweeps.Plan], out: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("run", "questions", "arms", "sessions left", "tokens at most", "cache"):
        table.add_column(heading, justify="left" if heading in ("run", "cache") else "right", overflow="fold")
    for one in plans:
        counts = (one.questions, one.policies, one.sessions, one.most_tokens)
        table.add_row(str(one.config.out), *(f"{count:,}" for count in counts), str(one.config.cache or "none"))
    out.print(table)
