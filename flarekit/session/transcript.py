"""The answer as it grows: what is committed of it, by whom it was written, and where its sentences end."""

from __future__ import annotations

from collections.abc import Sequence

from flarekit.text.sentences import SentenceSplitter
from flarekit.text.stops import shorten
from flarekit.tokens import Token, text_of


class Answer:
    """Committed text only; a draft is the session's."""

    def __init__(self) -> None:
        self.own: list[Token] = []
        """Committed tokens of the engine at work, which goes on from their ids."""
        self.inherited = ""
        """Committed text of an engine that handed over."""
        self.sentence = ""
        """What is committed of a sentence that is not complete yet."""
        self.complete = False
        """Whether nothing more is to be generated."""
        self.mentioned = False
        """Whether a committed sentence may give the answer."""
        self.unsettled = False
        """Whether it is given, and what follows decides if it is whole."""
        self._splitter = SentenceSplitter()

    @property
    def text(self) -> str:
        """All of it."""
        return self.inherited + text_of(self.own)

    def begins_sentence(self, token: Token, *, cut: bool) -> bool:
        """Take the next token of the draft: True when a sentence ended before it, as with `cut` one does."""
        return self._splitter.push(token.text, cut=cut)

    def end_sentence(self) -> None:
        """The next token begins a sentence, whatever the text says."""
        self._splitter.restart()

    def commit(self, tokens: Sequence[Token]) -> None:
        """Add tokens of the engine at work for good."""
        self.own += tokens
        self.sentence += text_of(tokens)

    def cut(self, count: int) -> None:
        """Take back the last `count` characters, with which a stop string begins; no reader has seen them."""
        if left := shorten(self.own, count):
            self.inherited = self.inherited[:-left]

    def inherit(self, text: str) -> None:
        """Another engine goes on from `text`."""
        self.inherited, self.own = text, []

    def clear(self) -> None:
        """Begin the whole answer again."""
        self.inherited, self.sentence, self.own = "", "", []
        self.mentioned = self.unsettled = False
