"""Splits of questions into those that are fitted on and those that are judged on, by what the questions say.

The same question may come from two sources under two ids: questions whose words are the same stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from unicodedata import normalize

import numpy as np
import regex
from numpy.typing import NDArray

from flarekit.errors import ConfigError

Rows = NDArray[np.int64]


def normalize_question(text: str) -> str:
    """A question without case, punctuation, spacing and ways to encode a letter; as it is where it has no word."""
    return " ".join(regex.findall(r"[\w\p{M}]+", normalize("NFKC", text).casefold())) or text.strip()


def digest(question: str) -> str:
    """What a question says, in 16 characters: the same for all questions whose words are the same."""
    return hashlib.sha256(normalize_question(question).encode()).hexdigest()[:16]


def alike(questions: Sequence[str]) -> Rows:
    """A number for what each question says, from 0 on by first occurrence. Shape (questions,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalize_question(text), len(numbers)) for text in questions], dtype=np.int64)


def split(questions: Sequence[str], strata: Sequence[Hashable], test_share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows to fit on and rows to judge on, both in order, with about the same mix of strata.

    Of every stratum that has two questions or more, at least one is on each side. `ConfigError` where the share is
    not within 0 and 1.
    """
    if not 0 < test_share < 1:
        raise ConfigError(f"the share of test questions is between 0 and 1, not {test_share:g}")
    judged: set[str] = set()
    for texts in _shuffled(questions, strata, seed):
        judged.update(texts[: min(max(1, round(test_share * len(texts))), len(texts) - 1)])
    inside = np.array([normalize_question(question) in judged for question in questions], dtype=bool)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def folds(questions: Sequence[str], strata: Sequence[Hashable], count: int, seed: int) -> Rows:
    """The fold of every question, 0 to `count` - 1, each with about the same mix of strata. Shape (questions,)."""
    texts = [text for stratum in _shuffled(questions, strata, seed) for text in stratum]
    place = {text: number % count for number, text in enumerate(texts)}
    return np.array([place[normalize_question(question)] for question in questions], dtype=np.int64)


def _shuffled(questions: Sequence[str], strata: Sequence[Hashable], seed: int) -> list[list[str]]:
    """The distinct questions of every stratum, in an order that the seed decides.

    A question that occurs in several strata counts to that of its first occurrence.
    """
    stratum: dict[str, Hashable] = {}
    for question, kind in zip(questions, strata, strict=True):
        stratum.setdefault(normalize_question(question), kind)
    rng = np.random.default_rng(seed)
    groups: dict[Hashable, list[str]] = {}
    for text, kind in stratum.items():
        groups.setdefault(kind, []).append(text)
    return [[texts[place] for place in rng.permutation(len(texts))] for texts in groups.values()]
