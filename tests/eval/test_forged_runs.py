"""Run directories from anywhere: one with any value changed is opened, or refused in one line, whatever reads it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Flarekit

from fakes.forging import changed, places
from fakes.run_directories import retrieved, segment, trace, write_run
from flarekit.errors import DataError, FlarekitError
from flarekit.eval.data.dataset import Question
from flarekit.eval.runs.recorded import RecordedRun, read_run
from flarekit.eval.runs.tokentable import TokenTable
from flarekit.trace import Failed, Fired, HandedOver, Probe, Trace
from flarekit.trace_format import read_trace, write_trace

OTHERS: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 2**52, 1e308, 1e99, "", "x" * 300, "../../x\n\x1b[31m", "rag:k=x"),
    *([], [None], {}, {"a": []}),
)
FILES = ("manifest.json", "questions.jsonl", "tokens.jsonl", *(f"traces/{place}.jsonl" for place in range(5)))


def answered(number: int) -> Iterator[Trace]:
    key, right = f"q{number}", number % 3 > 0
    said = "Reus" if right else "Oslo"
    asked = Probe("p-ik", number / 12, "weak", 20, 0, 1)
    yield trace(key, "closed-book", said, segment(f"It is in {said}"))
    yield trace(key, "rag", "Reus" if number % 5 else "Oslo", retrieved("x", "p", "q"), segment("It is in Reus"))
    yield trace(key, "strong", "Reus", HandedOver("weak", "strong", ""), segment("Reus", role="strong"))
    votes = Probe("vote-share", number % 5 / 5, "weak", 20, 0, 5, texts=["Reus"])
    yield trace(key, "watch", said, asked, segment(f"It is in {said}"), votes, Failed("retriever", "broken"))
    fired = Fired("min-prob", "mid", 0.5, 0.4, "retrieve", 0, 1)
    yield trace(key, "flare:theta=0.6", "Reus", segment("A draft", kept=1), fired, retrieved("y", "p"), segment("Reus"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of every kind of event, with its tokens in a table."""
    asked = [Question(f"q{n}", f"Where is river {n}?", ("Reus",), ("p",), "bridge", (True,)) for n in range(12)]
    path = write_run(tmp_path / "run", asked, [one for number in range(12) for one in answered(number)], strong="big")
    table = TokenTable()
    for file in sorted((path / "traces").iterdir()):
        traces = [read_trace(line) for line in file.read_bytes().splitlines()]
        file.write_bytes(b"".join(write_trace(one, table.refer) for one in traces))
    (path / "tokens.jsonl").write_bytes(table.pending)
    return path


def commands(run: Path) -> Iterator[tuple[object, ...]]:
    yield "calibrate", run, "--policy", "p-ik", "--target", "rate=0.3"
    yield "power", run, "--arms", "closed-book", "rag", "--questions", "20", "--trials", "20"
    yield "router", "train", run, "--kind", "tfidf-lr", "--out", run.with_name("router")


def opened(run: Path) -> tuple[RecordedRun | None, str]:
    """The run, or why it is none."""
    try:
        return read_run(run), ""
    except FlarekitError as error:
        return None, str(error)


def test_a_run_that_is_whole_is_judged(run: Path, flarekit: Flarekit) -> None:
    ended = [flarekit(*arguments) for arguments in commands(run)]
    assert [one.status for one in ended] == [0, 0, 0], ended


@pytest.mark.parametrize("name", FILES)
def test_a_run_with_any_value_changed_is_opened_whole_or_refused(run: Path, name: str, flarekit: Flarekit) -> None:
    file = run / name
    whole = file.read_bytes().splitlines(keepends=True) if name != "manifest.json" else []
    first = json.loads(whole[0] if whole else file.read_bytes())
    others, judged, refused = itertools.cycle(OTHERS), 0, 0
    for path in places(first):
        for other in itertools.islice(others, 7):
            line = json.dumps(changed(first, path, other)).encode() + b"\n"
            file.write_bytes(b"".join([line, *whole[1:]]))
            found, why = opened(run)
            if found is None:
                refused += 1
                assert str(run) in why
                assert "\n" not in why
                assert len(why) < 700 + len(str(run))
            else:
                for one in (one for arm in found.traces.values() for one in arm.values()):
                    assert one.costs().generated_tokens >= 0
                judged += 1
                if judged % 8 == 0:
                    for arguments in commands(run):
                        ended = flarekit(*arguments)
                        assert ended.status in (0, 2)
                        if ended.status == 2:
                            assert len(ended.complaint) < 1000
    assert refused


@pytest.mark.parametrize(
    "spans",
    [
        *(None, 3, "x", {}, [3], [[0]], [[0, 1, 2]], [["0", None]], [[-1, 1]], [[0, -1]], [[0, 10**30]], [[10**9, 1]]),
        *([[0, 1.5]], [[0, 4]] * 1_100_000),
    ],
)
def test_spans_that_are_none_are_refused(run: Path, spans: Any) -> None:
    file = run / "traces" / "0.jsonl"
    made = json.loads(file.read_bytes().splitlines()[0])
    made["events"][0]["spans"] = spans
    file.write_text(json.dumps(made) + "\n")
    with pytest.raises(DataError, match=r"0\.jsonl:1: .*(spans|refers)"):
        read_run(run)


@pytest.mark.parametrize(
    "token",
    [
        *([], ["a"], ["a", 1, -0.5], ["a", 1, -0.5, {}, 1], [1, 1, -0.5, {}], ["a", "1", -0.5, {}]),
        *(["a", 1.5, -0.5, {}], ["a", -1, -0.5, {}], ["a", 2**63, -0.5, {}], ["a", True, -0.5, {}]),
        *(["a", 1, -0.5, []], {"a": 1}, "abcd", None),
    ],
)
def test_a_line_of_the_table_that_is_no_token_is_refused(run: Path, token: Any) -> None:
    (run / "tokens.jsonl").write_text(json.dumps(token) + "\n")
    with pytest.raises(DataError, match=r"tokens\.jsonl:1: not a token"):
        read_run(run)


def test_a_question_without_an_answer_is_refused(run: Path) -> None:
    file = run / "questions.jsonl"
    file.write_bytes(file.read_bytes().replace(b'["Reus"]', b"[]", 1))
    with pytest.raises(DataError, match=r"questions\.jsonl:1: answers: there must be at least one"):
        read_run(run)
