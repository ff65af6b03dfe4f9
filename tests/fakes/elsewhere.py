"""What the tests of engines that run elsewhere have in common: a corpus, queries, and an embedder without a model."""

import asyncio
import socket
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flarekit.retrieval import BatchRetriever, Hit, Passage
from flarekit.retrievers.lexical.analyzer import words

CORPUS = [
    Passage("Oslo", "Oslo", "Oslo is the capital of Norway."),
    Passage("Riga", "Riga", "Riga is the capital of Latvia."),
    Passage("Müller", "Gerd Müller", 'A footballer from Germany,\nand "so" on.'),
    Passage("copy", "Oslo", "Oslo is the capital of Norway."),
    *(Passage(f"t{number}", f"Town {number}", f"A town on river {number % 7}.") for number in range(70)),
]
QUERIES = ["capital of Latvia", "MULLER", "Who is it?", "", "town 12 river 5", "tennis", "capital of Latvia", "Norway"]
K_ABOVE_ALL = len(CORPUS) + 20


class Letters:
    """An embedder without a model: a direction for each word, added up."""

    name, dimension = "letters", 48

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        vectors = np.array([sum(map(self._direction, words(text)), np.full(48, 1e-3)) for text in texts])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors, dtype=np.float32)

    def _direction(self, word: str) -> NDArray[np.float64]:
        return np.random.default_rng(list(word.encode())).normal(size=48)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


def find(retriever: BatchRetriever, query: str, k: int = 5) -> Sequence[Hit]:
    return asyncio.run(retriever.search(query, k))


def cosines(query: str) -> dict[str, float]:
    """By the passages' ids, what exact search over the vectors must score."""
    embedder = Letters()
    vectors = embedder.embed([f"{passage.title} {passage.text}" for passage in CORPUS], query=False)
    scores = vectors @ embedder.embed([query], query=True)[0]
    return {passage.id: float(score) for passage, score in zip(CORPUS, scores, strict=True)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
