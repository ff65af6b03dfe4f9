"""Sentences of a text that is still being written.

The splitting itself is sentencex's (Wikimedia), which knows "Jr.", "U.S.", "St. Louis" and decimals. A sentence is
known to be over when the next one has begun, that is one token later; the caller ends the last one itself.
"""

from __future__ import annotations

import sentencex

LOOKAHEAD = 64
"""Tokens after which a sentence is judged as it is (FLARE's look-ahead), unless a policy says otherwise."""
_MAY_END = frozenset(".!?…。！？\"'”’)]\n")


class SentenceSplitter:
    """Tells token by token where sentences end; constant work per token except at a mark that may end one."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._text = ""

    @property
    def text(self) -> str:
        """The sentence so far."""
        return self._text

    def push(self, piece: str, *, cut: bool = False) -> bool:
        """Take the next piece of text; True when a sentence ended before it, so that `piece` begins the next one.

        With `cut` one ends there whatever the text says.
        """
        text = self._text + piece
        if cut or (self._may_end(piece) and self._boundary(text) <= len(self._text)):
            self._text = piece
            return True
        self._text = text
        return False

    def restart(self) -> None:
        """Forget the sentence so far: the next piece begins a new one."""
        self._text = ""

    def _may_end(self, piece: str) -> bool:
        last = self._text[-1:]
        if last == " ":
            last = self._text.rstrip(" ")[-1:]
        return last in _MAY_END and bool(piece) and not piece.isspace()

    def _boundary(self, text: str) -> int:
        """Where the first sentence of `text` ends, without the space behind it; past the end where it does not end."""
        first: str = next(iter(sentencex.segment(self._language, text)))
        return len(first.rstrip()) if len(first) < len(text) else len(text) + 1


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a complete text, without the space around them."""
    return [sentence.strip() for sentence in sentencex.segment(language, text) if sentence.strip()]
