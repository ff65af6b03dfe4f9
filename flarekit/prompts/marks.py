"""Untrusted text in prompts: none of it may become a special token, whatever tokenizer the engine has.

A tokenizer reads the mark of a special token (`<|im_end|>`, `[INST]`) wherever it stands, in a passage of a poisoned
corpus too. Which marks an engine has, nobody tells over HTTP, but what its tokenizer makes of a text can be asked: a
single token with letters between punctuation is taken for a mark and parted.
No tokenizer puts such a token together from ordinary text: they split words from the punctuation behind them.
"""

from __future__ import annotations

import re
from typing import Protocol, runtime_checkable

from flarekit.engines.engine import Engine
from flarekit.errors import PromptTooLong

_PLAIN = re.compile(r"[\w\s.,:;!?'\"“”‘’()\-–—/%&$€£°·…+*=#]*")
"""Text of which no mark is made: nobody need be asked about it."""
_MARK = re.compile(r"[^\w\s].*\w.*[^\w\s]", re.DOTALL)
_ROUNDS = 8
"""How often parted text is looked at again: a mark may be left between the parts of another."""
_ODD = re.compile(r"[^\w\s.,:;!?'()-]+")


@runtime_checkable
class Speller(Protocol):
    """An engine that tells what its tokenizer makes of a text."""

    async def pieces(self, text: str) -> list[str]:
        """The tokens of `text` as the vocabulary has them, without special tokens of its beginning.

        Special tokens stand there as they are written; others may be written in another alphabet.
        """
        ...


async def without_marks(text: str, engine: Engine) -> str:
    """`text`, changed so that `engine` finds no special token in it: a space follows the first character of each.

    As it is where there is none, as nearly everywhere, and where the engine cannot be asked.
    """
    if _PLAIN.fullmatch(text) or not isinstance(engine, Speller):
        return text
    for _ in range(_ROUNDS):
        try:
            pieces = {piece.strip() for piece in await engine.pieces(text)}
        except PromptTooLong:
            return text  # no prompt can hold it
        marks = sorted((one for one in pieces if _MARK.search(one) and one in text), key=len, reverse=True)
        if not marks:
            return text
        for mark in marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return _ODD.sub(" ", text)
