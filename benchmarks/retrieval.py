"""What retrieval costs at scale, and what it finds: `python benchmarks/retrieval.py --help`.

`scale` makes the built-in world at several sizes, builds an index of each kind in a process of its own (time, size on
disk, peak memory), and asks it in others (`ask`): queries a second alone and 32 at a time, and how long single ones
take. `recall` says how many supporting passages each kind finds on questions of a dataset, `vectors` how the search in
an index's dense vectors does by itself. bm25s (`pip install bm25s`) is measured beside flarekit's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import altair as alt
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flarekit.cli.evaluation.world import write_world
from flarekit.engines.encoders import Vectors
from flarekit.eval.data.dataset import Dataset
from flarekit.eval.data.formats import load_dataset
from flarekit.eval.data.metrics import supporting_recall
from flarekit.eval.results.groups import load_runs
from flarekit.retrieval import BatchRetriever, Hit, Passage
from flarekit.retrievers import build_index, index_info, iter_corpus, open_index
from flarekit.retrievers.corpus.passages import Passages, write_passages
from flarekit.retrievers.dense.dense import DensePart
from flarekit.retrievers.dense.embedder import open_embedder
from flarekit.retrievers.index.hybrid import HybridRanker
from flarekit.retrievers.index.ranked import IndexRetriever, Ranker
from flarekit.retrievers.lexical.analyzer import words
from flarekit.retrievers.lexical.bm25_index import BM25Part
from flarekit.stats.bootstrap import paired_difference

app = typer.Typer(help=__doc__, no_args_is_help=True)
K = 5
BATCH = 32
WARMUP = 20
STATUS = Path("/proc/self/status")
PROGRAM = f"from flarekit.cli import main\ntry: main()\nfinally: print(open('{STATUS}').read())"


@app.command()
def scale(
    sizes: Annotated[list[int], typer.Argument(help="Passages.")],
    kind: Annotated[
        list[str], typer.Option(help="rank-bm25, bm25s-numpy, bm25s-numba, bm25, dense, or hybrid with both its parts.")
    ],
    folder: Path = Path("runs/scale"),
    queries: int = 500,
    model: Annotated[str, typer.Option(help="What embeds, where something does.")] = "all-MiniLM-L6-v2",
    keep: Annotated[bool, typer.Option(help="Ask an index that is there, in place of building it.")] = False,
) -> None:
    """Build and ask an index of every kind at every size."""
    rows = []
    for size in sizes:
        world = folder / f"world-{size}"
        if not (world / "corpus.jsonl").exists():
            write_world(world, size, min(queries, size // 4))
        for one in kind:
            row = {"passages": size, "kind": one, "corpus MB": _size(world / "corpus.jsonl") / 1e6}
            index = world / ("corpus.jsonl" if one == "rank-bm25" else one)
            if one != "rank-bm25" and not (keep and index.exists()):
                row |= _build(world / "corpus.jsonl", index, one, model)
            count = queries if one != "rank-bm25" else max(2 * WARMUP, queries * 10_000 // size)
            for part in (None, "bm25", "dense") if one == "hybrid" else (None,):
                row = row if part is None else {"passages": size, "kind": f"its {part}"}
                row |= _ask(index, world / "questions.jsonl", count, part, 1)
                row |= _ask(index, world / "questions.jsonl", count, part, BATCH)
                rows.append(row)
                print(json.dumps(row), flush=True)
    table = Table(*(names := dict.fromkeys(name for row in rows for name in row)))
    for row in rows:
        shown = [row.get(name, "") for name in names]
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else str(value) for value in shown))
    Console(width=200).print(table)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _build(corpus: Path, out: Path, kind: str, model: str) -> dict[str, Any]:
    command = ["-c", PROGRAM, "index", "build", str(corpus), "--kind", kind, "--out", str(out)]
    if kind in ("dense", "hybrid"):
        command += ["--model", model]
    if kind.startswith("bm25s"):
        command = [__file__, "bm25s", str(corpus), str(out)]
    began = time.perf_counter()
    told = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - began
    return {"build s": seconds, "index MB": _size(out) / 1e6, "build peak MB": _peak(told)}


@app.command()
def bm25s(corpus: Path, out: Path) -> None:
    """Build bm25s' index of a corpus, of flarekit's words and with its parameters."""
    import bm25s

    splitter = bm25s.tokenization.Tokenizer(lower=False, splitter=words, stopwords=[])
    texts = [f"{one.title} {one.text}" for one in iter_corpus(corpus)]
    index = bm25s.BM25(method="bm25+", delta=1, k1=0.9, b=0.4, backend=out.name.removeprefix("bm25s-"))
    index.index(splitter.tokenize(texts, return_as="tuple", show_progress=False), show_progress=False)
    index.save(out)
    print(STATUS.read_text())


class BM25s:
    """Searches an index of bm25s, whose passages are nothing but their numbers."""

    def __init__(self, folder: Path) -> None:
        import bm25s

        self.name = folder.name
        self._index = bm25s.BM25.load(folder, mmap=True)

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        [hits] = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        threads = 0 if len(queries) == 1 else os.cpu_count()
        numbers, scores = self._index.retrieve(
            [words(query) for query in queries], k=k, show_progress=False, n_threads=threads
        )
        return [
            [Hit(Passage(str(n), "", ""), float(s)) for n, s in zip(*pair, strict=True)]
            for pair in zip(numbers, scores, strict=True)
        ]


def _ask(index: Path, queries: Path, count: int, part: str | None, batch: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "ask", str(index), str(queries), "--count", str(count), "--batch", str(batch)]
    command += ["--part", part] if part else []
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


@app.command()
def ask(
    index: Path,
    queries: Path,
    count: int = 500,
    part: Annotated[str | None, typer.Option(help="Of a hybrid index, bm25 or dense alone.")] = None,
    batch: Annotated[int, typer.Option(help="Questions at a time.")] = 1,
) -> None:
    """Ask one index `count` questions, the first 20 of them unmeasured."""
    texts = [json.loads(line)["text"] for line in queries.read_text().splitlines()[:count]]
    figures = asyncio.run(_measure(index, texts, part, batch))
    print(json.dumps(figures | ({"peak MB": _peak(STATUS.read_text())} if batch == 1 else {})))


async def _measure(index: Path, texts: list[str], part: str | None, batch: int) -> dict[str, Any]:
    began = time.perf_counter()
    retriever: BatchRetriever
    if part:
        retriever = IndexRetriever(part, Passages(index), _rankers(index)[part])
    else:
        retriever = BM25s(index) if index.name.startswith("bm25s") else open_index(index)
    opened = time.perf_counter() - began
    # Pages that nobody has read yet come from the disk. What an embedder has seen it remembers: none is asked twice.
    await _timed(retriever, texts[:WARMUP], batch)
    seconds = await _timed(retriever, asked := texts[WARMUP:], batch)
    rate = len(asked) / sum(seconds)
    if batch > 1:
        return {f"queries/s by {batch}": rate}
    centiles = statistics.quantiles(seconds, n=100)
    timed = {"p50 ms": 1000 * centiles[49], "p99 ms": 1000 * centiles[98]}
    return {"open s": opened, "queries/s": rate, **timed}


def _peak(status: str) -> float:
    """The most memory that a process has held, in MB; `ru_maxrss` of a child counts what its parent held before it."""
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


async def _timed(retriever: BatchRetriever, texts: list[str], batch: int) -> list[float]:
    seconds = []
    for place in range(0, len(texts), batch):
        began = time.perf_counter()
        await retriever.search_many(texts[place : place + batch], K)
        seconds.append(time.perf_counter() - began)
    return seconds


def _rankers(index: Path) -> dict[str, Ranker]:
    """What a hybrid index ranks by: each part alone, and both."""
    made, passages = index_info(index).made, Passages(index)
    bm25 = BM25Part(index / "bm25", made["bm25"], passages)
    dense = DensePart(index / "dense", made["dense"], passages)
    fused = {"hybrid": HybridRanker([bm25, dense]), "rank fusion": HybridRanker([bm25, dense], fusion="ranks")}
    return {"bm25": bm25, "dense": dense, **fused}


@app.command()
def draw(
    told: Annotated[Path, typer.Argument(help="What `scale` has printed.")], out: Path = Path("docs/retrieval.svg")
) -> None:
    """Draw how long a single question takes by the number of passages: the median, and up to the 99th percentile."""
    names = {
        "rank-bm25": "rank-bm25", "bm25s-numpy": "bm25s, numpy", "bm25s-numba": "bm25s, numba", "bm25": "flarekit bm25",
        "its dense": "flarekit dense, with embedding", "hybrid": "flarekit hybrid, with embedding",
    }  # fmt: skip
    rows = [json.loads(line) for line in told.read_text().splitlines() if line.startswith("{")]
    shown = [row | {"shown": names[row["kind"]]} for row in rows if row["kind"] in names]
    values = [{name.replace(" ", "_"): value for name, value in row.items()} for row in shown]
    milliseconds = alt.Axis(title="Milliseconds for one question", values=[0.1, 1, 10, 100, 1000], format="~g")
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("passages:O", title="Passages", axis=alt.Axis(format=",d", labelAngle=0)),
        xOffset=alt.XOffset("shown:N", sort=list(names.values())),
        y=alt.Y("p50_ms:Q", scale=alt.Scale(type="log", domain=[0.02, 3000]), axis=milliseconds),
        color=alt.Color("shown:N", title=None, sort=list(names.values()), scale=alt.Scale(scheme="tableau10")),
    )
    spread = base.mark_rule(strokeWidth=5, opacity=0.5).encode(y2="p99_ms:Q")
    chart = (spread + base.mark_point(filled=True, size=70, opacity=1)).properties(width=520, height=300)
    chart.configure_legend(orient="bottom", columns=3).save(str(out))


@app.command()
def recall(
    files: Annotated[list[str], typer.Argument(help="Datasets and their official files, such as musique=FILE.")],
    model: Annotated[str, typer.Option(help="What embeds.")] = "all-MiniLM-L6-v2",
    folder: Path = Path("runs/recall"),
) -> None:
    """Supporting passages among the best 2, 5 and 10 of a file's pooled passages, by words, meaning and both.

    The difference to BM25 at 5 has a 95% interval, paired by question. With several files, each is also searched with
    the weights that are best on the others, by the mean of all their figures.
    """
    weighted: dict[str, dict[float, Recalls]] = {}
    for name, data in (one.split("=", 1) for one in files):
        loaded, index = load_dataset(name, Path(data)), folder / name
        build_index(loaded.corpus, index, "hybrid", model=model)
        rankers = _rankers(index)
        words_alone = _recalls(rankers["bm25"], loaded, index)
        for kind, ranker in rankers.items():
            found = _recalls(ranker, loaded, index)
            gain = paired_difference(found[:, 1], words_alone[:, 1])
            interval = f"at 5 {gain.estimate:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) of bm25"
            print(f"{name:16}{kind:12}{_shown(found)}  {interval}", flush=True)
        parts = [rankers["bm25"], rankers["dense"]]
        weighted[name] = {
            dense / 10: _recalls(HybridRanker(parts, weights=(1 - dense / 10, dense / 10)), loaded, index)
            for dense in range(11)
        }
    for name, own in weighted.items() if len(weighted) > 1 else ():
        others = [other for dataset, other in weighted.items() if dataset != name]
        best = max(own, key=lambda dense: float(np.mean([other[dense].mean() for other in others])))
        print(f"{name:16}with the dense weight that is best on the others, {best:.1f}: {_shown(own[best])}")


Recalls = NDArray[np.float64]
"""Of each question, what of its supporting passages is among the best 2, 5 and 10: shape (questions, 3)."""


def _recalls(ranker: Ranker, loaded: Dataset, index: Path) -> Recalls:
    asked, passages = [one for one in loaded.questions if one.supporting], Passages(index)
    columns = []
    for k in (2, 5, 10):
        ranked = ranker.rank([question.text for question in asked], k)
        ids = [[passages[int(number)].id for number in numbers] for numbers, _ in ranked]
        columns.append([supporting_recall(*pair) for pair in zip(ids, (q.supporting for q in asked), strict=True)])
    return np.array(columns, dtype=np.float64).T


def _shown(found: Recalls) -> str:
    return " / ".join(f"{value:.3f}" for value in found.mean(axis=0))


@app.command()
def answers(
    runs: Annotated[list[Path], typer.Argument(help="Runs over several indexes; the first is the base.")],
) -> None:
    """What another index changes in the F1 of answers and in supporting recall, paired by question."""
    base, *others = (load_runs([run])[0] for run in runs)
    for group in others:
        for policy, arm in group.arms.items():
            pairs = [
                (arm.results[one], known) for one, known in base.arms[policy].results.items() if one in arm.results
            ]
            f1 = paired_difference([ours.f1 for ours, _ in pairs], [theirs.f1 for _, theirs in pairs])
            found = paired_difference(
                [ours.recall or 0 for ours, _ in pairs], [theirs.recall or 0 for _, theirs in pairs]
            )
            told = (
                f"{name} {one.estimate:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
                for name, one in (("F1", f1), ("recall", found))
            )
            print(f"{group.models}  {policy:14} n = {len(pairs)}  {'  '.join(told)}")


@app.command()
def vectors(
    index: Annotated[Path, typer.Argument(help="An index with dense vectors.")],
    queries: Annotated[Path, typer.Argument(help="The questions of its world.")],
    count: int = 300,
    folder: Annotated[Path, typer.Option(help="Where to write the lists.")] = Path("runs/vectors"),
) -> None:
    """The search in an index's dense vectors alone, its queries embedded beforehand: every vector against lists."""
    made = index_info(index).made["dense"]
    known: Vectors = np.load(index / "dense" / "vectors.npy", mmap_mode="r")
    texts = [json.loads(line)["text"] for line in queries.read_text().splitlines()[:count]]
    rows = _Rows(known, open_embedder(made["embedder"]).embed(texts, query=True))
    folder.mkdir(parents=True, exist_ok=True)
    passages = write_passages(folder, (Passage(str(n), "", f"row {n}") for n in range(len(known))))
    began = time.perf_counter()
    made = DensePart.build(folder, passages, embedder=rows, flat_up_to=0)
    print(f"{made['reason']}; made in {time.perf_counter() - began:.0f} s")
    asked = [f"row {number}" for number in range(len(texts))]
    exact: list[set[int]] = []
    for structure in ("flat", made["structure"]):
        part = DensePart(folder, made | {"structure": structure}, passages, embedder=rows)
        part.rank(asked[-WARMUP:], 10)
        seconds, found = [], []
        for query in asked:
            began = time.perf_counter()
            [(numbers, _)] = part.rank([query], 10)
            seconds.append(time.perf_counter() - began)
            found.append(set(numbers.tolist()))
        exact = exact or found
        began = time.perf_counter()
        for place in range(0, len(asked), BATCH):
            part.rank(asked[place : place + BATCH], 10)
        batched = len(asked) / (time.perf_counter() - began)
        shared = statistics.mean(len(one & other) / 10 for one, other in zip(found, exact, strict=True))
        centiles = [1000 * one for one in statistics.quantiles(seconds, n=100)]
        figures = f"recall@10 {shared:.3f}  p50 {centiles[49]:.1f} ms  p99 {centiles[98]:.1f} ms"
        speed = f"{len(asked) / sum(seconds):.0f} queries/s, {batched:.0f} by {BATCH}"
        print(f"{len(known):>9} {structure:8} {figures}  {speed}", flush=True)


class _Rows:
    """Vectors that are there already, by the number in their text."""

    name = "rows"

    def __init__(self, corpus: Vectors, asked: Vectors) -> None:
        self._corpus, self._asked, self.dimension = corpus, asked, corpus.shape[1]

    def embed(self, texts: Sequence[str], *, query: bool) -> Vectors:
        return np.asarray((self._asked if query else self._corpus)[[int(text.split()[-1]) for text in texts]])


if __name__ == "__main__":
    app()
