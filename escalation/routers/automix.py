"""`automix`: which shares of agreeing judgements are worth asking the strong model for (arXiv:2310.12963, section 3.3).

A model that judges its own answer is noisy, and least of all does it know what another model can do. AutoMix therefore
takes its confidence for an observation of a hidden state and decides by what the state is worth, as a partially
observable Markov decision process with one step:

- states: *simple* (the weak model is right), *complex* (it is wrong and the strong one does better), *hopeless* (it is
  wrong and the strong one does no better);
- an observation: how many of n judgements agree, 0 to n. P(observation | state) is the kernel density of the recorded
  questions of that state, so that a few of them are enough;
- actions: keep the answer, or hand over to the strong model;
- reward: the mean score of who answers in that state, less `cost_weight` times what handing over costs.

So what is worth handing over is a set of confidences, and usually an interval: above it answers are right, below it
questions are hopeless. No threshold can leave those with the weak model. The judgements are paid for either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flarekit.errors import DataError
from flarekit.escalation.base import Fitted, Task, at_least
from flarekit.escalation.outcomes import label
from flarekit.signals.answer import Answered, find_post_signal
from flarekit.stats.arrays import Floats
from flarekit.trace import Probe

STATES = ("simple", "complex", "hopeless")
_LEAST = 1e-6
"""The least gain that is worth a hand-over which costs nothing: none is no gain."""


def fit(
    task: Task, judgements: Sequence[Sequence[bool]], *, bandwidth: float = 0.1, cost_weight: float | None = None
) -> Fitted:
    """Fit on questions with the weak answer's judgements, as many for each: whether each calls the answer correct.

    `bandwidth` of the kernel, on the scale of the confidence (0 to 1); 0 counts each observation for itself. Without a
    `cost_weight` (score for one unit of cost) a hand-over must gain what one of a random question gains: the reward is
    then the height above the line from never to always handing over. `DataError` where the judgements of two questions
    differ in number.
    """
    at_least("bandwidth", bandwidth, 0)
    if cost_weight is not None:
        at_least("cost_weight", cost_weight, 0)
    counts = {len(one) for one in judgements}
    if len(counts) != 1 or not min(counts):
        listed = " and ".join(map(str, sorted(counts)))
        raise DataError(f"every answer needs the same number of judgements, at least 1; there are some with {listed}")
    [samples] = counts
    weak, strong = task.outcomes.scores[:, task.weak], task.outcomes.scores[:, task.strong]
    states = np.array([_state(alone, helped) for alone, helped in zip(weak, strong, strict=True)])
    beliefs = _beliefs(np.array([sum(one) for one in judgements]), states, samples, bandwidth)
    worth = [(strong - weak)[states == state].mean() if (states == state).any() else 0.0 for state in range(3)]
    gains = np.clip(beliefs @ np.array(worth), -1, 1)
    asked = task.outcomes.costs[:, task.strong].mean()
    least = float((strong - weak).mean() if cost_weight is None else cost_weight * asked)
    settings = {
        "samples": samples,
        "bandwidth": bandwidth,
        "cost_weight": cost_weight,
        "least_gain": max(least, _LEAST),
        "hands_over_at": [int(agreed) for agreed in np.flatnonzero(gains >= max(least, _LEAST))],
    }
    return Fitted(settings, {"beliefs": beliefs, "gains": gains})


def hands_over(fitted: Fitted, judgements: Sequence[Sequence[bool]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each answer is handed over. Shape (answers,)."""
    agreed = [sum(one) for one in judgements]
    return np.asarray(fitted.arrays["gains"][agreed] >= fitted.settings["least_gain"])


def check(fitted: Fitted) -> None:
    """`ValueError` unless there is a gain and a belief for every number of agreeing judgements."""
    samples, least = fitted.settings["samples"], fitted.settings["least_gain"]
    if not isinstance(samples, int) or samples < 1 or not isinstance(least, float) or not least > 0:
        raise ValueError("samples of at least 1, and a least_gain above 0, are expected")
    counts = fitted.settings.get("hands_over_at", [])
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= samples for count in counts):
        raise ValueError("hands_over_at lists numbers of agreeing judgements")
    fitted.expect(gains=(samples + 1,), beliefs=(samples + 1, len(STATES)))
    if np.abs(fitted.arrays["gains"]).max() > 1 or not np.allclose(fitted.arrays["beliefs"].sum(axis=1), 1):
        raise ValueError("gains from -1 to 1, and beliefs that sum to 1, are expected")


@dataclass(frozen=True, slots=True)
class AnswerRouter:
    """What handing an answer over is expected to gain, 0 to 1 (0 too where it loses), by judging it n times."""

    manifest: dict[str, Any]
    fitted: Fitted
    name: str = "automix"
    high: float = 1.0
    source: str = "AutoMix, arXiv:2310.12963, section 3.3"
    needs: str = "seeded sampling (temperature, seed)"

    @property
    def least_gain(self) -> float:
        """The gain from which on it hands over, above 0; above 1 it never does."""
        return float(self.fitted.settings["least_gain"])

    async def judge(self, answered: Answered) -> Probe:
        """The expected gain, with the judgements and what they cost."""
        samples = self.fitted.settings["samples"]
        probe = await find_post_signal("self-verification", samples=samples).judge(answered)
        gain = self.fitted.arrays["gains"][round((1 - probe.value) * samples)]
        return replace(probe, signal=self.name, value=max(0.0, float(gain)))


def _state(alone: float, helped: float) -> int:
    if not label(alone, helped, "wrong"):
        return 0
    return 1 if label(alone, helped, "helps") else 2


def _beliefs(agreed: np.ndarray[Any, np.dtype[np.int64]], states: Any, samples: int, bandwidth: float) -> Floats:
    """P(state | so many judgements agree). Shape (samples + 1, states).

    Every question spreads its weight of one over the observations, by the kernel: what would lie beyond 0 and 1 is not
    lost. Where no question has any weight, all that is known is how common the states are.
    """
    apart = (np.arange(samples + 1)[:, None] - agreed) / samples
    with np.errstate(over="ignore"):  # a bandwidth of nearly nothing
        kernel = np.exp(-0.5 * (apart / bandwidth) ** 2) if bandwidth else (apart == 0).astype(float)
    kernel /= kernel.sum(axis=0)
    member = np.eye(len(STATES))[states]
    joint = kernel @ member
    total = joint.sum(axis=1, keepdims=True)
    return np.where(total > 1e-12, joint / np.maximum(total, 1e-12), member.mean(axis=0))
