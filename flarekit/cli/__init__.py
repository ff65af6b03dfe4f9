"""The command line: one module a command, thin over the library.

Answers go to stdout, everything else to stderr. Every `FlarekitError` becomes one line and exit status 2 here, and
only here.
"""

from __future__ import annotations

import functools
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from flarekit.cli.ask import ask
from flarekit.cli.demo import demo
from flarekit.cli.doctor import doctor
from flarekit.cli.evaluation.calibrate import calibrate
from flarekit.cli.evaluation.compare import compare
from flarekit.cli.evaluation.information import information
from flarekit.cli.evaluation.power import power
from flarekit.cli.evaluation.run import run
from flarekit.cli.evaluation.sweep import sweep
from flarekit.cli.evaluation.world import world
from flarekit.cli.index import app as index
from flarekit.cli.policies import policies, signals
from flarekit.cli.router import app as router
from flarekit.cli.serve import serve
from flarekit.cli.vllm import vllm
from flarekit.errors import ConfigError, FlarekitError, RunWarning
from flarekit.io.terminal import console, line, prepare_streams, say, styled

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


_NO_CHARACTER = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes that are not UTF-8."""


def main() -> None:
    """The entry point."""
    prepare_streams()
    with _warnings() as warned:
        try:
            app()
        except SystemExit as end:
            if not end.code:  # an error is one line
                for message in dict.fromkeys(warned):
                    say(f"warning: {message}", stderr=True)
            raise
        except FlarekitError as error:
            _complain(str(error))
        except UnicodeEncodeError as error:
            _complain(f"a text holds what is no character ({error.object[error.start : error.end]}); take it out")
        except KeyboardInterrupt:
            sys.exit(130)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is warned of that a person is to know; other warnings go where they would have gone."""
    told: list[str] = []
    with warnings.catch_warnings():
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, RunWarning):
                told.append(line(str(message)))
            else:
                other(message, category, *rest)

        warnings.simplefilter("always", RunWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # it passes the rest on as it comes
        yield told


def _complain(message: str) -> NoReturn:
    notes = console(stderr=True, soft_wrap=True)
    notes.print(styled(("flarekit:", "bold red"), f" {line(message)}"))
    sys.exit(2)


def _text_only(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that refuses an argument that is text and not UTF-8; the name of a file may be anything."""

    @functools.wraps(command)
    def checked(*args: Any, **given: Any) -> Any:
        for value in given.values():
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str) and _NO_CHARACTER.search(text):
                    raise ConfigError(f"the argument '{text}' is not UTF-8; write it in UTF-8")
        return command(*args, **given)

    return checked


for _one in (app, router, index):
    for _registered in _one.registered_commands:
        if _registered.callback:
            _registered.callback = _text_only(_registered.callback)
