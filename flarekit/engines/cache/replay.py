"""One stream out of a store: what is recorded of it, and how it is told again and carried on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import orjson

from flarekit.engines.vllm import VLLMEngine
from flarekit.engines.vocabulary import PARTIAL
from flarekit.text.stops import held_back
from flarekit.tokens import Finish, Token, Usage, admit, as_token

_LONGEST = 1e9
"""Seconds that no stream takes."""


@dataclass(slots=True)
class Record:
    """A stream as far as it was read."""

    tokens: list[Token] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Seconds from the first request to each token, without the time between two requests."""
    ended: bool = False
    """Whether the model ended it; else it was closed, or cut at a limit, and can go on."""
    cut: bool = False
    """Whether tokens are left out that were stored and not right: the store had better forget them."""

    @classmethod
    def load(cls, value: bytes) -> Record:
        """The record that `dump` wrote, up to the first token that is not right: the server is asked from there.

        `ValueError` where it is no record.
        """
        match orjson.loads(value):
            case [bool(ended), [*times], [*fields]] if len(times) == len(fields) and _seconds(times):
                tokens = list(_right(fields))
                cut = len(tokens) < len(fields)
                return cls(tokens, times[: len(tokens)], ended and not cut, cut)
        raise ValueError("no record of a stream")

    def dump(self) -> bytes:
        """JSON, with the alternatives of every token."""
        times = [round(time, 4) for time in self.times]
        return orjson.dumps([self.ended, times, [list(token) for token in self.tokens]])

    def settle(self) -> None:
        """Leave out the last tokens where they may be part of a character: after a stop it would come out otherwise."""
        while not self.ended and self.tokens and (not self.tokens[-1].text or self.tokens[-1].text.endswith("\ufffd")):
            self.tokens.pop()
            self.times.pop()

    def taken(self, start: int, end: int) -> float:
        """Seconds from the token before `start` (or the request) to the last one before `end`."""
        return (self.times[end - 1] - (self.times[start - 1] if start else 0.0)) if end > start else 0.0

    @property
    def rank(self) -> int:
        """More is better, and to know the end is better than not to."""
        return 2 * len(self.tokens) + self.ended

    def goes_on(self, prompt: Sequence[int], offset: int) -> bool:
        """Whether `prompt` ends with the first `offset` tokens, and more is known of what follows them than nothing."""
        told = self.tokens[:offset]
        if len(told) < offset or (self.ended and len(self.tokens) == offset):
            return False
        return [token.id for token in told] == list(prompt[len(prompt) - offset :] if offset else [])


def _seconds(times: Sequence[Any]) -> bool:
    return all(type(time) in (int, float) and 0 <= time < _LONGEST for time in times)


def _right(fields: Sequence[Any]) -> Iterator[Token]:
    """Tokens, as far as their numbers are log-probabilities and their candidates are told apart.

    Records once had candidates by text alone, under which all that are a part of a character are one.
    """
    for field_ in fields:
        try:
            token = admit(*as_token(field_))
        except ValueError:
            return
        if any(not key or PARTIAL in key for key in token.top):
            return
        yield token


@dataclass(frozen=True, slots=True)
class Options:
    """What a completion depends on besides its prompt, and how many tokens are wanted."""

    max_tokens: int
    stop: tuple[str, ...]
    top_logprobs: int
    temperature: float
    seed: int | None
    min_tokens: int | None = None

    @property
    def continues(self) -> bool:
        """Whether a stream goes on from its own tokens as if it had not been stopped.

        Not where a stop string may have begun in them, or they count.
        """
        return self.temperature == 0 and not held_back(self.stop) and not self.min_tokens

    @property
    def settings(self) -> list[Any]:
        """All of them but the length."""
        # "stream" once held text that lagged behind its ids where a stop string has several characters.
        name = "stream to a string" if held_back(self.stop) else "stream"
        least = [self.min_tokens] if self.min_tokens else []
        return [name, self.stop, self.top_logprobs, self.temperature, self.seed, *least]


class Replay:
    """The tokens of one stream: those that are recorded, then those that the server adds."""

    def __init__(
        self,
        engine: VLLMEngine,
        prompt: list[int],
        options: Options,
        record: Record,
        offset: int,
        cached: int | None,
        stack: AsyncExitStack,
    ) -> None:
        """A stream after `prompt`, which holds the record's first `offset` tokens; `stack` closes what it opens."""
        self.prompt, self.record = prompt, record
        self.ids: list[int] = []
        """What has been read."""
        self.live = False
        """Whether the server was asked."""
        self.replayed = self.generated = 0
        self._engine, self._options, self._offset, self._stack = engine, options, offset, stack
        self._cached = cached
        self._ended: Finish | None = None

    @property
    def finish(self) -> Finish:
        """Why it ended; "closed" while it is still running."""
        return self._ended or "closed"

    @property
    def usage(self) -> Usage:
        """Tokens so far, as they would have been counted without a store."""
        known, spared = self._cached is not None, self.record.taken(self._offset, self._offset + self.replayed)
        return Usage(len(self.prompt), self._cached, len(self.ids), known, self.replayed, spared)

    async def __aiter__(self) -> AsyncIterator[Token]:
        wanted, record = self._options.max_tokens, self.record
        known = record.tokens[self._offset : self._offset + wanted]
        whole = self._offset + len(known) == len(record.tokens)
        for place, token in enumerate(known, start=1):
            self.ids.append(token.id)
            self.replayed += 1
            if place == len(known):
                self._ended = "stop" if whole and record.ended else "length" if place == wanted else None
            yield token
        if not self._ended:
            async for token in self._rest():
                yield token

    async def _rest(self) -> AsyncIterator[Token]:
        """What the server has to add, which the record takes up as it comes."""
        options, record = self._options, self.record
        told = len(self.ids) if options.continues else 0
        before = self.prompt + self.ids[:told]
        self.live = True
        live = await self._stack.enter_async_context(
            self._engine.stream(
                before,
                max_tokens=options.max_tokens - told,
                stop=options.stop,
                top_logprobs=options.top_logprobs,
                temperature=options.temperature,
                seed=options.seed,
                min_tokens=options.min_tokens,
            )
        )
        again = len(self.ids) - told
        past = perf_counter() - (record.times[-1] if options.continues and record.times else 0.0)
        async for token in live:
            self.generated += 1
            if again:
                again -= 1
                continue
            record.tokens.append(token)
            record.times.append(perf_counter() - past)
            record.ended = live.finish == "stop"
            self.ids.append(token.id)
            self._ended = None if live.finish == "closed" else live.finish
            yield token
        record.ended = live.finish == "stop"
        self._ended = live.finish
