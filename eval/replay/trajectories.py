"""What a trigger knows of a recorded answer after each of its tokens, without asking a model again.

The value of a signal *after t tokens* is what it would be had the answer ended there: `readings.read_trigger` of the
first t tokens. For a trigger that is read over sentences this is the highest value of the sentences that are over and
of the one that is being written; for one that is read at every token, the highest so far. Either way it is known at
token t, and after the last token it is the value of `readings`. Highest so far is not the natural form of a mean, nor
of a window: they are also given as they stand, "(answer)" the mean of all tokens so far, "(now)" the window alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flarekit.errors import ConfigError, DataError
from flarekit.eval.replay.readings import Answer
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.token import SIGNALS, find_signal
from flarekit.stats.arrays import Floats, Rows

WORDS_ONLY = ("min-prob", "entropy")
"""Signals that are read without punctuation and white space too, as the mid-generation policies do by default."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A signal along an answer."""

    name: str
    trigger: Trigger
    """A mid trigger; its threshold is not looked at."""
    highest: bool = True
    """Whether its value so far is the highest that was read, or the one that was read last."""


def watches() -> list[Watch]:
    """Every token signal in the forms that mean something after any token."""
    return list(_watches())


def _watches() -> Iterator[Watch]:
    for name, signal in SIGNALS.items():
        window = isinstance(signal.over, int)
        yield Watch(name, Trigger(signal, 0.0, "mid", "token" if window else "sentence"))
        if window:
            yield Watch(f"{name} (now)", Trigger(signal, 0.0, "mid", "token"), highest=False)
        elif signal.reduce == "mean":
            yield Watch(f"{name} (answer)", Trigger(find_signal(name, "answer"), 0.0, "mid"), highest=False)
    for name in WORDS_ONLY:
        if name in SIGNALS:
            yield Watch(f"{name} (words)", Trigger(find_signal(name, words_only=True), 0.0, "mid"))


def trajectories(answers: Sequence[Answer], watched: Sequence[Watch]) -> dict[str, Floats]:
    """Every watched signal's value after 1, 2, … tokens of every answer, by name.

    Each of shape (answers, longest), NaN after an answer's end. `DataError` where no answer has a token.
    """
    longest = max((len(answer.tokens) for answer in answers), default=0)
    if not longest:
        raise DataError("the answers have no tokens to read signals from; record them with log-probabilities")
    values = np.full((len(watched), len(answers), longest), np.nan)
    for row, answer in enumerate(answers):
        values[:, row, : len(answer.tokens)] = _along(answer, watched)
    return {watch.name: values[place] for place, watch in enumerate(watched)}


def _along(answer: Answer, watched: Sequence[Watch]) -> Floats:
    """Shape (watched, tokens)."""
    monitor = Monitor([watch.trigger for watch in watched])
    read = np.zeros((len(watched), len(answer.tokens)))
    for start, end in pairwise([0, *answer.ends]):
        for place in range(start, end):
            monitor.update(answer.tokens[place])
            read[:, place] = [monitor.value(number) for number in range(len(watched))]
        monitor.end_sentence()
    for values, watch in zip(read, watched, strict=True):
        if watch.highest:
            _raise(values, answer.ends if watch.trigger.read == "sentence" else range(1, len(values) + 1))
    return read


def _raise(values: Floats, ends: Sequence[int]) -> None:
    """Lift every value to the highest of those that stood at an earlier end, in place."""
    highest = 0.0
    for start, end in pairwise([0, *ends]):
        np.maximum(values[start:end], highest, out=values[start:end])
        highest = max(highest, values[end - 1]) if end > start else highest


def after(values: Floats, tokens: Rows) -> Floats:
    """The values after so many tokens, one count for each answer; NaN for 0 and beyond the end.

    `values` are of shape (..., answers, longest), what is given of shape (..., answers).
    """
    count, longest = values.shape[-2:]
    if tokens.shape != (count,) or (tokens < 0).any():
        raise ConfigError(f"a count of tokens is needed for each of {count} answers, not {tokens.shape}")
    places = np.clip(tokens - 1, 0, longest - 1)
    found = values[..., np.arange(count), places]
    return np.where((tokens > 0) & (tokens <= longest), found, np.nan)
