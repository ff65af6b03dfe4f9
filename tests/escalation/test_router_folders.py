"""Folders of routers from anywhere: what is not one is refused where it is opened, in one line."""

from __future__ import annotations

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Flarekit

from fakes.forging import changed, places
from fakes.trained_routers import LIGHT, trained, words  # noqa: F401 - a fixture that is used by itself
from flarekit.errors import FlarekitError
from flarekit.escalation.trained import save_router
from flarekit.signals.question import load_router

OTHERS: tuple[Any, ...] = (None, True, -1, 10**30, 1e308, "", "x" * 300, [], [None], {}, {"a": []})
"""What values are replaced by: three of these each, by turns."""


def complaint_of(folder: Path) -> str:
    try:
        load_router(folder)
    except FlarekitError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", LIGHT)
def test_a_manifest_with_any_value_changed_is_opened_whole_or_refused(
    kind: str, tmp_path: Path, flarekit: Flarekit
) -> None:
    save_router(trained(kind), tmp_path)
    file = tmp_path / "router.json"
    manifest = json.loads(file.read_bytes())
    refused = 0
    for number, path in enumerate(places(manifest)):
        for other in itertools.islice(itertools.cycle(OTHERS), 3 * number, 3 * number + 3):
            file.write_text(json.dumps(changed(manifest, path, other)))
            if complaint := complaint_of(tmp_path):
                refused += 1
                assert str(tmp_path) in complaint
                assert "\n" not in complaint
                assert len(complaint) < 600 + len(str(tmp_path))
        ended = flarekit("router", "info", tmp_path)  # with the last of the others
        assert ended.status in (0, 2)
    assert refused


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 100_000, '{"kind": "tfidf-lr", "format": 1e999}', "9" * 10_000, "null", '"\\ud800"'],
)
def test_json_that_is_deep_or_odd_is_refused(tmp_path: Path, content: str) -> None:
    save_router(trained("tfidf-lr"), tmp_path)
    for name in ("router.json", "texts.json"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text(content)
        with pytest.raises(FlarekitError, match=r"not a (whole router|router's manifest)"):
            load_router(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_arrays_that_would_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    save_router(trained("tfidf-lr"), tmp_path)
    np.savez_compressed(tmp_path / "weights.npz", idf=np.zeros(50_000_000))
    assert (tmp_path / "weights.npz").stat().st_size < 1_000_000
    with pytest.raises(FlarekitError, match="its arrays are compressed"):
        load_router(tmp_path)


def test_an_array_that_states_another_size_than_it_has_is_refused(tmp_path: Path) -> None:
    save_router(trained("tfidf-lr"), tmp_path)
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117)
    )
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as packed:
        packed.writestr("idf.npy", header + b"\n")
    with pytest.raises(FlarekitError, match="not a whole router"):
        load_router(tmp_path)
