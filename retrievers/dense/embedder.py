"""Who turns passages and queries into vectors: a sentence-transformers model in this process, or an endpoint of vLLM.

An embedder's name is all that is needed to make it again (`open_embedder`), so that an index can note what made it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qsl

import httpx
import numpy as np
import orjson

from flarekit.engines.encoders import (
    DEFAULT,
    DTYPES,
    Encoder,
    Vectors,
    import_encoders,
    load_encoder,
    normalized,
    one_thread,
)
from flarekit.engines.vllm import LOOPBACK
from flarekit.errors import ConfigError, RequestRejected, UnknownModel
from flarekit.io.addresses import shown
from flarekit.io.keys import key_of
from flarekit.io.refusals import ERROR_BYTES, read_bytes, refusal, unreachable
from flarekit.io.retries import Retries
from flarekit.retrievers.remote.destinations import permit

KEY, GIVEN = "FLAREKIT_EMBEDDER_KEY", "FLAREKIT_EMBEDDER"
"""Environment variables: the key of an endpoint that wants one, and the embedder to use for one that a file names."""
_LONGEST = 100_000
"""Characters of a text that are looked at: no encoder reads so far, and tokenizers take seconds over megabytes."""
_RUN = 32
"""Texts that one thread embeds at a time, at least: the model's own batch."""
_REQUEST = 128
"""Texts in one request to an endpoint."""
_PREFIXES = ("query", "passage")
_PATIENCE = 2.0
"""Seconds that an endpoint may want to be left alone for before a query is given up."""
_HINT = "; is an embedding model served there?"


