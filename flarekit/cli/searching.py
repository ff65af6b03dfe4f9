"""What commands that search share: the option for an embedder, and word of where queries go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flarekit.io.terminal import say
from flarekit.retrieval import BatchRetriever
from flarekit.retrievers import open_index
from flarekit.retrievers.index.build import destinations

EmbedderOption = Annotated[
    str | None,
    typer.Option(help="Who embeds queries, in place of the embedder that the index or YAML file names."),
]


def open_told(path: Path, embedder: str | None = None) -> BatchRetriever:
    """What searches an index, JSON lines or what a YAML file describes; the servers that queries go to are told."""
    retriever = open_index(path, embedder=embedder)
    tell_destinations(path, embedder)
    return retriever


def tell_destinations(path: Path, embedder: str | None = None) -> None:
    """Say on stderr which servers queries over `path` are sent to; nothing where they stay in this process."""
    for host in destinations(path, embedder=embedder):
        say(f"queries are sent to {host}", stderr=True)
