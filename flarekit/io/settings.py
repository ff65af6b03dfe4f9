"""YAML files that people write or are given: read with bounds, and never executed.

A file may come from elsewhere. Its size, its depth and the number of its values, an alias counted as all that it stands
for, are bounded before anything looks at what it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from flarekit.errors import ConfigError, DataError, quoted
from flarekit.io.files import open_file

T = TypeVar("T")
LARGEST, DEEPEST, MOST = 1 << 20, 32, 100_000
"""Bytes of a file, values inside values, and values in all."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; `DataError` where it cannot be read, is no YAML, or exceeds the bounds."""
    try:
        with open_file(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if len(content) > LARGEST:
        raise DataError(f"{path}: larger than the {LARGEST >> 20} MiB that a YAML file may have")
    try:
        found = yaml.safe_load(content.decode("utf-8-sig"))
        count(found)
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply, more than {DEEPEST} levels") from error
    # Tags convert as they like: the 32nd of a month is a ValueError, an empty !!int an IndexError.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from error
    return found


def read_model(path: Path, model: TypeAdapter[T], *, missing: Any = None) -> T:
    """A YAML file as `model` describes it, `missing` standing for an empty one.

    `DataError` as `read_yaml`; `ConfigError`, which names file and place, for what the model does not take.
    """
    content = read_yaml(path)
    try:
        return model.validate_python(missing if content is None else content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_of(error)}") from error


def first_of(error: ValidationError) -> str:
    """The first thing that a model does not take: where, and why."""
    first = error.errors(include_url=False)[0]
    where = quoted(".".join(str(part)[:100] for part in first["loc"])) or "the file"
    return f"{where}: {quoted(first['msg'].removeprefix('Value error, '), 300)}"


def count(value: Any, depth: int = 0) -> int:
    """How many values there are in `value`, itself among them; `RecursionError`, `ValueError` beyond the bounds."""
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        parts: list[Any] = [part for pair in value.items() for part in pair]
    else:
        parts = list(value) if isinstance(value, list | tuple | set) else []
    total = 1
    for part in parts:
        total += count(part, depth + 1)
        if total > MOST:
            raise ValueError(f"more than {MOST:,} values")
    return total
