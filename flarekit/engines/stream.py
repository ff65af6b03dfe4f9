"""The tokens of one streamed answer of a vLLM server, read from its server-sent events."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import orjson
from httpx_sse import EventSource, SSEError

from flarekit.engines.prefix import PrefixCache
from flarekit.engines.vocabulary import BY_ID, Vocabulary, share
from flarekit.errors import BadLogprobs, EngineError, MissingCapability, StreamBroken
from flarekit.text.stops import StopFinder, until_stop
from flarekit.tokens import IMPOSSIBLE, Finish, NotLogprobs, Token, Usage, admit

_READ = frozenset({"message", "error"})
"""Names of events that are read; others (a proxy's pings) are not for us. "message" is that of an event without one."""
_ENDS: Mapping[str, Finish] = {"stop": "stop", "length": "length"}
"""The finish reasons of a whole answer; any other says that it was cut."""


class VLLMStream:
    """The tokens of one `/v1/completions` stream, up to the first stop string that `finder` looks for."""

    def __init__(
        self,
        response: httpx.Response,
        prompt: Sequence[int],
        prefixes: PrefixCache | None,
        where: str,
        vocabulary: Vocabulary,
        finder: StopFinder | None = None,
    ) -> None:
        self._response = response
        self._where = where
        self._prompt_tokens = len(prompt)
        self._ids = [*prompt]
        self._prefixes = prefixes
        self._cached = prefixes.hit(prompt) if prefixes else None
        self._usage: Usage | None = None
        self._ended: Finish | None = None
        self._stop_reason: str | int | None = None
        self._vocabulary = vocabulary
        self._finder = finder

    @property
    def finish(self) -> Finish:
        """Why it ended; "closed" while it is still running."""
        if self._finder is not None and (self._finder.held or self._finder.stop):
            return "stop" if self._finder.stop else "closed"
        return self._ended or "closed"

    @property
    def stop_reason(self) -> str | int | None:
        """The stop string or the id of the stop token that ended it; None for the model's own end."""
        return self._stop_reason if self._finder is None else self._finder.stop or self._stop_reason

    @property
    def usage(self) -> Usage:
        """The server's final count, or until that is sent the ids that the server has sent so far."""
        received = len(self._ids) - self._prompt_tokens
        return self._usage or Usage(self._prompt_tokens, self._cached, received, self._cached is not None)

    def remember(self) -> None:
        """Note what the server's prefix cache holds now: the prompt and, but for the last token, what came of it."""
        if self._prefixes:
            self._prefixes.add(self._ids[:-1])

    def __aiter__(self) -> AsyncIterator[Token]:
        return self._read() if self._finder is None else until_stop(self._read(), self._finder)

    async def _read(self) -> AsyncIterator[Token]:
        try:
            async for event in EventSource(self._response).aiter_sse():
                data = event.data
                if data == "[DONE]":
                    break
                if event.event not in _READ or not data or data.isspace():
                    continue
                choice = self._choice(_parsed(data))
                if choice is None:
                    continue
                reason = choice.get("finish_reason")
                ids, values, tops = self._lists(choice, reason is not None and reason not in _ENDS)
                left = len(ids)
                texts = (choice["text"],) if left == 1 else await self._shares(choice, ids)
                for text, id_, value, top in zip(texts, ids, values, tops, strict=True):
                    if type(text) is not str or type(id_) is not int or id_ < 0:
                        raise ValueError(f"token {id_!r} with the text {text!r}")
                    token = admit(text, id_, -math.inf if value == IMPOSSIBLE else value, top)
                    self._ids.append(id_)
                    left -= 1
                    if reason is not None and not left:
                        self._end(choice, reason)
                    yield token
                if reason is not None:
                    self._end(choice, reason)
                    if self._ended is None:
                        raise StreamBroken(f"the server cut a stream (finish reason {reason!r})", where=self._where)
        except NotLogprobs as error:
            raise BadLogprobs(
                "a number is no log-probability; `flarekit doctor` tells its --logprobs-mode",
                where=self._where,
                quote=str(error),
            ) from error
        except json.JSONDecodeError as error:
            raise StreamBroken("a stream sent malformed JSON", where=self._where) from error
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise StreamBroken("a stream sent an unexpected chunk", where=self._where, quote=repr(error)) from error
        except httpx.TimeoutException as error:
            raise StreamBroken(f"a stream fell silent ({type(error).__name__})", where=self._where) from error
        except (httpx.HTTPError, SSEError) as error:
            broke = f"a stream broke ({type(error).__name__})"
            raise StreamBroken(broke, where=self._where, quote=str(error)) from error
        if self._ended is None:
            raise StreamBroken("a stream ended before its last token", where=self._where)

    def _end(self, choice: Mapping[str, Any], reason: str) -> None:
        stop = choice.get("stop_reason")
        self._ended, self._stop_reason = _ENDS.get(reason), stop if isinstance(stop, str | int) else None

    def _choice(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What a chunk says of the text; None where it only counts."""
        if error := chunk.get("error"):
            message = str(
                (error.get("message") if isinstance(error, Mapping) else error) or "an error without a message"
            )
            raise StreamBroken("a stream ended in an error", where=self._where, quote=" ".join(message.split()))
        if usage := chunk.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            reckoned = cached is None and self._cached is not None
            known = self._cached if reckoned else cached
            prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
            if not all(type(count) is int and count >= 0 for count in (prompt, completion, known or 0)):
                raise ValueError(f"the counts {usage}")
            self._usage = Usage(prompt, known, completion, reckoned)
        choices = chunk.get("choices") if usage else chunk["choices"]
        return choices[0] if choices else None

    def _lists(self, choice: Mapping[str, Any], cut: bool) -> tuple[list[int], list[float], list[Mapping[str, float]]]:
        """Of a chunk's tokens the ids, log-probabilities and candidates, as many of each.

        Nothing of a chunk without text, nor of one whose answer was `cut` where they are not whole.
        """
        text, ids, logprobs = choice["text"], choice.get("token_ids"), choice.get("logprobs")
        if ids and logprobs:
            values, tops = logprobs.get("token_logprobs") or [], logprobs.get("top_logprobs") or []
            if len(ids) == len(values) == len(tops) and all(tops):
                return ids, values, tops
        if cut or (not ids and not text and (ids is not None or logprobs is None)):
            return [], [], []
        if ids is None or logprobs is None:
            lacks = "token ids" if ids is None else f"log-probabilities (of token {ids[0] if ids else None}, {text!r})"
            raise MissingCapability(f"{self._where} sends no {lacks}; `flarekit doctor` says how to turn them on")
        told = {name: logprobs.get(name) for name in ("token_logprobs", "top_logprobs")}
        if ids and all(isinstance(one, list) and len(one) == len(ids) for one in told.values()):
            raise NotLogprobs(f"tokens {ids} ({text!r}) came without candidates")
        raise ValueError(f"tokens {ids} ({text!r}) with {told}")

    async def _shares(self, choice: Mapping[str, Any], ids: Sequence[int]) -> Sequence[str]:
        """What each of several tokens adds to the text of their chunk; the last one all of it where nobody can tell."""
        if not ids:
            return ()
        strings: Sequence[str] = choice["logprobs"].get("tokens") or []
        if len(strings) != len(ids) or strings[0].startswith(BY_ID):
            try:
                strings = await self._vocabulary.texts(ids)
            except EngineError:
                strings = [""] * len(ids)
        return share(choice["text"], strings)


def _parsed(data: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Python's own reader takes NaN and Infinity, so that the token they came with can be named.
        if "NaN" in data or "Infinity" in data:
            return json.loads(data)
        raise
