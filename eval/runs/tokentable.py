"""The tokens of a run, each stored once: `tokens.jsonl`, one `[text, id, logprob, {text: logprob}]` a line.

Each line has its checksum behind that (`flarekit.eval.runs.sealed`), but for runs that were begun before there were
any.

Policies that differ in a threshold share most of what was generated. Their traces refer to the places of tokens in this
table, and once read share the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from flarekit.errors import DataError
from flarekit.eval.runs.sealed import read_lines, seal_line
from flarekit.tokens import Token, as_token

NAME = "tokens.jsonl"


class TokenTable:
    """Places of tokens, for traces that are being written.

    What it takes up is `pending` until it was written (`keep`) or could not be (`forget`).
    """

    def __init__(self, tokens: Sequence[Token] = (), *, sealed: bool = False) -> None:
        self._sealed = sealed
        self._places = {_line(token): place for place, token in enumerate(tokens)}
        self._new: list[bytes] = []

    def refer(self, tokens: Sequence[Token]) -> list[tuple[int, int]]:
        """`tokens` as ranges of the table, which takes up those that it does not hold yet."""
        spans: list[tuple[int, int]] = []
        for token in tokens:
            line = _line(token)
            place = self._places.get(line)
            if place is None:
                place = self._places[line] = len(self._places)
                self._new.append(line)
            if spans and sum(spans[-1]) == place:
                spans[-1] = (spans[-1][0], spans[-1][1] + 1)
            else:
                spans.append((place, 1))
        return spans

    @property
    def pending(self) -> bytes:
        """The lines that the file has to grow by."""
        if not self._sealed:
            return b"".join(self._new)
        first = len(self._places) - len(self._new) + 1
        return b"".join(seal_line(line, number) for number, line in enumerate(self._new, start=first))

    def keep(self) -> None:
        """The file has grown by them."""
        self._new = []

    def forget(self) -> None:
        """The file has not: give their places to others."""
        for line in self._new:
            del self._places[line]
        self._new = []


def read_tokens(folder: Path, *, sealed: bool = False, least: int = 0) -> list[Token]:
    """The finished lines of the table in the run directory `folder`; none where there is no table.

    `sealed` and `least` are those of `flarekit.eval.runs.sealed.read_lines`.
    """
    path = folder / NAME
    if not (path.exists() or path.is_symlink() or least):
        return []
    tokens = []
    for number, line in read_lines(folder, NAME, sealed=sealed, least=least):
        try:
            tokens.append(as_token(orjson.loads(line)))
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a token ({error})") from error
    return tokens


def _line(token: Token) -> bytes:
    return orjson.dumps(list(token), option=orjson.OPT_APPEND_NEWLINE)
