"""The texts of token ids, where somebody is to read them.

A server sends the candidates for a token by their ids ("token_id:7042"), because texts merge: all tokens that are a
part of a character read alike. Signals need no text; a client and a report do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from flarekit.errors import EngineError
from flarekit.tokens import Shown, Token, known
from flarekit.trace import Trace

BY_ID = "token_id:"
"""How a key begins that is an id."""
PARTIAL = "\ufffd"
"""What stands in a text for a part of a character."""
_MARK = "\N{SYMBOL FOR RECORD SEPARATOR}"
"""Stands between two tokens in a text that is to be taken apart again; hardly any token holds it."""


class Vocabulary:
    """A server's vocabulary as far as it was asked for; each id is asked for once."""

    def __init__(
        self, tokenize: Callable[[str], Awaitable[list[int]]], detokenize: Callable[[Sequence[int]], Awaitable[str]]
    ) -> None:
        """`tokenize` must add no special tokens."""
        self._tokenize, self._detokenize = tokenize, detokenize
        self._texts: dict[int, str] = {}

    async def texts(self, ids: Collection[int]) -> list[str]:
        """The text of each id; that of a part of a character holds a `PARTIAL`. `EngineError` as of requests."""
        if unknown := [id_ for id_ in dict.fromkeys(ids) if id_ not in self._texts]:
            self._texts |= zip(unknown, await self._ask(unknown), strict=True)
        return [self._texts[id_] for id_ in ids]

    async def spell(self, tokens: Sequence[Token]) -> list[Token]:
        """`tokens` with their candidates by text, where a text is whole and no other candidate's."""
        keys = {key.removeprefix(BY_ID) for token in tokens for key in known(token) if key.startswith(BY_ID)}
        ids = {int(key) for key in keys if key.isascii() and key.isdigit()}
        texts = dict(zip((f"{BY_ID}{id_}" for id_ in ids), await self.texts(ids), strict=True)) if ids else {}
        return [_respelled(token, texts) for token in tokens] if ids else list(tokens)

    async def _ask(self, ids: Sequence[int]) -> Sequence[str]:
        """All texts in one request: the ids with a mark after each, whose text takes the answer apart."""
        mark = await self._tokenize(_MARK)
        # The first mark may lose a leading space, the second shows what a mark brings with it.
        marked = [*mark, *mark, *(one for id_ in ids for one in (id_, *mark))]
        parts = (await self._detokenize(marked)).split(_MARK)
        if len(parts) == len(ids) + 3:
            return [text.removesuffix(parts[1]) for text in parts[2:-1]]
        return await asyncio.gather(*(self._detokenize([id_]) for id_ in ids))


class Speller(Protocol):
    """An engine that knows its vocabulary."""

    async def spell(self, tokens: Sequence[Token]) -> list[Token]:
        """`tokens` as they are to be read: their candidates by text, where that tells them apart."""
        ...


async def spell_trace(trace: Trace, weak: Speller, strong: Speller | None) -> None:
    """Write the candidates of a finished trace as they are to be read; a server that cannot tell leaves their ids."""
    for segment in trace.segments:
        speller = weak if segment.role == "weak" else strong
        segment.tokens = await readable(segment.tokens, speller)


async def readable(tokens: Sequence[Token], speller: Speller | None) -> list[Token]:
    """`tokens` as `speller` spells them; as they are where it cannot, for nothing computed is lost for its spelling."""
    try:
        return await speller.spell(tokens) if speller else list(tokens)
    except EngineError:
        return list(tokens)


def _respelled(token: Token, texts: Mapping[str, str]) -> Token:
    spelled = token._replace(top=_spelled(token.top, texts))
    if isinstance(spelled, Shown):
        spelled.alternatives = _spelled(spelled.alternatives, texts)
    return spelled


def _spelled(top: Mapping[str, float], texts: Mapping[str, str]) -> dict[str, float]:
    words = [texts.get(key, key) for key in top]
    often = Counter(words)
    return {
        word if word and PARTIAL not in word and often[word] == 1 else key: value
        for word, (key, value) in zip(words, top.items(), strict=True)
    }


def share(text: str, strings: Sequence[str]) -> list[str]:
    """What each token adds to the text of several, from what the tokens are on their own.

    The shares make up the text exactly, although the strings need not: some tokenizers leave out a token's leading
    space when they decode it alone, and of a character that is made of several tokens the last one has all.
    """
    shares: list[str] = []
    for place, string in enumerate(strings):
        found = text.find(string) if string and PARTIAL not in string else -1
        if found > 0 and place and _in_part(strings[place - 1]):
            shares[-1], text, found = text[:found], text[found:], 0
        end = found + len(string) if found >= 0 else 0
        shares.append(text[:end])
        text = text[end:]
    return [*shares[:-1], shares[-1] + text]


def _in_part(string: str) -> bool:
    return not string or PARTIAL in string
