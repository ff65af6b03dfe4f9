"""An engine that asks its server only for what no stream has told yet.

A stream is kept as far as it was read. Greedy decoding always goes on in the same way, so the record serves everyone
who needs a part of it: the same prompt again, or a prompt that already holds some of the recorded tokens. Who needs
more than there is gets what there is and then the rest, asked for from there; a sampled stream is asked for again with
its seed, since a sampler's state cannot be entered in the middle.

What an answer costs does not depend on who paid: usage is reported as if every token had been generated and every
prompt read, with the prefix cache that the policy would have had to itself (`flarekit.prefix`), and with the time that
the tokens took when they were generated. `Tally` counts what the server really did.

A server does not say in which precision it computes: models of one name, path and vLLM version share their entries, so
give another precision another store.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from time import perf_counter
from typing import Any

import orjson

from flarekit.completions import CompletionStore
from flarekit.engine import Finish, Stream
from flarekit.errors import FlarekitError
from flarekit.prefix import PrefixCache
from flarekit.tokens import Token, Usage
from flarekit.vllm import VLLMEngine

_REACH = 2048
"""How many of a prompt's last tokens may stem from a recorded stream."""
_TEXTS = 1024
"""Tokenized texts to remember: one question's arms ask for the same few."""


@dataclass(slots=True)
class Tally:
    """What the server did, and what it was spared."""

    generated: int = 0
    """Tokens that the server generated."""
    replayed: int = 0
    """Tokens that came from the store."""
    asked: int = 0
    """Requests that the server read a prompt for."""

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.generated + other.generated, self.replayed + other.replayed, self.asked + other.asked)


