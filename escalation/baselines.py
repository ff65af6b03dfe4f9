"""The simplest that can be said of a question, which every signal and router must beat: its type and its length.

Types are fitted in the least sense: which of them speaks for the label is taken from the questions that are fitted on.
A figure within types says what a signal knows beyond them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from flarekit.stats.arrays import Floats
from flarekit.text.question_type import length, two_way

Rows = NDArray[np.int64]

RULE = "question type (rule)"
"""Two-way and yes/no questions against all others: `flarekit.text.question_type.two_way`."""
OWN = "question type (dataset's)"
LENGTH = "question length"

_ALMOST = 0.9
"""The share of one kind of question in one type from which on it lies almost in it alone."""
_FEWEST = 5
"""Questions of a kind below which no figure is given, and nothing need be warned of."""
_APART = 0.1
"""How much smaller that type's share among the others must be: what nearly all questions are tells nothing."""


def types_of(questions: Sequence[str], kinds: Sequence[str] = ()) -> dict[str, list[str]]:
    """The types of the questions by the rule, and by the dataset where it tells some apart."""
    found = {RULE: ["two-way or yes/no" if two_way(question) else "open" for question in questions]}
    if len(set(kinds)) > 1:
        found[OWN] = [kind or "untold" for kind in kinds]
    return found


def strata_of(questions: Sequence[str], kinds: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The types within which figures are given, with where they come from: the dataset's own where there are any."""
    return list(types_of(questions, kinds).items())[-1]


def by_type(types: Sequence[Hashable], labels: Floats, fitted_on: Rows, read: Rows) -> Floats:
    """The place of each question's type among the types, by their share of labels where fitted. Shape (read,).

    Places and not shares, so that folds are on one scale. A type that was not seen has the share of all.
    """
    seen: dict[Hashable, list[float]] = {}
    for row in fitted_on:
        seen.setdefault(types[row], []).append(float(labels[row]))
    everywhere = float(labels[fitted_on].mean())
    shares = {one: float(np.mean(seen.get(one, everywhere))) for one in types}
    steps = sorted(set(shares.values()))
    return np.array([steps.index(shares[types[row]]) for row in read], dtype=float)


def lengths_of(questions: Sequence[str]) -> Floats:
    """Words of each question, shape (questions,); AUROC is below a half where the shorter ones have the label."""
    return np.array([length(question) for question in questions], dtype=float)


def lopsided(labels: Floats, types: Sequence[str]) -> str:
    """What is to be warned of where the questions with the label, or those without, lie (almost) in one type.

    A signal may then tell that type from the others and nothing else. Empty where that is not so.
    """
    yes = np.asarray(labels, dtype=bool)
    for side, name in ((yes, "with"), (~yes, "without")):
        here, there = (Counter(one for one, at in zip(types, rows, strict=True) if at) for rows in (side, ~side))
        if here.total() < _FEWEST or not there:
            continue
        top, count = here.most_common(1)[0]
        share, other = count / here.total(), there[top] / there.total()
        if share >= _ALMOST and share - other >= _APART:
            return (
                f"{count} of the {here.total()} questions {name} the label are of the type {top!r}, against "
                f"{there[top]} of the {there.total()} others: what tells this type from the rest seems to tell the "
                "label; look at the figures within types"
            )
    return ""
