"""Carries requests out: by a session whose committed text is sent as it comes, or by the relay.

Whatever a request ends in, its observers are told of it once, and its client gets an answer or an error of the
protocol: a status while nothing was sent, an event of the stream afterwards.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from flarekit.engines.vllm import VLLMEngine
from flarekit.engines.vocabulary import readable
from flarekit.errors import EngineError, quoted, summary
from flarekit.io.retries import Retries
from flarekit.policies import Budget, with_settings
from flarekit.retrieval import Retriever
from flarekit.serve.catalog import Offer, Served
from flarekit.serve.failures import Ending, Failure, Lookups, failure_of
from flarekit.serve.middleware import error_body
from flarekit.serve.observers.record import Exchange, Observer
from flarekit.serve.passthrough import relay
from flarekit.serve.protocol.bounds import bounded
from flarekit.serve.protocol.request import Asked, NotUnderstood, passed_through, read_body, understand
from flarekit.serve.protocol.response import DONE, Reply, ending_of, event_view, usage_view
from flarekit.serve.streaming import Live, Outgoing
from flarekit.serve.upstream.pool import sticky
from flarekit.session.session import Session
from flarekit.trace import Committed, Event, Role

REFUSING = 5.0
"""Seconds in which a client must have taken what is said of a failure."""
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # asks nginx not to gather what is meant to be seen at once
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may take."""

    seconds: float = 600.0
    """From the request to the last byte."""
    retrieval: float = 5.0
    """Seconds that a look-up may take."""
    tokens: int = 4096
    """The longest answer, where the request does not ask for a shorter one."""
    retries: int = 2
    """How often an engine may be asked again for one request, whatever goes wrong with it."""
    hint: float = 10.0
    """Seconds that an engine is waited for where it asks for that; where it asks for more, the client is told."""

    def budget(self, asked: Asked) -> Budget:
        """A session's budget: discarded drafts may take as much as in the comparisons, three times the answer."""
        answer = min(asked.max_tokens or self.tokens, self.tokens)
        return Budget(answer, 4 * answer, min(asked.min_tokens, answer))


