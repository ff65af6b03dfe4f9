"""What the clients of search engines share that run elsewhere: OpenSearch, Elasticsearch, Milvus and PostgreSQL."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from flarekit.errors import ConfigError, DataError, quoted
from flarekit.retrieval import Passage


def required(module: str, package: str) -> Any:
    """A client library; `ConfigError` says what to install where it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{package} is not installed; install it, or flarekit[engines]") from error


def with_defaults(fields: Mapping[str, str] | None, defaults: Mapping[str, str]) -> dict[str, str]:
    """An engine's own names for the fields in `defaults`; `ConfigError` for others."""
    if unknown := [key for key in fields or {} if key not in defaults]:
        raise ConfigError(f"fields: no field is called {unknown[0]!r}; there are {', '.join(defaults)}")
    return {**defaults, **(fields or {})}


def batches(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    """`size` passages at a time; `DataError` for an id that occurs twice, and for none at all."""
    seen: set[str] = set()
    rest = iter(passages)
    while batch := list(islice(rest, size)):
        for passage in batch:
            if passage.id in seen:
                raise DataError(f"the id {passage.id!r} occurs twice; make ids unique")
            seen.add(passage.id)
        yield batch
    if not seen:
        raise DataError("no passages to load; give passages with text")


def one_line(message: object) -> str:
    """The first line of what another library says."""
    lines = str(message).strip().splitlines()
    return quoted(lines[0].rstrip(".")) if lines else type(message).__name__
