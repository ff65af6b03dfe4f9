"""Committed text on its way to the reader: what a stop string may begin with waits until it is known not to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flarekit.text.stops import pending_length, shorten
from flarekit.trace import Committed


class Withheld:
    """What was committed and not sent yet."""

    def __init__(self) -> None:
        self._waiting: list[Committed] = []

    def release(self, committed: Committed, stops: Sequence[str]) -> Iterator[Committed]:
        """Take what was committed; all that may be sent now."""
        self._waiting.append(committed)
        pending = pending_length("".join(one.text for one in self._waiting), stops)
        kept: list[Committed] = []
        while pending > 0:
            last = self._waiting.pop()
            start = len(last.tokens)
            while pending > 0 and start:
                start -= 1
                pending -= len(last.tokens[start].text)
            kept.insert(0, replace(last, tokens=last.tokens[start:]))
            if start:
                self._waiting.append(replace(last, tokens=last.tokens[:start]))
        yield from self._waiting
        self._waiting = kept

    def rest(self, excess: int) -> Iterator[Committed]:
        """What is left when the answer has ended, but for its last `excess` characters."""
        for place in reversed(range(len(self._waiting))):
            tokens = list(self._waiting[place].tokens)
            excess = shorten(tokens, excess)
            self._waiting[place] = replace(self._waiting[place], tokens=tokens)
        yield from (one for one in self._waiting if one.text)
