"""Indexes of every kind: built from a corpus on disk, opened as a retriever, and described.

An index directory holds the passages, the manifest, and a folder for each part: `bm25/`, `dense/`, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flarekit.errors import ConfigError
from flarekit.retrieval import BatchRetriever, Passage
from flarekit.retrievers.bm25 import BM25Retriever
from flarekit.retrievers.bm25_index import BM25Part
from flarekit.retrievers.bm25_index import tokenizer as open_tokenizer
from flarekit.retrievers.corpus import iter_corpus, read_corpus
from flarekit.retrievers.folder import MANIFEST, Kind, Manifest, building, check, read_manifest, seal
from flarekit.retrievers.passages import Passages, write_passages
from flarekit.retrievers.ranked import IndexRetriever, Ranker

PARTS: Mapping[Kind, tuple[str, ...]] = {"bm25": ("bm25",), "dense": ("dense",), "hybrid": ("bm25", "dense")}
"""The parts that an index of each kind has."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being made, of how many more passages it is done, and of how many it will be (None: not known yet)."""

_REPORTED = 1_000
"""Passages between two reports of progress."""


def build_index(
    corpus: Path,
    out: Path,
    kind: Kind,
    *,
    tokenizer: str | None = None,
    model: str | None = None,
    on_progress: Progress = lambda what, more, total: None,
) -> Manifest:
    """Build the index of `corpus` (`iter_corpus` has the layouts) in the folder `out`, replacing an index there.

    The corpus is streamed. `tokenizer` is that of BM25 (`flarekit.retrievers.bm25_index.tokenizer`; "words"), `model`
    the embedder of dense vectors (`flarekit.retrievers.embed.open_embedder`; all-MiniLM-L6-v2). Until all is done
    `out` stays what it was, also where the build is killed. Raises `DataError` for a corpus that cannot be indexed or
    a folder that cannot be written, `ConfigError` for another kind or an option that the kind does not have.
    """
    builders = _builders(kind, tokenizer, model)
    with building(out) as folder:
        passages = write_passages(folder, _counted(iter_corpus(corpus), on_progress), str(corpus))
        made = {}
        for name, build in builders.items():
            (folder / name).mkdir()
            told = partial(_tell, on_progress, name, len(passages))
            made[name] = build(folder / name, passages, on_progress=told)
        return seal(folder, kind, len(passages), made)


def open_index(path: Path) -> BatchRetriever:
    """What searches an index directory, or the engine that a YAML file names (`flarekit.retrievers.remote`).

    JSON lines (a folder's `corpus.jsonl` too) are indexed in memory.

    Every file of an index is read once to compare its checksum, about a second a gigabyte. Raises `DataError` for an
    index that is not whole or of another version, and for a path that is neither index nor corpus.
    """
    if path.suffix in (".yaml", ".yml"):
        from flarekit.retrievers.remote import open_remote

        return open_remote(path)
    if (path / MANIFEST).exists():
        return _open(path)
    if path.is_dir() and not (path / "corpus.jsonl").exists():
        read_manifest(path)  # says that it is none
    return BM25Retriever(read_corpus(path / "corpus.jsonl" if path.is_dir() else path))


def index_info(path: Path) -> Manifest:
    """What the index in the folder `path` is and how it was made; `DataError` where it is not whole."""
    manifest = read_manifest(path)
    check(path, manifest)
    return manifest


def _open(path: Path) -> IndexRetriever:
    manifest = index_info(path)
    passages = Passages(path)
    parts = [_open_part(name, path / name, manifest.made[name], passages) for name in PARTS[manifest.kind]]
    return IndexRetriever(manifest.kind, passages, parts[0] if len(parts) == 1 else _fused(parts))


def _open_part(name: str, folder: Path, made: Mapping[str, Any], passages: Passages) -> Ranker:
    if name == "bm25":
        return BM25Part(folder, made, passages)
    from flarekit.retrievers.dense import DensePart

    return DensePart(folder, made, passages)


def _fused(parts: list[Ranker]) -> Ranker:
    from flarekit.retrievers.hybrid import HybridRanker

    return HybridRanker(parts)


def _builders(kind: Kind, tokenizer: str | None, model: str | None) -> dict[str, Callable[..., dict[str, Any]]]:
    """What builds each part; wrong options are refused here, before the corpus is read."""
    if kind not in PARTS:
        raise ConfigError(f"no kind of index is called {kind!r}; there are {', '.join(PARTS)}")
    parts = PARTS[kind]
    for option, given, part in (("tokenizer", tokenizer, "bm25"), ("model", model, "dense")):
        if given is not None and part not in parts:
            raise ConfigError(f"a {kind} index has no {option}; leave it out, or build another kind")
    builders: dict[str, Callable[..., dict[str, Any]]] = {}
    if "bm25" in parts:
        open_tokenizer(tokenizer or "words")
        builders["bm25"] = partial(BM25Part.build, tokenizer=tokenizer or "words")
    if "dense" in parts:
        from flarekit.retrievers.dense import DensePart
        from flarekit.retrievers.embed import open_embedder

        builders["dense"] = partial(DensePart.build, embedder=open_embedder(model) if model else open_embedder())
    return builders


def _counted(passages: Iterable[Passage], on_progress: Progress) -> Iterator[Passage]:
    number = 0
    for number, passage in enumerate(passages, start=1):
        yield passage
        if number % _REPORTED == 0:
            on_progress("passages", _REPORTED, None)
    on_progress("passages", number % _REPORTED, number)


def _tell(on_progress: Progress, part: str, total: int, more: int) -> None:
    on_progress(part, more, total)
