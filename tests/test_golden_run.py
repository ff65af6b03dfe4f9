"""A sweep over a real model, replayed: told again from its store of completions alone, it gives the traces it gave.

    FLAREKIT_GOLDEN=write pytest tests/test_golden_run.py

records it anew with a real vLLM server: the store, what the server says beside completions (its tokenizer above all),
and the traces of the replay, times aside.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Flarekit
from test_golden import bare

from fakes.recorded_vllm import RecordedVLLM
from flarekit import write_trace
from flarekit.eval.runs.recorded import read_run

FOLDER = Path(__file__).parent / "golden" / "real"
STORE, SERVER, TRACES = FOLDER / "completions.sqlite", FOLDER / "server.json.xz", FOLDER / "traces.jsonl"
EXPERIMENT = {
    "dataset": "world",
    "limit": 8,
    "concurrency": 1,  # else one question's prompts are in the prefix cache of another at random
    "answer_tokens": 40,
    "total_tokens": 120,
    "arms": [
        "closed-book",
        "rag",
        {"policy": "flare", "theta": [0.8, 0.4]},
        {"policy": "mid-retrieve", "read": ["token", "sentence"]},
        "iter-retgen",
        "escalate",
        {"policy": "escalate", "back": "sentence"},
        {"policy": "rolling-entropy"},
        {"policy": "cascade", "threshold": [0.5, 0.9]},
        {"policy": "self-consistency", "samples": 2},
        "pre-retrieve",
        {"policy": "pre-retrieve", "signal": "question-perplexity"},
        "p-ik",
        {"policy": "semantic-entropy", "samples": 2, "threshold": 0.5},
        "critic",
    ],
}
WRITES = os.environ.get("FLAREKIT_GOLDEN") == "write"


def replayed(flarekit: Flarekit, server: RecordedVLLM, store: Path, folder: Path) -> list[str]:
    """The traces of a sweep over `store`, each in one line and without its times."""
    experiment = folder / "sweep.yaml"
    experiment.write_text(yaml.safe_dump(EXPERIMENT | {"cache": str(store), "strong": server.url}))
    ended = flarekit("sweep", experiment, "--engine", server.url, "--out", folder / "run")
    assert not ended.status, (ended.complaint, server.missed)
    traces = [trace for arm in read_run(folder / "run").traces.values() for trace in arm.values()]
    return [json.dumps(bare(json.loads(write_trace(trace)))) for trace in traces]


def record(flarekit: Flarekit, url: str, folder: Path) -> None:
    """Ask a real server, then let the store that this makes give the traces to be expected."""
    store = folder / "completions.sqlite"
    (folder / "live").mkdir()
    (folder / "again").mkdir()
    with RecordedVLLM({}, upstream=url.removesuffix("/v1")) as server:
        replayed(flarekit, server, store, folder / "live")
        exchanges = server.used
    with closing(sqlite3.connect(store)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("VACUUM")
    shutil.copy(store, STORE)
    with RecordedVLLM(exchanges) as server:
        lines = replayed(flarekit, server, store, folder / "again")
        exchanges = server.used
    SERVER.write_bytes(lzma.compress(json.dumps(exchanges, sort_keys=True).encode(), preset=9))
    TRACES.write_text("\n".join(lines) + "\n")


@pytest.fixture
def store(flarekit: Flarekit, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the recorded store, since reading one notes when it was used."""
    if WRITES:
        record(flarekit, request.getfixturevalue("vllm_server").url, tmp_path)
    return Path(shutil.copy(STORE, tmp_path / "copy.sqlite"))


def exchanges() -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(lzma.decompress(SERVER.read_bytes()))
    return recorded


def test_a_real_run_is_told_again_from_its_store(flarekit: Flarekit, store: Path, tmp_path: Path) -> None:
    with RecordedVLLM(exchanges()) as server:
        lines = replayed(flarekit, server, store, tmp_path)
    assert not server.missed
    expected = [json.loads(line) for line in TRACES.read_text().splitlines()]
    for line, one in zip(map(json.loads, lines), expected, strict=True):
        assert line == one, f"{one['policy']} | {one['id']}"


@pytest.mark.skipif(WRITES, reason="what is recorded is not read yet")
def test_a_completion_that_is_not_stored_ends_the_replay(flarekit: Flarekit, store: Path, tmp_path: Path) -> None:
    """Else what is asked for in another way would go unnoticed."""
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("DELETE FROM completions WHERE key IN (SELECT key FROM completions LIMIT 40)")
    with RecordedVLLM(exchanges()) as server, pytest.raises(AssertionError, match="not recorded"):
        replayed(flarekit, server, store, tmp_path)
    assert server.missed


@pytest.mark.skipif(WRITES, reason="what is recorded is not read yet")
def test_the_real_run_is_of_every_kind() -> None:
    """Else it would hold little."""
    traces = [json.loads(line) for line in TRACES.read_text().splitlines()]
    kinds = Counter(event["kind"] for trace in traces for event in trace["events"])
    for kind in ("segment", "retrieved", "handed-over", "probe", "fired"):
        assert kinds[kind] > 20, kinds
    segments = [event for trace in traces for event in trace["events"] if event["kind"] == "segment"]
    assert {segment["finish"] for segment in segments} == {"closed", "length", "stop"}
    assert all(segment["replayed"] == len(segment["tokens"]) for segment in segments)
