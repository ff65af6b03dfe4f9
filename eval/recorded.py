"""Reads run directories back: the manifest, the questions, and every trace that is finished.

A run may still be going on, or may have been killed: the last line of a file of traces counts only once its line end
is written. A trace whose numbers are no log-probabilities is left out, and named wherever the run is read. Everything
else that cannot be read is an error, because a silently skipped line is a lost score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flarekit.errors import DataError
from flarekit.eval.dataset import Metric, Question
from flarekit.eval.tokentable import read_tokens
from flarekit.tokens import NotLogprobs, Token
from flarekit.trace import Trace, read_trace

T = TypeVar("T")
_QUESTION = TypeAdapter(Question)
_LOG = logging.getLogger("flarekit")  # to stderr, unless a program that uses us says otherwise


class RunDataset(BaseModel):
    """The questions' origin, as a manifest states it."""

    model_config = ConfigDict(extra="allow")
    name: str
    metric: Metric = "hotpotqa"
    notes: list[str] = Field(default_factory=list)
    """What is to be known of the data when scores are read."""


class RunEngine(BaseModel):
    """A server, as a manifest states it."""

    model_config = ConfigDict(extra="allow")
    model: str


class Manifest(BaseModel):
    """What a comparison needs of a manifest; the rest is kept as it is, to be shown."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1, 2]
    """2: tokens stand in a table (`flarekit.eval.tokentable`) instead of in every trace."""
    dataset: RunDataset
    policies: list[str] = Field(default_factory=list)
    engines: dict[str, RunEngine | None]
    versions: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    """What must be the same for two runs to be one."""
    created: Any = None

    def model_of(self, role: str) -> str | None:
        """The model of the engine in this role, None where the run had none."""
        engine = self.engines.get(role)
        return engine.model if engine else None

    def differs(self, settings: Mapping[str, Any]) -> str | None:
        """The first of the settings that both have and that are not the same; None where there is none."""
        shared = (key for key in settings if key in self.settings)
        return next((key for key in shared if self.settings[key] != settings[key]), None)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run directory."""

    path: Path
    manifest: Manifest
    questions: Mapping[str, Question]
    """By id, in the order in which they were asked."""
    traces: Mapping[str, Mapping[str, Trace]]
    """By policy specification (in the manifest's order) and question id."""
    left_out: Sequence[str] = ()
    """Why traces were left out, each with its file and line."""

    @property
    def answered(self) -> set[tuple[str, str]]:
        """(policy specification, question id) of every answer."""
        return {(policy, id_) for policy, arm in self.traces.items() for id_ in arm}


def read_run(path: Path) -> RecordedRun:
    """The run in the directory `path`.

    `DataError`, with file and line, where it is no run directory, a line cannot be read, a trace belongs to no
    question, or a policy answered a question twice. What is left out is logged as a warning.
    """
    manifest = _read_manifest(path / "manifest.json")
    questions = {question.id: question for _, question in _records(path / "questions.jsonl", _QUESTION.validate_json)}
    if not questions:
        raise DataError(f"{path / 'questions.jsonl'}: there is no question in it")
    traces: dict[str, dict[str, Trace]] = {}
    table, left_out = read_tokens(path), []
    for file in sorted((path / "traces").glob("*.jsonl")):
        for number, trace in _records(file, partial(_trace, table=table)):
            if isinstance(trace, NotLogprobs):
                left_out.append(f"{file}:{number}: {trace}")
                continue
            arm = traces.setdefault(trace.policy, {})
            if trace.id not in questions:
                raise DataError(f"{file}:{number}: question {trace.id!r} is not in questions.jsonl")
            if trace.id in arm:
                raise DataError(f"{file}:{number}: {trace.policy} has answered question {trace.id!r} before")
            arm[trace.id] = trace
    order = sorted(traces, key=lambda policy: _place(policy, manifest.policies))
    for one in left_out:
        _LOG.warning("an answer is left out: %s", one)
    return RecordedRun(path, manifest, questions, {policy: traces[policy] for policy in order}, left_out)


def _trace(line: bytes, table: Sequence[Token]) -> Trace | NotLogprobs:
    try:
        return read_trace(line, table)
    except NotLogprobs as error:
        return error


def _read_manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path.parent}: not a run directory (it holds no {path.name})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise DataError(f"{path}: {_reason(error)}") from error


def _records(path: Path, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
    """Every finished line with its number, from 1."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line end is unfinished
        try:
            yield number, parse(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {_reason(error)}") from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _place(policy: str, planned: Sequence[str]) -> int:
    """Where the manifest lists a policy; one that it spells with fewer parameters counts as the first of its family."""
    if policy in planned:
        return planned.index(policy)
    families = [spec.partition(":")[0] for spec in planned]
    family = policy.partition(":")[0]
    return families.index(family) if family in families else len(planned)
