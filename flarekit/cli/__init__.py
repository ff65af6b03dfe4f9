"""The command line: one module a command, thin over the library.

Answers go to stdout, everything else to stderr. Every `FlarekitError` becomes one line and exit status 2 here, and
only here.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from flarekit.cli.ask import ask
from flarekit.cli.calibrate import calibrate
from flarekit.cli.compare import compare
from flarekit.cli.demo import demo
from flarekit.cli.doctor import doctor
from flarekit.cli.index import app as index
from flarekit.cli.information import information
from flarekit.cli.policies import policies, signals
from flarekit.cli.power import power
from flarekit.cli.router import app as router
from flarekit.cli.run import run
from flarekit.cli.serve import serve
from flarekit.cli.sweep import sweep
from flarekit.cli.vllm import vllm
from flarekit.cli.world import world
from flarekit.errors import FlarekitError

app = typer.Typer(
    name="flarekit",
    help=(
        "Watch a vLLM stream's token probabilities, retrieve or escalate in the middle of a sentence, and compare that "
        "with deciding before it."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (
    ask,
    serve,
    run,
    sweep,
    compare,
    power,
    calibrate,
    information,
    policies,
    signals,
    doctor,
    vllm,
    world,
    demo,
):
    app.command()(command)
app.add_typer(router, name="router")
app.add_typer(index, name="index")


def main() -> None:
    """The entry point."""
    try:
        app()
    except FlarekitError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]flarekit:[/] {_plain(error)}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _plain(error: FlarekitError) -> str:
    return " ".join(str(error).split()).replace("[", r"\[")
