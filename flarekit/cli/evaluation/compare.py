"""`flarekit compare`: the table of recorded runs, and their report."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from flarekit.errors import RunError
from flarekit.io.files import own_folder
from flarekit.io.terminal import console, say, say_json


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, as written by `flarekit run`.")],
    baseline: Annotated[
        str | None, typer.Option(help="The policy that the others are compared with; the first unless given.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="A YAML file of prices for tokens and look-ups.")] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(
            help="A mean cost of a question at which moments are compared, repeatable; halfway between what never and "
            "what always acting costs unless given."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the report goes; report-NAME here, after the first run, unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare policies on the questions that they answered, and write the report.

    Without --out it goes into a folder of the working directory, report-NAME for a first run called NAME: nothing is
    written beside what is read unless that is asked for.
    """
    # Statistics and charts take seconds to import: only this command waits for them.
    from flarekit.costs import Prices, load_prices
    from flarekit.eval.analysis.analyze import analyze, summarize
    from flarekit.eval.analysis.moments import checked_budgets
    from flarekit.eval.report import write_report
    from flarekit.eval.report.terminal import print_tables, table_json
    from flarekit.eval.results.groups import load_runs

    price_list = load_prices(prices) if prices else Prices()
    budgets = checked_budgets(budget or [])
    summaries = [summarize(group, price_list, baseline=baseline, budgets=budgets) for group in load_runs(runs)]
    if as_json:
        say_json(table_json(summaries))
    else:
        print_tables(summaries, console())
    for reason in (reason for one in summaries for reason in one.moments.unlike):
        say(f"Warning: {reason}", stderr=True)
    place = out or _here(runs[0])
    with console(stderr=True).status("writing the report: signals are fitted anew for their intervals …"):
        command = "flarekit " + " ".join(sys.argv[1:])
        page = write_report([analyze(one) for one in summaries], place, command=command)
    say(f"Report: {page}", stderr=True)


def _here(run: Path) -> Path:
    """The folder for the report in the working directory; `RunError` where something else has its name."""
    place = Path(f"report-{run.resolve().name}")
    try:
        if place.is_dir() and any(place.iterdir()) and not (place / "report.html").exists():
            raise FileExistsError(errno.EEXIST, "there is such a folder, with no report in it")
        own_folder(place)
    except OSError as error:
        raise RunError(f"{place}: no report is written there ({error.strerror}); choose a folder with --out") from error
    return place
