"""Search engines that somebody already runs, described in a small YAML file that is given where an index is expected.

::

    kind: opensearch                 # or elasticsearch, milvus, pgvector
    url: https://search.example.org:9200
    index: passages                  # the index, collection or table
    fields: {text: body}             # where its fields have other names than title and text
    user: reader
    password_env: SEARCH_PASSWORD    # the environment variable that holds the password
    timeout: 2                       # seconds, for one search; 10 where it is left out

Secrets stay in the environment: `password_env`, `api_key_env` (OpenSearch and Elasticsearch) and `token_env` (Milvus)
name its variables. `embedder` names what made the vectors in Milvus and pgvector (`flarekit.retrievers.embed`); Milvus
without one searches by BM25. Paths (`ca_certs`, and Milvus' `url` where it is a local file) are relative to the YAML
file.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, TypeAdapter, ValidationError, model_validator

from flarekit.errors import ConfigError, DataError
from flarekit.retrieval import BatchRetriever, Passage


class _Engine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    index: str = Field(min_length=1)
    fields: dict[str, str] = {}
    timeout: PositiveFloat = 10.0
    """Seconds, for one search."""

    @model_validator(mode="after")
    def _without_password(self) -> _Engine:
        if urlsplit(self.url).password:
            raise ValueError(
                "the url holds a password; name an environment variable with it as password_env or the like"
            )
        return self


class _Elastic(_Engine):
    kind: Literal["opensearch", "elasticsearch"]
    user: str | None = None
    password_env: str | None = None
    api_key_env: str | None = None
    ca_certs: Path | None = None

    @model_validator(mode="after")
    def _one_login(self) -> _Elastic:
        if bool(self.user) != bool(self.password_env):
            raise ValueError("user and password_env go together")
        if self.user and self.api_key_env:
            raise ValueError("either user and password_env, or api_key_env")
        return self


class _Milvus(_Engine):
    kind: Literal["milvus"]
    embedder: str | None = None
    token_env: str | None = None


class _PgVector(_Engine):
    kind: Literal["pgvector"]
    embedder: str
    password_env: str | None = None


_FILE: TypeAdapter[_Elastic | _Milvus | _PgVector] = TypeAdapter(
    Annotated[_Elastic | _Milvus | _PgVector, Field(discriminator="kind")]
)


def open_remote(path: Path) -> BatchRetriever:
    """The retriever that a YAML file describes; nothing is asked of the engine before the first search.

    `DataError` for a file that cannot be read, `ConfigError` for one that does not say what it must, for an environment
    variable that is not set, and for a client library that is not installed.
    """
    engine = _read(path)
    if isinstance(engine, _Elastic):
        from flarekit.retrievers.elastic import ElasticRetriever

        api_key = _secret(engine.api_key_env, path)
        login = (engine.user, _secret(engine.password_env, path) or "") if engine.user else None
        return ElasticRetriever(
            engine.url,
            engine.index,
            fields=engine.fields,
            auth=api_key or login,
            ca_certs=engine.ca_certs and path.parent / engine.ca_certs,
            timeout=engine.timeout,
            name=engine.kind,
        )
    from flarekit.retrievers.embed import open_embedder

    if isinstance(engine, _Milvus):
        from flarekit.retrievers.milvus import MilvusRetriever

        return MilvusRetriever(
            engine.url if "://" in engine.url else str(path.parent / engine.url),
            engine.index,
            open_embedder(engine.embedder) if engine.embedder else None,
            fields=engine.fields,
            token=_secret(engine.token_env, path),
            timeout=engine.timeout,
        )
    from flarekit.retrievers.pgvector import PgVectorRetriever

    return PgVectorRetriever(
        engine.url,
        engine.index,
        open_embedder(engine.embedder),
        fields=engine.fields,
        password=_secret(engine.password_env, path),
        timeout=engine.timeout,
    )


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
    return lines[0].rstrip(".")[:300] if lines else type(message).__name__


def _read(path: Path) -> _Elastic | _Milvus | _PgVector:
    try:
        return _FILE.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        # The first place is the kind that the file was read as.
        where = ".".join(map(str, first["loc"][1:])) or "the file"
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error


def _secret(variable: str | None, path: Path) -> str | None:
    if variable is None:
        return None
    if not (value := os.environ.get(variable)):
        raise ConfigError(f"{path}: the environment variable {variable} is not set; it must hold the secret")
    return value
