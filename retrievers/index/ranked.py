"""From a part of an index, which ranks the numbers of passages, to a retriever, which finds the passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flarekit.retrieval import Hit, Passage
from flarekit.retrievers.base import Threaded

Ranking = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers of passages and their scores, shapes (n,) and (n,), best first."""


class Ranker(Protocol):
    """Whatever ranks the passages of one corpus by their numbers in it; used from several threads at once."""

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` best passages or fewer, ties in the corpus's order."""
        ...


class IndexRetriever(Threaded):
    """Finds passages by what a ranker says; the event loop goes on meanwhile."""

    def __init__(self, name: str, passages: Sequence[Passage], ranker: Ranker) -> None:
        self.name = name
        self._passages = passages
        self._ranker = ranker

    def _search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [
            [Hit(self._passages[int(n)], float(score)) for n, score in zip(numbers, scores, strict=True)]
            for numbers, scores in self._ranker.rank(queries, k)
        ]
