"""Retrieval that is described in a small YAML file, which is given where an index is expected.

::

    kind: index            # a folder that `flarekit index build` wrote
    path: passages
    fusion: ranks          # a hybrid index's: weighted (where it is left out) or ranks
    weights: [0.5, 0.5]    # those of BM25 and of dense retrieval in weighted fusion; .6 and .4 where they are left out
    rerank: cross-encoder/ms-marco-MiniLM-L6-v2     # of any kind's passages: a name on the hub, or a folder
    depth: 20              # how many passages the reranker reads; 20 where it is left out

Or a search engine that somebody already runs::

    kind: opensearch                 # or elasticsearch, milvus, pgvector
    url: https://search.example.org:9200
    index: passages                  # the index, collection or table
    fields: {text: body}             # where its fields have other names than title and text
    user: reader
    password_env: SEARCH_PASSWORD    # the environment variable that holds the password
    timeout: 2                       # seconds, for one search; 10 where it is left out

Secrets stay in the environment: `password_env`, `api_key_env` (OpenSearch and Elasticsearch) and `token_env` (Milvus)
name its variables. `embedder` names what made the vectors in Milvus and pgvector
(`flarekit.retrievers.dense.embedder`); Milvus without one searches by BM25. Paths (`path`, `ca_certs`, Milvus' `url`
where it is a local file, `rerank` where such a folder is there) are relative to the YAML file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from flarekit.errors import ConfigError
from flarekit.io.settings import read_yaml
from flarekit.retrieval import BatchRetriever
from flarekit.retrievers.dense.embedder import chosen, embedder_of_file
from flarekit.retrievers.index.build import destinations, open_folder
from flarekit.retrievers.index.hybrid import Fusion
from flarekit.retrievers.remote.destinations import hosts, permit
from flarekit.retrievers.rerank import DEPTH, Reranker


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rerank: str | None = None
    depth: PositiveInt | None = None

    @model_validator(mode="after")
    def _depth_of_something(self) -> _Described:
        if self.depth and not self.rerank:
            raise ValueError("depth is how many passages rerank reads; name a model as rerank, or leave depth out")
        return self

    def open(self, folder: Path, embedder: str | None) -> BatchRetriever:
        """What finds the passages, before any reranking; paths are relative to `folder`.

        `embedder` is given in place of the one that is named.
        """
        raise NotImplementedError

    def asked(self, folder: Path, embedder: str | None) -> tuple[str, ...]:
        """The servers that queries are sent to, as host or host:port."""
        raise NotImplementedError


class _Index(_Described):
    kind: Literal["index"]
    path: Path
    fusion: Fusion | None = None
    weights: list[float] | None = None

    def open(self, folder: Path, embedder: str | None) -> BatchRetriever:
        return open_folder(folder / self.path, fusion=self.fusion, weights=self.weights, embedder=embedder)

    def asked(self, folder: Path, embedder: str | None) -> tuple[str, ...]:
        return destinations(folder / self.path, embedder=embedder)


class _Engine(_Described):
    url: str
    index: str = Field(min_length=1)
    fields: dict[str, str] = {}
    timeout: PositiveFloat = 10.0
    """Seconds, for one search."""

    def asked(self, folder: Path, embedder: str | None) -> tuple[str, ...]:
        return hosts(self.url)

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

    def open(self, folder: Path, embedder: str | None) -> BatchRetriever:
        from flarekit.retrievers.remote.elastic import ElasticRetriever

        permit(self.url)
        api_key = _secret(self.api_key_env)
        login = (self.user, _secret(self.password_env) or "") if self.user else None
        return ElasticRetriever(
            self.url,
            self.index,
            fields=self.fields,
            auth=api_key or login,
            ca_certs=self.ca_certs and folder / self.ca_certs,
            timeout=self.timeout,
            name=self.kind,
        )


class _OfVectors(_Engine):
    embedder: str | None = None

    def asked(self, folder: Path, embedder: str | None) -> tuple[str, ...]:
        by_embedder = hosts(chosen(self.embedder, embedder)[0]) if self.embedder else ()
        return _Engine.asked(self, folder, embedder) + by_embedder


class _Milvus(_OfVectors):
    kind: Literal["milvus"]
    token_env: str | None = None

    def open(self, folder: Path, embedder: str | None) -> BatchRetriever:
        from flarekit.retrievers.remote.milvus import MilvusRetriever

        permit(self.url)
        return MilvusRetriever(
            self.url if "://" in self.url else str(folder / self.url),
            self.index,
            embedder_of_file(self.embedder, embedder) if self.embedder else None,
            fields=self.fields,
            token=_secret(self.token_env),
            timeout=self.timeout,
        )


class _PgVector(_OfVectors):
    kind: Literal["pgvector"]
    embedder: str
    password_env: str | None = None

    def open(self, folder: Path, embedder: str | None) -> BatchRetriever:
        from flarekit.retrievers.remote.pgvector import PgVectorRetriever

        permit(self.url)
        return PgVectorRetriever(
            self.url,
            self.index,
            embedder_of_file(self.embedder, embedder),
            fields=self.fields,
            password=_secret(self.password_env),
            timeout=self.timeout,
        )


_FILE: TypeAdapter[_Index | _Elastic | _Milvus | _PgVector] = TypeAdapter(
    Annotated[_Index | _Elastic | _Milvus | _PgVector, Field(discriminator="kind")]
)


def open_described(path: Path, *, embedder: str | None = None) -> BatchRetriever:
    """The retriever that a YAML file describes; a reranker is loaded, an engine is not asked before the first search.

    `DataError` for a file that cannot be read and for an index that is not whole; `ConfigError`, which names the file,
    for a setting that is missing or does not apply, an environment variable that is not set, a client library that is
    not installed, a cross-encoder that is not to be had, and a server that nobody has allowed
    (`flarekit.retrievers.remote.destinations`). `embedder` is given in place of the one that the file names.
    """
    described = _read(path)
    try:
        retriever = described.open(path.parent, embedder)
        if described.rerank is None:
            return retriever
        beside = path.parent / described.rerank
        model = str(beside) if beside.is_dir() else described.rerank
        return Reranker(retriever, model, depth=described.depth or DEPTH)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def described_destinations(path: Path, *, embedder: str | None = None) -> tuple[str, ...]:
    """The servers that queries are sent to by the retriever that a YAML file describes."""
    return _read(path).asked(path.parent, embedder)


def described_index(path: Path) -> Path | None:
    """The folder of the index that a YAML file describes; None where it describes an engine that runs elsewhere."""
    described = _read(path)
    return path.parent / described.path if isinstance(described, _Index) else None


def _read(path: Path) -> _Described:
    content = read_yaml(path)
    try:
        return _FILE.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        # The first place is the kind that the file was read as.
        where = ".".join(map(str, first["loc"][1:])) or "the file"
        raise ConfigError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (value := os.environ.get(variable, "").rstrip("\r\n")):
        raise ConfigError(f"the environment variable {variable} is not set; it must hold the secret")
    return value
