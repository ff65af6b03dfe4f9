"""Reranking: a cross-encoder reads the query together with each passage that was found, and puts them in its order.

It sees what no index can, how the words of both belong together, and costs a run of the model a passage: hundreds of
milliseconds on a CPU for twenty of them, where an index takes a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from flarekit.engines.encoders import import_encoders, load_cross_encoder
from flarekit.errors import ConfigError
from flarekit.retrieval import BatchRetriever, Hit
from flarekit.retrievers.base import Batched

DEPTH = 20
"""Passages that are read for a query, unless told otherwise."""
_LONGEST = 20_000
"""Characters of a query and of a passage that are looked at: no cross-encoder reads further."""


class Reranker(Batched):
    """The `depth` best passages of a retriever (`k` of them where more are asked for), in a cross-encoder's order.

    Scores are the model's own, before any squashing: of any sign, and comparable within one query only. Ties keep the
    retriever's order.
    """

    def __init__(self, retriever: BatchRetriever, model: str, *, depth: int = DEPTH) -> None:
        """Load `model`, a cross-encoder of sentence-transformers, by its name on the hub or its folder.

        `ConfigError` where it is not to be had, is none or gives more than one score, and for a `depth` below 1.
        """
        if depth < 1:
            raise ConfigError(f"a reranker needs depth >= 1, not {depth}")
        self.name = f"{retriever.name} reranked by {model}"
        self._retriever, self._depth = retriever, depth
        self._model = _load(model)
        # One: several runs of a model at once would only wait for each other's cores. And its own: searches that wait
        # for it would otherwise take the threads that other searches block in.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rerank")

    async def _find(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        """What is found for each of the queries; once it is cancelled, the model reads for one more at most."""
        found = await self._retriever.search_many(queries, max(k, self._depth))
        run = asyncio.get_running_loop().run_in_executor
        reads = [run(self._thread, self._reranked, *one) for one in zip(queries, found, strict=True)]
        return [hits[:k] for hits in await asyncio.gather(*reads)]

    def _reranked(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        passages = [hit.passage for hit in hits]
        pairs = [(query[:_LONGEST], f"{passage.title} {passage.text}".strip()[:_LONGEST]) for passage in passages]
        identity = import_encoders("torch").nn.Identity()  # a sigmoid gives many good passages the score 1
        scores = np.asarray(self._model.predict(pairs, activation_fn=identity, show_progress_bar=False), np.float32)
        return [Hit(passages[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")]


def _load(name: str) -> Any:
    model = load_cross_encoder(name)
    if model.num_labels != 1:
        raise ConfigError(f"the cross-encoder {name!r} gives {model.num_labels} scores for a passage; one is needed")
    return model
