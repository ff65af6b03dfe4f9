"""Lines with a checksum: a record that was changed, lost or put in another place is noticed when it is read.

A line is a JSON object or list. Its checksum is its last field (`"check"`) or item: eight bytes of BLAKE2b, in
hexadecimal, of its number in the file, from 1, and of the line without the checksum. What is lost at a file's end shows
only in the number of its lines, which a run's manifest holds.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from flarekit.errors import DataError, RunWarning
from flarekit.io import bounded
from flarekit.io.files import open_file

_LABELS = {b"}": b',"check":"', b"]": b',"'}
"""What stands before the checksum, by the line's last character."""
_LENGTH = 16
"""Of a checksum, in characters."""
ADVICE = "restore the file from a copy, or ask again in another directory"
_SOUGHT = 1_000
"""How many lost lines in a row can be told from a changed one."""


def seal_line(line: bytes, number: int) -> bytes:
    """A line, with its end, as line `number` of its file: with its checksum."""
    body = line.removesuffix(b"\n")
    return b"".join((body[:-1], _LABELS[body[-1:]], _checksum(body, number), b'"', body[-1:], b"\n"))


def unseal_line(line: bytes, number: int) -> bytes:
    """The line, without its end, that `seal_line` was given; a `ValueError` that says what happened to it otherwise."""
    end = line[-1:]
    label = _LABELS.get(end, b"")
    start = len(line) - len(label) - _LENGTH - 2
    if not label or start < 1 or line[start : start + len(label)] != label or line[-2:-1] != b'"':
        raise ValueError("it has no checksum, so it is not what was written")
    body, found = line[:start] + end, line[start + len(label) : -2]
    if found == _checksum(body, number):
        return body
    for lost in range(1, _SOUGHT):
        if found == _checksum(body, number + lost):
            raise ValueError(f"{_lines(lost)} before it {'is' if lost == 1 else 'are'} lost")
        if lost < number and found == _checksum(body, number - lost):
            raise ValueError(f"it was line {number - lost}: lines were added or stand in another order")
    raise ValueError("it is not what was written")


def read_lines(
    run: Path, name: str, *, sealed: bool, least: int = 0, resumed: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Every finished line of the file `name` of a run, with its number from 1, without its end and its checksum.

    `sealed` lines are checked, and there must be `least` of them; where a run is `resumed` fewer are worth a warning.
    `DataError` names the file and the line at fault.
    """
    path, number = run / name, 0
    there = not resumed or path.exists()  # a file that is gone has lost all its lines
    for line in _lines_of(path, run) if there else ():
        if not line.endswith(b"\n"):
            break  # what follows the last line end is unfinished
        number += 1
        try:
            yield number, unseal_line(line[:-1], number) if sealed else line[:-1]
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}; {ADVICE}") from error
    if (lost := least - number) > 0:
        what = f"{path}: the last {'line is' if lost == 1 else f'{lost} lines are'} lost"
        if not resumed:
            raise DataError(f"{what}; finish the run again, or {ADVICE}")
        warnings.warn(f"{what}, and asked anew", RunWarning, stacklevel=2)


def _lines_of(path: Path, run: Path) -> Iterator[bytes]:
    try:
        with open_file(path, run) as file:
            yield from bounded.read_lines(file, path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {ADVICE}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _lines(count: int) -> str:
    return "a line" if count == 1 else f"{count} lines"


def _checksum(body: bytes, number: int) -> bytes:
    return hashlib.blake2b(b"%d %b" % (number, body), digest_size=_LENGTH // 2).hexdigest().encode()