class Service:
    """What all requests have in common; its engines must have been entered."""

    def __init__(
        self,
        offer: Offer,
        weak: VLLMEngine,
        strong: VLLMEngine | None = None,
        retriever: Retriever | None = None,
        *,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.offer = offer
        self._limits = limits or Limits()
        self._weak, self._strong = weak, strong
        self._retriever = Lookups(retriever, self._limits.retrieval) if retriever else None
        self._observers = observers
        self._ending = False
        self._deadlines: set[asyncio.Timeout] = set()
        """Those of the answers at work."""
        self._models: dict[Role, str] = {"weak": weak.model}
        if strong:
            self._models["strong"] = strong.model

    async def respond(self, request: Request, *, chat: bool) -> Response:
        """The response to a request for a completion."""
        exchange = Exchange(
            request.state.request_id,
            request.url.path,
            policy="",
            models=self._models,
            traceparent=request.headers.get("traceparent"),
        )
        try:
            content = await request.body()
        except ClientDisconnect:
            content = b""  # nobody is left to read what follows
        return Live(partial(self._write, exchange, request.headers, content, chat))

    async def _write(
        self, exchange: Exchange, headers: Mapping[str, str], content: bytes, chat: bool, out: Outgoing
    ) -> None:
        exchange.outcome = "left"
        self._tell(lambda observer: observer.begin(exchange))
        try:
            failed = await self._attempt(exchange, headers, content, chat, out)
            if failed is not None:
                await self._fail(exchange, out, failed)
        finally:
            self._tell(lambda observer: observer.end(exchange))

    async def _attempt(
        self, exchange: Exchange, headers: Mapping[str, str], content: bytes, chat: bool, out: Outgoing
    ) -> Exception | None:
        """Answer; what has gone wrong, if anything has."""
        try:
            async with self._deadline():
                await self._answer(exchange, headers, content, chat, out)
        except Exception as error:  # a router or an oversight of ours must not end the connection silently
            return Ending() if self._ending and isinstance(error, TimeoutError) else error
        exchange.outcome = "failed" if exchange.error else "ok"
        return None

    async def _fail(self, exchange: Exchange, out: Outgoing, error: Exception) -> None:
        """Tell everybody what they may know. What is raised here is logged by others, and holds no more than that."""
        if not isinstance(error, EngineError | NotUnderstood | TimeoutError | Ending):
            _log_unexpected(exchange, error)
        exchange.error, exchange.detail = quoted(summary(error)), quoted(error)
        # Who does not read is not waited for here either.
        async with asyncio.timeout(REFUSING):
            await _refuse(exchange, out, failure_of(error, self._limits.seconds))

    def end(self) -> None:
        """End the answers that are still at work, each with an error that says so."""
        self._ending = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Around one answer: `TimeoutError` after its time, or when the server ends."""
        async with asyncio.timeout(0 if self._ending else self._limits.seconds) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    async def _answer(
        self, exchange: Exchange, headers: Mapping[str, str], content: bytes, chat: bool, out: Outgoing
    ) -> None:
        body = read_body(content)
        served = self.offer.find(body["model"])
        if served is None:
            offered = ", ".join(self.offer.policies)
            unknown = f"no model is called {quoted(body['model'])!r}; there are {offered}"
            raise NotUnderstood(unknown, "model", status=404, code="model_not_found")
        exchange.policy, exchange.streamed = served.name, bool(body.get("stream"))
        exchange.passed = "model" if served.policy is None else passed_through(body, chat) or ""
        out.headers["x-flarekit-policy"] = f"none ({exchange.passed})" if exchange.passed else _header(served.name)
        if exchange.passed:
            engine = self._strong if served.role == "strong" and self._strong else self._weak
            exchange.models = {served.role: engine.model}
            sent = bounded(body, engine.model, self._limits.tokens, chat)
            await self._pass_through(engine, exchange, headers, orjson.dumps(sent), out)
            return
        asked = understand(body, chat)
        exchange.question = asked.form.question
        reply = Reply.to(exchange.id, body["model"], chat, asked.logprobs, asked.events)
        with sticky():
            await self._run(exchange, self._session(exchange, served, asked), asked, reply, out)

    def _session(self, exchange: Exchange, served: Served, asked: Asked) -> Session:
        assert served.policy is not None  # noqa: S101 - the caller looked
        retries = self._retries()
        return Session(
            with_settings(served.policy, asked.form, self._limits.budget(asked)),
            exchange.question,
            weak=_engine(self._weak, asked, retries),
            strong=_engine(self._strong, asked, self._retries()) if self._strong else None,
            retriever=self._retriever,
            id=exchange.id,
            strict=served.strict,
            resumes=retries,
        )

    def _retries(self) -> Retries:
        """For one engine and one request."""
        return Retries(self._limits.retries, longest=self._limits.hint)

    async def _pass_through(
        self, engine: VLLMEngine, exchange: Exchange, headers: Mapping[str, str], content: bytes, out: Outgoing
    ) -> None:
        """The engine's own answer, byte by byte."""
        # It was understood as JSON, whatever its client called it; vLLM insists on the name.
        sent = {**headers, "content-type": "application/json"}
        attempts, longest = self._limits.retries + 1, self._limits.hint
        answer = await relay(
            engine.client, "POST", exchange.endpoint, content, sent, attempts=attempts, longest=longest
        )
        try:
            exchange.status = answer.status
            await out.start(answer.headers, answer.status)
            async with aclosing(answer.__aiter__()) as parts:
                async for part in parts:
                    if exchange.first is None:
                        exchange.first = exchange.seconds
                    await out.send(part)
        finally:
            await answer.aclose()
            exchange.usage, exchange.error = answer.usage, answer.error

    async def _run(self, exchange: Exchange, session: Session, asked: Asked, reply: Reply, out: Outgoing) -> None:
        exchange.trace = session.trace
        said: list[Committed] = []
        seen: list[dict[str, Any]] = []
        async with aclosing(session.__aiter__()) as events:
            async for event in events:
                self._observe(exchange, event)
                if asked.logprobs and isinstance(event, Committed):
                    speller = self._weak if event.role == "weak" else self._strong
                    event = replace(event, tokens=await readable(event.tokens, speller))
                if asked.stream:
                    await self._send(event, asked, reply, out)
                elif isinstance(event, Committed):
                    said.append(event)
                elif asked.events:
                    seen.append(event_view(event, self._models))
        end, usage = ending_of(session.trace), usage_view(session.trace, self._models, exchange.first)
        if not asked.stream:
            await out.whole(reply.whole(said, end, usage, seen))
            return
        if not out.started:
            await _open(out, reply)
        last = reply.usage(usage) if asked.include_usage or asked.events else b""
        await out.send(reply.ending(end) + last + DONE)

    async def _send(self, event: Event | Committed, asked: Asked, reply: Reply, out: Outgoing) -> None:
        """Send what happened: text to everyone, everything else to who asked for it."""
        if isinstance(event, Committed):
            part = reply.text(event)
        elif asked.events:
            part = reply.event(event, self._models)
        else:
            # Nothing is sent before the first text, so that a failure up to there still has a status of its own.
            return
        if not out.started:
            await _open(out, reply)
        await out.send(part)

    def _observe(self, exchange: Exchange, event: Event | Committed) -> None:
        if exchange.first is None and isinstance(event, Committed):
            exchange.first = exchange.seconds
        self._tell(lambda observer: observer.event(exchange, event))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            what(observer)


async def _open(out: Outgoing, reply: Reply) -> None:
    await out.start(STREAM_HEADERS)
    if opening := reply.opening():
        await out.send(opening)


def _engine(engine: VLLMEngine, asked: Asked, retries: Retries) -> VLLMEngine:
    """`engine` as one request has it."""
    return engine.sampling(asked.sampling).showing(asked.logprobs or 0).counting(retries)


def _header(name: str) -> str:
    """A policy's name as a header can carry it."""
    return quoted(name).encode("ascii", "backslashreplace").decode()


def _log_unexpected(exchange: Exchange, error: Exception) -> None:
    """Where it happened, but not its message: that may quote what the client sent."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    structlog.get_logger("flarekit").error(
        "unexpected", request=exchange.id, error=type(error).__name__, places=places[-20:]
    )


async def _refuse(exchange: Exchange, out: Outgoing, failure: Failure) -> None:
    """Tell the client what went wrong: by the status, or in the stream where that was sent already."""
    exchange.status = failure.status
    exchange.outcome = "refused" if failure.status < 500 and failure.status != 429 else "failed"
    error = orjson.dumps(error_body(failure.status, failure.message, failure.param, failure.code))
    if out.of_events:
        await out.send(b"data: " + error + b"\n\n" + DONE)  # nothing that was sent is taken back
    elif not out.started:
        out.headers |= failure.headers
        await out.whole(error, failure.status)
    else:
        raise ConnectionError(failure.message)  # breaks the connection off: half an answer must not look whole
