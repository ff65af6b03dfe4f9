"""Which policies a server offers, and what it says of settings that cannot be served."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from pathlib import Path

import pytest
from conftest import Flarekit
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted_vllm import ScriptedVLLM
from fakes.serving import CORPUS
from flarekit.errors import ConfigError
from flarekit.policies import POLICIES
from flarekit.retrievers import write_corpus
from flarekit.serve.catalog import offer
from flarekit.serve.protocol.request import NotUnderstood, passed_through, read_body, understand


def test_what_is_always_offered_depends_on_what_is_there() -> None:
    assert list(offer("weak", strong=False, retriever=False).policies) == ["weak"]
    assert list(offer("flare", strong=False, retriever=True).policies) == ["weak", "flare"]
    assert list(offer("escalate", strong=True, retriever=True).policies) == ["weak", "strong", "escalate", "flare"]


def test_a_policy_with_parameters_is_offered_by_its_whole_name() -> None:
    offered = offer("flare:theta=0.5", strong=False, retriever=True)
    assert offered.default == "flare:theta=0.5"
    assert offered.policies["flare:theta=0.5"].policy


def test_a_file_names_policies_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("default: quick\npolicies: {careful: {policy: 'flare:theta=0.9', strict: true}, quick: weak}")
    offered = offer(str(path), strong=False, retriever=True)
    assert list(offered.policies) == ["weak", "flare", "careful", "quick"]
    assert offered.policies["careful"].strict
    assert not offered.policies["flare"].strict
    assert offered.policies["quick"].policy is None
    assert offered.find("quick") is offered.policies["quick"]
    assert offered.find("nobody") is None


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_served_or_refused_with_its_reason(name: str) -> None:
    if name in ("direct", "flare-instruct"):
        with pytest.raises(ConfigError, match="prompt of its own"):
            offer(name, strong=True, retriever=True)
    elif name in ("adaptive-rag", "avengers-pro", "masrouter"):
        with pytest.raises(ConfigError, match="needs the parameter"):
            offer(name, strong=True, retriever=True)
    else:
        offered = offer(name, strong=True, retriever=True)
        assert offered.find(name)
        assert all(card["flarekit"].get("about", "x") for card in offered.cards())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("policies: {}", "policies: Dictionary should have at least 1 item"),
        ("policies: {a: nobody}", "no policy is called 'nobody'"),
        ("policies: {a: flare}", "flare looks passages up: give them with --index"),
        ("policies: {a: escalate}", "escalate calls a strong engine: give its URL with --strong"),
        ("policies: {a: weak}\ndefault: b", "the default 'b' is not one of weak, a"),
        ("policies: {a: {policy: weak, strength: 3}}", "strength"),
        ("policies: [", "not YAML"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, flarekit: Flarekit, content: str, complaint: str) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(content)
    ended = flarekit("serve", "--engine", "http://localhost:9", "--policy", path)
    assert ended.status == 2
    assert complaint in ended.complaint


def test_what_cannot_be_served_is_one_clear_line(tmp_path: Path, flarekit: Flarekit) -> None:
    corpus = tmp_path / "corpus.jsonl"
    write_corpus(corpus, CORPUS)

    def complaint(*options: object) -> str:
        ended = flarekit("serve", *options)
        assert ended.status == 2
        return ended.complaint

    with ScriptedVLLM(model="big") as big, ScriptedVLLM() as engine, socket.create_server(("127.0.0.1", 0)) as taken:
        served = "--engine", engine.url
        assert "flare looks passages up: give them with --index" in complaint(*served)
        assert "prompt of its own" in complaint(*served, "--policy", "flare-instruct", "--index", corpus)
        assert "missing.jsonl" in complaint(*served, "--index", tmp_path / "missing.jsonl")
        assert "missing.yaml: cannot be read (No such file" in complaint(*served, "--policy", tmp_path / "missing.yaml")
        assert "does not serve 'other'" in complaint(*served, "--policy", "weak", "--model", "other")
        assert "is given twice" in complaint(*served, *served, "--policy", "weak")
        assert "no keys" in complaint(*served, "--policy", "weak", "--api-keys", _empty(tmp_path))
        assert f"scripted at {engine.url}, big at {big.url}" in complaint(
            *served, "--engine", "http://127.0.0.1:9", "--engine", big.url, "--policy", "weak"
        )
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in complaint(*served, "--policy", "weak", "--port", port)
    assert "is a server running there?" in complaint("--engine", "http://127.0.0.1:9", "--policy", "weak")
    assert "such as http://localhost:8000" in complaint("--engine", "localhost:9", "--policy", "weak")


def _empty(folder: Path) -> Path:
    (folder / "keys").write_text("# none\n")
    return folder / "keys"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(
    [
        "messages",
        "prompt",
        "max_tokens",
        "stop",
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "n",
        "tools",
        "response_format",
        "flarekit",
    ]
)


@given(st.dictionaries(_FIELDS, _JSON), st.booleans())
def test_whatever_a_request_holds_it_is_understood_refused_or_passed_through(
    body: dict[str, object], chat: bool
) -> None:
    if passed_through(body, chat) is None:
        with contextlib.suppress(NotUnderstood):
            understand(body, chat)


@given(st.binary() | st.text().map(str.encode))
def test_no_body_is_more_than_not_understood(content: bytes) -> None:
    with contextlib.suppress(NotUnderstood):
        assert isinstance(read_body(content)["model"], str)


# --- what vLLM takes --------------------------------------------------------------------------------------------------

_ASKED: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "?"}], "prompt": "?"}
_VALUES: list[object] = [
    None,
    0,
    1,
    2,
    20,
    21,
    50.0,
    50.5,
    -1,
    1e3,
    float(2**40),
    "",
    "\n",
    [],
    ["a"],
    ["a", "b"],
    [""],
]
_VALUES += [True, False, "true", "no", {}, [1]]
_CARRIED = ("max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stop", "stream", "stream_options")


def _taken(body: dict[str, object], chat: bool) -> bool:
    try:
        understand(body, chat)
    except NotUnderstood:
        return False
    return True


@pytest.mark.vllm  # importing it takes longer than all other tests here
@pytest.mark.parametrize("chat", [True, False])
def test_no_value_of_a_field_is_refused_that_vllm_takes(chat: bool) -> None:
    """Against vLLM's own models of requests."""
    name = "chat_completion" if chat else "completion"
    protocol = pytest.importorskip(f"vllm.entrypoints.openai.{name}.protocol", reason="vLLM is not installed")
    kind = protocol.ChatCompletionRequest if chat else protocol.CompletionRequest
    for field, value in itertools.product(_CARRIED, _VALUES):
        body = {**_ASKED, "logprobs": True if chat else 1, "stream": True, field: value}
        try:
            kind.model_validate(body)
        except Exception:  # its errors are of no common kind
            continue
        # Lengths and numbers of alternatives that vLLM refuses later, or numbers that are written as flags.
        number = value if isinstance(value, int | float) else 1
        out_of_range = not 1 <= number <= 20 if field.endswith("logprobs") else number < 1
        a_flag = isinstance(value, bool) and (field.startswith("max") or field.endswith("logprobs"))
        empty_stop = field == "stop" and value in ("", [""])
        assert out_of_range or a_flag or empty_stop or _taken(body, chat), (field, value)


