"""Halves of the questions, to choose on one and to judge on the other, and resamples whose places are halved alike.

Questions that ask the same are one **unit**: a dataset may hold one twice, under two ids, and who chose on the one
would be judged on what was seen if the other lay in the other half. Units, not questions, are halved and drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flarekit.escalation.split import normalize_question

Floats = NDArray[np.float64]
Units = NDArray[np.intp]


def units(texts: Sequence[str]) -> Units:
    """The number of every question's unit, from 0 in the order of first occurrence. Shape (questions,).

    Two questions are one where they differ in nothing but case, punctuation and spacing.
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalize_question(text), len(numbers)) for text in texts], dtype=np.intp)


def split_draws(questions: int | ArrayLike, splits: int, resamples: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """How often each question is in either half, for every split of the places into two.

    `questions` are their units, or how many there are where all differ. Both halves are of shape (1 + resamples, n);
    the first row is the questions themselves, each once in one of the halves; the others are as many draws of units as
    there are units, whose places are split likewise.
    """
    labels = np.arange(questions) if isinstance(questions, int) else np.asarray(questions, dtype=np.intp)
    count = int(labels.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = np.vstack([np.arange(count), rng.integers(0, count, (resamples, count))])
    for _ in range(splits):
        places = rng.permutation(count)
        first, second = places[: count // 2], places[count // 2 :]
        yield _counts(drawn[:, first], count)[:, labels], _counts(drawn[:, second], count)[:, labels]


def _counts(drawn: NDArray[np.int64], count: int) -> Floats:
    """How often each of `count` units is in every row of draws. Shape (rows, count)."""
    rows = np.arange(len(drawn))[:, None]
    counted = np.bincount((rows * count + drawn).ravel(), minlength=len(drawn) * count)
    return np.asarray(counted.reshape(len(drawn), count), dtype=float)
