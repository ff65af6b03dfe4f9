"""Every place in a JSON value, and the value with another at that place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from fakes.trained_routers import LIGHT, trained, words  # noqa: F401 - a fixture that is used by itself


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a manifest stand, the first few of every list."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    changed_ = copy.copy(value)
    changed_[path[0]] = changed(value[path[0]], path[1:], other)
    return changed_
