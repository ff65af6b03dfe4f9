"""What becomes of a failure: the one place that says what the client is told of it, and what the log.

A client is told a status and our own words. What a server or a retriever said itself may hold addresses, and may quote
somebody's question: of that, clients see only an engine's objections to a field of their own request, and the log only
what `told` leaves, unless it may hold texts.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flarekit.errors import EngineError, EngineUnavailable, PromptTooLong, RequestRejected, RetrieverFailed, told
from flarekit.retrieval import Hit, Retriever
from flarekit.serve.protocol.request import NotUnderstood

_THE_CLIENTS = frozenset({400, 413, 422})
"""Statuses of an engine that concern the client's request; the others of 4xx concern ours."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\blocalhost:\d+", re.IGNORECASE)
_LONGEST_HINT = 3600


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as the client sees it."""

    status: int
    message: str
    param: str | None = None
    """The field of the request that is at fault."""
    code: str | None = None
    """For programs, such as "model_not_found"."""
    retry_after: int | None = None
    """Seconds after which the client may try again."""

    @property
    def headers(self) -> dict[str, str]:
        """What the response's headers say of it."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


def failure_of(error: BaseException, seconds: float) -> Failure:
    """What the client is told of `error`; `seconds` is how long an answer may take."""
    match error:
        case NotUnderstood():
            return Failure(error.status, str(error), error.param, error.code)
        case PromptTooLong():
            return Failure(400, told(error), "messages", "context_length_exceeded")
        case RequestRejected(status=status) if status in _THE_CLIENTS:
            said = _ADDRESS.sub("…", error.quote) or "it does not say why"
            return Failure(status or 400, f"the engine refuses the request: {said}", error.param)
        case EngineUnavailable(status=429 | 503 as status):
            hint = min(max(1, math.ceil(error.retry_after or 1)), _LONGEST_HINT)
            return Failure(status, "the engine has too much to do; try again later", None, "overloaded", hint)
        case RetrieverFailed():
            return Failure(502, f"the retriever failed: {told(error)}")
        case EngineError():
            return Failure(502, f"the engine failed: {told(error)}")
        case Ending():
            return Failure(503, "the server is ending; ask again", None, "shutting_down", 1)
        case TimeoutError():
            return Failure(504, f"the answer took longer than {seconds:g} s")
        case _:  # a router, or an oversight of ours
            return Failure(500, "an error inside the server; its log has more under this request's id")


class Ending(Exception):
    """The server ends before an answer does."""


class Lookups:
    """A retriever whose failures are all `RetrieverFailed`, after `patience` seconds at the latest."""

    def __init__(self, retriever: Retriever, patience: float) -> None:
        self.name = retriever.name
        self._retriever, self._patience = retriever, patience

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        """The `k` best passages."""
        try:
            async with asyncio.timeout(self._patience) as patience:
                return await self._retriever.search(query, k)
        except TimeoutError as error:
            late = f"no answer within {self._patience:g} s" if patience.expired() else "no answer within its time-out"
            raise RetrieverFailed(late, where="retriever") from error
        except Exception as error:  # a retriever may be anybody's code, and a search engine may fail in any way
            raise RetrieverFailed(told(error), where="retriever", quote=str(error)) from error
