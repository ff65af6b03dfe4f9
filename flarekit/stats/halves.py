"""Cross-fitting under the bootstrap: halves of the questions, one to choose on and the other to judge the choice on.

Questions that ask the same are one **unit**: a dataset may hold one twice, under two ids, and a resample draws one
several times. All copies of a unit fall into the same half. Otherwise what is chosen on one copy would be judged on
another, which is what cross-fitting is there to prevent. Units, not questions, are therefore drawn and halved.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from flarekit.stats.arrays import Flags, Floats, Rows
from flarekit.stats.bootstrap import resample_counts


def halved_resamples(
    units: int | ArrayLike, splits: int, resamples: int, seed: int = 0
) -> Iterator[tuple[Floats, Floats]]:
    """How often each question is in either half, once for each of `splits` random ways to halve the units.

    `units` are the questions' units as numbers from 0 on, shape (n,), or how many questions there are where all differ.
    Both halves are of shape (1 + resamples, n): the first row is the questions themselves, each once, in one of the
    halves; every other row is a draw, with replacement, of as many units as there are. In each row the distinct units
    that were drawn are halved at random, so that no question is in both halves.
    """
    labels: Rows = np.arange(units) if isinstance(units, int) else np.asarray(units, dtype=np.int64)
    rng = np.random.default_rng(seed)
    counts = resample_counts(int(labels.max()) + 1, resamples, rng)
    for _ in range(splits):
        first = _random_half(counts > 0, rng)
        yield (counts * first)[:, labels], (counts * ~first)[:, labels]


def _random_half(drawn: Flags, rng: np.random.Generator) -> Flags:
    """In every row a random half (the smaller, if odd) of the units that were drawn."""
    rank = np.where(drawn, rng.random(drawn.shape), np.inf).argsort(axis=1).argsort(axis=1)
    return np.asarray(rank < drawn.sum(axis=1, keepdims=True) // 2)
