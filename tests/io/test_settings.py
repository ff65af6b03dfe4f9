"""YAML files from anywhere: every fault is one line that names the file, and none takes memory or time."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Flarekit
from hypothesis import given
from hypothesis import strategies as st

from flarekit.errors import ConfigError, DataError
from flarekit.eval.runs.sweeps import expand
from flarekit.io.settings import DEEPEST, LARGEST, MOST, count, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
BROKEN = {
    "bracket": "policies: [",
    "nested list": "[" * 5000,
    "nested map": "".join(f"{' ' * n}a:\n" for n in range(DEEPEST + 2)) + " " * (DEEPEST + 2) + "b",
    "aliases": BOMB,
    "cycle": "a: &a [*a]",
    "bad date": "limit: 2024-13-32",
    "bad time": "limit: 2024-01-01 25:61:61",
    "bad int": "limit: !!int ''",
    "bad float": "limit: !!float x",
    "huge int": "limit: " + "9" * 10_000,
    "python": "limit: !!python/object/apply:os.system [true]",
    "unhashable": "? [a]\n: b",
    "two documents": "a: 1\n---\nb: 2",
    "control": "a: \x00",
    "large": "# " + "x" * LARGEST,
    "many": "[" + "1," * (MOST + 1) + "]",
    "unknown alias": "a: *b",
    "tab": "a:\n\t- b",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_or_hostile_file_is_one_line_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=r"settings\.yaml: ") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \xe9", b"\xed\xa0\x80"])
def test_bytes_that_are_no_utf8_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(DataError, match=r"settings\.yaml: not YAML"):
        read_yaml(tmp_path / "settings.yaml")


def test_what_people_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes("\ufeffarms:\n  - &a {policy: flare, theta: [0.2, 0.8]}\n  - *a\nname: Z\u00fcrich\n".encode())
    grid = {"policy": "flare", "theta": [0.2, 0.8]}
    assert read_yaml(path) == {"arms": [grid, grid], "name": "Z\u00fcrich"}
    path.write_text("")
    assert read_yaml(path) is None


@given(st.recursive(st.integers() | st.text(max_size=3), lambda part: st.lists(part, max_size=4), max_leaves=20))
def test_values_are_counted_one_by_one(value: object) -> None:
    assert count(value) == (1 + sum(map(count, value)) if isinstance(value, list) else 1)


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_no_command_ends_in_a_traceback(tmp_path: Path, flarekit: Flarekit, command: str, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    ended = flarekit(command, path)
    assert ended.status == 2
    assert ended.complaint.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([{"policy": "flare", "theta": list(range(1000)), "beta": list(range(1000))}], "1,000,000 arms is more than"),
        ([{"policy": "flare", "theta": {"from": 0, "to": 1, "steps": 10**8}}], "steps"),
        ([{"policy": "flare", "theta": {"from": 0, "to": float("inf"), "steps": 3}}], "with numbers is expected"),
        ([{"policy": ["flare"] * 100_001}], "100,001 arms"),
    ],
)
def test_a_grid_that_would_never_end_is_refused(arms: list[object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(arms)
