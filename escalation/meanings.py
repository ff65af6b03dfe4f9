"""Which sampled answers mean the same: groups for semantic entropy, by sentence embeddings.

Kuhn et al. (arXiv:2302.09664, section 3) call two answers alike when a DeBERTa finds that each entails the other. Such
a model is large, and trained on longer sentences than these short answers are; a small encoder's cosine is cheaper, and
tells paraphrases ("USA", "the United States") from other answers nearly as well.
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