@dataclass(slots=True)
class _Record:
    """A stream as far as it was read."""

    tokens: list[Token] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Seconds from the first request to each token, without the time between two requests."""
    ended: bool = False
    """Whether the model ended it; else it was closed, or cut at a limit, and can go on."""

    @classmethod
    def load(cls, value: bytes) -> _Record:
        ended, times, tokens = orjson.loads(value)
        return cls([Token(*token) for token in tokens], times, ended)

    def dump(self) -> bytes:
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


@dataclass(frozen=True, slots=True)
class _Options:
    """What a completion depends on besides its prompt, and how many tokens are wanted."""

    max_tokens: int
    stop: tuple[str, ...]
    top_logprobs: int
    temperature: float
    seed: int | None

    @property
    def continues(self) -> bool:
        """Whether a stream goes on from its own tokens as if it had not been stopped.

        A server holds back text that may be the beginning of a stop string, so that it is lost with the stream.
        """
        return self.temperature == 0 and all(len(text) <= 1 for text in self.stop)


async def cached(engine: VLLMEngine, store: CompletionStore, tally: Tally | None = None) -> CachedEngine:
    """`engine`, which must have been entered, with `store` before it; `tally` may be shared by several engines."""
    identity = [engine.model, await _path_of(engine), await _version(engine)]
    return CachedEngine(engine, store, orjson.dumps(identity), tally or Tally())


async def _path_of(engine: VLLMEngine) -> str | None:
    """Where the server has the model from: two servers may call two models by one name."""
    listed = (await engine.get("/v1/models")).json()["data"]
    return next((card.get("root") for card in listed if card["id"] == engine.model), None)


async def _version(engine: VLLMEngine) -> str | None:
    try:
        version: str | None = (await engine.get("/version")).json().get("version")
    except (FlarekitError, ValueError, AttributeError):
        return None
    return version


class CachedEngine:
    """A `VLLMEngine` behind a `CompletionStore`; made by `cached`."""

    def __init__(self, engine: VLLMEngine, store: CompletionStore, identity: bytes, tally: Tally) -> None:
        self.model = engine.model
        self.tally = tally
        self._engine, self._store, self._identity = engine, store, identity
        self._prefixes: PrefixCache | None = engine.empty_prefixes()
        self._texts: dict[str, list[int]] = {}

    def salted(self, salt: str) -> CachedEngine:
        """The same engine for another policy: with a prefix cache of its own to be reckoned with.

        The server's real one is shared: what a policy costs does not depend on it, and the next one is faster.
        """
        other = copy.copy(self)
        other._prefixes = self._engine.empty_prefixes()
        return other

    async def tokenize(self, text: str) -> list[int]:
        """The ids of `text`, by the server's own tokenizer."""
        if text not in self._texts:
            ids = await self._engine.tokenize(text)
            if len(self._texts) >= _TEXTS:
                del self._texts[next(iter(self._texts))]
            self._texts[text] = ids
        return list(self._texts[text])

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
    ) -> AsyncIterator[Stream]:
        """Continue `prompt`, from the store as far as it reaches; without a seed, samples are not stored."""
        options = _Options(min(max_tokens, self._engine.room(prompt)), tuple(stop), top_logprobs, temperature, seed)
        if temperature > 0 and seed is None:
            async with self._engine.stream(
                prompt, max_tokens=max_tokens, stop=stop, top_logprobs=top_logprobs, temperature=temperature
            ) as live:
                yield live
            return
        key, offset, record = self._find(prompt, options)
        async with AsyncExitStack() as stack:
            cached = self._prefixes.hit(prompt) if self._prefixes else None
            stream = _CachedStream(self._engine, list(prompt), options, record, offset, cached, stack)
            try:
                yield stream
            finally:
                await stack.aclose()
                self._remember(key, stream)

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        """ln p of each token id in `choices` as the next token. Shape (len(choices),)."""
        key = self._key(["choose", list(choices)], prompt)
        if (stored := self._store.get(key)) is not None:
            found, asked, generated = orjson.loads(stored)
            self.tally.replayed += generated
        else:
            found, usage = await self._engine.choose(prompt, choices)
            asked, generated = usage.prompt, usage.completion
            self._store.put(key, orjson.dumps([found, asked, generated]))
            self.tally.generated += generated
            self.tally.asked += 1
        return found, Usage(asked, self._read_again(prompt, asked), generated, True)

    async def score(self, prompt: Sequence[int]) -> list[float]:
        """ln p of each token of `prompt` after the first. Shape (len(prompt) - 1,)."""
        key = self._key(["score"], prompt)
        if (stored := self._store.get(key)) is not None:
            return list(orjson.loads(stored))
        scores = await self._engine.score(prompt)
        self._store.put(key, orjson.dumps(scores))
        self.tally.asked += 1
        return scores

    def _read_again(self, prompt: Sequence[int], asked: int) -> int | None:
        """Cached tokens where `prompt` was read so often in a row that `asked` tokens were read in all."""
        if self._prefixes is None:
            return None
        first = self._prefixes.hit(prompt)
        self._prefixes.add(prompt)
        return first + (asked // len(prompt) - 1) * self._prefixes.hit(prompt)

    def _find(self, prompt: Sequence[int], options: _Options) -> tuple[bytes, int, _Record]:
        """Where the stream is recorded that goes on from `prompt`, how many of its tokens `prompt` holds, and itself.

        An empty record under the prompt's own key where there is none.
        """
        own = self._key(_settings(options), prompt)
        begins = dict(self._beginnings(prompt, options))
        best = own, 0, _Record()
        for key in self._store.known(begins):
            stored = self._store.get(key)
            if stored is None:
                continue
            record, offset = _Record.load(stored), begins[key]
            if _holds(record, prompt, offset) and len(record.tokens) - offset >= len(best[2].tokens) - best[1]:
                best = key, offset, record
        return best

    def _beginnings(self, prompt: Sequence[int], options: _Options) -> Iterator[tuple[bytes, int]]:
        """The keys that the stream may be recorded under, each with how many tokens of `prompt` it leaves out."""
        reach = min(_REACH, len(prompt) - 1) if options.continues else 0
        digest = self._digest(_settings(options), prompt[: len(prompt) - reach])
        yield digest.digest(), reach
        for place in range(len(prompt) - reach, len(prompt)):
            digest.update(array("Q", prompt[place : place + 1]).tobytes())
            yield digest.digest(), len(prompt) - place - 1

    def _key(self, settings: list[Any], prompt: Sequence[int]) -> bytes:
        digest: bytes = self._digest(settings, prompt).digest()
        return digest

    def _digest(self, settings: list[Any], prompt: Sequence[int]) -> Any:
        return sha256(self._identity + orjson.dumps(settings) + b"\0" + array("Q", prompt).tobytes())

    def _remember(self, key: bytes, stream: _CachedStream) -> None:
        if self._prefixes:
            self._prefixes.add([*stream.prompt, *stream.ids[:-1]])
        self.tally.replayed += stream.replayed
        self.tally.generated += stream.generated
        if stream.live:
            self.tally.asked += 1
            stream.record.settle()
            self._store.put(key, stream.record.dump(), stream.record.rank)


class _CachedStream:
    """The tokens of one stream: those that are recorded, then those that the server adds."""

    def __init__(
        self,
        engine: VLLMEngine,
        prompt: list[int],
        options: _Options,
        record: _Record,
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
            )
        )
        again = len(self.ids) - told
        past = perf_counter() - (record.times[-1] if told else 0.0)
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


def _settings(options: _Options) -> list[Any]:
    return ["stream", options.stop, options.top_logprobs, options.temperature, options.seed]


def _holds(record: _Record, prompt: Sequence[int], offset: int) -> bool:
    """Whether `prompt` ends with the record's first `offset` tokens, and the record can tell what follows them."""
    told = record.tokens[:offset]
    if len(told) < offset or (record.ended and len(record.tokens) == offset):
        return False
    return [token.id for token in told] == list(prompt[len(prompt) - offset :] if offset else [])
