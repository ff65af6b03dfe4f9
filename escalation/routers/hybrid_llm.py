"""Hybrid LLM's router (Ding et al. 2024, arXiv:2404.14618, section 3): whether the weak arm suffices.

Three kinds of labels, from the quality q of the two arms' answers (here F1):

- `det` (3.1): 1 where q(weak) >= q(strong);
- `prob` (3.2): the share of pairs of sampled answers where q(weak) >= q(strong);
- `trans` (3.3): the share where q(weak) >= q(strong) - t. Where the strong arm is nearly always better the first two
  are nearly always 0 and teach nothing, so t is chosen to spread the labels: it maximises their mean absolute
  difference over all pairs of questions, and is searched on the questions that are fitted on only.

Without sampled answers (recorded runs of `self-consistency` hold some) a `prob` label is a `det` one, and a `trans`
label is 0 or 1. The paper fine-tunes DeBERTa-v3-large (300 million parameters) on 10,000 queries; ours is a logistic
head on MiniLM's embedding, or MiniLM fine-tuned with `fine_tune`, with the same soft cross-entropy. Our score is
1 - P(the weak arm suffices), so that as everywhere higher means that help is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from flarekit.engines.encoders import DEFAULT
from flarekit.escalation.base import Fitted, Task, at_least, embed
from flarekit.escalation.routers import finetune, linear
from flarekit.stats.arrays import Floats

Labels = Literal["det", "prob", "trans"]


def fit(
    task: Task, *, encoder: str = DEFAULT, labels: Labels = "det", c: float = 10.0, fine_tune: bool = False
) -> Fitted:
    """Learn P(the weak arm needs help) = 1 - its label, by cross-entropy against the soft labels."""
    at_least("c", c, 1e-12)
    gaps = gap_samples(task)
    t = best_gap(gaps) if labels == "trans" else 0.0
    if labels == "det":
        pair = task.outcomes.scores
        needed = (pair[:, task.weak] < pair[:, task.strong]).astype(float)
    else:
        needed = 1 - suffices(gaps, t)
    settings = {"encoder": encoder, "labels": labels, "t": t, "fine_tune": fine_tune}
    if fine_tune:
        tuned = finetune.fine_tune(task.questions, needed, encoder=encoder, seed=task.seed)
        return Fitted(settings, tuned.arrays, network=tuned.network)
    weights, intercept = linear.fit_logistic(embed(encoder, task.questions), needed, c=c, balanced=False)
    return Fitted(settings | {"c": c}, {"coefficients": weights, "intercept": intercept})


def predict(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """1 - P(the weak arm suffices) of each question. Shape (questions,), 0 to 1."""
    return finetune.predict(fitted, questions) if fitted.network else linear.predict_embedding(fitted, questions)


def check(fitted: Fitted) -> None:
    """`ValueError` unless the head is whole."""
    if bool(fitted.settings["fine_tune"]) != (fitted.network is not None):
        raise ValueError("a fine-tuned encoder is expected where the manifest says so, and only there")
    fitted.expect(coefficients=("d",), intercept=())


def gap_samples(task: Task) -> list[Floats]:
    """q(weak) - q(strong) for every pair of sampled answers, of every question; each at least one, -1 to 1."""
    outcomes = task.outcomes
    return [
        np.subtract.outer(outcomes.sampled(row, task.weak), outcomes.sampled(row, task.strong)).ravel()
        for row in range(len(outcomes.ids))
    ]


def suffices(gaps: Sequence[Floats], t: float) -> Floats:
    """The share of pairs with q(weak) >= q(strong) - t. Shape (questions,), 0 to 1."""
    return np.array([(gap >= -t - 1e-12).mean() for gap in gaps])


def best_gap(gaps: Sequence[Floats]) -> float:
    """The t of section 3.3, 0 to 1; the smallest where several spread the labels alike."""
    candidates = np.unique(np.concatenate([[0.0], *(-gap[gap <= 0] for gap in gaps)]))
    spreads = np.array([mean_absolute_difference(suffices(gaps, t)) for t in candidates])
    return float(candidates[int(np.argmax(spreads >= spreads.max() - 1e-12))])


def mean_absolute_difference(values: Floats) -> float:
    """The mean of |a - b| over all ordered pairs (a, b), one paired with itself among them."""
    n = len(values)
    # In order, value number i (from 0) is added i times and taken off n - 1 - i times.
    return float(2 * (np.sort(values) * (2 * np.arange(n) - n + 1)).sum() / n**2)
