"""Metrics, spans and logs of one exchange, whose trace holds an event of every kind."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from fakes.scripted_vllm import ScriptedVLLM, saying
from fakes.serving import CORPUS, serving
from flarekit.errors import ConfigError
from flarekit.retrieval import Hit, Passage
from flarekit.retrievers import BM25Retriever
from flarekit.retrievers.batching import Shared
from flarekit.serve.observers.logs import Logs, configure
from flarekit.serve.observers.metrics import Metrics
from flarekit.serve.observers.record import Exchange, Observer
from flarekit.serve.observers.spans import Spans, export
from flarekit.tokens import Token, Usage
from flarekit.trace import Chosen, Event, Failed, Fired, HandedOver, Probe, Retrieved, Segment, Trace

CHAT = "/v1/chat/completions"
BEGAN = 1_700_000_000_000_000_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PRIVATE = "Ada's secret"


def tokens(*texts: str) -> list[Token]:
    return [Token(text, 1, -0.1, {text: -0.1}) for text in texts]


def events() -> list[Event]:
    hits = [Hit(Passage("p1", PRIVATE, PRIVATE), 2.0), Hit(Passage("p2", "Other", PRIVATE), 1.0)]
    return [
        Chosen("tfidf", "flare:theta=0.8", at=0.0),
        Probe("question-ppl", 3.5, "weak", prompt_tokens=7, generated_tokens=1, at=0.1, seconds=0.2, texts=[PRIVATE]),
        Fired("max-surprise", "mid", 0.9, 0.5, "retrieve", 0, 2, at=1.0),
        Segment(
            "weak", tokens(PRIVATE, " b", " c"), 2, "closed", 30, 16, at=0.5, first_token=0.1, seconds=0.5, replayed=0
        ),
        Retrieved(PRIVATE, hits, at=1.0, seconds=0.25),
        Failed("retriever", f"HTTPStatusError: 500 for /search?q={PRIVATE}", at=1.3),
        HandedOver("weak", "strong", PRIVATE, at=1.5),
        Segment("strong", tokens(" d"), 1, "stop", 40, None, at=1.5, first_token=0.2, seconds=0.75),
    ]


def exchange(**fields: Any) -> Exchange:
    """An exchange that ended well, unless `fields` say otherwise."""
    usual: dict[str, Any] = {
        "endpoint": CHAT,
        "policy": "flare",
        "models": {"weak": "small", "strong": "large"},
        "question": PRIVATE,
        "began_ns": BEGAN,
        "first": 0.75,
        "trace": Trace("req-1", "flare:theta=0.8", PRIVATE, PRIVATE, PRIVATE, events(), 2.25),
    }
    return Exchange("req-1", **(usual | fields))


def passed_through(**fields: Any) -> Exchange:
    """An exchange that no policy had a part in."""
    usual = {"policy": "strong", "trace": None, "models": {"strong": "large"}, "usage": Usage(20, None, 5)}
    return exchange(**(usual | fields))


def watch(observer: Observer, *exchanges: Exchange) -> None:
    for each in exchanges:
        observer.begin(each)
        for event in each.trace.events if each.trace else ():
            observer.event(each, event)
        observer.end(each)


# --- metrics ----------------------------------------------------------------------------------------------------------

Sample = tuple[str, tuple[tuple[str, str], ...]]


def metrics() -> Metrics:
    return Metrics(endpoints=[CHAT], policies=["flare", "strong"])


def samples(rendered: bytes) -> dict[Sample, float]:
    """Every sample by its name and its labels, as Prometheus reads them."""
    families = text_string_to_metric_families(rendered.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(observer: Metrics, name: str, **labels: str) -> float | None:
    return samples(observer.render()).get((f"flarekit_{name}", tuple(sorted(labels.items()))))


def test_requests_are_counted_by_endpoint_policy_outcome_and_status() -> None:
    observer = metrics()
    failed = {"outcome": "failed", "status": 502, "error": "no"}
    watch(observer, exchange(), exchange(), exchange(**failed))
    observer.refused(429)

    def count(endpoint: str, policy: str, outcome: str, status: str) -> float | None:
        labels = {"endpoint": endpoint, "policy": policy, "outcome": outcome, "status": status}
        return value(observer, "requests_total", **labels)

    assert count(CHAT, "flare", "ok", "200") == 2
    assert count(CHAT, "flare", "failed", "502") == 1
    assert count("", "", "refused", "429") == 1


def test_a_request_is_running_until_it_ends() -> None:
    observer, first, second = metrics(), exchange(), exchange()
    observer.begin(first)
    observer.begin(second)
    assert value(observer, "running_requests") == 2
    observer.end(first)
    observer.end(second)
    assert value(observer, "running_requests") == 0


def test_times_fall_into_buckets_from_milliseconds_to_minutes() -> None:
    observer = metrics()
    watch(observer, exchange(first=0.004), exchange(first=0.3), exchange(first=None, outcome="left"))

    def first(bound: str) -> float | None:
        return value(observer, "first_text_seconds_bucket", policy="flare", le=bound)

    assert [first("0.005"), first("0.25"), first("0.5"), first("120.0")] == [1, 1, 2, 2]
    assert value(observer, "request_seconds_count", policy="flare", outcome="ok") == 2
    assert value(observer, "request_seconds_count", policy="flare", outcome="left") == 1


def test_what_a_session_did_is_counted_from_its_events() -> None:
    observer = metrics()
    watch(observer, exchange())

    assert value(observer, "triggers_fired_total", signal="max-surprise", moment="mid", action="retrieve") == 1
    assert value(observer, "retrieval_seconds_sum") == 0.25
    assert value(observer, "retrieval_seconds_count") == 1
    assert value(observer, "passages_found_total") == 2
    assert value(observer, "handovers_total", target="strong") == 1
    assert value(observer, "failures_total", part="retriever") == 1


def test_tokens_are_counted_by_model_and_kind_as_the_traces_costs_are() -> None:
    observer, one = metrics(), exchange()
    watch(observer, one)
    costs = one.costs()

    def count(kind: str) -> list[float | None]:
        return [value(observer, "tokens_total", model=model, kind=kind) for model in ("small", "large")]

    assert count("prompt") == [37, 40] == [costs.prompt_tokens - costs.strong_prompt_tokens, costs.strong_prompt_tokens]
    assert count("generated") == [4, 1] == [4, costs.strong_generated_tokens]
    assert count("cached") == [16, None]
    assert count("discarded") == [2, None]
    assert costs.discarded_tokens == 2


def test_a_request_that_was_passed_through_counts_the_tokens_that_the_engine_told() -> None:
    observer = metrics()
    watch(observer, passed_through(), passed_through(usage=None))

    assert value(observer, "tokens_total", model="large", kind="prompt") == 20
    assert value(observer, "tokens_total", model="large", kind="generated") == 5


def test_upstreams_are_told_apart() -> None:
    observer = metrics()
    observer.upstream_healthy("http://a", True)
    observer.upstream_healthy("http://b", True)
    observer.upstream_healthy("http://b", False)
    observer.upstream_error("http://b")

    assert value(observer, "upstream_healthy", upstream="http://a") == 1
    assert value(observer, "upstream_healthy", upstream="http://b") == 0
    assert value(observer, "upstream_errors_total", upstream="http://b") == 1


async def test_queries_are_counted_as_asked_of_the_retriever_or_spared() -> None:
    observer, retriever = metrics(), Shared(BM25Retriever(CORPUS))
    observer.shares(retriever)

    def counts() -> list[float | None]:
        return [value(observer, "retriever_queries_total", kind=kind) for kind in ("asked", "spared")]

    assert counts() == [0, 0]
    await retriever.search_many(["Vienna", "Danube", "Vienna"], 2)
    await retriever.search("Danube", 2)
    assert counts() == [2, 2]


def test_a_server_tells_what_its_retriever_was_spared(tmp_path: Path) -> None:
    body = {"model": "rag", "messages": [{"role": "user", "content": "Where was Emma Reus born?"}]}
    with (
        ScriptedVLLM(saying("Emma Reus was born in Vienna.")) as engine,
        serving(engine.url, tmp_path / "corpus.jsonl", policy="rag") as url,
    ):
        for _ in range(3):
            assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 200
        told = samples(httpx.get(f"{url}/metrics").content)

    assert told["flarekit_retrieval_seconds_count", ()] == 3
    assert told["flarekit_retriever_queries_total", (("kind", "asked"),)] == 1
    assert told["flarekit_retriever_queries_total", (("kind", "spared"),)] == 2


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_clients_cannot_make_up_labels(named: list[tuple[str, str]]) -> None:
    observer = metrics()
    watch(observer, *(passed_through(endpoint=endpoint, policy=policy) for endpoint, policy in named))
    labels = [dict(pairs) for _, pairs in samples(observer.render())]

    assert {each["endpoint"] for each in labels if "endpoint" in each} <= {CHAT, "", "other"}
    assert {each["policy"] for each in labels if "policy" in each} <= {"flare", "strong", "", "other"}


def test_two_servers_in_one_process_have_metrics_of_their_own() -> None:
    first, second = metrics(), metrics()
    watch(first, exchange())

    assert value(second, "passages_found_total") == 0


# --- spans ------------------------------------------------------------------------------------------------------------


def spans(*exchanges: Exchange, text: bool = False) -> list[ReadableSpan]:
    """The spans of these exchanges, each request's own after those within it were begun."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    watch(Spans(provider, text=text), *exchanges)
    return list(exporter.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def times(span: ReadableSpan) -> tuple[float, float]:
    """Its start and its end, in seconds since the request began."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - BEGAN) / 1e9, (span.end_time - BEGAN) / 1e9


def test_a_request_has_a_span_for_each_part_of_its_session() -> None:
    *parts, request = spans(exchange())

    assert [(part.name, part.kind, times(part)) for part in parts] == [
        ("probe question-ppl", SpanKind.CLIENT, (0.1, 0.3)),
        ("text_completion small", SpanKind.CLIENT, (0.5, 1.0)),
        ("retrieval", SpanKind.CLIENT, (1.0, 1.25)),
        ("hand over to strong", SpanKind.INTERNAL, (1.5, 1.5)),
        ("text_completion large", SpanKind.CLIENT, (1.5, 2.25)),
    ]
    assert (request.name, request.kind, times(request)[0]) == (f"POST {CHAT}", SpanKind.SERVER, 0.0)
    assert {part.parent and part.parent.span_id for part in parts} == {request.context.span_id}
    assert request.parent is None


def test_spans_say_what_was_measured() -> None:
    probe, weak, retrieval, handover, strong, request = map(attributes, spans(exchange()))

    assert (probe["flarekit.signal"], probe["flarekit.value"]) == ("question-ppl", 3.5)
    assert (weak["gen_ai.operation.name"], weak["gen_ai.request.model"]) == ("text_completion", "small")
    assert (weak["gen_ai.usage.input_tokens"], weak["gen_ai.usage.output_tokens"]) == (30, 3)
    assert (weak["flarekit.kept"], weak["flarekit.discarded"]) == (2, 1)
    assert weak["gen_ai.usage.cache_read.input_tokens"] == 16
    assert "gen_ai.usage.cache_read.input_tokens" not in strong  # its server does not say
    assert (retrieval["flarekit.hits"], retrieval["flarekit.passages"]) == (2, ("p1", "p2"))
    assert (handover["flarekit.source"], handover["flarekit.target"]) == ("weak", "strong")
    assert (request["flarekit.policy"], request["http.response.status_code"]) == ("flare", 200)


def test_what_takes_no_time_is_an_event_of_the_requests_span() -> None:
    chosen, fired, failed = spans(exchange())[-1].events
    decided = dict(fired.attributes or {})

    assert [chosen.name, fired.name, failed.name] == ["chosen", "fired", "failed"]
    assert fired.timestamp == BEGAN + 10**9
    assert (decided["flarekit.signal"], decided["flarekit.value"], decided["flarekit.threshold"]) == (
        "max-surprise",
        0.9,
        0.5,
    )


def test_a_clients_trace_goes_on_in_our_spans() -> None:
    *parts, request = spans(exchange(traceparent=TRACEPARENT))

    assert request.parent is not None
    assert format(request.parent.span_id, "016x") == TRACEPARENT.split("-")[2]
    assert {format(span.context.trace_id, "032x") for span in (*parts, request)} == {TRACEPARENT.split("-")[1]}


@given(st.text(max_size=60))
def test_a_traceparent_that_is_none_is_ignored(sent: str) -> None:
    assert spans(passed_through(traceparent=sent))[0].parent is None


def test_a_failed_request_has_a_failed_span() -> None:
    [request] = spans(passed_through(outcome="failed", status=502, error="http://a: no answer"))

    assert (request.status.status_code, request.status.description) == (StatusCode.ERROR, "http://a: no answer")
    assert attributes(request)["gen_ai.usage.output_tokens"] == 5


def test_a_stream_that_nobody_read_to_its_end_ends_with_the_request() -> None:
    broken = Trace("req-1", "flare", "?", events=[Segment("weak", tokens("a"), at=0.0)])
    segment, request = spans(exchange(trace=broken, outcome="left"))

    assert times(segment) == times(request)


def test_spans_hold_no_text_unless_asked_for() -> None:
    told = "".join(span.to_json() for span in spans(exchange()))
    asked = {span.name: attributes(span) for span in spans(exchange(), text=True)}

    assert PRIVATE not in told
    assert asked[f"POST {CHAT}"]["flarekit.question"] == PRIVATE
    assert asked[f"POST {CHAT}"]["flarekit.answer"] == PRIVATE
    assert asked["retrieval"]["gen_ai.retrieval.query.text"] == PRIVATE
    assert PRIVATE in asked["retrieval"]["flarekit.passage_texts"][0]
    assert asked["text_completion small"]["flarekit.text"] == f"{PRIVATE} b c"


def test_without_an_sdk_spans_cost_nothing_and_need_nothing() -> None:
    with export() as provider:
        assert provider is None
        watch(Spans(provider), exchange())


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of an OTLP collector, and the requests that it got: their paths and bodies."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_spans_have_reached_the_collector_when_the_server_ends(
    named_by: str, collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = collector
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if named_by == "environment":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with export(url if named_by == "argument" else None) as provider:
        watch(Spans(provider), exchange())
    [(path, body)] = received

    assert path == "/v1/traces"
    assert b"hand over to strong" in body
    assert b"flarekit" in body


def test_what_the_environment_calls_the_service_goes_before_our_name(
    collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = collector
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "answers-in-production")
    with export(f"{url}/v1/traces") as provider:
        watch(Spans(provider), passed_through())

    assert [path for path, body in received if b"answers-in-production" in body] == ["/v1/traces"]


def test_a_missing_exporter_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(ConfigError, match=r"pip install 'flarekit\[otel\]'"), export("http://127.0.0.1:4318"):
        pass


def test_a_collector_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="not 'localhost:4318'"), export("localhost:4318"):
        pass


# --- logs -------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _logging_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


pytestmark = pytest.mark.usefixtures("_logging_put_back")


def logged(*exchanges: Exchange, text: bool = False) -> list[dict[str, Any]]:
    """The lines of these exchanges."""
    stream = io.StringIO()
    configure(stream)
    watch(Logs(text=text), *exchanges)
    return [json.loads(line) for line in stream.getvalue().removesuffix("\n").split("\n")]


def test_one_line_of_json_tells_of_one_exchange() -> None:
    [line] = logged(exchange())
    told = ["request_id", "endpoint", "policy", "status", "outcome", "first", "retrievals", "escalations", "error"]

    assert [line[field] for field in told] == ["req-1", CHAT, "flare", 200, "ok", 0.75, 1, 1, None]
    counted = [line[f"{kind}_tokens"] for kind in ("prompt", "cached", "generated", "discarded")]
    assert counted == [77, 16, 5, 2]
    assert line["failures"] == ["retriever: HTTPStatusError"]
    assert (line["event"], line["level"], line["logger"]) == ("request", "info", "flarekit.serve")
    assert line["time"].endswith("Z")
    assert isinstance(line["seconds"], float)


def test_a_failed_exchange_is_logged_as_an_error() -> None:
    [line] = logged(passed_through(outcome="failed", status=502, error="http://a: no answer"))

    assert (line["level"], line["error"], line["status"]) == ("error", "http://a: no answer", 502)
    assert (line["prompt_tokens"], line["generated_tokens"], line["retrievals"]) == (20, 5, 0)


def test_a_line_says_why_no_policy_applied() -> None:
    [passed], [not_passed] = logged(passed_through(passed="tools")), logged(exchange())

    assert (passed["passed_through"], not_passed["passed_through"]) == ("tools", None)


def test_lines_hold_no_text_unless_asked_for() -> None:
    [told], [asked] = logged(exchange()), logged(exchange(), text=True)

    assert PRIVATE not in json.dumps(told)
    assert (asked["question"], asked["queries"], asked["answer"]) == (PRIVATE, [PRIVATE], PRIVATE)
    assert PRIVATE in asked["failures"][0]


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_the_text_it_is_one_line(said: str) -> None:
    [line] = logged(exchange(question=said, error=said), text=True)

    assert (line["question"], line["error"]) == (said, said or None)


def test_a_terminal_gets_lines_for_people() -> None:
    terminal = Terminal()
    configure(terminal)
    watch(Logs(), exchange())

    assert len(terminal.getvalue().splitlines()) == 1
    assert "req-1" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks")


async def test_uvicorns_own_lines_have_the_same_form() -> None:
    stream = io.StringIO()
    configure(stream)
    server = uvicorn.Server(uvicorn.Config(_app, port=0, log_config=None, lifespan="off"))
    server.should_exit = True
    await server.serve()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert {(line["logger"], line["level"]) for line in lines} == {("uvicorn.error", "info")}
    assert "Uvicorn running on" in "".join(line["event"] for line in lines)


@pytest.mark.parametrize("logger", [logging.getLogger("uvicorn.error"), structlog.stdlib.get_logger("flarekit")])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_shows_no_variables(stream: type[io.StringIO], logger: Any) -> None:
    output = stream()
    configure(output)
    secret = f"{PRIVATE} prompt"
    try:
        raise RuntimeError(len(secret))
    except RuntimeError:
        logger.exception("unexpected")

    assert "Traceback" in output.getvalue()
    assert "RuntimeError: 19" in output.getvalue()
    assert secret not in output.getvalue()


def test_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    configure(stream)
    logging.getLogger("httpx").info("HTTP Request: POST http://a")
    logging.getLogger("opentelemetry.exporter").warning("no collector")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["no collector"]


def test_retries_of_an_engine_are_logged_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure(stream)
    calls = []
    with stamina.set_testing(True, attempts=2):
        for attempt in stamina.retry_context(on=ConnectionError, attempts=2):
            with attempt:
                calls.append(attempt.num)
                if len(calls) == 1:
                    raise ConnectionError("refused")
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert (line["logger"], line["level"]) == ("stamina", "warning")
    assert capsys.readouterr().out == ""
