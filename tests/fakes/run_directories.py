"""Run directories for tests of what reads them: scripted traces, whose figures can be checked by eye."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from flarekit.eval.data.dataset import Question
from flarekit.retrieval import Hit, Passage
from flarekit.tokens import Token
from flarekit.trace import Retrieved, Role, Segment, Trace
from flarekit.trace_format import write_trace


def tokens(text: str, p: float = 0.9) -> list[Token]:
    """One token for every word, all of probability `p`."""
    words = re.findall(r"^[^ ]+| [^ ]+", text)
    return [
        Token(word, place, math.log(p), {word: math.log(p), " other": math.log(1 - p)})
        for place, word in enumerate(words)
    ]


def segment(
    text: str, *, kept: int | None = None, prompt: int = 100, cached: int | None = 0, role: Role = "weak"
) -> Segment:
    """A stream of `text`, all of it kept unless told otherwise."""
    made = tokens(text)
    kept = len(made) if kept is None else kept
    return Segment(role, made, kept, "stop", prompt_tokens=prompt, cached_tokens=cached, seconds=1.0)


def retrieved(query: str, *names: str) -> Retrieved:
    """A look-up that found passages of these ids."""
    return Retrieved(query, [Hit(Passage(name, f"Title {name}", f"Text of {name}."), 1.5) for name in names])


def trace(key: str, policy: str, answer: str, *events: Any, seconds: float = 1.0) -> Trace:
    """A trace of these events, whose text is the answer."""
    return Trace(key, policy, f"Question {key}?", answer, answer, list(events), seconds)


def write_run(
    path: Path,
    questions: Sequence[Question],
    traces: Iterable[Trace],
    *,
    dataset: str = "hotpotqa",
    weak: str = "tiny",
    strong: str | None = None,
    settings: Mapping[str, str | None] | None = None,
) -> Path:
    """A run directory at `path`."""
    (path / "traces").mkdir(parents=True)
    traces = list(traces)
    policies = list(dict.fromkeys(trace.policy for trace in traces))
    manifest = {
        "format": 1,
        "dataset": {"name": dataset, "path": "dev.json", "metric": "hotpotqa"},
        "policies": policies,
        "engines": {
            "weak": {"url": "http://localhost:8000", "model": weak},
            "strong": {"url": "http://localhost:8001", "model": strong} if strong else None,
        },
        "settings": settings or {},
        "versions": {"flarekit": "0.1.0"},
        "created": "2026-01-01T00:00:00Z",
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    adapter = TypeAdapter(Question)
    (path / "questions.jsonl").write_bytes(b"".join(adapter.dump_json(question) + b"\n" for question in questions))
    for place, policy in enumerate(policies):
        lines = [write_trace(trace) for trace in traces if trace.policy == policy]
        (path / "traces" / f"{place}.jsonl").write_bytes(b"".join(lines))
    return path
