"""Traces as lines of JSON: the only code that knows how a trace is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
from pydantic import TypeAdapter, ValidationError

from flarekit.errors import quoted
from flarekit.tokens import NotLogprobs, Token, admit
from flarekit.trace import Count, Segment, Trace

_MOST = 1 << 22
"""Tokens of a trace. Spans need few bytes to name many."""
_ADAPTER = TypeAdapter(Trace)
_SPANS = TypeAdapter(list[tuple[Count, Count]])
Spans = Sequence[tuple[int, int]]
"""Tokens as ranges of a table that many traces share: (first place, how many), one after the other."""


def write_trace(trace: Trace, refer: Callable[[Sequence[Token]], Spans] | None = None) -> bytes:
    """One line of JSON, with its line end.

    With `refer`, tokens are written as the `Spans` that it gives for them: alternatives make up nearly all of a trace,
    and policies that differ in a threshold have most of their tokens in common.
    """
    if refer is None:
        return _ADAPTER.dump_json(trace) + b"\n"
    bare = [replace(event, tokens=[]) if isinstance(event, Segment) else event for event in trace.events]
    written = orjson.loads(_ADAPTER.dump_json(replace(trace, events=bare)))
    for event, fields in zip(trace.events, written["events"], strict=True):
        if isinstance(event, Segment):
            fields["spans"] = refer(event.tokens)
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)


def read_trace(line: bytes, table: Sequence[Token] = ()) -> Trace:
    """The trace of one line, whose spans are ranges of `table`; a `ValueError` (pydantic's too) where it is none.

    `NotLogprobs`, which is one, where all is there but a number: JSON has null for NaN.
    """
    try:
        trace = _ADAPTER.validate_json(line)
    except ValidationError as error:
        if all(wrong["type"] == "float_type" and wrong["input"] is None for wrong in error.errors(include_url=False)):
            where = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
            raise NotLogprobs(f"{where}: null, so NaN, where a number belongs") from error
        raise
    if b'"spans"' in line:
        for event, fields in zip(trace.events, orjson.loads(line)["events"], strict=True):
            if isinstance(event, Segment) and "spans" in fields:
                event.tokens = _of_spans(table, fields["spans"])
    for segment in trace.segments:
        if segment.kept > len(segment.tokens):
            raise ValueError(f"a segment keeps {segment.kept} of {len(segment.tokens)} tokens")
        for token in segment.tokens:
            if not 0 <= token.id < 1 << 63:
                raise ValueError(f"{quoted(token.id)} is no token's id")
            admit(*token)
    return trace


def _of_spans(table: Sequence[Token], spans: object) -> list[Token]:
    try:
        pairs = _SPANS.validate_python(spans)
    except ValidationError as error:
        raise ValueError("spans that are no pairs of whole numbers") from error
    if sum(count for _, count in pairs) > _MOST:
        raise ValueError(f"refers to more than {_MOST:,} tokens")
    return [token for start, count in pairs for token in _range(table, start, count)]


def _range(table: Sequence[Token], start: int, count: int) -> Sequence[Token]:
    if not 0 <= start <= start + count <= len(table):
        raise ValueError(f"refers to token {start + count - 1} of a table of {len(table)}")
    return table[start : start + count]
