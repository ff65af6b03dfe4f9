"""Find out why a vLLM server failed from what it printed, in one line.

vLLM's processes print their tracebacks one after the other, and the last exception only says that another process
failed before. The reason is the last exception that says more than that.
"""

from __future__ import annotations

import os
import re
from typing import IO

_TAIL = 65536
_PREFIX = re.compile(
    r"^(?:\x1b\[[\d;]*m)*(?:\(\S+ pid=\d+\)(?:\x1b\[[\d;]*m)* ?)?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]+\] ?)?(?=(.*))"
)
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)(?:\[\w+\])?: \S|^\S+: error: \S")
_EMPTY = re.compile(r"See root cause above|Failed core proc|WorkerProc initialization failed|For further information")
_VALIDATION = re.compile(r"^\d+ validation errors? for|^pydantic\S*ValidationError")


def tail(output: IO[bytes]) -> str:
    """The end of a log file that others are still writing to; the file's position stays where it is."""
    size = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace")


def last_reason(text: str, longest: int = 400) -> str:
    """The most telling line of a log, without vLLM's prefixes, cut to `longest` characters."""
    lines = [line for raw in text.splitlines() if (line := _PREFIX.sub("", raw).rstrip())]
    telling = [line for line in map(_explained, lines, [*lines[1:], ""], [*lines[2:], "", ""]) if line]
    best = telling[-1] if telling else (lines[-1].strip() if lines else "it printed nothing")
    return best if len(best) <= longest else best[: longest - 1] + "…"


def _explained(line: str, following: str, third: str) -> str | None:
    """The line where it names an exception, with pydantic's message, which stands in the lines below, moved into it."""
    if _VALIDATION.match(line):
        message = third if not following.startswith("  ") else following
        return message.strip().partition(" [type=")[0]
    return line if _EXCEPTION.match(line) and not _EMPTY.search(line) else None