class Embedder(Protocol):
    """Turns texts into vectors whose inner product says how much they have to do with each other."""

    name: str
    """What `open_embedder` makes it from."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        ...

    def embed(self, texts: Sequence[str], *, query: bool) -> Vectors:
        """Rows of length 1, shape (len(texts), dimension); `query` says on which side of the search the texts are."""
        ...


def open_embedder(name: str = DEFAULT, *, keyed: bool = True) -> Embedder:
    """The embedder of that name; nothing is loaded or asked before its first use.

    ::

        all-MiniLM-L6-v2                                    a model of sentence-transformers, or a folder with one
        intfloat/e5-small-v2?query=query: &passage=passage: what the model wants before queries and before passages
        all-MiniLM-L6-v2?dtype=bfloat16                     computed in two bytes a number, where the CPU can
        http://localhost:8001?model=intfloat/e5-small-v2    an endpoint of vLLM; its model, where it serves several

    The key of an endpoint is in the environment variable FLAREKIT_EMBEDDER_KEY; one that is not `keyed` is not sent
    it. `ConfigError` for other options.
    """
    place, _, rest = name.partition("?")
    options = dict(parse_qsl(rest, keep_blank_values=True))
    is_endpoint = at_an_endpoint(name)
    known = ("model" if is_endpoint else "dtype", *_PREFIXES)
    if unknown := [key for key in options if key not in known]:
        raise ConfigError(f"embedder {name}: no option is called {unknown[0]!r}; there are {', '.join(known)}")
    if is_endpoint:
        key = key_of(KEY) if keyed else None
        return EndpointEmbedder(place, options.pop("model", None), name=name, prefixes=options, api_key=key)
    return SentenceEmbedder(place, options.pop("dtype", "float32"), name=name, prefixes=options)


def embedder_of_file(name: str, given: str | None = None) -> Embedder:
    """The embedder that an index or a YAML file names, or the one that is `chosen` in its place.

    An endpoint that only a file names is asked where its host is allowed (`flarekit.retrievers.remote.destinations`),
    else it is a `ConfigError`, and it never gets a key.
    """
    wanted, by_user = chosen(name, given)
    if not by_user and at_an_endpoint(wanted):
        permit(wanted)
    return open_embedder(wanted, keyed=by_user)


def chosen(name: str, given: str | None = None) -> tuple[str, bool]:
    """The name of the embedder that is asked where a file names one, and whether the user named it himself.

    That is what he has `given`, or for an endpoint what the environment variable FLAREKIT_EMBEDDER holds.
    """
    own = given or (os.environ.get(GIVEN) if at_an_endpoint(name) else None)
    return own or name, bool(own)


def at_an_endpoint(name: str) -> bool:
    """Whether an embedder of that name is asked over the network."""
    return name.lower().startswith(("http://", "https://"))


class SentenceEmbedder:
    """A model of sentence-transformers, on the CPU.

    all-MiniLM-L6-v2 takes 11 ms of one core for a question (16 ms at the 99th percentile), more than the search itself,
    and 12 ms for each of many passages of 27 words; in bfloat16, where the CPU computes in it, 6 ms (10 ms) and 4 ms. A
    question that was asked before is remembered.
    """

    def __init__(
        self,
        model: str = DEFAULT,
        dtype: str = "float32",
        *,
        name: str | None = None,
        prefixes: Mapping[str, str] | None = None,
    ) -> None:
        """`model` is a name on the hub or a folder; `prefixes` say what goes before a "query" and a "passage".

        `ConfigError` for a `dtype` that is none of `flarekit.engines.encoders.DTYPES`.
        """
        if dtype not in DTYPES:
            raise ConfigError(f"embedder {model}: no dtype is called {dtype!r}; there are {', '.join(DTYPES)}")
        self.name = name or (model if dtype == "float32" else f"{model}?dtype={dtype}")
        self._model, self._dtype, self._prefixes = model, dtype, prefixes or {}

    @cached_property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._encoder.encode([""]).shape[1])

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._model, self._dtype)

    def embed(self, texts: Sequence[str], *, query: bool) -> Vectors:
        """Rows of length 1, shape (len(texts), dimension); `ConfigError` where there is no such model."""
        prepared = _prepared(texts, self._prefixes, query)
        if not prepared:
            return np.empty((0, self.dimension), np.float32)
        if not query:
            return normalized(_in_threads(self._encoder.embed, prepared))
        # One by one: a vector that was padded to others' length differs in its last digits, and results with it.
        with one_thread():
            return np.concatenate([self._encoder.encode([text]) for text in prepared])


def _in_threads(embed: Callable[[list[str]], Vectors], texts: list[str]) -> Vectors:
    """The rows of `embed`, some in each of as many threads as there are cores.

    One run of the model in several threads is slower, by 4 times where something else wants a core: these wait for one
    another after every product.
    """
    cores = os.cpu_count() or 1
    size = max(_RUN, len(texts) // (2 * cores))
    parts = [texts[begin : begin + size] for begin in range(0, len(texts), size)]
    limit = import_encoders("torch").set_num_threads  # each thread has a limit of its own
    with one_thread(), ThreadPoolExecutor(cores, initializer=limit, initargs=(1,)) as pool:
        return np.concatenate(list(pool.map(embed, parts)))


class EndpointEmbedder:
    """A model that a vLLM server embeds with (`/v1/embeddings`), which cuts texts to what the model reads.

    Several threads may use one. `EngineUnavailable` where nobody answers, `UnknownModel` where the server has another
    model or several, `RequestRejected` for what is no embedding.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        name: str | None = None,
        prefixes: Mapping[str, str] | None = None,
        api_key: str | None = None,
        timeout: float = 30.0,
        attempts: int = 4,
    ) -> None:
        """`url` with or without "/v1", `timeout` in seconds; the other parameters as for `open_embedder`."""
        base = url.rstrip("/").removesuffix("/v1")
        self._url = shown(base)
        try:
            host = httpx.URL(base).host
        except httpx.InvalidURL:
            host = ""
        if not host:
            raise ConfigError(f"an embedder's URL is expected, not {shown(url)!r}")
        self.name = shown(name or (f"{url}?model={model}" if model else url))
        self._given, self._prefixes, self._attempts = model, prefixes or {}, attempts
        self._client = httpx.Client(
            base_url=base,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=timeout,
            # A proxy from the environment must not be asked for this machine's own ports.
            trust_env=host not in LOOPBACK,
        )

    @cached_property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._embed(["a"], self._retries(query=False)).shape[1])

    def embed(self, texts: Sequence[str], *, query: bool) -> Vectors:
        """Rows of length 1, shape (len(texts), dimension)."""
        prepared = _prepared(texts, self._prefixes, query)
        if not prepared:
            return np.empty((0, self.dimension), np.float32)
        parts = [prepared[begin : begin + _REQUEST] for begin in range(0, len(prepared), _REQUEST)]
        return np.concatenate([self._embed(part, self._retries(query)) for part in parts])

    def _retries(self, query: bool) -> Retries:
        """For one request: whoever looks something up does not wait for long, and a thread waits with it."""
        most = self._attempts - 1
        return Retries(min(most, 2), longest=_PATIENCE) if query else Retries(most)

    @cached_property
    def _model(self) -> str:
        if self._given:
            return self._given
        answer = self._ask("GET", "/v1/models", None, self._retries(query=True))
        try:
            served = [str(card["id"]) for card in answer["data"]]
        except (LookupError, TypeError) as error:
            raise _unexpected(f"{self._url}/v1/models", error) from error
        if len(served) != 1:
            raise UnknownModel(
                f"{self._url} serves {', '.join(served) or 'no model'}; name one of them: URL?model=NAME"
            )
        return served[0]

    def _embed(self, texts: list[str], retries: Retries) -> Vectors:
        body = {"model": self._model, "input": texts, "truncate_prompt_tokens": -1}
        answer = self._ask("POST", "/v1/embeddings", body, retries)
        try:
            rows = {int(item["index"]): item["embedding"] for item in answer["data"]}
            vectors = normalized(np.array([rows[number] for number in range(len(texts))], dtype=np.float32))
        except (LookupError, TypeError, ValueError) as error:
            raise _unexpected(f"{self._url}/v1/embeddings", error) from error
        if not np.isfinite(vectors).all():
            raise RequestRejected("a vector holds numbers that are not finite", where=f"{self._url}/v1/embeddings")
        return vectors

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, retries: Retries) -> Any:
        """The answer, after as many tries as it takes."""
        for attempt in retries.attempts():
            with attempt:
                return self._ask_once(method, path, body)
        raise AssertionError("it either returns or raises")

    def _ask_once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        where = f"{self._url}{path}"
        content = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            with self._client.stream(method, path, content=content, headers=headers) as response:
                answer = read_bytes(response)
        except httpx.HTTPError as error:
            raise unreachable(error, where) from error
        if not response.is_success:
            raise refusal(response.status_code, answer[:ERROR_BYTES], response.headers, where, _HINT)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise _unexpected(where, error) from error


def _unexpected(where: str, error: Exception) -> RequestRejected:
    return RequestRejected(f"an unexpected answer{_HINT}", where=where, quote=repr(error))


def _prepared(texts: Sequence[str], prefixes: Mapping[str, str], query: bool) -> list[str]:
    prefix = prefixes.get("query" if query else "passage", "")
    return [prefix + text[:_LONGEST] for text in texts]
