"""Indexes of every kind: built from a corpus on disk, opened as a retriever, and described.

An index directory holds the passages, the manifest, and a folder for each part: `bm25/`, `dense/`, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flarekit.errors import ConfigError, DataError
from flarekit.io.files import standing
from flarekit.retrieval import BatchRetriever, Passage
from flarekit.retrievers.corpus.formats import iter_corpus, read_corpus
from flarekit.retrievers.corpus.passages import Passages, write_passages
from flarekit.retrievers.index.folder import MANIFEST, Kind, Manifest, building, check, read_manifest, seal
from flarekit.retrievers.index.hybrid import Fusion, HybridRanker
from flarekit.retrievers.index.ranked import IndexRetriever, Ranker
from flarekit.retrievers.lexical.bm25 import BM25Retriever
from flarekit.retrievers.lexical.bm25_index import BM25Part
from flarekit.retrievers.lexical.bm25_index import tokenizer as open_tokenizer

PARTS: Mapping[Kind, tuple[str, ...]] = {"bm25": ("bm25",), "dense": ("dense",), "hybrid": ("bm25", "dense")}
"""The parts that an index of each kind has."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being made, of how many more passages it is done, and of how many it will be (None: not known yet)."""

_NEEDED = {"bm25": ("tokenizer",), "dense": ("embedder", "structure")}
_YAML = (".yaml", ".yml")
_LONG = "dense"
"""The part that takes so long to build that what is done of it is kept."""
_REPORTED = 1_000
"""Passages between two reports of progress."""


def build_index(
    corpus: Path | Iterable[Passage],
    out: Path,
    kind: Kind,
    *,
    tokenizer: str | None = None,
    model: str | None = None,
    on_progress: Progress = lambda what, more, total: None,
) -> Manifest:
    """Build the index of `corpus` (`iter_corpus` has a path's layouts) in the folder `out`, replacing an index there.

    The corpus is streamed. `tokenizer` is that of BM25 (`flarekit.retrievers.lexical.bm25_index.tokenizer`; "words"),
    `model` the embedder of dense vectors (`flarekit.retrievers.dense.embedder.open_embedder`; all-MiniLM-L6-v2). Until
    all is done `out` stays what it was, also where the build is killed; the same call then goes on with the passages
    that were embedded. Raises `DataError` for a corpus that cannot be indexed or a folder that cannot be written,
    `ConfigError` for another kind or an option that the kind does not have.
    """
    builders = _builders(kind, tokenizer, model)
    with building(out, keep=[_LONG] if _LONG in builders else []) as folder:
        read, source = (iter_corpus(corpus), str(corpus)) if isinstance(corpus, Path) else (corpus, "the corpus")
        passages = write_passages(folder, _counted(read, on_progress), source)
        made = {}
        for name, build in builders.items():
            (folder / name).mkdir(exist_ok=True)
            told = partial(_tell, on_progress, name, len(passages))
            made[name] = build(folder / name, passages, on_progress=told)
        return seal(folder, kind, len(passages), made)


def open_index(path: Path, *, embedder: str | None = None) -> BatchRetriever:
    """What searches an index directory, or what a YAML file describes (`flarekit.retrievers.described`).

    JSON lines (a folder's `corpus.jsonl` too) are indexed in memory. `embedder` is asked for the vectors of queries in
    place of the one that the index or the file names (`flarekit.retrievers.dense.embedder.embedder_of_file`).

    Every file of an index is read once to compare its checksum, about a second a gigabyte. Raises `DataError` for an
    index that is not whole or of another version, and for a path that is neither index nor corpus; `ConfigError` for a
    YAML file with a setting that does not apply, and for one that names a server that nobody has allowed.
    """
    path = standing(path)
    if path.suffix in _YAML:
        from flarekit.retrievers.described import open_described

        return open_described(path, embedder=embedder)
    if (lines := json_lines(path)) is None:
        return open_folder(path, embedder=embedder)
    if embedder:
        raise ConfigError(f"{path}: passages in memory are searched by words and have no embedder; leave it out")
    return BM25Retriever(read_corpus(lines, path if path.is_dir() else None))


