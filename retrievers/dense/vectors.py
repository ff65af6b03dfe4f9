"""The vectors of an index on disk: embedded batch by batch, and gone on with where a build was stopped.

Embedding is what takes long: hours for millions of passages. Beside the rows that `vectors.npy` has already, a build
notes a digest of each batch, of what was embedded and of what came of it. The next build keeps a batch that it would
make in just this way, and embeds any other, be it of other passages, by another embedder, or lost when the power went.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from flarekit.engines.encoders import Vectors
from flarekit.retrieval import Passage
from flarekit.retrievers.dense.embedder import Embedder

ROWS = "vectors.npy"
_DONE = "embedded.txt"
_BATCH = 1_024
"""Passages that are embedded at a time."""


def embedded(passage: Passage) -> str:
    """What of a passage is embedded: the same as BM25 reads."""
    return f"{passage.title} {passage.text}".strip()


def write_vectors(
    folder: Path, passages: Sequence[Passage], embedder: Embedder, on_progress: Callable[[int], None]
) -> Vectors:
    """The vectors of all passages in their order, shape (passages, dimension), mapped from the file.

    That of a passage without any text is zero, which is near to nothing.
    """
    rows = _rows(folder / ROWS, (len(passages), embedder.dimension))
    notes = folder / _DONE
    done = set(notes.read_text(errors="replace").split()) if notes.exists() else set()
    with notes.open("a") as file:
        for begin in range(0, len(passages), _BATCH):
            texts = [embedded(passage) for passage in passages[begin : begin + _BATCH]]
            batch = rows[begin : begin + len(texts)]
            if not done or _digest(embedder.name, texts, batch) not in done:
                batch[:] = embedder.embed(texts, query=False)
                batch[[not text for text in texts]] = 0
                file.write(f"{_digest(embedder.name, texts, batch)}\n")
                file.flush()
            on_progress(len(texts))
    return rows


def forget_progress(folder: Path) -> None:
    """Remove what only a build that goes on with this one would read."""
    (folder / _DONE).unlink()


def _rows(path: Path, shape: tuple[int, int]) -> Vectors:
    """The array that an earlier build left, or a new one."""
    with suppress(Exception):  # there is none, or it is damaged: numpy reads its header as Python
        rows = np.load(path, mmap_mode="r+", allow_pickle=False)
        if rows.shape == shape and rows.dtype == np.float32:
            return np.asarray(rows)
    return np.asarray(np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape))  # type: ignore[no-untyped-call]


def _digest(embedder: str, texts: Sequence[str], rows: Vectors) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (embedder, *texts):
        digest.update(f"{len(part)} {part}".encode())
    digest.update(rows.tobytes())
    return digest.hexdigest()
