"""`flarekit power`: how many questions a comparison needs, by simulation from recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from flarekit.errors import ConfigError
from flarekit.io.terminal import console, say


def power(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run directories to plan from.")] = None,
    arms: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="The two policies that are to be told apart.")
    ] = None,
    moments: Annotated[
        tuple[str, str] | None, typer.Option(metavar="M M", help="Or two moments (pre, mid, post), at equal cost.")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(help="What the moments' arms do: retrieve, escalate or any; what both do unless given."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="The cost of a question at which moments are compared, as for compare.")
    ] = None,
    sd: Annotated[
        float | None,
        typer.Option(help="In place of a run: the standard deviation that two arms' paired differences would have."),
    ] = None,
    difference: Annotated[float, typer.Option(help="The difference of mean scores to be shown.")] = 0.05,
    target: Annotated[float, typer.Option("--power", help="How often it is to be shown, if it is there.")] = 0.8,
    alpha: Annotated[
        float, typer.Option(help="How often any difference is shown, if there is none in all comparisons.")
    ] = 0.05,
    comparisons: Annotated[
        int | None,
        typer.Option(
            help="How many comparisons alpha is corrected for (Holm): as many as compare makes of moments, and 1 for "
            "two arms, unless given."
        ),
    ] = None,
    questions: Annotated[
        list[int] | None,
        typer.Option(help="A number of questions to simulate, repeatable; the recorded one and its doubles if none."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Simulated runs for each number of questions.")] = 200,
    score: Annotated[str, typer.Option(help="f1 or exact_match.")] = "f1",
    prices: Annotated[Path | None, typer.Option(help="A YAML file of prices: what moments cost depends on it.")] = None,
) -> None:
    """Print how many questions show a difference between two policies, or two moments, by simulation."""
    # Statistics take seconds to import: only this command waits for them.
    from flarekit.costs import load_prices
    from flarekit.eval.analysis import planning

    plan = planning.Plan(difference, target, alpha, comparisons, tuple(questions or ()), trials)
    if sd is not None:
        if runs or arms or moments:
            raise ConfigError("--sd takes the place of a run: give one of them")
        say(planning.from_spread(sd, plan))
        return
    pair = planning.pair_of(arms, moments, action, score, budget)
    columns = TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn()
    progress = Progress(*columns, console=console(stderr=True), transient=True)
    task = progress.add_task("")

    def told(what: str, done: int, of: int) -> None:
        if done == 1:
            progress.start()
            progress.reset(task)
        progress.update(task, description=what, completed=done, total=of)

    price_list = load_prices(prices) if prices else None
    try:
        found = list(planning.from_runs(runs or [], pair, plan, prices=price_list, told=told))
    finally:
        if progress.live.is_started:
            progress.stop()
    say("\n\n".join(found))
