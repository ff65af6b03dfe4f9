"""What the loaders of `formats` share: checked fields, and the pool of passages of many questions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flarekit.errors import DataError
from flarekit.eval.data.dataset import Dataset, Metric, Question
from flarekit.retrieval import Passage
from flarekit.retrievers.corpus.formats import json_type

T = TypeVar("T")
_ESCAPE = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph that comes with a question, and whether it is needed for the answer."""

    title: str
    text: str
    supporting: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One question as its file states it, before the paragraphs of all questions are pooled."""

    id: str
    text: str
    answers: tuple[str, ...]
    kind: str
    paragraphs: Sequence[Paragraph]
    complete: bool = True
    """Whether every needed paragraph is among the paragraphs."""


@dataclass(slots=True)
class Pool:
    """Passages without their duplicates, each with a readable id: its title, with "#2" where other text has it."""

    passages: list[Passage] = field(default_factory=list)
    _id_of: dict[tuple[str, str], str] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)

    def add(self, title: str, text: str) -> str:
        """The id of the passage with this title and text, which is added if it is new."""
        if (title, text) not in self._id_of:
            passage = Passage(self._new_id(title or "untitled"), title, text)
            self._id_of[title, text] = passage.id
            self.passages.append(passage)
        return self._id_of[title, text]

    def _new_id(self, title: str) -> str:
        name = title
        # A title may itself end in "#2", so that a counted name can be taken already.
        while name in self._ids or (name == title and title in self._count):
            self._count[title] = self._count.get(title, 1) + 1
            name = f"{title} #{self._count[title]}"
        self._count.setdefault(title, 1)
        self._ids.add(name)
        return name


def pooled(name: str, records: Iterable[Record], metric: Metric, source: str) -> Dataset:
    """The questions of all records over the pool of all their paragraphs; `DataError` if none or an id is doubled."""
    pool = Pool()
    questions: dict[str, Question] = {}
    for record in records:
        if record.id in questions:
            raise DataError(f"{source}: the question id {record.id!r} occurs twice; make ids unique")
        ids = [(pool.add(p.title, p.text), p.supporting) for p in record.paragraphs]
        supporting = tuple(dict.fromkeys(id_ for id_, needed in ids if needed)) if record.complete else ()
        questions[record.id] = Question(record.id, record.text, record.answers, supporting, record.kind)
    if not questions:
        raise DataError(f"{source}: no questions; expected at least one")
    return Dataset(name, list(questions.values()), pool.passages, metric)


def take(record: Mapping[str, Any], name: str, kind: type[T], place: str) -> T:
    """The field `name`, checked to be of a JSON type; `DataError` if it is missing or of another type."""
    if name not in record:
        raise DataError(f"{place}: no field {name!r}")
    return checked(record[name], kind, f"{place}: the field {name!r}")


def optional(record: Mapping[str, Any], name: str, kind: type[T], place: str) -> T:
    """The field `name`, checked to be of a JSON type; the type's empty value where it is missing or null."""
    return kind() if record.get(name) is None else take(record, name, kind, place)


def optional_strings(record: Mapping[str, Any], name: str, place: str) -> list[str]:
    """The field `name`, checked to be a list of strings; none where it is missing or null."""
    return [] if record.get(name) is None else take_strings(record, name, place)


def unescaped(value: Any, depth: int = 8) -> Any:
    """A record without HTML's escapes, once, in every text that it holds: "&amp;lt;" becomes "&lt;".

    What lies deeper than `depth` levels is no text of a question, and left as it is. Only what ends in a semicolon is
    an escape: "R&D", "?a=1&copy=2" and names that HTML does not know stay as they are.
    """
    match value:
        case str():
            return _ESCAPE.sub(lambda found: html.unescape(found[0]), value) if "&" in value else value
        case list() if depth:
            return [unescaped(item, depth - 1) for item in value]
        case dict() if depth:
            return {key: unescaped(item, depth - 1) for key, item in value.items()}
    return value


def take_strings(record: Mapping[str, Any], name: str, place: str) -> list[str]:
    """The field `name`, checked to be a list of strings."""
    values = take(record, name, list, place)
    return [checked(value, str, f"{place}: every item of the field {name!r}") for value in values]


def checked(value: object, kind: type[T], what: str) -> T:
    """The value, if it is of the type; `DataError` otherwise."""
    if not isinstance(value, kind):
        raise DataError(f"{what} must be {json_type(kind())}, found {json_type(value)}")
    return value
