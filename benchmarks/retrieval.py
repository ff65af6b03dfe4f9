"""What retrieval costs at scale and what it finds: `python benchmarks/retrieval.py scale|ask|recall|vectors --help`.

`scale` makes the built-in world at several sizes, builds an index of each kind in a process of its own (time, size on
disk, peak memory), and asks it in another one (`ask`): queries a second alone and 32 at a time, and how long single
ones take. `recall` says how many supporting passages each kind finds on questions of a dataset,
`vectors` how the search in dense vectors does by itself.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from flarekit.cli.world import write_world
from flarekit.encoders import Vectors
from flarekit.eval.formats import load_dataset
from flarekit.eval.metrics import supporting_recall
from flarekit.eval.world import iter_passages, iter_questions
from flarekit.retrieval import BatchRetriever, Passage
from flarekit.retrievers import build_index, open_index, write_corpus
from flarekit.retrievers.bm25_index import BM25Part
from flarekit.retrievers.dense import DensePart, import_faiss
from flarekit.retrievers.embed import open_embedder
from flarekit.retrievers.hybrid import HybridRanker
from flarekit.retrievers.passages import Passages, write_passages
from flarekit.retrievers.ranked import Ranker

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


@app.command()
def recall(
    dataset: Annotated[str, typer.Argument(help="hotpotqa, 2wikimultihopqa or musique.")],
    data: Annotated[Path, typer.Argument(help="The dataset's official file.")],
    folder: Path = Path("runs/recall"),
) -> None:
    """Supporting passages among the best 2, 5 and 10 of a file's pooled passages, by words, meaning and both."""
    loaded = load_dataset(dataset, data)
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / f"{dataset}.jsonl", loaded.corpus)
    index = folder / dataset
    made = build_index(folder / f"{dataset}.jsonl", index, "hybrid").made
    passages = Passages(index)
    bm25 = BM25Part(index / "bm25", made["bm25"], passages)
    dense = DensePart(index / "dense", made["dense"], passages)
    rankers: dict[str, Ranker] = {"bm25": bm25, "dense": dense, "hybrid": HybridRanker([bm25, dense])}
    rankers["rank fusion"] = HybridRanker([bm25, dense], fusion="ranks")
    for name, ranker in rankers.items():
        found = []
        for k in (2, 5, 10):
            ranked = ranker.rank([question.text for question in loaded.questions], k)
            ids = [[passages[int(number)].id for number in numbers] for numbers, _ in ranked]
            supported = [question.supporting for question in loaded.questions]
            recalls = [supporting_recall(*pair) for pair in zip(ids, supported, strict=True)]
            found.append(statistics.mean(one for one in recalls if one is not None))
        print(f"{dataset:16}{name:12}" + "  ".join(f"{value:.3f}" for value in found), flush=True)


@app.command()
def vectors(
    sizes: Annotated[list[int], typer.Argument(help="Vectors.")],
    real: Annotated[
        int, typer.Option(help="How many of them are embeddings of the built-in world's passages.")
    ] = 20_000,
    folder: Path = Path("runs/vectors"),
) -> None:
    """The search in dense vectors alone, without embedding the query: every vector against lists of them.

    Embedding a million passages takes hours on two cores: beyond `real` ones, vectors lie between neighbours of these,
    with noise of .3 of their length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known, asked = _embedded(folder, real)
    for size in sizes:
        corpus = _extended(known, size)
        rows = _Rows(corpus, asked)
        (folder / str(size)).mkdir(exist_ok=True)
        passages = write_passages(folder / str(size), (Passage(str(n), "", f"row {n}") for n in range(size)))
        queries = [f"row {number}" for number in range(len(asked))]
        exact: list[set[int]] = []
        for flat in (True, False):
            began = time.perf_counter()
            made = DensePart.build(folder / str(size), passages, embedder=rows, flat_up_to=size if flat else 0)
            built = time.perf_counter() - began
            part = DensePart(folder / str(size), made, passages, embedder=rows)
            seconds, found = [], []
            for query in queries:
                began = time.perf_counter()
                [(numbers, _)] = part.rank([query], 10)
                seconds.append(time.perf_counter() - began)
                found.append(set(numbers.tolist()))
            exact = exact or found
            began = time.perf_counter()
            for place in range(0, len(queries), BATCH):
                part.rank(queries[place : place + BATCH], 10)
            batched = len(queries) / (time.perf_counter() - began)
            shared = statistics.mean(len(one & other) / 10 for one, other in zip(found, exact, strict=True))
            centiles = [1000 * one for one in statistics.quantiles(seconds, n=100)]
            figures = f"recall@10 {shared:.3f}  p50 {centiles[49]:.1f} ms  p99 {centiles[98]:.1f} ms"
            speed = f"{len(queries) / sum(seconds):.0f} queries/s, {batched:.0f} by {BATCH}"
            print(f"{size:>9} {made['structure']:8} {figures}  {speed}  built in {built:.0f} s", flush=True)


class _Rows:
    """Vectors that are there already, by the number in their text."""

    name = "rows"

    def __init__(self, corpus: Vectors, asked: Vectors) -> None:
        self._corpus, self._asked, self.dimension = corpus, asked, corpus.shape[1]

    def embed(self, texts: Sequence[str], *, query: bool) -> Vectors:
        return (self._asked if query else self._corpus)[[int(text.split()[-1]) for text in texts]]


def _embedded(folder: Path, count: int) -> tuple[Vectors, Vectors]:
    """Embeddings of so many passages of the built-in world, and of 300 of its questions; kept for the next time."""
    kept = folder / f"world-{count}.npz"
    if not kept.exists():
        embedder = open_embedder()
        texts = [f"{one.title} {one.text}" for one in iter_passages(count, 0)]
        corpus = np.concatenate([embedder.embed(texts[at : at + 1000], query=False) for at in range(0, count, 1000)])
        np.savez(
            kept, corpus=corpus, asked=embedder.embed([one.text for one in iter_questions(count, 300, 0)], query=True)
        )
    with np.load(kept, allow_pickle=False) as arrays:
        return arrays["corpus"], arrays["asked"]


def _extended(known: Vectors, size: int) -> Vectors:
    """`known`, and as many made ones as are missing to `size`."""
    if size <= len(known):
        return known[:size]
    dice, faiss = np.random.default_rng(0), import_faiss()
    _, near = faiss.knn(known, known, 21, metric=faiss.METRIC_INNER_PRODUCT)
    corpus = np.empty((size, known.shape[1]), dtype=np.float32)
    corpus[: len(known)] = known
    for at in range(len(known), size, 50_000):
        count = min(50_000, size - at)
        first = dice.integers(len(known), size=count)
        second = near[first, dice.integers(1, 21, size=count)]
        share = dice.random((count, 1), dtype=np.float32)
        noise = dice.standard_normal((count, known.shape[1]), dtype=np.float32)
        made = _unit(share * known[first] + (1 - share) * known[second]) + 0.3 * _unit(noise)
        corpus[at : at + count] = _unit(made)
    return corpus


def _unit(rows: Vectors) -> Vectors:
    made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


if __name__ == "__main__":
    app()
