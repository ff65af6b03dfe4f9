"""What every kind of router shares: what it is fitted on (`Task`), and what it has learnt (`Fitted`).

A kind is one module with two or three functions and no state: `fit(task, ...)` gives a `Fitted`; `predict(fitted,
questions)` reads P(label) from it, or `choose(fitted, questions, tradeoff)` the place of an arm; `check(fitted)` raises
a `ValueError` where it is not whole. Predicting reads nothing but the `Fitted`, so one that was saved and loaded
predicts the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from flarekit.engines import encoders as encoder
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.outcomes import Outcomes
from flarekit.stats.arrays import Floats


@dataclass(frozen=True, slots=True)
class Task:
    """Questions to fit on, with what a router is to predict of them."""

    outcomes: Outcomes
    labels: Floats
    """What a score router predicts, 0 to 1; a tie of two arms may count half. Shape (questions,)."""
    weak: int = 0
    strong: int = 1
    """Places of the two arms that a score router decides between."""
    target: str = "strong-wins"
    seed: int = 0

    @property
    def questions(self) -> Sequence[str]:
        """The questions' texts."""
        return self.outcomes.questions


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a kind of router learnt."""

    settings: Mapping[str, Any]
    """Plain JSON values: hyperparameters, and whatever else predicting needs but arrays."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)
    """Plain JSON values that are too long for a manifest: terms, examples."""
    network: Any = None
    """A fine-tuned encoder (`flarekit.escalation.routers.finetune.Network`), where the kind has one."""

    def expect(self, **shapes: tuple[int | str, ...]) -> dict[str, int]:
        """Check the arrays' names and shapes; equal letters stand for equal sizes, which are given back.

        `ValueError` where an array is missing or of another shape.
        """
        sizes: dict[str, int] = {}
        for name, wanted in shapes.items():
            shape = self.arrays[name].shape if name in self.arrays else None
            if shape is None or len(shape) != len(wanted):
                raise ValueError(f"an array {name!r} of {len(wanted)} dimensions is expected")
            for size, letter in zip(shape, wanted, strict=True):
                expected = letter if isinstance(letter, int) else sizes.setdefault(letter, size)
                if size != expected or size == 0:
                    raise ValueError(f"the array {name!r} has the shape {shape}")
        return sizes


def one_thread() -> AbstractContextManager[object]:
    """Fit with one thread of BLAS: the matrices are so small that threads cost far more than they save."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limits


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def embedded(fitted: Fitted, questions: Sequence[str], dimensions: int) -> Floats:
    """The questions' vectors by the encoder that the router was fitted with. Shape (questions, dimensions).

    `DataError` where the encoder of that name now gives vectors of another size.
    """
    vectors = encoder.load_encoder(fitted.settings["encoder"]).encode(questions)
    if vectors.shape[1] != dimensions:
        raise DataError(
            f"the encoder {fitted.settings['encoder']!r} gives vectors of {vectors.shape[1]} numbers, and the router "
            f"was fitted on {dimensions}; train it again"
        )
    return vectors.astype(float)


def embed(name: str, questions: Sequence[str]) -> Floats:
    """The questions' vectors by the encoder called `name`, to fit on. Shape (questions, dimensions), length 1 each."""
    return encoder.load_encoder(name).encode(questions).astype(float)


def at_least(name: str, value: float, low: float) -> None:
    """A `ConfigError` where the option is below its range."""
    if not value >= low:
        raise ConfigError(f"{name} must be at least {low:g}, not {value:g}")
