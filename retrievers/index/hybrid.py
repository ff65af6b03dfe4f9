"""Hybrid retrieval: what several parts of an index find, fused into one ranking.

Supporting passages found among the best 2 / 5 / 10, over the pooled passages of 100 questions each, by BM25 and by
all-MiniLM-L6-v2:

========================  ================  ================  ================
ranking                   HotpotQA          2WikiMultihopQA   MuSiQue
========================  ================  ================  ================
BM25                      .580/.780/.925    .552/.652/.708    .485/.590/.690
dense                     .570/.795/.895    .530/.662/.725    .420/.580/.720
rank fusion, depth 100    .605/.820/.930    .570/.660/.750    .460/.610/.715
weighted, dense .5        .620/.820/.940    .555/.677/.745    .475/.620/.735
weighted, dense .4        .635/.815/.945    .565/.675/.730    .485/.610/.725
========================  ================  ================  ================

Weight and depth were chosen with all nine figures in sight, so that .4 is no worse than the better part anywhere says
little: with the best 50 of each part fused in place of 20, it finds .475 of MuSiQue's at 2, two passages fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError
from flarekit.retrievers.index.ranked import Ranker, Ranking

Fusion = Literal["weighted", "ranks"]

WEIGHTS = (0.6, 0.4)
"""Of BM25 and of dense retrieval."""
_RANKS = 60
"""The constant of reciprocal-rank fusion, from its paper."""
_DEPTH = {"weighted": 20, "ranks": 100}
"""Passages of each part that are fused, at least."""


class HybridRanker:
    """Fuses the rankings of several parts over the same passages.

    "weighted" adds up scores, each part's taken to 0 (its worst of those that are fused) to 1 (its best). "ranks" is
    reciprocal-rank fusion: 1 / (60 + rank) added up (Cormack et al., SIGIR 2009). A passage that a part did not find
    gets nothing from it.
    """

    def __init__(
        self, parts: Sequence[Ranker], *, fusion: Fusion = "weighted", weights: Sequence[float] | None = None
    ) -> None:
        """`weights` are those of the parts' scores in weighted fusion, none negative (`WEIGHTS`).

        `ConfigError` for others, for weights of ranks, and for another fusion.
        """
        if fusion not in _DEPTH:
            raise ConfigError(f"no fusion is called {fusion!r}; there are {', '.join(_DEPTH)}")
        if fusion == "ranks":
            if weights is not None:
                raise ConfigError("fusion of ranks has no weights; leave them out, or choose weighted")
            weights = [1.0] * len(parts)
        elif weights is None:
            weights = WEIGHTS
        if len(weights) != len(parts) or not 0 < sum(weights) < math.inf or min(weights) < 0:
            raise ConfigError(
                f"{len(parts)} parts need as many weights, none below 0 and one above, not {list(weights)}"
            )
        self._parts, self._fusion, self._weights = parts, fusion, weights

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` best of the passages that any part finds, ties in the corpus's order."""
        depth = max(_DEPTH[self._fusion], 2 * k)
        columns = [part.rank(queries, depth) for part in self._parts]
        return [self._fused(rankings, k) for rankings in zip(*columns, strict=True)]

    def _fused(self, rankings: Sequence[Ranking], k: int) -> Ranking:
        numbers, places = np.unique(np.concatenate([found for found, _ in rankings]), return_inverse=True)
        shares = [weight * self._share(scores) for weight, (_, scores) in zip(self._weights, rankings, strict=True)]
        totals = np.bincount(places, weights=np.concatenate(shares), minlength=len(numbers)).astype(np.float32)
        order = np.argsort(-totals, kind="stable")[:k]
        return numbers[order], totals[order]

    def _share(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What a part gives to each of the passages that it found."""
        if self._fusion == "ranks":
            return 1 / (_RANKS + 1 + np.arange(len(scores)))
        if not len(scores):
            return np.empty(0)
        exact = scores.astype(np.float64)
        spread = exact[0] - exact[-1]
        return (exact - exact[-1]) / spread if spread else np.ones(len(scores))
