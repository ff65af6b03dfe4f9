"""Indexes whose checksums are right and whose content is not: refused where they are opened, or when a passage is read.

Whoever can write an index can sign it too: checksums tell of accidents, and everything else is checked by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.embedders import WordVectors
from flarekit.errors import FlarekitError
from flarekit.retrieval import Passage
from flarekit.retrievers import build_index, open_index
from flarekit.retrievers.dense import embedder as embed
from flarekit.retrievers.index.folder import MANIFEST, read_manifest, seal

CORPUS = [Passage(str(number), f"Town {number}", f"river {number % 3} land {number % 2}") for number in range(12)]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(embed, "open_embedder", lambda *name, **options: WordVectors())
    build_index(CORPUS, tmp_path / "index", "hybrid")
    return tmp_path / "index"


def sign(index: Path, **made: Any) -> None:
    """Sign the index anew as it is now, with parts of what it was made with changed."""
    old = read_manifest(index)
    (index / MANIFEST).unlink()
    parts = {name: {**part, **made.get(name, {})} for name, part in old.made.items()}
    seal(index, "hybrid", made.get("passages", old.passages), {**parts, **made.get("parts", {})})


def opened_and_searched(index: Path) -> None:
    asyncio.run(open_index(index).search_many(["river 1", "Town 11 land", "nothing"], 12))


def array(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(index: Path) -> None:
        changed = change(np.load(index / f"{name}.npy"))
        np.save(index / f"{name}.npy", changed)

    return apply


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(index: Path) -> None:
        (index / name).write_bytes(change((index / name).read_bytes()))

    return apply


def gone(name: str) -> Callable[[Path], None]:
    return lambda index: (index / f"{name}.npy").unlink()


def at(place: int, value: Any) -> Callable[[Any], Any]:
    def put(values: Any) -> Any:
        values[place] = value
        return values

    return put


INTS = ("offsets", "bm25/starts", "bm25/words", "bm25/numbers")
FORGED: dict[str, Callable[[Path], None]] = {
    **{
        f"{name} one less": array(name, lambda a: a[:-1])
        for name in (*INTS, "bm25/peaks", "bm25/scores", "dense/vectors")
    },
    **{f"{name} empty": array(name, lambda a: a[:0]) for name in (*INTS, "bm25/peaks", "bm25/scores", "dense/vectors")},
    **{f"{name} of floats": array(name, lambda a: a.astype(float)) for name in INTS},
    **{f"{name} of another shape": array(name, lambda a: a.reshape(1, -1)) for name in (*INTS, "bm25/scores")},
    **{f"{name} too high": array(name, at(-1, 2**31 - 1)) for name in INTS},
    **{f"{name} not from 0": array(name, at(0, 1)) for name in ("offsets", "bm25/starts", "bm25/words")},
    **{f"{name} going down": array(name, at(2, 0)) for name in ("offsets", "bm25/starts", "bm25/words")},
    **{f"{name} no array": content(f"{name}.npy", lambda _: b"nonsense") for name in (*INTS, "dense/vectors")},
    **{f"{name} gone": gone(name) for name in INTS},
    "bm25/numbers below 0": array("bm25/numbers", at(0, -1)),
    "bm25/scores nan": array("bm25/scores", at(0, np.nan)),
    "vectors of one dimension": array("dense/vectors", lambda a: a.ravel()),
    "vectors shorter": array("dense/vectors", lambda a: a[:, :-1]),
    "vectors of objects": content("dense/vectors.npy", lambda b: b.replace(b"<f4", b"|O8")),
    "a header that is no Python": content("bm25/numbers.npy", lambda b: b.replace(b"  \n", b" [\n")),
    "a header that nests": content("bm25/numbers.npy", lambda b: b.replace(b" " * 50, b"(" * 50)),
    "a header of nothing": content("bm25/numbers.npy", lambda b: b[:10] + b" " * 118 + b[128:]),
    "a header that lies": content("dense/vectors.npy", lambda b: b.replace(b"(12, ", b"(99999999999, ")),
    "lines cut": content("passages.jsonl", lambda b: b[:-10]),
    "lines of objects": content("passages.jsonl", lambda b: b.replace(b"[", b"{").replace(b"]", b"}")),
    "lines of numbers": content("passages.jsonl", lambda b: b.replace(b'"river 1 land 1"', b"               1")),
    "lines of no text": content("passages.jsonl", lambda b: b"\xff" * len(b)),
    "no words": content("bm25/words.bin", lambda b: b""),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_an_index_with_forged_content_is_refused(index: Path, forge: Callable[[Path], None]) -> None:
    forge(index)
    sign(index)
    with pytest.raises(FlarekitError, match="build") as caught:
        opened_and_searched(index)
    assert "\n" not in str(caught.value)
    assert str(index) in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        {"bm25": {"tokenizer": 3}},
        {"bm25": {"tokenizer": "klingon"}},
        {"dense": {"embedder": None}},
        {"dense": {"structure": ["flat"]}},
        {"dense": {"structure": "graph"}},
        {"dense": {"structure": "ivf-pq"}},
        {"dense": {"structure": "ivf-pq", "nprobe": "9"}},
        {"parts": {"bm25": []}},
        {"parts": {"dense": "flat"}},
        {"passages": 13},
        {"passages": -1},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(index: Path, made: dict[str, Any]) -> None:
    sign(index, **made)
    with pytest.raises(FlarekitError) as caught:
        opened_and_searched(index)
    assert "\n" not in str(caught.value)


def test_an_index_that_was_signed_anew_and_is_whole_is_searched(index: Path) -> None:
    sign(index)
    opened_and_searched(index)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "bm25/../../secret"])
def test_a_file_outside_of_the_index_is_not_looked_at(index: Path, name: str) -> None:
    manifest = read_manifest(index)
    forged = manifest.model_copy(update={"files": {**manifest.files, name: next(iter(manifest.files.values()))}})
    (index / MANIFEST).write_text(forged.signed().model_dump_json())
    with pytest.raises(FlarekitError, match="a file outside of the index"):
        open_index(index)
