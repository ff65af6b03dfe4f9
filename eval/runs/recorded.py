"""Reads run directories back: the manifest, the questions, and every trace that is finished.

A run may still be going on, or may have been killed: the last line of a file of traces counts only once its line end
is written. A trace whose numbers are no log-probabilities is left out, and named wherever the run is read. Everything
else that cannot be read is an error, because a silently skipped line is a lost score. So is what is not as it was
written: every record has a checksum (`flarekit.eval.runs.sealed`), traces are numbered over all files, and the
manifest, which has a checksum too, counts the lines that each file had when the run was last begun or ended.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flarekit.errors import DataError, RunWarning, quoted
from flarekit.eval.data.dataset import Metric, Question
from flarekit.eval.runs.sealed import ADVICE, read_lines
from flarekit.eval.runs.tokentable import NAME, read_tokens
from flarekit.io.bounded import LINE, read_whole
from flarekit.io.files import open_file
from flarekit.policies.spec import family_of
from flarekit.tokens import NotLogprobs, Token
from flarekit.trace import Trace
from flarekit.trace_format import read_trace

T = TypeVar("T")
QUESTIONS, TRACES = "questions.jsonl", "traces"
_RECORD = b'"record":'
_NUMBER = re.compile(rb',"record":(\d+),"check":"[0-9a-f]*"}$')
_QUESTION = TypeAdapter(Question)
_REASON = 300
"""Characters of what a validator says, which quotes what it read."""
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
    format: Literal[1, 2, 3]
    """2: tokens stand in a table (`tokentable`) instead of in every trace. 3: records have checksums."""
    dataset: RunDataset
    policies: list[str] = Field(default_factory=list)
    engines: dict[str, RunEngine | None]
    versions: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    """What must be the same for two runs to be one."""
    created: Any = None
    records: dict[str, int] = Field(default_factory=dict)
    """How many lines each file has at least, by its path in the directory."""

    @property
    def sealed(self) -> bool:
        """Whether records have checksums."""
        return self.format >= 3

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
    numbers: Collection[int] = ()
    """Those of the traces, over all files, from 1; 0 alone where they have none."""

    @property
    def answered(self) -> set[tuple[str, str]]:
        """(policy specification, question id) of every answer."""
        return {(policy, id_) for policy, arm in self.traces.items() for id_ in arm}


def read_run(path: Path, *, resumed: bool = False) -> RecordedRun:
    """The run in the directory `path`.

    `DataError`, with file and line, where it is no run directory, a line cannot be read, a trace belongs to no
    question, a policy answered a question twice, or a record is lost or not what was written.

    What is left out is logged as a warning. A run that was recorded without checksums opens with a `RunWarning`, and so
    does one that is `resumed` and has lost its last answers.
    """
    manifest = _read_manifest(path / "manifest.json")
    if not manifest.sealed:
        warnings.warn(f"{path}: recorded without checksums, so damage would go unseen", RunWarning, stacklevel=2)
    questions = {question.id: question for _, question in _records(path, QUESTIONS, manifest, _question)}
    if not questions:
        raise DataError(f"{path / QUESTIONS}: there is no question in it")
    traces: dict[str, dict[str, Trace]] = {}
    numbers: set[int] = set()
    left_out: list[str] = []
    table = read_tokens(path, sealed=manifest.sealed, least=manifest.records.get(NAME, 0))
    names = {f"{TRACES}/{file.name}" for file in (path / TRACES).glob("*.jsonl")}
    for name in sorted(names | {name for name, count in manifest.records.items() if count and name.startswith(TRACES)}):
        file = path / name
        parse = partial(_numbered_trace, table=table)
        for number, (record, trace) in _records(path, name, manifest, parse, resumed=resumed):
            numbers.add(record)
            if isinstance(trace, NotLogprobs):
                left_out.append(f"{file}:{number}: {trace}")
                continue
            arm = traces.setdefault(trace.policy, {})
            if trace.id not in questions:
                raise DataError(f"{file}:{number}: question {trace.id!r} is not in questions.jsonl")
            if trace.id in arm:
                raise DataError(f"{file}:{number}: {trace.policy} has answered question {trace.id!r} before")
            arm[trace.id] = trace
    if manifest.sealed and not resumed:
        _expect_all(path, numbers)
    order = sorted(traces, key=lambda policy: _place(policy, manifest.policies))
    for one in left_out:
        _LOG.warning("an answer is left out: %s", one)
    return RecordedRun(path, manifest, questions, {policy: traces[policy] for policy in order}, left_out, numbers)


def _expect_all(run: Path, numbers: set[int]) -> None:
    """`DataError` where a trace with a lower number than another is in no file."""
    lost = set(range(1, max(numbers, default=0) + 1)) - numbers
    if lost:  # or written by a run that goes on, to a file that had been read before the others: look again
        names = [f"{TRACES}/{file.name}" for file in (run / TRACES).glob("*.jsonl")]
        lines = (line for name in names for _, line in read_lines(run, name, sealed=False))
        lost -= {int(found[1]) for found in map(_NUMBER.search, lines) if found}
    if lost:
        which = f"answer {min(lost)} of {max(numbers)}"
        raise DataError(
            f"{run / TRACES}: {which} is lost from the end of its file; finish the run by `flarekit run`, or {ADVICE}"
        )


def _question(line: bytes) -> Question:
    question = _QUESTION.validate_json(line)
    if not question.answers:
        raise ValueError("answers: there must be at least one")
    return question


def _read_manifest(path: Path) -> Manifest:
    try:
        with open_file(path, path.parent) as file:
            found = orjson.loads(read_whole(file, path, LINE))
        manifest = Manifest.model_validate(found)
    except FileNotFoundError:
        raise DataError(f"{path.parent}: not a run directory (it holds no {path.name})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: {_reason(error)}") from error
    if (manifest.sealed or "check" in found) and found != sealed_manifest(found):
        raise DataError(f"{path}: not what was written; {ADVICE}")
    return manifest


def sealed_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its checksum: BLAKE2b of all else in it, whatever the order and the spaces."""
    content = {key: value for key, value in manifest.items() if key != "check"}
    digest = hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=8)
    return content | {"check": digest.hexdigest()}


