"""`flarekit power`: how many questions a comparison needs, from a recorded pilot run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flarekit.errors import ConfigError


def power(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run directories of a pilot.")] = None,
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
    sd: Annotated[
        float | None, typer.Option(help="In place of a run: the standard deviation of the paired differences.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option(help="The difference of mean scores to be shown; .02, .05 and .1 unless given.")
    ] = None,
    target: Annotated[float, typer.Option("--power", help="How often it is to be shown, if it is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="How often a difference is shown, if there is none.")] = 0.05,
    score: Annotated[str, typer.Option(help="f1 or exact_match.")] = "f1",
    prices: Annotated[Path | None, typer.Option(help="A YAML file of prices: what moments cost depends on it.")] = None,
) -> None:
    """Print how many questions are needed to show a difference between two policies, or two moments."""
    # Statistics take seconds to import: only this command waits for them.
    from flarekit.escalation.costs import load_prices
    from flarekit.eval import planning

    plan = planning.Plan((difference,) if difference is not None else planning.DIFFERENCES, target, alpha)
    if sd is not None:
        if runs or arms or moments:
            raise ConfigError("--sd takes the place of a run: give one of them")
        found = [planning.from_spread(sd, plan)]
    else:
        pair = planning.pair_of(arms, moments, action, score)
        found = planning.from_runs(runs or [], pair, plan, prices=load_prices(prices) if prices else None)
    typer.echo("\n\n".join(found))
