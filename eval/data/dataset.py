"""What an evaluation asks: questions with their answers, and the passages that may be looked up.

Loaders of the published formats are in `flarekit.eval.data.formats`, the built-in world in `flarekit.eval.data.world`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flarekit.retrieval import Passage

Metric = Literal["hotpotqa", "musique"]
"""Which official script an answer is scored by: HotpotQA's (2WikiMultihopQA uses the same) or MuSiQue's (SQuAD)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what is known of its answer."""

    id: str
    text: str
    answers: tuple[str, ...]
    """Every accepted answer; the first is the main one."""
    supporting: tuple[str, ...] = ()
    """Ids of the passages that together hold the answer."""
    kind: str = ""
    """The dataset's own type of the question, such as "bridge"."""
    needs_retrieval: tuple[bool, ...] | None = None
    """For each hop, whether its fact is invented, so that no model can know it; None where a dataset cannot tell."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions, and the pool of passages that they are asked over."""

    name: str
    questions: Sequence[Question]
    corpus: Sequence[Passage]
    metric: Metric = "hotpotqa"
    notes: Sequence[str] = ()
    """What is to be known when scores are read, in sentences."""
