"""What an engine emits: tokens with their log-probabilities, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Token(NamedTuple):
    """One generated token.

    A named tuple, because one is made for every token of every stream: it is the cheapest object that has names.
    """

    text: str
    """What the token adds to the text; empty while a character is still incomplete."""
    id: int
    """Its id in the engine's vocabulary."""
    logprob: float
    """ln p of this token, at most 0."""
    top: Mapping[str, float]
    """ln p of the engine's K most likely tokens at this place, by text (K is 10 unless asked otherwise)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the server counted them."""

    prompt: int
    cached: int | None
    """Prompt tokens served from the server's prefix cache; None where the server does not say."""
    completion: int
    estimated: bool = False
    """Whether `cached` is reckoned (`flarekit.prefix`), because the stream was closed before its usage was sent."""
    replayed: int = 0
    """Part of `completion` that a store of completions told again (`flarekit.cached`)."""
    spared: float = 0.0
    """Seconds that those took when they were generated."""

    def __add__(self, other: Usage) -> Usage:
        """What both requests took together."""
        cached = None if self.cached is None or other.cached is None else self.cached + other.cached
        return Usage(
            self.prompt + other.prompt,
            cached,
            self.completion + other.completion,
            self.estimated or other.estimated,
            self.replayed + other.replayed,
            self.spared + other.spared,
        )


def text_of(tokens: Iterable[Token]) -> str:
    """The text of consecutive tokens."""
    return "".join(token.text for token in tokens)
