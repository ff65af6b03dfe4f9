"""Reranking: a cross-encoder reads the query together with each passage that was found, and puts them in its order.

It sees what no index can, how the words of both belong together, and costs a run of the model a passage: hundreds of
milliseconds on a CPU for twenty of them, where an index takes a few.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from flarekit.encoders import first_line, hush, import_encoders
from flarekit.errors import ConfigError
from flarekit.retrieval import Passage
from flarekit.retrievers.ranked import Ranker, Ranking

_LONGEST = 20_000
"""Characters of a passage that are looked at: no cross-encoder reads further."""


class Reranker:
    """The `depth` best passages of a ranker (`k` of them where more are asked for), in a cross-encoder's order.

    Scores are the model's own, before any squashing: of any sign, and comparable within one query only.
    """

    def __init__(self, ranker: Ranker, passages: Sequence[Passage], model: str, *, depth: int = 20) -> None:
        """`model` is a cross-encoder of sentence-transformers, by its name on the hub or its folder.

        `ConfigError` where it is not to be had or gives more than one score, and for a `depth` below 1.
        """
        if depth < 1:
            raise ConfigError(f"a reranker needs depth >= 1, not {depth}")
        self._ranker, self._passages, self._depth = ranker, passages, depth
        self._model = _load(model)
        self._lock = threading.Lock()  # several runs of a model at once would only wait for each other's cores

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` best, ties in the corpus's order."""
        found = self._ranker.rank(queries, max(k, self._depth))
        return [self._reranked(query, ranking, k) for query, ranking in zip(queries, found, strict=True)]

    def _reranked(self, query: str, ranking: Ranking, k: int) -> Ranking:
        numbers = np.sort(ranking[0])
        if not len(numbers):
            return ranking
        passages = [self._passages[int(number)] for number in numbers]
        pairs = [(query, f"{passage.title} {passage.text}".strip()[:_LONGEST]) for passage in passages]
        identity = import_encoders("torch").nn.Identity()  # a sigmoid gives many good passages the score 1
        with self._lock:
            scores = np.asarray(self._model.predict(pairs, activation_fn=identity, show_progress_bar=False), np.float32)
        order = np.argsort(-scores, kind="stable")[:k]
        return numbers[order], scores[order]


@functools.cache
def _load(name: str) -> Any:
    sentence_transformers = import_encoders("sentence_transformers")
    hush()
    try:
        model = sentence_transformers.CrossEncoder(name, device="cpu")
    except Exception as error:  # whatever a hub, a folder or a model's code may raise
        raise ConfigError(f"the cross-encoder {name!r} cannot be loaded ({first_line(error)})") from error
    if model.num_labels != 1:
        raise ConfigError(f"the cross-encoder {name!r} gives {model.num_labels} scores for a passage; one is needed")
    return model
