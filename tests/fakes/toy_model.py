"""A toy language model whose next token depends on all tokens before it, and a toy retriever: for whole sessions.

Scripted, because what it says must be the same on every machine, and must vary more than a small real model's text:
it hesitates, asks for look-ups, cuts sentences short and changes its mind with every passage that it is given. As with
a real model at temperature 0, going on from a prefix gives what an uninterrupted stream would have given.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from flarekit.engines.engine import Message
from flarekit.errors import RetrieverFailed, StreamBroken
from flarekit.retrieval import Hit, Passage
from flarekit.tokens import Finish, Token, Usage

_WORDS = [
    "",
    "Riga",
    "Oslo",
    "Emma",
    "Paris",
    "river",
    "novel",
    "was",
    "born",
    "in",
    "1912",
    "the",
    "of",
    "a",
    "capital",
    "Latvia",
    "film",
    "by",
    "Ann",
    "who",
    "wrote",
    "it",
    "and",
]
VOCABULARY = [
    *(f" {word}" for word in _WORDS if word),
    ".",
    ",",
    " [Search(Riga)]",
    " So the answer is Riga.",
    " So the answer is",
    "\n",
    " e",
    "s",
]
_ENDS = {" So the answer is Riga.": 0.15}
_FIRST = 0x110000
"""Ids of the vocabulary begin here; below are code points, which stand for the text of prompts."""


class ToyStream:
    def __init__(
        self, model: ToyModel, prompt: Sequence[int], limit: int, seed: int | None, stop: Sequence[str]
    ) -> None:
        self._model, self._ids, self._limit, self._seed, self._stop = model, list(prompt), limit, seed, stop
        self._prompt, self._sent = len(prompt), 0
        self.finish: Finish = "closed"

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt, None if self.finish == "closed" else self._prompt // 2, self._sent)

    async def __aiter__(self) -> AsyncIterator[Token]:
        text = ""
        while self._sent < self._limit:
            token = self._model.next(self._ids, self._seed)
            if token is None or any(stop in text + token.text for stop in self._stop):
                self.finish = "stop"
                return
            self._ids.append(token.id)
            self._sent += 1
            text += token.text
            if self._sent == self._limit:
                self.finish = "length"
            yield token
            self._model.generated += 1
            if self._model.generated in self._model.breaks_after:
                raise StreamBroken("the connection was lost", where=self._model.model)


class ToyModel:
    """`breaks_after`: counts of generated tokens after which a stream breaks. `rambles`: no sentence ends."""

    def __init__(self, model: str, *, breaks_after: Sequence[int] = (), rambles: bool = False) -> None:
        self.model, self.breaks_after, self._rambles = model, breaks_after, rambles
        self.generated = 0

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        return [ord(character) for character in text]

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        return await self.tokenize("".join(f"<|{one['role']}|>{one['content']}" for one in messages) + "<|assistant|>")

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
    ) -> AsyncIterator[ToyStream]:
        yield ToyStream(self, prompt, max_tokens, seed, stop)

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        chance = self._chance(prompt, None)
        return [math.log(chance.uniform(0.05, 0.9)) for _ in choices], Usage(len(prompt), 0, 1)

    async def score(self, prompt: Sequence[int]) -> list[float]:
        return [math.log(self._chance(prompt[:place], None).uniform(0.05, 0.9)) for place in range(1, len(prompt))]

    def next(self, ids: Sequence[int], seed: int | None) -> Token | None:
        """The token after `ids`; None where the text ends."""
        chance = self._chance(ids, seed)
        weights = [chance.random() ** 4 for _ in VOCABULARY]
        if self._rambles:
            weights = [
                0.0 if text.strip(" .") != text.strip(" ") or text == "\n" else w
                for text, w in zip(VOCABULARY, weights, strict=True)
            ]
        ranked = sorted(range(len(VOCABULARY)), key=lambda place: -weights[place])[:5]
        total = sum(weights[place] for place in ranked) * chance.choice((1.0, 1.0, 1.0, 1.6))
        top = {VOCABULARY[place]: math.log(weights[place] / total) for place in ranked}
        if chance.random() < 0.5:  # sure of itself
            top = {text: math.log(0.97) if place == 0 else math.log(0.001) for place, text in enumerate(top)}
        text = VOCABULARY[ranked[0]]
        if chance.random() < 0.02 + _ENDS.get(text, 0.0):
            return None
        return Token(text, _FIRST + ranked[0], top[text], top)

    def _chance(self, ids: Sequence[int], seed: int | None) -> random.Random:
        said = f"{self.model}|{seed}|{','.join(map(str, ids))}"
        return random.Random(hashlib.sha256(said.encode()).digest())


class ToyRetriever:
    """Finds passages that depend on the query; `fails`: the look-ups that fail, by number from 1."""

    name = "toy"

    def __init__(self, *, fails: Sequence[int] = ()) -> None:
        self._fails, self._asked = fails, 0

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        self._asked += 1
        if self._asked in self._fails:
            raise RetrieverFailed("the search engine is away", where="toy")
        chance = random.Random(hashlib.sha256(query.encode()).digest())
        names = chance.sample(("Riga", "Oslo", "Emma", "Paris", "Ann"), k=min(k, 5))
        return [Hit(Passage(name, name, f"{name} is what {query[:40]!r} asks for."), 1.0) for name in names]
