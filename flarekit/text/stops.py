"""Stop strings: the text ends before the first of them, wherever in the answer it stands.

A server that looks for them itself holds text back behind its token ids, so that the text of a chunk is no longer the
text of its ids, and it cannot see what stood in the answer before the request. So the strings are looked for here, and
those of one character alone, for which nothing is held back, may be left to the server.

The rules are vLLM's (`check_stop_strings` of its detokenizer): the string that is complete first wins, of two that end
together the one that was named first; while the answer is no longer than `least` tokens none is looked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence

from flarekit.tokens import Token


def held_back(stops: Sequence[str]) -> bool:
    """Whether a server that looked for these strings would hold text back."""
    return any(len(stop) > 1 for stop in stops)


class StopFinder:
    """Looks for stop strings in tokens as they come, and holds those back that may be the beginning of one."""

    def __init__(self, stops: Sequence[str], *, included: bool = False, said: str = "", least: int = 0) -> None:
        """`said` is the answer before the first token; `included`: the text ends behind the string, not before it.

        `least`: so many of the tokens to come belong to an answer that is too short to end.
        """
        self._stops, self._included, self._least = stops, included, least
        self._reach = max(map(len, stops)) - 1
        self._tail = said[len(said) - self._reach :] if len(said) > self._reach else said
        self._found: str | None = None
        self.held: list[Token] = []
        """Tokens that were taken and not given out yet."""
        self.excess = 0
        """Once one is found: characters of it at the end of `said`."""

    @property
    def found(self) -> bool:
        """Whether a stop string is complete."""
        return self._found is not None

    @property
    def stop(self) -> str | None:
        """The string that was found; None until the last token before it is given out."""
        return None if self.held else self._found

    def take(self, token: Token) -> int:
        """Take the next token; how many of the tokens in `held` may be given out."""
        self.held.append(token)
        text, before = self._tail + token.text, len(self._tail)
        self._tail = text[-self._reach :] if self._reach else ""
        if self._least > 0:
            self._least -= 1
        elif ended := self._first(text, before):
            end, stop = ended
            self._found = stop
            self.excess = shorten(self.held, len(text) - end + (0 if self._included else len(stop)))
            return len(self.held)
        return len(self.held) - self._waiting()

    def _first(self, text: str, before: int) -> tuple[int, str] | None:
        """Where the first string ends that is complete in what follows the first `before` characters, and itself."""
        ends = []
        for stop in self._stops:
            place = text.find(stop, max(before + 1 - len(stop), 0))
            if place >= 0:
                ends.append((place + len(stop), stop))
        return min(ends, key=lambda end: end[0], default=None)

    def _waiting(self) -> int:
        """How many of the last tokens hold text that a stop string may begin with."""
        pending = 0 if self._included else pending_length(self._tail, self._stops)
        count = 0
        while pending > 0 and count < len(self.held):
            count += 1
            pending -= len(self.held[-count].text)
        return count


async def until_stop(tokens: AsyncIterable[Token], finder: StopFinder) -> AsyncIterator[Token]:
    """`tokens` up to the first stop string, the last of them with the text that stands before it."""
    async for token in tokens:
        for _ in range(finder.take(token)):
            yield finder.held.pop(0)
        if finder.found:
            return
    while finder.held:
        yield finder.held.pop(0)


def pending_length(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters of `text` are the beginning of a stop string that is not complete yet."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )


def shorten(tokens: list[Token], count: int) -> int:
    """Take the last `count` characters off the text of `tokens`, which keep their ids; what is left to take off."""
    for place in reversed(range(len(tokens))):
        if count <= 0:
            break
        token = tokens[place]
        kept = max(len(token.text) - count, 0)
        count -= len(token.text) - kept
        tokens[place] = token._replace(text=token.text[:kept])
    return count