def numbered(line: bytes, record: int) -> bytes:
    """The line of a trace, with the trace's number over all files of the run, from 1."""
    return b"%b,%b%d}\n" % (line.removesuffix(b"}\n"), _RECORD, record)


def _numbered_trace(line: bytes, table: Sequence[Token]) -> tuple[int, Trace | NotLogprobs]:
    text = line.rpartition(_RECORD)[2].removesuffix(b"}")
    record = int(text) if text.isdigit() else 0
    try:
        return record, read_trace(line, table)
    except NotLogprobs as error:
        return record, error


def _records(
    folder: Path, name: str, manifest: Manifest, parse: Callable[[bytes], T], *, resumed: bool = False
) -> Iterator[tuple[int, T]]:
    """Every finished line of a file, parsed, with its number, from 1."""
    path = folder / name
    least = manifest.records.get(name, 0)
    for number, line in read_lines(folder, name, sealed=manifest.sealed, least=least, resumed=resumed):
        try:
            yield number, parse(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {_reason(error)}") from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return quoted(str(error), _REASON)
    first = error.errors(include_url=False)[0]
    where = quoted(".".join(str(part)[:100] for part in first["loc"]))
    return f"{where}: {quoted(first['msg'], _REASON)}" if where else quoted(first["msg"], _REASON)


def _place(policy: str, planned: Sequence[str]) -> int:
    """Where the manifest lists a policy; one that it spells with fewer parameters counts as the first of its family."""
    if policy in planned:
        return planned.index(policy)
    families = [family_of(spec) for spec in planned]
    family = family_of(policy)
    return families.index(family) if family in families else len(planned)
