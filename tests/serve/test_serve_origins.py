"""Which browsers' pages may use the server, by which names it may be called, and what an answer says of its policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.scripted_vllm import ScriptedVLLM, saying
from fakes.serving import serving
from flarekit.errors import ConfigError
from flarekit.serve.origins import check_origin
from flarekit.serve.protocol.request import REASONS, passed_through

ASKED: list[Any] = [{"role": "user", "content": "Where was Emma Reus born?"}]
CHAT = "https://chat.example"
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def engine() -> Iterator[ScriptedVLLM]:
    with ScriptedVLLM(saying("In Graz.")) as server:
        yield server


@pytest.fixture(scope="module")
def url(engine: ScriptedVLLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    corpus = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    options: dict[str, Any] = {"origins": [CHAT, "http://localhost:3000/"], "hosts": ["Flarekit.Example"]}
    with serving(engine.url, corpus, policy="flare", keys=["k"], **options) as address:
        yield address


def ask(url: str, *, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **body: Any) -> Any:
    sent = {"model": "flare", "messages": ASKED, **body}
    return httpx.post(url + path, json=sent, headers={"authorization": "Bearer k", **(headers or {})}, timeout=30)


# --- pages of other origins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [CHAT, "http://localhost:3000"])
def test_a_page_of_an_allowed_origin_asks_first_and_then_reads_the_answer(url: str, origin: str) -> None:
    asking = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    first = httpx.options(f"{url}/v1/chat/completions", headers=asking)
    assert first.status_code == 200, "without a key: browsers send none before they may"
    assert first.headers["access-control-allow-origin"] == origin
    assert first.headers["access-control-allow-credentials"] == "true"
    assert {"authorization", "content-type", "x-stainless-os"} <= set(
        first.headers["access-control-allow-headers"].replace(" ", "").split(",")
    )
    for answer in (ask(url, headers={"origin": origin}), ask(url, headers={"origin": origin}, stream=True)):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        exposed = answer.headers["access-control-expose-headers"]
        assert {"x-request-id", "x-flarekit-policy", "retry-after"} <= set(exposed.replace(" ", "").split(","))


def test_a_refusal_can_be_read_by_an_allowed_page_too(url: str) -> None:
    refused = ask(url, headers={"origin": CHAT, "authorization": "Bearer wrong"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == CHAT


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/v1/models", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://chat.example", CHAT + ":444", CHAT + ".evil", "null", "", "file://", "x" * 9999],
)
def test_a_page_of_another_origin_gets_nothing(url: str, path: str, origin: str) -> None:
    answer = httpx.request("POST" if "chat" in path else "GET", url + path, headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert len(answer.text) < 600


def test_the_servers_own_page_may_ask(url: str) -> None:
    own = url.replace("127.0.0.1", "localhost")
    assert ask(own, headers={"origin": own}).status_code == 200
    assert "access-control-allow-origin" not in ask(own, headers={"origin": own}).headers
    behind_tls = {"host": "flarekit.example", "origin": "https://flarekit.example"}
    assert ask(url, headers=behind_tls).status_code == 200


@pytest.mark.parametrize(
    "origin", ["chat.example", "https://", "https://chat.example/page", "https://a@b", "//x", "http://a:b"]
)
def test_what_is_no_origin_is_refused_at_the_start(engine: ScriptedVLLM, origin: str) -> None:
    with pytest.raises(ConfigError, match="an origin such as"), serving(engine.url, origins=[origin]):
        pass


# --- names by which it is called --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.8.9.1", "[::1]:80", "a.localhost"]
)
def test_this_machines_own_names_are_known(url: str, host: str) -> None:
    assert httpx.get(f"{url}/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["flarekit.example", "FLAREKIT.example.:443"])
def test_a_name_that_was_allowed_is_known(url: str, host: str) -> None:
    assert httpx.get(f"{url}/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "[fe80::1]", "", "x" * 5000],
)
@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/v1/models"])
def test_a_name_that_was_led_here_is_not(url: str, host: str, path: str) -> None:
    answer = httpx.get(url + path, headers={"host": host, "authorization": "Bearer k"})
    assert answer.status_code == 403
    assert len(answer.text) < 600


@pytest.mark.parametrize(("local", "status"), [(True, 403), (False, 200)])
async def test_addresses_in_numbers_are_known_where_the_network_is_served(local: bool, status: int) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    gate = check_origin(app, [], [], lambda status: None, local=local)
    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", b"10.0.0.7:8080")]}
    await gate(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == status


# --- what a page can send unasked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_body_that_does_not_say_it_is_json_is_refused(url: str, path: str, kind: str | None) -> None:
    headers = {"authorization": "Bearer k"} | ({"content-type": kind} if kind else {})
    content = b'{"model": "flare", "messages": [{"role": "user", "content": "?"}], "prompt": "?"}'
    assert httpx.post(url + path, content=content, headers=headers).status_code == 415


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
def test_json_may_be_said_in_several_ways(url: str, kind: str) -> None:
    assert ask(url, headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/metrics", "/v1/models", "/v1/nothing"])
def test_nothing_can_be_framed_or_embedded(url: str, path: str) -> None:
    headers = httpx.get(url + path, headers={"authorization": "Bearer k"}).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"


# --- why no policy applied --------------------------------------------------------------------------------------------

TURN = {"role": "user", "content": "?"}
PASSED: list[tuple[str, dict[str, Any]]] = [
    ("tools", {"tools": [{"type": "function", "function": {"name": "now", "parameters": {}}}]}),
    ("functions", {"functions": [{"name": "now"}]}),
    ("n", {"n": 2}),
    ("best_of", {"best_of": 2}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("echo", {"echo": True}),
    ("prompt_logprobs", {"prompt_logprobs": 0}),
    ("chat_template", {"chat_template": "{{ messages }}"}),
    ("turn without text", {"messages": [TURN, {"role": "assistant", "content": None}, TURN]}),
    ("turn without text", {"messages": [TURN, {"role": "assistant"}, TURN]}),
    ("turn without text", {"messages": [{"role": "user", "content": "?", "tool_calls": [{}]}]}),
    ("part that is no text", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
    ("last turn", {"messages": [TURN, {"role": "system", "content": "Be brief."}]}),
    ("last turn", {"messages": [TURN, {"role": "assistant", "content": "It was"}]}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "?"}),
    ("model", {"model": "weak"}),
]


@pytest.mark.parametrize(("reason", "body"), PASSED)
def test_an_answer_without_a_policy_says_so_and_why(
    url: str, engine: ScriptedVLLM, reason: str, body: dict[str, Any]
) -> None:
    said = engine.complete
    engine.complete = lambda body: iter([b'{"choices": []}'])
    try:
        answer = ask(url, **body)
    finally:
        engine.complete = said
    assert answer.headers["x-flarekit-policy"] == f"none ({reason})"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_by_a_policy_names_it(url: str, stream: bool) -> None:
    assert ask(url, stream=stream).headers["x-flarekit-policy"] == "flare"


@pytest.mark.parametrize("field", [field for field in REASONS if " " not in field and field not in ("model", "prompt")])
@pytest.mark.parametrize("value", [None, False, [], {}, ""])
def test_a_field_that_says_nothing_turns_no_policy_off(field: str, value: Any) -> None:
    if field in ("n", "best_of", "response_format", "messages") and value is not None:
        return
    if field == "messages":
        return
    assert passed_through({"messages": [TURN], field: value}, chat=True) is None


def test_the_documentation_lists_the_reasons_that_there_are() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `none (")]
    assert rows == [f"| `none ({reason})` | {why} |" for reason, why in REASONS.items()]
