"""A scripted engine and retriever, for streams that are checked by hand: a real model cannot be made to say them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from flarekit.engines.engine import Message
from flarekit.retrieval import Hit, Passage
from flarekit.tokens import Finish, Token, Usage

Said = str | tuple[str, float]
"""A token's text, with its probability where that is not .99."""
OWN_IDS = 0x110000
"""Ids of scripted tokens begin here; below are code points, which stand for prompt text."""


def token(text: str, p: float = 0.99, number: int = 0) -> Token:
    rest = {f"<{text}'s rival>": math.log(1 - p)} if p < 1 else {}
    return Token(text, OWN_IDS + number, math.log(p), {text: math.log(p), **rest})


def tokens(*said: Said) -> list[Token]:
    return [token(*((one, 0.99) if isinstance(one, str) else one), number) for number, one in enumerate(said)]


class ScriptedStream:
    def __init__(self, said: Sequence[Token], prompt: int, limit: int, fault: Exception | None = None) -> None:
        self._said, self._prompt, self._limit, self._fault = said, prompt, limit, fault
        self.finish: Finish = "closed"
        self.sent = 0

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt, None if self.finish == "closed" else 0, self.sent)

    async def __aiter__(self) -> AsyncIterator[Token]:
        for number, one in enumerate(self._said[: self._limit], start=1):
            self.sent = number
            if number == min(len(self._said), self._limit) and not self._fault:
                self.finish = "stop" if number == len(self._said) else "length"
            yield one
        if self._fault:
            raise self._fault


class ScriptedEngine:
    """Says one enqueued answer a stream, and keeps the prompts that it was given as text.

    An exception as an answer's last word is raised there.
    """

    def __init__(self, *answers: Sequence[Said | Exception], model: str = "scripted") -> None:
        self.model = model
        self.prompts: list[str] = []
        self.streams: list[ScriptedStream] = []
        self._answers = [tokens(*(one for one in answer if not isinstance(one, Exception))) for answer in answers]
        self._faults = [answer[-1] if answer and isinstance(answer[-1], Exception) else None for answer in answers]
        self._texts: dict[int, str] = {}

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        return [ord(character) for character in text]

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        turns = "".join(f"<|{message['role']}|>{message['content']}" for message in messages)
        return await self.tokenize(f"{turns}<|assistant|>")

    @asynccontextmanager
    async def stream(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        top_logprobs: int = 10,
        temperature: float = 0.0,
        seed: int | None = None,
        min_tokens: int | None = None,
    ) -> AsyncIterator[ScriptedStream]:
        self.prompts.append("".join(self._texts[id_] if id_ >= OWN_IDS else chr(id_) for id_ in prompt))
        said = self._answers.pop(0)
        said = [one._replace(id=OWN_IDS + len(self._texts) + place) for place, one in enumerate(said)]
        self._texts |= {one.id: one.text for one in said}
        self.streams.append(ScriptedStream(said, len(prompt), max_tokens, self._faults.pop(0)))
        yield self.streams[-1]

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        """The first of the choices has p = .4, every other .1."""
        self.prompts.append("".join(map(chr, prompt)))
        return [math.log(0.1 if place else 0.4) for place in range(len(choices))], Usage(len(prompt), 0, 1)

    async def score(self, prompt: Sequence[int]) -> list[float]:
        return [math.log(0.5)] * (len(prompt) - 1)


class ScriptedRetriever:
    """Finds the passages that are named for a query, or for any query under ""."""

    name = "scripted"

    def __init__(self, **found: str) -> None:
        self.queries: list[str] = []
        self._found = list(found.items())

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        self.queries.append(query)
        title, text = self._found[min(len(self.queries), len(self._found)) - 1]
        return [Hit(Passage(title, title, text), 1.0)][:k]
