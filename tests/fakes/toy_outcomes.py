"""For tests of routers: questions whose first word tells their outcomes, and an encoder that needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from flarekit.engines.encoders import Encoder, Vectors
from flarekit.escalation.outcomes import Outcomes

TOPICS = ("river", "capital", "novel", "currency", "mountain", "film")
ARMS = ("closed-book", "rag", "iter-retgen")
SCORES = {"When": (1.0, 0.5, 1.0), "Who": (0.0, 1.0, 0.5), "Whose": (0.25, 0.0, 1.0)}
"""F1 of each arm by a question's first word: no look-up, one, or two are best."""
COSTS = (10.0, 40.0, 90.0)
DIMENSIONS = 48


def toy(count: int = 90, arms: Sequence[str] = ARMS) -> Outcomes:
    """`count` questions, as many of each first word."""
    words = [list(SCORES)[number % 3] for number in range(count)]
    questions = [f"{word} was the {TOPICS[number % 5]} {number}?" for number, word in enumerate(words)]
    scores = np.array([SCORES[word] for word in words])
    costs = np.tile(COSTS, (count, 1))
    return Outcomes([f"q{number}" for number in range(count)], questions, ARMS, scores, costs).only(arms)


def word_encoder(name: str = "words") -> Encoder:
    """A random vector for every word, always the same one, summed up; the first word counts ten times."""
    return Encoder(name, _embed)


def _embed(texts: list[str]) -> Vectors:
    rows = []
    for text in texts:
        words = re.findall(r"\w+", text.lower()) or ["?"]
        drawn = [np.random.default_rng(list(word.encode())).normal(size=DIMENSIONS) for word in words]
        rows.append(10 * drawn[0] + sum(drawn[1:]))
    return np.array(rows, dtype=np.float32)
