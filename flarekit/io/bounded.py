"""Reading files that may be of any size: a line, a file and what a packed one unpacks to are bounded.

No length that a file gives is trusted: what has been read is counted.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from flarekit.errors import DataError
from flarekit.io.files import open_file

LINE, JSON, FILE = 1 << 26, 1 << 28, 1 << 30
"""Bytes of a line, of a file of settings or numbers, and of one of questions that is read as a whole."""
_TIMES, _FREE = 250, 1 << 22
"""A packed file may hold so many times its bytes, and so many more; gzip can pack zeros 1,030 times."""
_STEP = 1 << 20


def read_lines(file: IO[bytes], path: Path, most: int | None = None, longest: int = LINE) -> Iterator[bytes]:
    """The lines of `file` with their ends, one by one; `most` bounds the bytes of them all, `longest` those of a line.

    `DataError`, naming `path`, the line and the bound, for what is longer. Errors of reading are the file's own.
    """
    taken = number = looked = 0
    while part := file.readline(_STEP):
        number += 1
        parts, size = [part], len(part)
        while len(part) == _STEP and (part := file.readline(_STEP)):
            parts.append(part)
            size += len(part)
            if size > longest:
                raise DataError(f"{path}:{number}: a line of more than {_said(longest)}; break it up")
            _refuse_bomb(file, path, taken + size)
        taken += size
        if most is not None and taken > most:
            raise DataError(f"{path}: more than {_said(most)} in one text; break it up")
        if taken - looked >= _STEP:
            looked = taken
            _refuse_bomb(file, path, taken)
        yield parts[0] if len(parts) == 1 else b"".join(parts)


def read_whole(file: IO[bytes], path: Path, most: int = FILE) -> bytes:
    """All that `file` holds; `DataError`, naming `path` and the bound, where that is more than `most` bytes."""
    parts: list[bytes] = []
    taken, too_large = 0, DataError(f"{path}: more than the {_said(most)} that may be read at once; split the file")
    if os.fstat(file.fileno()).st_size > most:
        raise too_large
    while part := file.read(_STEP):
        parts.append(part)
        taken += len(part)
        if taken > most:
            raise too_large
        _refuse_bomb(file, path, taken)
    return b"".join(parts)


def read_json(path: Path, within: Path | None = None, most: int = JSON) -> Any:
    """What a small JSON file holds; `ValueError` where it is none, larger than `most` bytes or nested too deeply.

    `OSError` where it cannot be read, or is a link out of the folder `within` (`flarekit.io.files.open_file`).
    """
    with open_file(path, within) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path.name} is larger than {_said(most)}")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error


def _refuse_bomb(file: IO[bytes], path: Path, taken: int) -> None:
    if isinstance(file, gzip.GzipFile) and taken > _FREE + _TIMES * file.fileobj.tell():
        raise DataError(f"{path}: unpacks to more than {_TIMES} times its size; if that is right, unpack it yourself")


def _said(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
