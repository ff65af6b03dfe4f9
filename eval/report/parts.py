"""What a report is made of: tables that sort and figures that zoom, as data that the template draws.

A further table or figure of a section needs no markup: it is one more `Table` or `Figure` in the section's `parts`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flarekit.eval.analysis.wording import bounds_text
from flarekit.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, which sorts."""

    name: str
    unit: str = ""
    title: str = ""
    """What it means, for a tooltip."""
    key: str = ""
    """How the page's script finds it; only where it changes the column."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as it is read and as it is sorted."""

    text: str
    value: float | str | None = None
    """None sorts last."""
    small: str = ""
    """Said below it, such as an interval."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that sorts by any of its columns; long ones can be filtered by words."""

    title: str
    note: str
    """A sentence or two above it."""
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    """The first cell of a row is its heading."""
    key: str = ""
    """How the page's script finds it; only where it changes the table."""
    kind: str = field(default="table", init=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """A Vega-Lite plot with menus; its specifications share the data, which they call by the name "points"."""

    key: str
    """Unique among the figures of a section, and the name of the file when it is saved."""
    title: str
    note: str
    label: str
    """What it shows, for those who cannot see it."""
    menus: Mapping[str, Mapping[str, str]]
    """The menus by their labels, each with its choices: their names in `specs`, and how they are shown."""
    rows: Sequence[Mapping[str, Any]]
    specs: Mapping[str, Any]
    """By the names of one choice from every menu, joined by spaces."""
    kind: str = field(default="figure", init=False)


NOTHING = Cell("–")


def interval_cell(interval: Interval | None, write: Callable[[float], str]) -> Cell:
    """An estimate with its bounds below it."""
    if interval is None or math.isnan(interval.estimate):
        return NOTHING
    return Cell(write(interval.estimate), interval.estimate, bounds_text(interval, write))


def plain_cell(value: float | None, write: Callable[[float], str]) -> Cell:
    """A figure without bounds."""
    return NOTHING if value is None else Cell(write(value), value)


def part_csv(part: Figure | Table) -> str:
    """A part's figures: the points of a plot, or the values of a table."""
    if isinstance(part, Figure):
        return as_csv([{key: value for key, value in row.items() if _told(key, value)} for row in part.rows])
    names = [column.name for column in part.columns]
    values = [[cell.text if cell.value is None else cell.value for cell in row] for row in part.rows]
    return as_csv([dict(zip(names, row, strict=True)) for row in values])


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV with a heading; a field that a record lacks stays empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _told(key: str, value: Any) -> bool:
    """Whether a field of a plot's data is a figure, and no help for drawing."""
    return key not in ("place", "tag") and not key.endswith("_text") and not isinstance(value, list)
