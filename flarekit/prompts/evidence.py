"""How much of the passages a prompt can hold: the longest are cut first, so that most of what was found is kept.

Passages compete for the room that the rest of the prompt and the answer leave in an engine's context, and what is
counted is that engine's own tokens: a text without spaces has no words to count. A passage is left out only where all
of them, cut to a few tokens each, would still be too long; the last in rank goes first.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from flarekit.engines.engine import Engine
from flarekit.errors import PromptTooLong
from flarekit.prompts.marks import without_marks
from flarekit.retrieval import Passage

CAP = 256
"""Tokens of one passage that are shown at most; a hundred English words are about 150."""
_FEWEST = 16
"""Tokens of a passage below which nothing is left of it that is worth reading."""
_SAMPLE = 2000
"""Characters whose tokens tell how many a longer text has: a tokenizer refuses what no context holds."""
_CUT = " ..."

Render = Callable[[Sequence[Passage]], Awaitable[list[int]]]
"""A prompt's token ids with these passages."""


class Fitted(NamedTuple):
    """A prompt that the engine's context holds."""

    ids: list[int]
    passages: list[Passage]
    """As they stand in it."""
    left_out: str = ""
    """Why passages were left out, where some were."""


class Evidence:
    """The passages of one session, as they stand in its prompts."""

    def __init__(self) -> None:
        self.shown: list[Passage] = []
        """Those of the last prompt; empty where it could not be made."""
        self._capped: dict[tuple[str, Passage], Passage] = {}
        self._contexts: dict[str, int] = {}

    async def fit(self, render: Render, engine: Engine, passages: Sequence[Passage], answer: int) -> Fitted:
        """The prompt with as much of the passages as leaves `answer` tokens, or a quarter of the engine's context."""
        brief: list[Passage] = []
        self.shown = []
        for passage in passages:
            key = engine.model, passage
            if key not in self._capped:
                self._capped[key] = await harmless(await capped(passage, engine), engine)
            brief.append(self._capped[key])
        # An engine that does not say how much its context holds is taken to hold any prompt until it refuses one.
        context = self._contexts.get(engine.model) or int(getattr(engine, "max_model_len", sys.maxsize))
        fitted = await fit(render, engine, brief, context, min(answer, context // 4))
        self.shown = fitted.passages
        return fitted

    def refused(self, engine: Engine, tokens: int) -> None:
        """The engine has refused a prompt of so many tokens: the next one has a quarter less."""
        self._contexts[engine.model] = max(min(tokens, self._contexts.get(engine.model, tokens)) * 3 // 4, 1)


async def fit(render: Render, engine: Engine, passages: Sequence[Passage], context: int, answer: int) -> Fitted:
    """The prompt of `render` with as much of the passages as leaves `answer` tokens of `context` for an answer.

    Where the rest of the prompt leaves less than that, passages and answer share what there is. `PromptTooLong` where
    the engine refuses the prompt without any passage too.
    """
    try:
        ids = await render(passages)
        if len(ids) <= context - answer or not passages:
            return Fitted(ids, list(passages))
        reason = f"with them the prompt has {len(ids)} tokens, and the context holds {context}"
    except PromptTooLong as error:
        if not passages:
            raise
        reason = str(error)
    bare = await render(())
    room = max(context - answer, (context + len(bare)) // 2)
    sizes = [await tokens_of(engine, passage.text) for passage in passages]
    left = min(room - len(bare), sum(sizes))
    while shown := shortened(passages, sizes, left):
        try:
            ids = await render(shown)
        except PromptTooLong as error:
            reason, over = str(error), max(left // 5, 1)
        else:
            over = len(ids) - room
        if over <= 0:
            return Fitted(ids, shown, reason if len(shown) < len(passages) else "")
        left -= over
    return Fitted(bare, [], reason)


async def capped(passage: Passage, engine: Engine) -> Passage:
    """The passage with at most about `CAP` tokens."""
    if len(passage.text.encode()) <= 4 * CAP:  # as long as a hundred words at most, and read without being counted
        return passage
    size = await tokens_of(engine, passage.text)
    return passage if size <= CAP else replace(passage, text=cut(passage.text, len(passage.text) * CAP // size))


async def harmless(passage: Passage, engine: Engine) -> Passage:
    """The passage without anything that the engine takes for a special token."""
    title = await without_marks(passage.title, engine)
    text = await without_marks(passage.text, engine)
    return passage if (title, text) == (passage.title, passage.text) else replace(passage, title=title, text=text)


async def tokens_of(engine: Engine, text: str) -> int:
    """How many tokens the engine makes of `text`, reckoned from its beginning where it is long."""
    sample = text[:_SAMPLE]
    try:
        count = len(await engine.tokenize(sample, begin=False))
    except PromptTooLong:
        count = len(sample)
    return -(-count * len(text) // max(len(sample), 1))


def shortened(passages: Sequence[Passage], sizes: Sequence[int], left: int) -> list[Passage]:
    """The passages, of so many tokens each, with at most `left` tokens in all: none is cut below a shorter one.

    Passages are left out from the last on where less than a few tokens of each would stay.
    """
    kept = list(zip(passages, sizes, strict=True))
    while kept and (most := _level([size for _, size in kept], left)) < min(_FEWEST, max(size for _, size in kept)):
        kept.pop()
    return [
        passage if size <= most else replace(passage, text=cut(passage.text, len(passage.text) * most // size))
        for passage, size in kept
    ]


def _level(sizes: Sequence[int], left: int) -> int:
    """The most tokens that each may have, so that all together have at most `left`."""
    for place, size in enumerate(ordered := sorted(sizes)):
        share = left // (len(ordered) - place)
        if share < size:
            return share
        left -= size
    return max(sizes, default=0)


def cut(text: str, length: int) -> str:
    """At most `length` characters of a text and a mark that it goes on; at a word's end where one is near.

    A character is never parted from its combining marks.
    """
    head = text[:length]
    if (space := head.rfind(" ")) > length * 4 // 5:
        head = head[:space]
    while head and len(head) < len(text) and _continues(text[len(head)]):
        head = head[:-1]
    return head.rstrip() + _CUT


def _continues(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character == "\u200d"
