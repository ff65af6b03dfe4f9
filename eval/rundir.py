"""The directory of a run, while it is being written: append-only, locked, and never without what was finished.

Tokens are appended before the trace that refers to them, so that a kill in between leaves tokens that nobody needs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from flarekit.errors import RunError
from flarekit.eval.dataset import Question
from flarekit.eval.recorded import read_run
from flarekit.eval.tokentable import NAME, TokenTable, read_tokens
from flarekit.files import replace_file
from flarekit.trace import Trace, write_trace

_QUESTION = TypeAdapter(Question)


class RunDirectory:
    """Appends traces to a new or an interrupted run; use it as a context, which locks the directory."""

    def __init__(self, path: Path, manifest: Mapping[str, Any], questions: Sequence[Question]) -> None:
        self.path = path
        self.done: set[tuple[str, str]] = set()
        """(policy specification, question id) of every answer that is recorded."""
        self._manifest, self._questions = manifest, questions
        self._lock = FileLock(path / ".lock")
        self._files: dict[Path, int] = {}
        self._table = TokenTable()

    def __enter__(self) -> Self:
        try:
            (self.path / "traces").mkdir(parents=True, exist_ok=True)
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
        for file in self._files.values():
            os.close(file)
        self._lock.release()

    def append(self, trace: Trace) -> None:
        """Record one finished answer: its new tokens in one write, then itself in another."""
        line = write_trace(trace, self._table.refer)
        try:
            self._write(self.path / NAME, self._table.pending)
        except RunError:
            self._table.forget()
            raise
        self._table.keep()
        self._write(self.path / "traces" / f"{slug(trace.policy)}.jsonl", line)
        self.done.add((trace.policy, trace.id))

    def _write(self, path: Path, lines: bytes) -> None:
        try:
            if path not in self._files:
                self._files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            file = self._files[path]
            written = os.write(file, lines)
            if written < len(lines):
                # Other sessions may still finish, and must not append to half a line.
                os.ftruncate(file, os.fstat(file).st_size - written)
        except OSError as error:
            raise self._failure(path, error) from error
        if written < len(lines):
            raise RunError(f"{path}: the disk is full; what was finished is kept: make room and run again")

    def _continue_or_begin(self) -> None:
        manifest, questions = dict(self._manifest), list(self._questions)
        if (self.path / "manifest.json").exists():
            for file in (*(self.path / "traces").glob("*.jsonl"), *self.path.glob(NAME)):
                _drop_torn_line(file)
            self._table = TokenTable(read_tokens(self.path))
            recorded = read_run(self.path)
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
        elif any((self.path / "traces").iterdir()):
            raise RunError(f"{self.path}: holds traces but no manifest.json, so it cannot be continued")
        # Questions first: a directory with a manifest is complete.
        self._replace("questions.jsonl", b"".join(_QUESTION.dump_json(q) + b"\n" for q in questions))
        self._replace("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n")

    def _replace(self, name: str, content: bytes) -> None:
        path = self.path / name
        try:
            replace_file(path, content)
        except OSError as error:
            raise self._failure(path, error) from error

    def _failure(self, path: Path, error: OSError) -> RunError:
        return RunError(f"{path}: cannot be written ({error.strerror}); what was finished is kept")


def recorded_answers(path: Path) -> set[tuple[str, str]]:
    """What `RecordedRun.answered` is of the run in `path`; nothing where there is none."""
    return read_run(path).answered if (path / "manifest.json").exists() else set()


def slug(spec: str) -> str:
    """A policy's specification as a file name."""
    return re.sub(r"[^\w.,=-]", "_", spec)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a kill left unfinished, so that the next one begins on its own."""
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
