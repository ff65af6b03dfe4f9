"""The real engine: a vLLM server over HTTP (`/v1/completions`, streaming, with token ids and log-probabilities).

What vLLM sends, and what it does when a stream is closed, is checked by `flarekit doctor`. Every foreign exception and
every HTTP status becomes one of `flarekit.errors` here and nowhere else.
"""

from __future__ import annotations

import copy
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from flarekit.engines.engine import Message
from flarekit.engines.prefix import PrefixCache
from flarekit.engines.stream import VLLMStream
from flarekit.engines.vocabulary import BY_ID, Vocabulary
from flarekit.errors import (
    BadLogprobs,
    ConfigError,
    EngineError,
    FlarekitError,
    MissingCapability,
    PromptTooLong,
    RequestRejected,
    UnknownModel,
    quoted,
)
from flarekit.io.addresses import shown
from flarekit.io.refusals import Events, read_refusal, read_whole, unreachable
from flarekit.io.retries import Retries
from flarekit.text.stops import StopFinder, held_back
from flarekit.tokens import NotLogprobs, Token, Usage, as_logprob, narrowed

MOST_LOGPROBS = 20
"""The most log-probabilities a token that a vLLM server sends unless it was started with a `--max-logprobs`."""
TOP = 10
"""The alternatives to each token that signals read."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class VLLMEngine:
    """A model on a vLLM server.

    Use it as an asynchronous context: entering asks the server which models it serves, so that a wrong address or
    model is reported at once. One engine serves any number of concurrent streams over pooled connections.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        attempts: int = 4,
        priority: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """An engine at `url` (with or without "/v1").

        `model` may stay unset where the server serves one model. `timeout` is in seconds, between two tokens as well
        as for the first; `attempts` counts tries of a request that got no token yet. `priority` (lower is earlier) is
        for servers with `--scheduling-policy priority`.
        """
        base = url.rstrip("/").removesuffix("/v1")
        if not base.startswith(("http://", "https://")):
            raise ConfigError(f"an engine's URL begins with http:// or https://, not {quoted(shown(url))!r}")
        try:
            host = httpx.URL(base).host
        except httpx.InvalidURL as error:
            raise ConfigError(f"an engine's URL is expected, not {quoted(shown(url))!r} ({quoted(error)})") from error
        self.url = shown(base)
        self.model = model or ""
        self.max_model_len = sys.maxsize
        self.root: str | None = None
        """Where the server has the model from; two servers may call two models by one name."""
        self._attempts = attempts
        self._retries: Retries | None = None
        self._shown = 0
        self._extra: dict[str, Any] = {} if priority is None else {"priority": priority}
        self._sampling: dict[str, Any] = {}
        self._prefixes: PrefixCache | None = None
        self._vocabulary = Vocabulary(partial(self.tokenize, begin=False), self.detokenize)
        self._client = httpx.AsyncClient(
            base_url=base,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            # A proxy from the environment must not be asked for this machine's own ports.
            trust_env=host not in LOOPBACK,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._choose_model()
            self._prefixes = await self._find_prefix_cache()
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def salted(self, salt: str) -> VLLMEngine:
        """The same engine with a part of the server's prefix cache to itself.

        Policies that are compared must not find what another one has just read: whoever asks second would seem cheap.
        """
        other = copy.copy(self)
        other._prefixes = self.empty_prefixes()
        digest = hashlib.sha256(salt.encode()).hexdigest()  # vLLM refuses some characters in a salt
        other._extra = {**self._extra, "cache_salt": digest}
        return other

    @property
    def client(self) -> httpx.AsyncClient:
        """The connections to the server, for requests that are not ours (`flarekit.serve.passthrough`)."""
        return self._client

    def sampling(self, options: Mapping[str, Any]) -> VLLMEngine:
        """The same engine whose streams are asked for with these fields of the completions API as well."""
        other = copy.copy(self)
        other._sampling = {**self._sampling, **options}
        return other

    def showing(self, alternatives: int) -> VLLMEngine:
        """The same engine whose streams tell at least so many alternatives to each token (`tokens.alternatives`)."""
        other = copy.copy(self)
        other._shown = alternatives
        return other

    def counting(self, retries: Retries) -> VLLMEngine:
        """The same engine whose requests take their tries again from one count, which others may share."""
        other = copy.copy(self)
        other._retries = retries
        return other

    def empty_prefixes(self) -> PrefixCache | None:
        """A model of the server's prefix cache with nothing in it; None where the server tells nothing of its own."""
        return self._prefixes and self._prefixes.empty()

    def room(self, prompt: Sequence[int]) -> int:
        """How many tokens fit after `prompt`, at least 1; `PromptTooLong` where none do."""
        room = self.max_model_len - len(prompt)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt)} tokens and the context holds {self.max_model_len}; "
                "retrieve fewer or shorter passages, or raise the server's --max-model-len",
                where=f"{self.model} at {self.url}",
            )
        return room

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        """The ids of `text`, by the server's own tokenizer."""
        return await self._ids({"prompt": text, "add_special_tokens": begin})

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation by the model's own chat template, up to where its next answer begins."""
        return await self._ids({"messages": list(messages), "add_generation_prompt": True})

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens and all."""
        response = await self._send("POST", "/detokenize", {"model": self.model, "tokens": list(ids)})
        with _understood(f"{self.url}/detokenize"):
            text = response.json()["prompt"]
            if not isinstance(text, str):
                raise ValueError(f"{type(text).__name__} for a text")
        return text

    async def pieces(self, text: str) -> list[str]:
        """The tokens of `text` as the vocabulary has them, without special tokens of its beginning."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False, "return_token_strs": True}
        response = await self._send("POST", "/tokenize", body)
        with _understood(f"{self.url}/tokenize"):
            told = response.json()
            strings: list[str] | None = told.get("token_strs")
            return strings if strings is not None else await self._vocabulary.texts(told["tokens"])

    async def spell(self, tokens: Sequence[Token]) -> list[Token]:
        """`tokens` as they are to be read: their candidates by text, where that tells them apart."""
        return await self._vocabulary.spell(tokens)

    async def _ids(self, body: Mapping[str, Any]) -> list[int]:
        response = await self._send("POST", "/tokenize", {"model": self.model, **body})
        with _understood(f"{self.url}/tokenize"):
            ids: list[int] = response.json()["tokens"]
            if not isinstance(ids, list) or not all(type(id_) is int for id_ in ids):
                raise ValueError("no list of token ids")
        return ids

    @asynccontextmanager
    async def stream(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        top_logprobs: int = TOP,
        temperature: float = 0.0,
        seed: int | None = None,
        min_tokens: int | None = None,
    ) -> AsyncIterator[VLLMStream]:
        """Continue `prompt`; leaving the context closes the connection, which stops the server.

        Where the server would hold text back for a stop string, the stream looks for them itself
        (`flarekit.text.stops`).
        """
        most = min(max_tokens, self.room(prompt))
        least = self._sampling.get("min_tokens") if min_tokens is None else min_tokens
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": most,
            "temperature": 0.0,
            **self._sampling,
            **({"temperature": temperature} if temperature else {}),
            **({"min_tokens": min(least, most)} if isinstance(least, int) else {}),
            "stop": [] if held_back(stop) else list(stop),
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": max(top_logprobs, self._shown),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **({} if seed is None else {"seed": seed}),
            **self._extra,
        }
        finder = None
        if held_back(stop):
            included = bool(self._sampling.get("include_stop_str_in_output"))
            finder = StopFinder(stop, included=included, least=least if isinstance(least, int) else 0)
        response = await self._send("POST", "/v1/completions", body, stream=True)
        kind = _Narrowed if self._shown > top_logprobs else VLLMStream
        where = f"{self.model} at {self.url}"
        stream = kind(response, prompt, self._prefixes, where, self._vocabulary, finder)
        if isinstance(stream, _Narrowed):
            stream.most = top_logprobs
        try:
            yield stream
        finally:
            await response.aclose()
            stream.remember()

    async def score(self, prompt: Sequence[int]) -> list[float]:
        """ln p of each token of `prompt` after the first. Shape (len(prompt) - 1,)."""
        body = {"model": self.model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        response = await self._send("POST", "/v1/completions", body)
        with _understood(f"{self.url}/v1/completions"):
            scored = response.json()["choices"][0].get("prompt_logprobs")
            if scored is None:
                raise MissingCapability(f"{self.model} at {self.url} sends no prompt_logprobs")
            return [
                as_logprob(entry[str(token)]["logprob"], f"token {token} of the prompt")
                for token, entry in zip(prompt[1:], scored[1:], strict=True)
            ]

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        """ln p of each token id in `choices` as the next token. Shape (len(choices),).

        One request tells the most likely tokens; a choice that is not among them is asked for by allowing nothing else,
        which does not change the log-probability that is sent. (`logprob_token_ids` would do it in one request, but
        vLLM 0.32 puts those ids in place of the most likely tokens of every other request in the same batch.)
        """
        found, usage = await self._next_token(prompt, logprobs=MOST_LOGPROBS)
        for choice in choices:
            if choice not in found:
                forced, more = await self._next_token(prompt, logprobs=0, allowed_token_ids=[choice])
                if choice not in forced:
                    raise MissingCapability(
                        f"{self.model} at {self.url} sends no log-probability of token {choice}: "
                        "it does not know allowed_token_ids"
                    )
                found, usage = found | forced, usage + more
        return [found[choice] for choice in choices], usage

    async def _next_token(self, prompt: Sequence[int], **options: Any) -> tuple[dict[int, float], Usage]:
        """ln p of likely next tokens by their ids, of the one that is generated at least."""
        body = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "return_tokens_as_token_ids": True,
            **options,
            **self._extra,
        }
        response = await self._send("POST", "/v1/completions", body)
        with _understood(f"{self.url}/v1/completions"):
            answer = response.json()
            logprobs, counted = answer["choices"][0]["logprobs"], answer["usage"]
            # With `logprobs` 0 the server sends the generated token alone, and no list of likely ones.
            told = (logprobs["top_logprobs"][0] or {}) | {logprobs["tokens"][0]: logprobs["token_logprobs"][0]}
            cached = (counted.get("prompt_tokens_details") or {}).get("cached_tokens")
            usage = Usage(counted["prompt_tokens"], cached, counted["completion_tokens"])
            return {int(key.removeprefix(BY_ID)): as_logprob(told[key], key) for key in told}, usage

    async def get(self, path: str) -> httpx.Response:
        """A plain GET of the server, such as "/metrics"."""
        return await self._send("GET", path, None)

    async def version(self) -> str | None:
        """The server's version; None where it does not tell, as not every server behind the protocol does."""
        try:
            told: str | None = (await self.get("/version")).json().get("version")
        except (FlarekitError, ValueError, AttributeError):
            return None
        return told

    async def _choose_model(self) -> None:
        with _understood(f"{self.url}/v1/models"):
            served = {card["id"]: card for card in (await self.get("/v1/models")).json()["data"]}
        if not self.model and len(served) > 1:
            raise UnknownModel(f"{self.url} serves several models, name one of them: {', '.join(served)}")
        self.model = self.model or next(iter(served), "")
        if self.model not in served:
            raise UnknownModel(f"{self.url} does not serve {self.model!r}, but {', '.join(served) or 'no model'}")
        self.max_model_len = served[self.model].get("max_model_len") or sys.maxsize
        self.root = served[self.model].get("root")

    async def _find_prefix_cache(self) -> PrefixCache | None:
        """A model of the server's prefix cache, from what its metrics say of it; None where they say nothing."""
        try:
            info = re.search(r"^vllm:cache_config_info\{(.*)\}", (await self.get("/metrics")).text, re.MULTILINE)
        except EngineError:
            return None
        labels = dict(re.findall(r'(\w+)="([^"]*)"', info[1])) if info else {}
        if labels.get("enable_prefix_caching") != "True":
            return None
        sizes = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
        return PrefixCache(int(sizes[0]), int(sizes[1])) if all(size.isdigit() for size in sizes) else None

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, stream: bool = False
    ) -> httpx.Response:
        """A successful response, after as many tries as it takes; the body is left unread for `stream`."""
        retries = self._retries or Retries(self._attempts - 1)
        async for attempt in retries.attempts():
            with attempt:
                return await self._send_once(method, path, body, stream)
        raise AssertionError("it either returns or raises")

    async def _send_once(self, method: str, path: str, body: Mapping[str, Any] | None, stream: bool) -> httpx.Response:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = self._client.build_request(method, path, content=content, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
            if not response.is_success:
                raise await read_refusal(response, f"{self.url}{path}")
            if not stream:
                return await read_whole(response)
            if isinstance(response.stream, httpx.AsyncByteStream):
                response.stream = Events(response.stream)
        except httpx.HTTPError as error:
            raise unreachable(
                error, self.url if isinstance(error, httpx.TransportError) else f"{self.url}{path}"
            ) from error
        return response


class _Narrowed(VLLMStream):
    """A stream that was asked for more alternatives than signals are to read."""

    most = TOP

    async def __aiter__(self) -> AsyncIterator[Token]:
        async for token in super().__aiter__():
            yield narrowed(token, self.most)


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """Around the reading of an answer: one that is not vLLM's is an error that says so."""
    try:
        yield
    except RequestRejected as error:
        raise RequestRejected(
            f"{error.message}; is this a vLLM server?", where=error.where, quote=error.quote, status=error.status
        ) from error
    except NotLogprobs as error:
        raise BadLogprobs(f"{where}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestRejected("an unexpected answer; is this a vLLM server?", where=where, quote=repr(error)) from error
