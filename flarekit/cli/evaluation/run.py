"""`flarekit run`: policies on the questions of a dataset, with progress, resumable."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flarekit.cli.searching import tell_destinations
from flarekit.engines.cache.engine import Tally
from flarekit.eval.runs import runs
from flarekit.io.terminal import console, say
from flarekit.trace import Trace


def run(
    config: Annotated[Path | None, typer.Argument(help="The run as a YAML file; options given here win.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="A policy, such as flare or flare:theta=0.6; may be given often.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="hotpotqa, 2wikimultihopqa, musique or world.")] = None,
    data: Annotated[Path | None, typer.Option(help="The dataset's file in its official format.")] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="What to search instead: JSONL of id, title, text, an index, or a YAML file. "
            "What an engine holds that such a file names is not checked when a run is continued."
        ),
    ] = None,
    retriever: Annotated[
        str | None, typer.Option(help="How to search JSONL or the dataset's passages, such as bm25:k1=1.2,b=0.75.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A file to keep completions in, so that no model is asked twice.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="URL of the vLLM server that answers.")] = None,
    model: Annotated[str | None, typer.Option(help="Its model, where it serves several.")] = None,
    strong: Annotated[str | None, typer.Option(help="URL of the vLLM server that is called for help.")] = None,
    strong_model: Annotated[str | None, typer.Option(help="Its model, where it serves several.")] = None,
    limit: Annotated[int | None, typer.Option(help="Ask the first N questions.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Sessions at a time.")] = None,
    answer_tokens: Annotated[int | None, typer.Option(help="The longest answer.")] = None,
    total_tokens: Annotated[int | None, typer.Option(help="All tokens that a question may generate.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; an interrupted run is finished.")] = None,
) -> None:
    """Run policies on the questions of a dataset and record every answer."""
    given = {
        "policies": policy,
        "dataset": dataset,
        "data": data,
        "corpus": corpus,
        "retriever": retriever,
        "cache": cache,
        "engine": engine,
        "model": model,
        "strong": strong,
        "strong_model": strong_model,
        "limit": limit,
        "concurrency": concurrency,
        "answer_tokens": answer_tokens,
        "total_tokens": total_tokens,
        "out": out,
    }
    settings = runs.read_settings(config) if config else {}
    execute(settings | {key: value for key, value in given.items() if value is not None})
    say(f"compare with: flarekit compare {settings.get('out') if out is None else out}", stderr=True)


def execute(settings: dict[str, object]) -> None:
    """Carry out the run that `settings` describe, with a progress bar."""
    config = runs.make_config(settings)
    if config.corpus:
        tell_destinations(config.corpus)
    with RunProgress() as progress:
        tally = asyncio.run(runs.run(config, progress.started, progress.finished, progress.noted))
    if config.cache:
        say(spared(tally), stderr=True)


def spared(tally: Tally) -> str:
    """What the engines did and what the cache spared them, in a sentence."""
    return (
        f"The engines generated {tally.generated:,} tokens in {tally.asked:,} requests; "
        f"{tally.replayed:,} tokens came from the cache."
    )


class RunProgress:
    """A progress bar with questions/s, generated tokens/s, running F1 and the time left; on stderr."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("answers"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console(stderr=True),
        )
        self._task = self._progress.add_task("answers", total=None, rates="")
        self._answers = self._tokens = 0
        self._f1 = 0.0
        self._notes: set[str] = set()

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:  # else there is nothing to end, and an error would follow an empty line
            self._progress.stop()

    def started(self, total: int, done: int) -> None:
        """Show how much there is to do."""
        self._progress.start()
        self._progress.update(self._task, total=total, completed=done)

    def noted(self, note: str) -> None:
        """Print what is to be known of the data, once."""
        if note not in self._notes:
            self._notes.add(note)
            self._progress.console.print(note, soft_wrap=True, markup=False, highlight=False)

    def finished(self, trace: Trace, f1: float) -> None:
        """Count one more answer."""
        self._answers += 1
        self._tokens += trace.costs().generated_tokens
        self._f1 += f1
        elapsed = max(self._progress.tasks[0].elapsed or 0.0, 1e-6)
        rates = (
            f"{self._answers / elapsed:.2f} answers/s, {self._tokens / elapsed:.0f} tokens/s, "
            f"F1 {self._f1 / self._answers:.2f}"
        )
        self._progress.update(self._task, advance=1, rates=rates)
