"""`flarekit information`: how much each signal tells after how many tokens, from recorded runs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from flarekit.io.terminal import console, say

if TYPE_CHECKING:
    from flarekit.escalation.outcomes import Target
    from flarekit.eval.analysis.information.points import Point
    from flarekit.eval.analysis.information.study import Study


def information(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, as written by `flarekit run`.")],
    out: Annotated[Path, typer.Option(help="The folder for information.csv and the charts.")],
    weak: Annotated[
        str | None, typer.Option(help="The arm that answers without help; closed-book or watch unless given.")
    ] = None,
    helped: Annotated[str, typer.Option("--helped", "--strong", help="The arm that stands for help.")] = "rag",
) -> None:
    """Say how many tokens of an answer are worth waiting for: every signal's AUROC after each, with charts."""
    # Statistics and charts take seconds to import: only this command waits for them.
    from flarekit.errors import RunError
    from flarekit.eval.analysis.information.points import information_rows
    from flarekit.eval.analysis.information.study import TARGETS, read_study
    from flarekit.eval.report.charts.information import write_figures
    from flarekit.eval.report.information_text import information_csv, print_information
    from flarekit.eval.results.groups import cautions, load_runs
    from flarekit.io.files import replace_file

    groups = load_runs(runs)
    studies = [read_study(group, weak=weak, helped=helped) for group in groups]
    try:
        out.mkdir(parents=True, exist_ok=True)  # before the long work, which would be lost
        with console(stderr=True).status("Fitting …") as status:
            found = [[point for target in TARGETS for point in _curves(study, target, status)] for study in studies]
        tables = [information_rows(study, points) for study, points in zip(studies, found, strict=True)]
        text = information_csv([row for rows in tables for row in rows])
        replace_file(out / "information.csv", text.encode())
        for place, rows in enumerate(tables, start=1):
            write_figures(rows, out, f"-{place}" if place > 1 else "")
    except OSError as error:
        raise RunError(f"{out}: the charts cannot be written ({error.strerror})") from error
    for study, points in zip(studies, found, strict=True):
        print_information(study, points, console())
    for caution in [caution for group in groups for caution in cautions(group)]:
        say(caution, stderr=True)
    say(f"Figures: {out}", stderr=True)


def _curves(study: Study, target: Target, status: Status) -> list[Point]:
    """The curves of one target, with how far they are shown in the status."""
    from flarekit.eval.analysis.information.curves import curves

    steps = count(1)
    return curves(
        study,
        target,
        told=lambda: status.update(f"{study.dataset}, {target}: step {next(steps)} (folds fitted and places read)"),
    )