@pytest.mark.parametrize("value", [None, 50, 50.0])
def test_whole_numbers_may_be_written_as_fractions(value: float | None) -> None:
    assert understand({**_ASKED, "max_tokens": value}, chat=True).max_tokens == (value and 50)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_a_body_may_be_in_any_encoding_of_unicode(encoding: str) -> None:
    written = json.dumps({"model": "Zoë"}, ensure_ascii=False)
    assert read_body(written.encode(encoding)) == {"model": "Zoë"}


@pytest.mark.parametrize("depth", [100, 300, 900, 2000, 100_000])
def test_a_body_that_is_nested_without_end_is_refused(depth: int) -> None:
    content = b'{"model": "m", "x": ' + b"[" * depth + b"]" * depth + b"}"
    if depth > 200:
        with pytest.raises(NotUnderstood):
            read_body(content)
    else:
        assert read_body(content)["model"] == "m"


@pytest.mark.parametrize("field", ["max_tokens", "stop", "stream", "flarekit", "logprobs", "top_logprobs"])
@pytest.mark.parametrize("value", ["x" * 10**6, ["x" * 10**6, 1], {"events": "y" * 10**6}, -(10**30)], ids=type)
def test_what_a_request_holds_is_quoted_at_most_in_part(field: str, value: object) -> None:
    said = ""
    try:
        understand({**_ASKED, "logprobs": True, field: value}, chat=True)
    except NotUnderstood as error:
        said = str(error)
    assert len(said) < 400