def destinations(path: Path, *, embedder: str | None = None) -> tuple[str, ...]:
    """The servers, as host or host:port, that queries are sent to where `open_index` opens the same; none as a rule."""
    if path.suffix in _YAML:
        from flarekit.retrievers.described import described_destinations

        return described_destinations(path, embedder=embedder)
    return () if json_lines(path) else _asked_by_index(path, embedder)


def _asked_by_index(folder: Path, embedder: str | None) -> tuple[str, ...]:
    from flarekit.retrievers.dense.embedder import chosen
    from flarekit.retrievers.remote.destinations import hosts

    made = _made(folder, read_manifest(folder)).get("dense")
    return hosts(chosen(made["embedder"], embedder)[0]) if made else ()


def _made(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """What each part of an index was made with; `DataError` where that does not say what opening it needs."""
    made: dict[str, dict[str, Any]] = {}
    for name in PARTS[manifest.kind]:
        part = manifest.made.get(name)
        if not isinstance(part, dict) or not all(isinstance(part.get(key), str) for key in _NEEDED[name]):
            raise DataError(f"{folder}: its manifest does not say how {name} was made; build the index again")
        made[name] = part
    return made


def json_lines(path: Path) -> Path | None:
    """The file whose passages `open_index` reads into memory; None for an index, no index at all, and a YAML file."""
    path = standing(path)
    if path.is_dir():
        inside = path / "corpus.jsonl"
        return inside if inside.exists() and not (path / MANIFEST).exists() else None
    return None if path.suffix in _YAML else path


def index_info(path: Path) -> Manifest:
    """What the index in the folder `path` is and how it was made; `DataError` where it is not whole."""
    path = standing(path)
    manifest = read_manifest(path)
    check(path, manifest)
    return manifest


def open_folder(
    path: Path,
    *,
    fusion: Fusion | None = None,
    weights: Sequence[float] | None = None,
    embedder: str | None = None,
) -> IndexRetriever:
    """What searches the index in the folder `path`; `fusion` and `weights` are a hybrid's (`HybridRanker`).

    `DataError` for a folder without an index, or with one that is not whole; `ConfigError` for a fusion or weights that
    do not apply.
    """
    path = standing(path)
    manifest = index_info(path)
    made = _made(path, manifest)
    for option, given in (("fusion", fusion), ("weights", weights)):
        if given is not None and manifest.kind != "hybrid":
            raise ConfigError(f"a {manifest.kind} index has no {option}; leave it out, or build a hybrid one")
    if embedder and "dense" not in PARTS[manifest.kind]:
        raise ConfigError(f"a {manifest.kind} index has no embedder; leave it out, or build another kind")
    passages = Passages(path)
    if len(passages) != manifest.passages:
        raise DataError(
            f"{path}: {len(passages)} passages, not the {manifest.passages} of its manifest; build it again"
        )
    try:
        parts = [_open_part(name, path / name, made[name], passages, embedder) for name in PARTS[manifest.kind]]
    except (ConfigError, DataError) as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from error
    ranker = parts[0] if len(parts) == 1 else HybridRanker(parts, fusion=fusion or "weighted", weights=weights)
    return IndexRetriever(manifest.kind, passages, ranker)


def _open_part(name: str, folder: Path, made: Mapping[str, Any], passages: Passages, embedder: str | None) -> Ranker:
    if name == "bm25":
        return BM25Part(folder, made, passages)
    from flarekit.retrievers.dense.dense import DensePart
    from flarekit.retrievers.dense.embedder import embedder_of_file

    return DensePart(folder, made, passages, embedder=embedder_of_file(made["embedder"], embedder))


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
        from flarekit.retrievers.dense.dense import DensePart
        from flarekit.retrievers.dense.embedder import open_embedder

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
