"""Passages on disk: read one by one by their number, whatever their count, in next to no memory.

`passages.jsonl` has one a line, in the corpus's order; `offsets.npy` says where each begins. Both are memory-mapped.
"""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import orjson
from numpy.typing import NDArray

from flarekit.errors import DataError
from flarekit.retrieval import Passage

LINES, OFFSETS = "passages.jsonl", "offsets.npy"


class Passages(Sequence[Passage]):
    """The passages that `write_passages` wrote to a folder."""

    def __init__(self, folder: Path) -> None:
        """Open them; `DataError` where the offsets are not those of the lines."""
        self._path = folder / LINES
        self._offsets: NDArray[np.uint64] = load_array(folder / OFFSETS, np.uint64)
        self._lines = map_bytes(self._path)
        check_offsets(folder / OFFSETS, self._offsets, len(self._lines))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, number: int) -> Passage: ...
    @overload
    def __getitem__(self, number: slice) -> list[Passage]: ...
    def __getitem__(self, number: int | slice) -> Passage | list[Passage]:
        """The passage with this number, from 0."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"passage {number} of {len(self)}")
        try:
            found = orjson.loads(self._lines[int(self._offsets[number]) : int(self._offsets[number + 1])])
        except orjson.JSONDecodeError as error:
            raise DataError(f"{self._path}: passage {number} is not JSON ({error}); build the index again") from error
        if not (isinstance(found, list) and len(found) == 3 and all(isinstance(part, str) for part in found)):
            raise DataError(f"{self._path}: passage {number} is not an id, a title and a text; build the index again")
        return Passage(*found)


def load_array(path: Path, dtype: type[np.generic], dimensions: int = 1) -> NDArray[Any]:
    """A memory-mapped array of an index; `DataError` for another type or number of dimensions, or no array at all."""
    try:
        loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except Exception as error:  # numpy reads a header as Python, whose tokenizer and parser have errors of their own
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: no array that an index has ({reason}); build the index again") from error
    if loaded.dtype != dtype or loaded.ndim != dimensions:
        shape = f"{loaded.dtype} of {loaded.ndim} dimensions"
        raise DataError(f"{path}: an array of {shape}, not what an index has; build the index again")
    return loaded


def map_bytes(path: Path) -> mmap.mmap:
    """A file's bytes, memory-mapped; `DataError` for one that is missing or empty."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); build the index again") from error


def check_offsets(path: Path, offsets: NDArray[Any], end: int) -> None:
    """`DataError` unless the offsets, two or more, go from 0 up to `end` and never down."""
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
        raise DataError(f"{path}: offsets that do not fit what they point into; build the index again")


def write_passages(folder: Path, passages: Iterable[Passage], source: str = "the corpus") -> Passages:
    """Write passages as they come; `DataError`, naming the `source`, for an id that occurs twice and for none at all.

    Of each id eight bytes are remembered, so that a corpus of any size can be checked.
    """
    offsets, digests = array("Q", [0]), array("Q")
    with (folder / LINES).open("wb") as file:
        for passage in passages:
            file.write(orjson.dumps([passage.id, passage.title, passage.text], option=orjson.OPT_APPEND_NEWLINE))
            offsets.append(file.tell())
            digests.append(int.from_bytes(hashlib.blake2b(passage.id.encode(), digest_size=8).digest()))
    if not digests:
        raise DataError(f"{source}: no passages to index; give passages with text")
    np.save(folder / OFFSETS, np.frombuffer(offsets, dtype=np.uint64), allow_pickle=False)
    written = Passages(folder)
    _refuse_doubles(written, np.frombuffer(digests, dtype=np.uint64), source)
    return written


def _refuse_doubles(passages: Passages, digests: NDArray[np.uint64], source: str) -> None:
    order = np.argsort(digests, kind="stable")
    for place in np.flatnonzero(digests[order[1:]] == digests[order[:-1]]):
        first, second = int(order[place]), int(order[place + 1])
        if passages[first].id == passages[second].id:  # not only their digests
            raise DataError(
                f"{source}: the id {passages[first].id!r} is that of passage {first + 1} and of passage {second + 1}; "
                "make ids unique"
            )
