"""The server's Prometheus metrics: an observer of exchanges with a registry of its own.

Labels have few values, whatever clients send: models and upstreams are those that the server was set up with, signals
and actions those of its policies, and an endpoint or a policy that is not served counts as "other".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from flarekit.retrievers.batching import Shared
from flarekit.serve.observers.record import Exchange
from flarekit.trace import Committed, Event, Failed, Fired, HandedOver, Probe, Retrieved, Segment

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Upper bounds in seconds: from a lookup in memory to a long answer."""


class Metrics:
    """Counts what exchanges do; `endpoints` and `policies` are what is served."""

    def __init__(self, *, endpoints: Collection[str], policies: Collection[str]) -> None:
        self._endpoints, self._policies = frozenset(endpoints), frozenset(policies)
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "flarekit_requests",
            "Requests that ended. Those refused before they were read have no endpoint and no policy.",
            ["endpoint", "policy", "outcome", "status"],
            registry=registry,
        )
        self._running = Gauge("flarekit_running_requests", "Requests that are being answered.", registry=registry)
        self._seconds = Histogram(
            "flarekit_request_seconds",
            "From when a request was read until its last byte was sent.",
            ["policy", "outcome"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._first = Histogram(
            "flarekit_first_text_seconds",
            "From when a request was read until the first text was committed.",
            ["policy"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._fired = Counter(
            "flarekit_triggers_fired", "Triggers that fired.", ["signal", "moment", "action"], registry=registry
        )
        self._tokens = Counter(
            "flarekit_tokens",
            "Tokens as the engines count them. Cached ones are part of prompt, discarded ones of generated.",
            ["model", "kind"],
            registry=registry,
        )
        self._retrievals = Histogram(
            "flarekit_retrieval_seconds", "Look-ups of passages.", buckets=_BUCKETS, registry=registry
        )
        self._passages = Counter("flarekit_passages_found", "Passages that look-ups found.", registry=registry)
        self._handovers = Counter(
            "flarekit_handovers", "Times an engine took an answer over.", ["target"], registry=registry
        )
        self._failures = Counter(
            "flarekit_failures", "Failures that a session went on without.", ["part"], registry=registry
        )
        self._upstream_errors = Counter(
            "flarekit_upstream_errors", "Requests that an upstream server failed.", ["upstream"], registry=registry
        )
        self._upstreams = Gauge(
            "flarekit_upstream_healthy", "1 while an upstream server answers, else 0.", ["upstream"], registry=registry
        )

    def begin(self, exchange: Exchange) -> None:  # noqa: D102 - see Observer
        self._running.inc()

    def event(self, exchange: Exchange, event: Event | Committed) -> None:  # noqa: D102
        match event:
            case Fired():
                self._fired.labels(event.signal, event.moment, event.action).inc()
            case Retrieved():
                self._retrievals.observe(event.seconds)
                self._passages.inc(len(event.hits))
            case HandedOver():
                self._handovers.labels(event.target).inc()
            case Failed():
                self._failures.labels(event.part).inc()
            case _:
                pass  # tokens are counted at the end: only then is known which were discarded

    def end(self, exchange: Exchange) -> None:  # noqa: D102
        endpoint, policy = _known(exchange.endpoint, self._endpoints), _known(exchange.policy, self._policies)
        self._running.dec()
        self._requests.labels(endpoint, policy, exchange.outcome, exchange.status).inc()
        self._seconds.labels(policy, exchange.outcome).observe(exchange.seconds)
        if exchange.first is not None:
            self._first.labels(policy).observe(exchange.first)
        self._count_tokens(exchange)

    def refused(self, status: int) -> None:
        """A request was refused before it was read (`flarekit.serve.middleware`)."""
        self._requests.labels("", "", "refused", status).inc()

    def upstream_error(self, url: str) -> None:
        """A request to the server at `url` failed."""
        self._upstream_errors.labels(url).inc()

    def upstream_healthy(self, url: str, up: bool) -> None:
        """Whether the server at `url` answers."""
        self._upstreams.labels(url).set(up)

    def shares(self, retriever: Shared) -> None:
        """Tell what `retriever` is asked, and what it is spared, whenever the metrics are read."""
        self._registry.register(_Queries(retriever))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def _count_tokens(self, exchange: Exchange) -> None:
        if exchange.trace is None:
            costs = exchange.costs()
            model = next(iter(exchange.models.values()), "")
            self._add(model, costs.prompt_tokens, costs.cached_tokens, costs.generated_tokens, costs.discarded_tokens)
            return
        for event in exchange.trace.events:
            match event:
                case Segment():
                    model, generated, discarded = exchange.model(event.role), len(event.tokens), event.discarded
                case Probe():
                    model = exchange.model(event.role)
                    generated = discarded = event.generated_tokens
                case _:
                    continue
            self._add(model, event.prompt_tokens, event.cached_tokens or 0, generated, discarded)

    def _add(self, model: str, prompt: int, cached: int, generated: int, discarded: int) -> None:
        counts = {"prompt": prompt, "cached": cached, "generated": generated, "discarded": discarded}
        for kind, count in counts.items():
            if count:
                self._tokens.labels(model, kind).inc(count)


class _Queries(Collector):
    """What the retriever that sessions share counts itself."""

    def __init__(self, retriever: Shared) -> None:
        self._retriever = retriever

    def collect(self) -> Iterator[CounterMetricFamily]:
        told = "Queries of sessions: asked of the retriever, or spared, being known or under way already."
        queries = CounterMetricFamily("flarekit_retriever_queries", told, labels=["kind"])
        queries.add_metric(["asked"], self._retriever.misses)
        queries.add_metric(["spared"], self._retriever.hits)
        yield queries


def _known(name: str, served: Collection[str]) -> str:
    """`name` if it is served or there is none, as there is no policy in a request that was not understood."""
    return name if not name or name in served else "other"
