"""Keys in the environment: an empty one opens no server, and a line end at its end locks nobody out."""

from __future__ import annotations

import pytest
from conftest import Flarekit

from flarekit.errors import ConfigError
from flarekit.io.keys import key_of
from flarekit.retrievers import described
from flarekit.retrievers.dense.embedder import KEY, open_embedder
from flarekit.serve.middleware import require_key
from flarekit.serve.server import ENGINE_KEY

NOWHERE = "http://127.0.0.1:9"

API_KEY = "FLAREKIT_API_KEY"


@pytest.mark.parametrize("value", ["sk-1", "sk-1\n", "sk-1\r\n", " sk-1 \n\n"])
def test_spaces_and_line_ends_around_a_key_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(API_KEY, value)
    assert key_of(API_KEY) == "sk-1"
    monkeypatch.delenv(API_KEY)
    assert key_of(API_KEY) is None


@pytest.mark.parametrize("value", ["", " ", "\n", "\r\n\t"])
@pytest.mark.parametrize("variable", [API_KEY, ENGINE_KEY, KEY])
def test_an_empty_key_is_refused_wherever_one_is_read(
    monkeypatch: pytest.MonkeyPatch, flarekit: Flarekit, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    if variable == KEY:
        with pytest.raises(ConfigError, match=f"{variable} is set and empty"):
            open_embedder(NOWHERE)
    else:
        ended = flarekit("serve", "--engine", NOWHERE, "--policy", "closed-book")
        assert (ended.status, ended.out) == (2, "")
        assert f"{variable} is set and empty; give it a key, or unset it" in ended.complaint


@pytest.mark.parametrize("value", ["sk 1", "sk-é", "sk-1\nsk-2", "a\x7fb"])
def test_a_key_that_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(API_KEY, value)
    with pytest.raises(ConfigError, match="ASCII characters without spaces"):
        key_of(API_KEY)


def test_a_gate_with_an_empty_key_is_none() -> None:
    with pytest.raises(ConfigError, match="a key is made of"):
        require_key(lambda *_: None, ["sk-1", ""], lambda _: None)  # type: ignore[arg-type]


def test_a_secret_of_a_search_engine_loses_its_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "pass word\n")
    assert described._secret("SECRET") == "pass word"
    monkeypatch.setenv("SECRET", "\n")
    with pytest.raises(ConfigError, match="SECRET is not set"):
        described._secret("SECRET")


@pytest.mark.parametrize(("value", "says"), [("sk-1\n", 'clients need one of 1"'), (None, "none is asked of clients")])
def test_the_server_says_at_its_start_whether_it_asks_for_keys(
    monkeypatch: pytest.MonkeyPatch, flarekit: Flarekit, value: str | None, says: str
) -> None:
    monkeypatch.delenv(API_KEY, raising=False)
    if value:
        monkeypatch.setenv(API_KEY, value)
    ended = flarekit("serve", "--engine", NOWHERE, "--policy", "closed-book")
    assert f"keys: {says}" in ended.err
