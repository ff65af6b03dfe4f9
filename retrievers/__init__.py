"""Who looks things up: corpora on disk and the retrievers over them."""

from __future__ import annotations

from collections.abc import Sequence

from flarekit.errors import ConfigError
from flarekit.retrieval import Passage, Retriever
from flarekit.retrievers.corpus.formats import iter_corpus, read_corpus, write_corpus
from flarekit.retrievers.index.build import build_index, index_info, open_index
from flarekit.retrievers.lexical.bm25 import BM25Retriever

__all__ = [
    "BM25Retriever",
    "build_index",
    "index_info",
    "iter_corpus",
    "make_retriever",
    "open_index",
    "read_corpus",
    "write_corpus",
]


def make_retriever(spec: str, corpus: Sequence[Passage]) -> Retriever:
    """The retriever over `corpus` that `spec` writes down, such as "bm25" or "bm25:k1=1.2,b=0.75".

    `ConfigError` for another kind, a parameter that it does not have, or one that is no number.
    """
    kind, *rest = spec.split(":", 1)
    if kind != "bm25":
        raise ConfigError(f"no retriever is called {kind!r}; there is bm25")
    given = dict(part.partition("=")[::2] for part in "".join(rest).split(",") if part)
    if unknown := [key for key in given if key not in ("k1", "b")]:
        raise ConfigError(f"retriever bm25: no parameter is called {unknown[0]!r}; there are k1, b")
    try:
        numbers = {key: float(value) for key, value in given.items()}
    except ValueError as error:
        raise ConfigError(f"retriever {spec}: a parameter is written key=number ({error})") from error
    return BM25Retriever(corpus, name=spec, **numbers)
