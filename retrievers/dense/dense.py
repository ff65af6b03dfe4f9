"""Dense retrieval: passages whose vectors point the same way as the query's, found by FAISS.

Up to 20,000 passages every vector is compared with the query. Beyond, the vectors are kept in lists around centroids
("IVF", Jégou et al., TPAMI 2011), four bits for two numbers ("PQ", the same paper, scanned in registers: André et al.,
VLDB 2015), and the lists nearest to the query are read. The best of what is found so is scored again with the vectors
themselves: scores are exact, and passages that tie keep their order.

Questions are unlike passages: their neighbours lie in many lists, and a graph (HNSW, Malkov and Yashunin,
arXiv:1603.09320) leads past them. Of passages of the built-in world by all-MiniLM-L6-v2, for 300 of its questions, with
the milliseconds of one core (median / 99th percentile) and the size of what is searched before the vectors:

=====================================  =========  =========  ===========  ======
structure                              vectors    recall@10  ms           MB
=====================================  =========  =========  ===========  ======
every vector                           100,000    1          4.2 / 5.5
graph, 32 links, ef 256                100,000    .855       .5 / .8      66
graph, 32 links, ef 1,024              100,000    .937       1.6 / 2.5    66
316 of 1,264 lists, 4 bits for two     100,000    .995       .5 / .7      12
every vector                           1,000,000  1          39 / 50
256 of 4,000 lists, a byte for one     1,000,000  .913       2.4 / 2.9    400
512 of 4,000 lists, a byte for one     1,000,000  .958       4.7 / 6.1    400
1,000 of 4,000 lists, 4 bits for two   1,000,000  .983       4.3 / 4.9    116
1,024 of 4,000 lists, 4 bits for four  1,000,000  .843       2.0 / 2.2    65
1,024 of 4,000 lists, a bit (RaBitQ)   1,000,000  .959       4.6 / 5.6    70
=====================================  =========  =========  ===========  ======
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flarekit.engines.encoders import Vectors, limited_to_one
from flarekit.errors import ConfigError, DataError
from flarekit.retrieval import Passage
from flarekit.retrievers.corpus.passages import load_array
from flarekit.retrievers.dense.embedder import Embedder, embedder_of_file
from flarekit.retrievers.dense.vectors import ROWS, embedded, forget_progress, write_vectors
from flarekit.retrievers.index.ranked import Ranking
from flarekit.retrievers.lexical.analyzer import words

Numbers = NDArray[np.int64]

FLAT_UP_TO = 20_000
"""Passages that are all compared with a query: 3 ms of one core for 384 numbers each."""
_LISTS = "lists.faiss"
_FEWEST = 16
"""Vectors that four bits can be learnt from."""
_ADDED = 50_000
"""Vectors in memory at a time while lists are filled."""
_SAMPLED = 40
"""Vectors for each list to find its centroid with; FAISS wants 39 at least."""
_SHARE, _READ = 4, 1_024
"""Of the lists, one in so many is read for a query, and so many at most."""
_TIE = 1e-5
"""Scores that are as near as this may be one score: the digits behind it depend on how FAISS adds up."""
_SAME = 0.99
"""The least cosine between two embeddings of one text, which batches and machines change a little."""


class DensePart:
    """The dense part of an index: `vectors.npy`, and beyond `FLAT_UP_TO` passages FAISS' `lists.faiss`.

    Both are memory-mapped. Scores are cosines. What `rank` finds for a query does not depend on others asked with it,
    as far as the embedder's vectors don't: those of `SentenceEmbedder` never do.
    """

    @classmethod
    def build(
        cls,
        folder: Path,
        passages: Sequence[Passage],
        *,
        embedder: Embedder,
        flat_up_to: int = FLAT_UP_TO,
        on_progress: Callable[[int], None] = lambda more: None,
    ) -> dict[str, Any]:
        """Write the part over `passages` to `folder`; what it was made with, for the manifest.

        Vectors go to disk as they come, and a build goes on with those that one which was stopped has left there. In
        memory are a few thousand of them, the sample that centroids are found with (40 a list: 250 MB for a million
        passages of 384 numbers) and the lists (a twelfth of the vectors).
        """
        import_faiss()  # before hours of embedding
        vectors = write_vectors(folder, passages, embedder, on_progress)
        structure = _write_structure(folder, vectors, flat_up_to)
        forget_progress(folder)
        return {"embedder": embedder.name, "dimension": vectors.shape[1], **structure}

    def __init__(
        self, folder: Path, made: Mapping[str, Any], passages: Sequence[Passage], *, embedder: Embedder | None = None
    ) -> None:
        """Open what `build` wrote to `folder`, which must be whole (`flarekit.retrievers.index.folder.check`).

        `embedder` is the one that made the vectors, where it is not to be had by the name in `made` any more.
        `ConfigError` where the name is that of an endpoint that nobody has allowed (`embedder_of_file`), `DataError`
        where it gives the first passage another vector now.
        """
        self._vectors: Vectors = load_array(folder / ROWS, np.float32, dimensions=2)
        if len(self._vectors) != len(passages):
            raise DataError(
                f"{folder}: {len(self._vectors)} vectors of {len(passages)} passages; build the index again"
            )
        self._embedder = embedder or embedder_of_file(made["embedder"])
        self._refuse_other_embedder(passages)
        self._structure: _Structure
        if made["structure"] == "flat":
            self._structure = _Flat(self._vectors)
        elif made["structure"].startswith("ivf-"):  # FAISS knows the rest by itself
            self._structure = _Lists(folder / _LISTS, made.get("nprobe"), self._vectors.shape)
        else:
            raise DataError(f"{folder}: vectors in a structure {made['structure']!r}, which this version cannot search")

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` passages of the highest cosine, of those that have a text.

        None for a query of stopwords, or without any word.
        """
        rankings: list[Ranking] = [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        if not (asked := [place for place, query in enumerate(queries) if words(query)]):
            return rankings
        vectors = self._embedder.embed([queries[place] for place in asked], query=True)
        found = self._structure.search(vectors, min(self._structure.depth(k), len(self._vectors)))
        for place, vector, numbers in zip(asked, vectors, found, strict=True):
            rankings[place] = self._best(vector, numbers, k)
        return rankings

    def _best(self, vector: Vectors, numbers: Numbers, k: int) -> Ranking:
        """The `k` best, from `numbers` or from more where the last of these may tie with passages that they lack."""
        while True:
            numbers = np.sort(numbers[numbers >= 0])  # FAISS fills up with -1
            # Row by row, and not as a product of matrices, whose last digits depend on the number of rows.
            scores = (self._vectors[numbers] * vector).sum(axis=1)
            worst = scores.min()
            scores[scores == 0] = -np.inf  # a passage without any text has the vector zero
            order = np.argsort(-scores, kind="stable")[:k]
            wanted = min(2 * len(numbers), len(self._vectors))
            if len(order) < k or wanted == len(numbers) or worst < scores[order[-1]] - _TIE:
                break
            [more] = self._structure.search(vector[np.newaxis], wanted)
            if np.count_nonzero(more >= 0) <= len(numbers):
                break
            numbers = more
        order = order[np.isfinite(scores[order])]
        return numbers[order], scores[order]

    def _refuse_other_embedder(self, passages: Sequence[Passage]) -> None:
        number, first = next(((n, one) for n, one in enumerate(passages) if embedded(one)), (0, passages[0]))
        [vector] = self._embedder.embed([embedded(first)], query=False)
        if len(vector) != self._vectors.shape[1]:
            what = f"gives vectors of {len(vector)} numbers, and the index has {self._vectors.shape[1]}"
        elif embedded(first) and float(vector @ self._vectors[number]) < _SAME:
            what = f"gives another vector for the passage {first.id!r} than when the index was built"
        else:
            return
        raise DataError(f"the embedder {self._embedder.name!r} {what}; use the model it was built with, or build again")


class _Structure(Protocol):
    """Finds vectors that are near."""

    def depth(self, k: int) -> int:
        """How many to ask for, so that the `k` best are most likely among them."""
        ...

    def search(self, vectors: Vectors, depth: int) -> NDArray[np.int64]:
        """For each vector the numbers of `depth` near ones, or -1 in place of those that were not found."""
        ...


class _Flat:
    """Every vector, compared in one product where there are several queries."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors, self._faiss = vectors, import_faiss()

    def depth(self, k: int) -> int:
        return 2 * k + 10  # some, so that ties are seen

    def search(self, vectors: Vectors, depth: int) -> NDArray[np.int64]:
        with _one_thread(self._faiss):
            _, numbers = self._faiss.knn(vectors, self._vectors, depth, metric=self._faiss.METRIC_INNER_PRODUCT)
        return np.asarray(numbers, dtype=np.int64)


class _Lists:
    """Lists of compressed vectors around centroids."""

    def __init__(self, path: Path, read: Any, shape: tuple[int, ...]) -> None:
        """Open the lists of vectors of that shape, `read` of which are read for a query."""
        self._faiss = import_faiss()
        try:
            self._index = self._faiss.read_index(str(path), self._faiss.IO_FLAG_MMAP_IFC)
        except (RuntimeError, MemoryError) as error:
            raise DataError(f"{path}: FAISS cannot read it; build the index again") from error
        lists = getattr(self._index, "nlist", 0)
        if (self._index.ntotal, self._index.d) != shape or not (isinstance(read, int) and 0 < read <= lists):
            raise DataError(f"{path}: lists of other vectors, or another number of them to read; build the index again")
        self._index.nprobe = read

    def depth(self, k: int) -> int:
        return 10 * k + 50  # four bits rank them roughly: of a million, 30 would hold .90 of the ten best and not .98

    def search(self, vectors: Vectors, depth: int) -> NDArray[np.int64]:
        # One by one: among 20 and more, the choice of lists would be rounded differently. FAISS lets go of the GIL.
        if len(vectors) == 1:
            return self._search(vectors, depth)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(lambda row: self._search(row[np.newaxis], depth), vectors)))

    def _search(self, vector: Vectors, depth: int) -> NDArray[np.int64]:
        with _one_thread(self._faiss):
            _, numbers = self._index.search(vector, depth)
        return np.asarray(numbers, dtype=np.int64)


def _one_thread(faiss: Any) -> AbstractContextManager[None]:
    """Let FAISS compute in this thread alone; others, such as one that builds an index, keep theirs.

    Its threads wait for one another by spinning: where other work wants the cores, a search of 1 ms takes 16.
    """
    return limited_to_one(faiss.omp_get_max_threads, faiss.omp_set_num_threads)


def import_faiss() -> Any:
    """FAISS; a `ConfigError` that says how to get it where it is missing."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError("dense retrieval needs FAISS: pip install faiss-cpu") from error


def _write_structure(folder: Path, vectors: Vectors, flat_up_to: int) -> dict[str, Any]:
    """Write what finds the vectors, if more than they are needed; what was chosen, and why."""
    count = len(vectors)
    if count <= flat_up_to or count < _FEWEST:
        (folder / _LISTS).unlink(missing_ok=True)  # of a build that was stopped
        reason = f"every vector can be compared: {count:,} passages are at most {max(flat_up_to, _FEWEST):,}"
        return {"structure": "flat", "reason": reason}
    lists = _write_lists(folder / _LISTS, vectors)
    read = min(_READ, math.ceil(lists / _SHARE))
    reason = (
        f"{count:,} passages are more than {flat_up_to:,}: {read} of {lists} lists are read, "
        "and what they give is scored again with the vectors themselves"
    )
    return {"structure": "ivf-pq", "reason": reason, "lists": lists, "nprobe": read}


def _write_lists(path: Path, vectors: Vectors) -> int:
    """Write the vectors' lists; how many there are."""
    faiss = import_faiss()
    count, dimension = len(vectors), vectors.shape[1]
    lists = max(1, min(4 * math.isqrt(count), count // _SAMPLED))
    codes = dimension if dimension % 2 else dimension // 2
    index = faiss.index_factory(dimension, f"IVF{lists},PQ{codes}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 10
    sample = np.random.default_rng(0).choice(count, min(count, _SAMPLED * lists), replace=False)
    index.train(vectors[np.sort(sample)])
    for begin in range(0, count, _ADDED):
        index.add(np.asarray(vectors[begin : begin + _ADDED]))
    faiss.write_index(index, str(path))
    return lists
