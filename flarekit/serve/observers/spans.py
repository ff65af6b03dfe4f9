"""OpenTelemetry spans: one for each exchange, and one in it for each segment, retrieval, probe and hand-over.

`Spans` needs OpenTelemetry's API alone and costs next to nothing where nobody collects spans. `export` sets up the SDK,
which is in flarekit[otel], and sends spans to a collector. Attributes follow the GenAI conventions where those have a
name for it; all others begin with "flarekit.".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import NamedTuple

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flarekit.errors import ConfigError
from flarekit.serve.observers.record import Exchange, reason
from flarekit.tokens import text_of
from flarekit.trace import Chosen, Committed, Event, Failed, Fired, HandedOver, Probe, Retrieved, Segment

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class _Part(NamedTuple):
    """What becomes a span within the request's."""

    name: str
    kind: api.SpanKind
    attributes: Attributes
    at: float
    seconds: float


class Spans:
    """An observer that makes an exchange's spans when it has ended, from the times in its trace."""

    def __init__(self, provider: api.TracerProvider | None, *, text: bool = False) -> None:
        """Spans of the provider that `export` gave; of None, those of the SDK that the process was set up with, if any.

        They hold questions, queries, passages and answers only if `text`.
        """
        self._tracer = api.get_tracer("flarekit", version("flarekit"), provider)
        self._text = text

    def begin(self, exchange: Exchange) -> None:  # noqa: D102 - see Observer
        pass

    def event(self, exchange: Exchange, event: Event | Committed) -> None:  # noqa: D102
        pass

    def end(self, exchange: Exchange) -> None:  # noqa: D102
        sent = {"traceparent": exchange.traceparent} if exchange.traceparent else {}
        parent = TraceContextTextMapPropagator().extract(sent, Context())
        ended = exchange.seconds
        name = f"POST {exchange.endpoint}"
        span = self._tracer.start_span(name, parent, api.SpanKind.SERVER, start_time=exchange.began_ns)
        if not span.is_recording():
            return
        span.set_attributes(_request(exchange, self._text))
        if exchange.outcome == "failed":
            span.set_status(api.StatusCode.ERROR, exchange.error)
        inside = api.set_span_in_context(span, Context())
        for event in exchange.trace.events if exchange.trace else ():
            if isinstance(event, Fired | Chosen | Failed):
                span.add_event(event.kind, _instant(event, self._text), _time(exchange, event.at))
                continue
            part = _part(exchange, event, ended, self._text)
            start, end = _time(exchange, part.at), _time(exchange, part.at + part.seconds)
            self._tracer.start_span(part.name, inside, part.kind, part.attributes, start_time=start).end(end)
        span.end(_time(exchange, ended))


@contextmanager
def export(endpoint: str | None = None) -> Iterator[api.TracerProvider | None]:
    """A provider for `Spans` that sends them by OTLP over HTTP, and what is left of them on leaving.

    They go to the collector at `endpoint`, such as http://localhost:4318, or else to the one that the environment names
    (OTEL_EXPORTER_OTLP_ENDPOINT); None without either. `ConfigError` where flarekit[otel] is not installed.
    """
    if not endpoint and not any(map(os.environ.get, _ENDPOINTS)):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError("spans cannot be sent without an exporter; pip install 'flarekit[otel]'") from error
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"a collector's URL begins with http:// or https://, not {endpoint!r}")
    url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces" if endpoint else None
    # What the environment says of the service goes before our name for it.
    resource = Resource.create({"service.name": "flarekit"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
    try:
        yield provider
    finally:
        provider.shutdown()


def _time(exchange: Exchange, at: float) -> int:
    """Nanoseconds since 1970 of a moment `at` seconds after the exchange began."""
    return exchange.began_ns + round(at * 1e9)


def _request(exchange: Exchange, text: bool) -> Attributes:
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": exchange.endpoint,
        "http.response.status_code": exchange.status,
        "flarekit.request_id": exchange.id,
        "flarekit.policy": exchange.policy,
        "flarekit.streamed": exchange.streamed,
        "flarekit.outcome": exchange.outcome,
    }
    if exchange.first is not None:
        attributes["flarekit.first_text_seconds"] = exchange.first
    if exchange.usage is not None and exchange.trace is None:
        attributes |= _usage(exchange.usage.prompt, exchange.usage.cached, exchange.usage.completion)
    if text:
        attributes["flarekit.question"] = exchange.question
        attributes["flarekit.answer"] = exchange.trace.text if exchange.trace else ""
    return attributes


def _part(exchange: Exchange, event: Segment | Probe | Retrieved | HandedOver, ended: float, text: bool) -> _Part:
    match event:
        case Segment():
            name = f"text_completion {exchange.model(event.role)}"
            # Where the client left, nobody said how long the last segment took.
            seconds = event.seconds or max(0.0, ended - event.at)
            return _Part(name, api.SpanKind.CLIENT, _segment(exchange, event, text), event.at, seconds)
        case Probe():
            asked = event.prompt_tokens or event.generated_tokens  # not by a classifier
            kind = api.SpanKind.CLIENT if asked else api.SpanKind.INTERNAL
            measured: dict[str, Value] = {"flarekit.signal": event.signal, "flarekit.value": event.value}
            if asked:
                measured |= _generation(exchange, event, event.generated_tokens)
            return _Part(f"probe {event.signal}", kind, measured, event.at, event.seconds)
        case Retrieved():
            return _Part("retrieval", api.SpanKind.CLIENT, _retrieved(event, text), event.at, event.seconds)
        case HandedOver():
            attributes = {"flarekit.source": event.source, "flarekit.target": event.target}
            return _Part(f"hand over to {event.target}", api.SpanKind.INTERNAL, attributes, event.at, 0.0)


def _segment(exchange: Exchange, event: Segment, text: bool) -> Attributes:
    attributes: dict[str, Value] = {
        **_generation(exchange, event, len(event.tokens)),
        "gen_ai.response.finish_reasons": [event.finish],
        "flarekit.kept": event.kept,
        "flarekit.discarded": event.discarded,
    }
    if event.first_token is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = event.first_token
    if text:
        attributes["flarekit.text"] = text_of(event.tokens)
    return attributes


def _retrieved(event: Retrieved, text: bool) -> Attributes:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "retrieval",
        "flarekit.hits": len(event.hits),
        "flarekit.passages": [hit.passage.id for hit in event.hits],
    }
    if text:
        attributes["gen_ai.retrieval.query.text"] = event.query
        attributes["flarekit.passage_texts"] = [f"{hit.passage.title}\n{hit.passage.text}" for hit in event.hits]
    return attributes


def _instant(event: Fired | Chosen | Failed, text: bool) -> Attributes:
    match event:
        case Fired():
            return {
                "flarekit.signal": event.signal,
                "flarekit.moment": event.moment,
                "flarekit.value": event.value,
                "flarekit.threshold": event.threshold,
                "flarekit.action": event.action,
            }
        case Chosen():
            return {"flarekit.router": event.router, "flarekit.policy": event.policy}
        case Failed():
            return {"flarekit.part": event.part, "flarekit.error": reason(event, text)}


def _generation(exchange: Exchange, event: Segment | Probe, generated: int) -> dict[str, Value]:
    return {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": exchange.model(event.role),
        "flarekit.role": event.role,
        **_usage(event.prompt_tokens, event.cached_tokens, generated),
    }


def _usage(prompt: int, cached: int | None, generated: int) -> dict[str, Value]:
    told: dict[str, Value] = {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": generated}
    return told if cached is None else {**told, "gen_ai.usage.cache_read.input_tokens": cached}
