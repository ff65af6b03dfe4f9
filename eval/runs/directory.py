"""The directory of a run, while it is being written: append-only, locked, and never without what was finished.

Tokens are appended before the trace that refers to them, so that a kill in between leaves tokens that nobody needs.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from flarekit.errors import RunError
from flarekit.eval.data.dataset import Question
from flarekit.eval.runs.recorded import QUESTIONS, TRACES, numbered, read_run, sealed_manifest
from flarekit.eval.runs.sealed import seal_line
from flarekit.eval.runs.tokentable import NAME, TokenTable, read_tokens
from flarekit.io.files import open_own, own_folder, replace_file
from flarekit.trace import Trace
from flarekit.trace_format import write_trace

MANIFEST = "manifest.json"
_QUESTION = TypeAdapter(Question)


class RunDirectory:
    """Appends traces to a new or an interrupted run; use it as a context, which locks the directory."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], questions: Sequence[Question]) -> None:
        self.path = path
        self.done: set[tuple[str, str]] = set()
        """(policy specification, question id) of every answer that is recorded."""
        self._manifest, self._questions = dict(manifest), questions
        self._lock = FileLock(path / ".lock")
        self._files: dict[str, int] = {}
        self._sealed = manifest["format"] >= 3
        self._table = TokenTable(sealed=self._sealed)
        self._number = 1
        """Of the next trace, over all files."""
        self._numbers: Iterator[int] = count(2)
        """Of those after it."""
        self._lines: Counter[str] = Counter()
        """How many each file has, by its path in the directory."""

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            own_folder(self.path / TRACES)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise RunError(f"{self.path}: another run is writing here; wait for it or choose another --out") from None
        except OSError as error:
            raise self._failure(self.path, error) from error
        try:
            self._continue_or_begin()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for file in self._files.values():
                os.fsync(file)
                os.close(file)
            if self._files and self._sealed:
                self._replace(MANIFEST, self._written_manifest())
        except (OSError, RunError):
            pass  # the records are whole, only how many there are is not counted
        finally:
            self._lock.release()

    def append(self, trace: Trace) -> None:
        """Record one finished answer: its new tokens in one write, then itself in another."""
        line = write_trace(trace, self._table.refer)
        try:
            self._write(NAME, self._table.pending)
        except RunError:
            self._table.forget()
            raise
        self._table.keep()
        name = f"{TRACES}/{slug(trace.policy)}.jsonl"
        if self._sealed:
            line = seal_line(numbered(line, self._number), self._lines[name] + 1)
        self._write(name, line)
        self._number = next(self._numbers)
        self.done.add((trace.policy, trace.id))

    def _write(self, name: str, lines: bytes) -> None:
        path = self.path / name
        try:
            if name not in self._files:
                self._files[name] = open_own(path)
            file = self._files[name]
            written = os.write(file, lines)
            if written < len(lines):
                # Other sessions may still finish, and must not append to half a line.
                os.ftruncate(file, os.fstat(file).st_size - written)
        except OSError as error:
            raise self._failure(path, error) from error
        if written < len(lines):
            raise RunError(f"{path}: the disk is full; what was finished is kept: make room and run again")
        self._lines[name] += lines.count(b"\n")

    def _continue_or_begin(self) -> None:
        manifest, questions = dict(self._manifest), list(self._questions)
        if (self.path / MANIFEST).exists():
            for file in (*(self.path / TRACES).glob("*.jsonl"), *self.path.glob(NAME)):
                self._lines[str(file.relative_to(self.path))] = self._drop_torn_line(file)
            recorded = read_run(self.path, resumed=True)
            used = frozenset(recorded.numbers)
            self._numbers = (number for number in count(1) if number not in used)
            self._number = next(self._numbers)
            manifest["format"] = max(2, recorded.manifest.format)  # one that has no checksums goes on without
            self._sealed = recorded.manifest.sealed
            self._table = TokenTable(read_tokens(self.path, sealed=self._sealed), sealed=self._sealed)
            if key := recorded.manifest.differs(settings := manifest["settings"]):
                before, now = recorded.manifest.settings[key], settings[key]
                raise RunError(
                    f"{self.path}: belongs to another run ({key} was {before!r} and is now {now!r}); "
                    "choose another --out"
                )
            manifest["settings"] = recorded.manifest.settings | settings
            self.done = recorded.answered
            manifest["policies"] = list(dict.fromkeys([*recorded.manifest.policies, *manifest["policies"]]))
            manifest["created"] = recorded.manifest.created
            asked = set(recorded.questions)
            questions = [*recorded.questions.values(), *(q for q in questions if q.id not in asked)]
        elif any((self.path / TRACES).iterdir()):
            raise RunError(f"{self.path}: holds traces but no manifest.json, so it cannot be continued")
        # Questions first: a directory with a manifest is complete.
        lines = [_QUESTION.dump_json(question) + b"\n" for question in questions]
        if self._sealed:
            lines = [seal_line(line, number) for number, line in enumerate(lines, start=1)]
        self._lines[QUESTIONS] = len(lines)
        self._manifest = manifest
        self._replace(QUESTIONS, b"".join(lines))
        self._replace(MANIFEST, self._written_manifest())

    def _written_manifest(self) -> bytes:
        manifest = dict(self._manifest)
        if self._sealed:
            manifest = sealed_manifest(manifest | {"records": dict(self._lines)})
        return json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n"

    def _replace(self, name: str, content: bytes) -> None:
        path = self.path / name
        try:
            replace_file(path, content)
        except OSError as error:
            raise self._failure(path, error) from error

    def _failure(self, path: Path, error: OSError) -> RunError:
        return RunError(f"{path}: cannot be written ({error.strerror}); what was finished is kept")

    def _drop_torn_line(self, path: Path) -> int:
        """Cut off a last line that a kill left unfinished, so that the next begins on its own; how many are left."""
        try:
            with os.fdopen(open_own(path, os.O_RDWR), "rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        except OSError as error:
            raise self._failure(path, error) from error
        return content.count(b"\n")


def recorded_answers(path: Path) -> set[tuple[str, str]]:
    """What `RecordedRun.answered` is of the run in `path`; nothing where there is none."""
    return read_run(path, resumed=True).answered if (path / MANIFEST).exists() else set()


def slug(spec: str) -> str:
    """A policy's specification as a file name."""
    return re.sub(r"[^\w.,=-]", "_", spec)
