"""An engine that asks its server only for what no stream has told yet.

A stream is kept as far as it was read. Greedy decoding always goes on in the same way, so the record serves everyone
who needs a part of it: the same prompt again, or a prompt that already holds some of the recorded tokens. Who needs
more than there is gets what there is and then the rest, asked for from there; a sampled stream is asked for again with
its seed, since a sampler's state cannot be entered in the middle.

What an answer costs does not depend on who paid: usage is reported as if every token had been generated and every
prompt read, with the prefix cache that the policy would have had to itself (`flarekit.engines.prefix`), and with the
time that the tokens took when they were generated. `Tally` counts what the server really did.

A server does not say in which precision it computes: models of one name, path and vLLM version share their entries, so
give another precision another store.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from flarekit.engines.cache.replay import Options, Record, Replay
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.engine import Message, Stream
from flarekit.engines.prefix import PrefixCache
from flarekit.engines.vllm import VLLMEngine
from flarekit.tokens import NotLogprobs, Token, Usage, as_logprob

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


async def cached(engine: VLLMEngine, store: CompletionStore, tally: Tally | None = None) -> CachedEngine:
    """`engine`, which must have been entered, with `store` before it; `tally` may be shared by several engines."""
    identity = [engine.model, engine.root, await engine.version()]
    return CachedEngine(engine, store, orjson.dumps(identity), tally or Tally())


class CachedEngine:
    """A `VLLMEngine` behind a `CompletionStore`; made by `cached`."""

    def __init__(self, engine: VLLMEngine, store: CompletionStore, identity: bytes, tally: Tally) -> None:
        self.model, self.max_model_len = engine.model, engine.max_model_len
        self.tally = tally
        self._engine, self._store, self._identity = engine, store, identity
        self._prefixes: PrefixCache | None = engine.empty_prefixes()
        self._texts: dict[tuple[str, bool], list[int]] = {}

    def salted(self, salt: str) -> CachedEngine:
        """The same engine for another policy: with a prefix cache of its own to be reckoned with.

        The server's real one is shared: what a policy costs does not depend on it, and the next one is faster.
        """
        other = copy.copy(self)
        other._prefixes = self._engine.empty_prefixes()
        return other

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        """The ids of `text`, by the server's own tokenizer."""
        if (text, begin) not in self._texts:
            ids = await self._engine.tokenize(text, begin=begin)
            if len(self._texts) >= _TEXTS:
                del self._texts[next(iter(self._texts))]
            self._texts[text, begin] = ids
        return list(self._texts[text, begin])

    async def pieces(self, text: str) -> list[str]:
        """The tokens of `text` as the vocabulary has them, without special tokens of its beginning."""
        return await self._engine.pieces(text)

    async def spell(self, tokens: Sequence[Token]) -> list[Token]:
        """`tokens` as they are to be read: their candidates by text, where that tells them apart."""
        return await self._engine.spell(tokens)

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation by the model's own chat template, up to where its next answer begins."""
        return await self._engine.tokenize_chat(messages)

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
    ) -> AsyncIterator[Stream]:
        """Continue `prompt`, from the store as far as it reaches; without a seed, samples are not stored."""
        wanted = min(max_tokens, self._engine.room(prompt))
        options = Options(wanted, tuple(stop), top_logprobs, temperature, seed, min_tokens)
        if temperature > 0 and seed is None:
            async with self._engine.stream(
                prompt,
                max_tokens=max_tokens,
                stop=stop,
                top_logprobs=top_logprobs,
                temperature=temperature,
                min_tokens=min_tokens,
            ) as live:
                yield live
            return
        key, offset, record = self._find(prompt, options)
        async with AsyncExitStack() as stack:
            cached = self._read(prompt)
            stream = Replay(self._engine, list(prompt), options, record, offset, cached, stack)
            try:
                yield stream
            finally:
                await stack.aclose()
                self._remember(key, stream)

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        """ln p of each token id in `choices` as the next token. Shape (len(choices),)."""
        key = self._key(["choose", list(choices)], prompt)
        most = len(choices) + 1  # requests that the engine makes

        def right(stored: Any) -> bool:
            match stored:
                case [[*found], int(asked), int(generated)]:
                    return (
                        _logprobs(found, len(choices)) and 0 <= asked <= most * len(prompt) and 0 <= generated <= most
                    )
            return False

        found: list[float]
        if stored := self._stored(key, right):
            found, asked, generated = stored
            self.tally.replayed += generated
        else:
            found, usage = await self._engine.choose(prompt, choices)
            asked, generated = usage.prompt, usage.completion
            self._store.put(key, orjson.dumps([found, asked, generated]))
            self.tally.generated += generated
            self.tally.asked += 1
        return found, Usage(asked, self._read(prompt, asked // len(prompt)), generated, True)

    async def score(self, prompt: Sequence[int]) -> list[float]:
        """ln p of each token of `prompt` after the first. Shape (len(prompt) - 1,)."""
        key = self._key(["score"], prompt)
        if (stored := self._stored(key, lambda found: _logprobs(found, len(prompt) - 1))) is not None:
            return stored
        scores = await self._engine.score(prompt)
        self._store.put(key, orjson.dumps(scores))
        self.tally.asked += 1
        return scores

    def _stored(self, key: bytes, right: Callable[[Any], bool]) -> list[Any] | None:
        """What is stored under `key`; None where there is none, or none that is `right`, which is dropped."""
        if (value := self._store.get(key)) is None:
            return None
        try:
            found = orjson.loads(value)
        except orjson.JSONDecodeError:
            found = None
        if right(found):
            return list(found)
        self._store.drop(key)
        return None

    def _read(self, prompt: Sequence[int], times: int = 1) -> int | None:
        """Tokens that the policy's prefix cache serves of a prompt that is read so often in a row.

        vLLM counts a block as cached from the step on in which it is computed, so that requests which come together
        share it: the prompt is there for the next one at once.
        """
        if self._prefixes is None:
            return None
        first = self._prefixes.hit(prompt)
        self._prefixes.add(prompt)
        return first + (times - 1) * self._prefixes.hit(prompt)

    def _find(self, prompt: Sequence[int], options: Options) -> tuple[bytes, int, Record]:
        """Where the stream is recorded that goes on from `prompt`, how many of its tokens `prompt` holds, and itself.

        An empty record under the prompt's own key where there is none.
        """
        own = self._key(options.settings, prompt)
        begins = dict(self._beginnings(prompt, options))
        best = own, 0, Record()
        for key in self._store.known(begins):
            stored = self._store.get(key)
            if stored is None:
                continue
            try:
                record, offset = Record.load(stored), begins[key]
            except ValueError:
                self._store.drop(key)
                continue
            if record.cut:
                self._store.drop(key)
            if record.goes_on(prompt, offset) and len(record.tokens) - offset >= len(best[2].tokens) - best[1]:
                best = key, offset, record
        return best

    def _beginnings(self, prompt: Sequence[int], options: Options) -> Iterator[tuple[bytes, int]]:
        """The keys that the stream may be recorded under, each with how many tokens of `prompt` it leaves out."""
        reach = min(_REACH, len(prompt) - 1) if options.continues else 0
        digest = self._digest(options.settings, prompt[: len(prompt) - reach])
        yield digest.digest(), reach
        for place in range(len(prompt) - reach, len(prompt)):
            digest.update(array("Q", prompt[place : place + 1]).tobytes())
            yield digest.digest(), len(prompt) - place - 1

    def _key(self, settings: list[Any], prompt: Sequence[int]) -> bytes:
        digest: bytes = self._digest(settings, prompt).digest()
        return digest

    def _digest(self, settings: list[Any], prompt: Sequence[int]) -> Any:
        return sha256(self._identity + orjson.dumps(settings) + b"\0" + array("Q", prompt).tobytes())

    def _remember(self, key: bytes, stream: Replay) -> None:
        if self._prefixes:
            self._prefixes.add([*stream.prompt, *stream.ids[:-1]])
        self.tally.replayed += stream.replayed
        self.tally.generated += stream.generated
        if stream.live:
            self.tally.asked += 1
            stream.record.settle()
            self._store.put(key, stream.record.dump(), stream.record.rank)


def _logprobs(found: object, count: int) -> bool:
    """Whether `found` is a list of `count` log-probabilities."""
    try:
        return isinstance(found, list) and len([as_logprob(value, "") for value in found]) == count
    except NotLogprobs:
        return False
