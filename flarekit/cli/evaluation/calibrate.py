"""`flarekit calibrate`: a policy's threshold for a rate, a cost or a risk, from a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flarekit.io.terminal import say, say_json


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run directory, as written by `flarekit run`.")],
    policy: Annotated[str, typer.Option(help="The policy whose threshold is to be chosen, such as cascade.")],
    target: Annotated[
        str,
        typer.Option(
            help="rate=0.3: act on 30%; cost=120: the mean cost of a question; risk=0.1: at most 10% of the questions "
            "are accepted and wrong; wrong-accepted=0.1: at most 10% of the accepted answers are wrong."
        ),
    ],
    confidence: Annotated[float, typer.Option(help="With which wrong-accepted holds.")] = 0.9,
    prices: Annotated[Path | None, typer.Option(help="A YAML file of prices for tokens and look-ups.")] = None,
    split: Annotated[
        float | None, typer.Option(help="The share of the questions to calibrate on; the others judge the result.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Choose a threshold on recorded answers; print the policy with it, ready to be run."""
    # Statistics take seconds to import: only this command waits for them.
    from flarekit.costs import load_prices
    from flarekit.eval.calibration import calibrate as calibration
    from flarekit.eval.calibration import promises
    from flarekit.eval.runs.recorded import read_run

    found = calibration.calibrate(
        read_run(run),
        policy,
        calibration.parse_target(target, confidence),
        prices=load_prices(prices) if prices else None,
        split=split,
        seed=seed,
    )
    if as_json:
        say_json(promises.as_json(found))
    else:
        say(found.policy)
    for line in promises.explain(found):
        say(line, stderr=True)
