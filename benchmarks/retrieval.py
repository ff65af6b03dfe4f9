"""What retrieval costs at scale: `python benchmarks/retrieval.py scale|ask --help`.

`scale` makes the built-in world at several sizes, builds an index of each kind in a process of its own (time, size on
disk, peak memory), and asks it in another one (`ask`): queries a second alone and 32 at a time, and how long single
ones take.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flarekit.cli.world import write_world
from flarekit.retrieval import BatchRetriever
from flarekit.retrievers import open_index

app = typer.Typer(help=__doc__, no_args_is_help=True)
K = 5
BATCH = 32


@app.command()
def scale(
    sizes: Annotated[list[int], typer.Argument(help="Passages.")],
    kind: Annotated[list[str], typer.Option(help="rank-bm25, bm25, dense or hybrid.")],
    folder: Path = Path("runs/scale"),
    queries: int = 500,
    build: Annotated[list[str] | None, typer.Option(help="More options of `flarekit index build`.")] = None,
) -> None:
    """Build and ask an index of every kind at every size."""
    rows = []
    for size in sizes:
        world = folder / f"world-{size}"
        if not (world / "corpus.jsonl").exists():
            write_world(world, size, min(queries, size // 4))
        for one in kind:
            row = {"passages": size, "kind": one, "corpus MB": _size(world / "corpus.jsonl") / 1e6}
            index = world / "corpus.jsonl"
            if one != "rank-bm25":
                index = world / one
                row |= _build(world / "corpus.jsonl", index, one, build or [])
            row |= _ask(
                index, world / "questions.jsonl", queries if one != "rank-bm25" else max(20, queries * 10_000 // size)
            )
            rows.append(row)
            print(json.dumps(row), flush=True)
    table = Table(*rows[0].keys())
    for row in rows:
        table.add_row(
            *(
                f"{row.get(name, ''):,.3g}" if isinstance(row.get(name), float) else str(row.get(name, ""))
                for name in rows[0]
            )
        )
    Console(width=200).print(table)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _build(corpus: Path, out: Path, kind: str, options: list[str]) -> dict[str, Any]:
    command = ["-c", "from flarekit.cli import main; main()", "index", "build", str(corpus), "--kind", kind]
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command, "--out", str(out), *options], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with status {status}")
    seconds = time.perf_counter() - began
    return {"build s": seconds, "index MB": _size(out) / 1e6, "build peak MB": used.ru_maxrss / 1e3}


def _ask(index: Path, queries: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "ask", str(index), str(queries), "--count", str(count)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


@app.command()
def ask(index: Path, queries: Path, count: int = 500) -> None:
    """Ask one index `count` questions: one by one, then 32 at a time."""
    texts = [json.loads(line)["text"] for line in queries.read_text().splitlines()]
    print(json.dumps(asyncio.run(_measure(index, [texts[number % len(texts)] for number in range(count)]))))


async def _measure(index: Path, texts: list[str]) -> dict[str, Any]:
    began = time.perf_counter()
    many: BatchRetriever = open_index(index)
    opened = time.perf_counter() - began
    for text in texts[:20]:
        await many.search(text, K)  # pages that nobody has read yet come from the disk
    seconds = []
    for text in texts:
        began = time.perf_counter()
        await many.search(text, K)
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    for place in range(0, len(texts), BATCH):
        await many.search_many(texts[place : place + BATCH], K)
    batched = len(texts) / (time.perf_counter() - began)
    centiles = statistics.quantiles(seconds, n=100)
    return {
        "open s": opened,
        "queries/s": len(texts) / sum(seconds),
        f"queries/s by {BATCH}": batched,
        "p50 ms": 1000 * centiles[49],
        "p99 ms": 1000 * centiles[98],
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


if __name__ == "__main__":
    app()
