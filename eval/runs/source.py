"""What the policies of a run look things up in: passages in memory, an index, or an engine that runs elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flarekit.io.files import read_file, standing
from flarekit.retrieval import Passage, Retriever
from flarekit.retrievers import make_retriever, open_index, read_corpus
from flarekit.retrievers.batching import Shared
from flarekit.retrievers.described import described_index
from flarekit.retrievers.index.build import json_lines
from flarekit.retrievers.index.folder import read_manifest


@dataclass(frozen=True, slots=True)
class Source:
    """What a run searches, and what it is known by."""

    retriever: Retriever
    passages: int | None
    """How many; None where an engine elsewhere holds them."""
    known_by: Iterable[str]
    """What differs where the passages do; read once."""
    index: dict[str, Any] | None = None
    """What an index says of itself."""


def open_source(corpus: Path | None, pool: Sequence[Passage], retriever: str) -> Source:
    """What `corpus` names: JSON lines, an index, or a YAML file; None is the dataset's own passages, the `pool`.

    Passages in memory are searched by `retriever` (`flarekit.retrievers.make_retriever`), the others as they were
    built. Errors are those of `flarekit.retrievers.open_index`.
    """
    corpus = corpus and standing(corpus)
    lines = corpus and json_lines(corpus)
    if corpus is None or lines:
        passages = read_corpus(lines, corpus if corpus and corpus.is_dir() else None) if lines else pool
        texts = (f"{passage.id}\0{passage.title}\0{passage.text}\n" for passage in passages)
        return Source(make_retriever(retriever, passages), len(passages), texts)
    # Nothing is kept: what one policy has looked up must not make another one's look-up quicker.
    shared = Shared(open_index(corpus), size=0)
    known_by = () if corpus.is_dir() else (hashlib.sha256(read_file(corpus)).hexdigest(),)
    if (folder := corpus if corpus.is_dir() else described_index(corpus)) is None:
        return Source(shared, None, known_by)
    index = read_manifest(standing(folder))
    return Source(shared, index.passages, (*known_by, index.digest), index.model_dump(exclude={"files"}))
