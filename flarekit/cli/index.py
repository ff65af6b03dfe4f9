"""`flarekit index`: build an index of a corpus, search it, and say what is in one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated

import orjson
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from flarekit.cli.searching import EmbedderOption, open_told
from flarekit.eval.data.formats import load_dataset
from flarekit.io.terminal import console, line, say, say_json
from flarekit.retrieval import Hit
from flarekit.retrievers.index.build import Progress as OnProgress
from flarekit.retrievers.index.build import build_index, index_info
from flarekit.retrievers.index.folder import Kind, Manifest

_LOGGED = 60
"""Seconds between two lines of progress where nobody watches a terminal."""
_SHOWN = 200
"""Characters of a passage that `search` shows a person."""

app = typer.Typer(help="Indexes that retrieval searches.", no_args_is_help=True)


@app.command()
def build(
    corpus: Annotated[
        Path,
        typer.Argument(help="JSONL of id, title, text; BEIR's or DPR's layout; or a folder of .txt and .md files."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write; an index that is there is replaced.")],
    dataset: Annotated[
        str | None, typer.Option(help="CORPUS is the official file of hotpotqa, 2wikimultihopqa or musique: its pool.")
    ] = None,
    kind: Annotated[Kind, typer.Option(help="By words, by meaning, or by both.")] = "bm25",
    tokenizer: Annotated[
        str | None, typer.Option(help="bm25, hybrid: words, or a language's stemmer, such as english.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="dense, hybrid: a sentence-transformers model, or the URL of a vLLM server.")
    ] = None,
) -> None:
    """Build an index of a corpus; one that was stopped goes on with the passages that it had embedded."""
    passages = load_dataset(dataset, corpus).corpus if dataset else corpus
    with _progress() as on_progress:
        manifest = build_index(passages, out, kind, tokenizer=tokenizer, model=model, on_progress=on_progress)
    say("\n".join(_described(manifest, out)))


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(help="An index, JSONL of id, title, text, or a YAML file.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 5,
    embedder: EmbedderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a passage.")] = False,
) -> None:
    """Find passages."""
    hits = asyncio.run(open_told(folder, embedder).search(query, k))
    if not hits:
        say("nothing found: no passage has anything of the query", stderr=True)
    for found in _as_json(hits) if as_json else _as_text(hits):
        (say_json if as_json else say)(found)


@app.command()
def info(folder: Annotated[Path, typer.Argument(help="A folder that `flarekit index build` wrote.")]) -> None:
    """Check that an index is whole, and say what is in it."""
    say("\n".join(_described(index_info(folder), folder)))


class _Rate(ProgressColumn):
    """Passages a second of late; all in all where it is too short or has ended."""

    def render(self, task: Task) -> Text:
        rate = task.speed or task.completed / max(task.finished_time or task.elapsed or 0, 1e-6)
        return Text(f"{rate:,.0f} passages/s")


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar for the passages and for each part, with passages/s and the time left; on stderr, each minute in a log."""
    rate = _Rate(table_column=Column(no_wrap=True))
    columns = (TextColumn("{task.description:8}"), BarColumn(20), MofNCompleteColumn(), rate, TimeRemainingColumn())
    display = Progress(*columns, TextColumn("left"), console=console(stderr=True))
    tasks: dict[str, TaskID] = {}
    said = monotonic()

    def on_progress(what: str, more: int, total: int | None) -> None:
        nonlocal said
        display.start()  # not before: an error would follow an empty line
        if what not in tasks:
            tasks[what] = display.add_task(what, total=total)
        display.update(tasks[what], advance=more, total=total)
        if not display.console.is_terminal and monotonic() - said >= _LOGGED:
            display.console.print(display.make_tasks_table(display.tasks[-1:]))
            said = monotonic()

    try:
        yield on_progress
    except BaseException:
        if "dense" in tasks:
            display.console.print("What was embedded is kept: the same command goes on from there.")
        raise
    finally:
        if tasks:
            display.stop()


def _as_json(hits: Sequence[Hit]) -> Iterator[str]:
    for hit in hits:
        passage = hit.passage
        yield orjson.dumps(
            {"id": passage.id, "title": passage.title, "text": passage.text, "score": hit.score}
        ).decode()


def _as_text(hits: Sequence[Hit]) -> Iterator[str]:
    for rank, hit in enumerate(hits, start=1):
        passage = hit.passage
        text = " ".join(passage.text.split())
        yield f"{rank:2}. {line(passage.title or passage.id)}  ({line(passage.id)}, score {hit.score:.4g})"
        yield f"    {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


def _described(manifest: Manifest, folder: Path) -> list[str]:
    """The manifest as lines to read."""
    lines = [
        f"{folder}: {manifest.kind}, {manifest.passages:,} passages, {_size(manifest.size)}",
        f"  made by      flarekit {manifest.flarekit}, format {manifest.format}",
    ]
    for part, made in manifest.made.items():
        lines.append(f"  {part:12} {', '.join(f'{name} {_value(value)}' for name, value in made.items())}")
    return [*lines, f"  use it as    flarekit serve --index {folder}"]


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
