r"""What is printed for people, who may read it on a terminal that obeys what stands in it.

Titles, answers, model names and messages of servers are others' text: it may hold escape sequences (OSC 52 writes to
the clipboard), characters that reverse the reading direction, and what the library that prints takes for markup.
Everything is printed through this module, which writes such characters as they are written in Python (`\x1b`), and no
markup is read in anything. It also holds for streams whose encoding lacks a character.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters of both ranges but tab and line feed, those that steer the direction, and what is no character."""
_ALIKE = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "…": "...", "∞": "inf", "·": "-", "≤": "<=", "≥": ">=", "’": "'", "Δ": "d"}
    | {"✓": "ok", "✗": "x", "✕": "x", "◦": "-", "▲": "^", "⌕": "?", "⇢": "->", "“": '"', "”": '"'}
)
"""For streams that lack our own signs."""


def shown(text: str) -> str:
    """`text` without anything that a terminal would obey; what is taken out is written as in Python."""
    return _UNSAFE.sub(_escaped, text)


def line(text: str) -> str:
    """`shown`, in one line."""
    return shown(" ".join(text.split()))


def plain(text: str) -> Text:
    """`shown`, for a console that might read markup in it."""
    return Text(shown(text))


def console(*, stderr: bool = False, **options: Any) -> Console:
    """A rich console that shows text as it is: neither markup nor names of emoji are read in it, nor is it coloured."""
    return _Console(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def say(text: str, *, stderr: bool = False) -> None:
    """Print a text with its line end."""
    print(shown(text), file=sys.stderr if stderr else sys.stdout)


def say_json(text: str | bytes) -> None:
    """Print JSON, which stays the same JSON whatever the stream's encoding."""
    text = text.decode() if isinstance(text, bytes) else text
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    unsafe = re.compile(r"[^\x00-\x7e]") if ascii_only else _UNSAFE
    print(unsafe.sub(lambda found: json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f"), text.rstrip("\n")))


def prepare_streams() -> None:
    """Let stdout and stderr take any character, whatever their encoding."""
    codecs.register_error("flarekit", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="flarekit")


class _Console(Console):
    """All that is printed passes here, a part of a table as well as a whole line."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)


def styled(*parts: str | tuple[str, str]) -> Text:
    """One text of several, each alone or with its style."""
    return Text.assemble(*parts)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ALIKE)
    return text.encode("ascii", "backslashreplace").decode(), error.end
