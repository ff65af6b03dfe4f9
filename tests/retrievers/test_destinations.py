"""Servers that only a file names are asked nothing, and get no key, unless whoever runs flarekit allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Flarekit

from fakes.embedders import Endpoint
from flarekit.errors import ConfigError
from flarekit.retrieval import Passage
from flarekit.retrievers import build_index, open_index
from flarekit.retrievers.index.build import destinations
from flarekit.retrievers.remote.destinations import ALLOWED, hosts, permit

CORPUS = [Passage(str(number), "", "x" * number) for number in range(1, 30)]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


@pytest.fixture
def index(tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose vectors an endpoint made; the endpoint has forgotten that, and there is a key for another one."""
    build_index(CORPUS, tmp_path / "index", "dense", model=endpoint.url)
    endpoint.asked.clear()
    endpoint.keys.clear()
    monkeypatch.setenv("FLAREKIT_EMBEDDER_KEY", "secret")
    return tmp_path / "index"


def host(endpoint: Endpoint) -> str:
    return endpoint.url.removeprefix("http://")


def test_an_endpoint_that_an_index_names_is_asked_nothing(index: Path, endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match=f"names {host(endpoint)} as the server .* set {ALLOWED}={host(endpoint)}"):
        open_index(index)
    described = index.with_name("index.yaml")
    described.write_text("kind: index\npath: index\n")
    with pytest.raises(ConfigError, match="nobody has allowed"):
        open_index(described)
    assert (endpoint.asked, endpoint.keys) == ([], [])


@pytest.mark.parametrize("port", [True, False])
def test_one_whose_host_is_allowed_is_asked_and_gets_no_key(
    index: Path, endpoint: Endpoint, port: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = host(endpoint) if port else host(endpoint).partition(":")[0].upper()
    monkeypatch.setenv(ALLOWED, f"search.example.org, {allowed}")
    [hit] = asyncio.run(open_index(index).search("x" * 7, 1))
    assert hit.passage.text == "x" * 7
    assert endpoint.asked
    assert set(endpoint.keys) == {None}


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_one_that_the_user_names_is_asked_in_its_place_with_the_key(
    index: Path, endpoint: Endpoint, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Endpoint() as other:
        if by == "environment":
            monkeypatch.setenv("FLAREKIT_EMBEDDER", other.url)
        given = other.url if by == "argument" else None
        assert destinations(index, embedder=given) == (host(other),)
        [hit] = asyncio.run(open_index(index, embedder=given).search("x" * 7, 1))
        assert hit.passage.text == "x" * 7
        assert set(other.keys) == {"Bearer secret"}
    assert endpoint.asked == []


@pytest.mark.parametrize("settings", ["kind: opensearch\nurl: URL", "kind: milvus\nurl: URL\nembedder: URL"])
def test_an_engine_that_a_file_names_is_refused_before_it_is_asked(
    tmp_path: Path, endpoint: Endpoint, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    path = tmp_path / "engine.yaml"
    path.write_text(settings.replace("URL", endpoint.url) + "\nindex: passages\n")
    with pytest.raises(ConfigError, match=f"engine.yaml: it names {host(endpoint)}"):
        open_index(path)
    assert destinations(path)[0] == host(endpoint)
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://localhost:8001?model=a", ("localhost:8001",)),
        ("https://u@Search.example.org/v1", ("search.example.org",)),
        ("http://[::1]:80", ("[::1]:80",)),
        ("tcp://host:19530", ("host:19530",)),
        ("passages.db", ()),
        ("all-MiniLM-L6-v2?dtype=bfloat16", ()),
        ("postgresql://a:5432/b", ("a:5432",)),
        ("postgresql://a:5432,c:5432/b", ("a:5432", "c:5432")),
        ("postgresql://a:1,c:2/b", ("a", "c")),
        ("postgresql:///b?host=/tmp", ()),
        ("postgresql:///b?host=elsewhere.example.org", ("elsewhere.example.org",)),
        ("postgresql://localhost/b?hostaddr=10.0.0.1", ("localhost", "10.0.0.1")),
    ],
)
def test_every_form_of_an_address_tells_its_hosts(address: str, found: tuple[str, ...]) -> None:
    if address.startswith("postgresql"):
        pytest.importorskip("psycopg")
    assert hosts(address) == found


@pytest.mark.parametrize(
    ("address", "allowed", "fine"),
    [
        ("http://a:1", "a", True),
        ("http://a:1", "a:1", True),
        ("http://a:1", "a:2", False),
        ("http://a", "b", False),
        ("http://a", "", False),
        ("http://evil.example/?a", "a", False),
        ("http://a@evil.example", "a", False),
        ("http://a.evil.example", "a", False),
        ("http://[::1]:80", "[::1]", True),
        ("postgresql://a,evil.example/b", "a", False),
    ],
)
def test_what_is_allowed_is_a_whole_host(
    address: str, allowed: str, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, allowed)
    if fine:
        permit(address)
    else:
        with pytest.raises(ConfigError, match="nobody has allowed"):
            permit(address)


def test_a_command_says_where_queries_go(
    index: Path, endpoint: Endpoint, flarekit: Flarekit, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = flarekit("index", "search", index, "xxx")
    assert (refused.status, endpoint.asked) == (2, [])
    assert refused.complaint.startswith(f"{index}: it names {host(endpoint)} as the server")
    ended = flarekit("index", "search", index, "xxx", "--embedder", endpoint.url)
    assert ended.status == 0
    assert ended.err == f"queries are sent to {host(endpoint)}\n"
