"""`flarekit doctor`: whether a server gives what flarekit needs, and how the rest is turned on."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flarekit.engines.local.doctor import Finding, examine
from flarekit.io.terminal import console


def doctor(
    engine: Annotated[str, typer.Option(help="URL of the vLLM server.")],
    model: Annotated[str | None, typer.Option(help="Its model, where it serves several.")] = None,
) -> None:
    """Tell whether a server gives what flarekit needs, and how to turn on what is missing."""
    findings = asyncio.run(examine(engine, model))
    table = Table("", "what", "found", "how to mend it", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(_mark(finding), finding.what, finding.found, "" if finding.good else finding.remedy)
    console().print(table)
    if any(finding.needed and not finding.good for finding in findings):
        raise typer.Exit(2)


def _mark(finding: Finding) -> Text:
    if finding.good:
        return Text("✓", "green")
    return Text("✗", "bold red") if finding.needed else Text("!", "yellow")
