"""Where the sentences of a stream of tokens end: at their marks, or at the look-ahead.

The one place that decides it, for a session, for replays of recorded answers and for signals that read sentences.
"""

from __future__ import annotations

import sys

from flarekit.text.sentences import LOOKAHEAD, SentenceSplitter
from flarekit.tokens import Token


class SentenceTracker:
    """Takes tokens one by one and tells which of them begin a sentence; constant work per token, as the splitter."""

    __slots__ = ("_ended", "_length", "_lookahead", "_push", "_splitter")

    def __init__(self, lookahead: int | None = LOOKAHEAD) -> None:
        """With a `lookahead`, a sentence is over after so many tokens, as FLARE's drafts are."""
        self._splitter = SentenceSplitter()
        self._push = self._splitter.push
        self._lookahead = sys.maxsize if lookahead is None else lookahead
        self._length = 0
        self._ended = False

    def begins(self, token: Token) -> bool:
        """Take the next token: True where a sentence had ended before it."""
        if self._push(token.text, cut=self._ended or self._length >= self._lookahead):
            self._length, self._ended = 1, False
            return True
        self._length += 1
        return False

    def end(self) -> None:
        """The sentence is over, whatever the text says: the next token begins one."""
        self._ended = True

    def begin_draft(self) -> None:
        """Count the look-ahead from the next token on; the sentence may have begun before it."""
        self._length = 0

    def restart(self) -> None:
        """Forget the sentence so far, so that nothing is over when the next token begins one."""
        self._splitter.restart()
        self._length, self._ended = 0, False
