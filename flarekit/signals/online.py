"""Online signals: a signal's value kept up to date token by token, in constant time and without allocation.

The value equals that of the `flarekit.signals.token.Signal` on the same tokens; a property test holds the two together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from flarekit.text.words import is_word
from flarekit.tokens import Token

Measure = Callable[[Token], float]
"""A token's own uncertainty; higher is less certain."""
Reduce = Callable[[Sequence[float]], float]
"""Makes one number of at least one measured value."""


class OnlineSignal(Protocol):
    """A signal's value, kept up to date token by token."""

    @property
    def value(self) -> float:
        """The value after the tokens so far; at least 0."""
        ...

    def update(self, token: Token) -> float:
        """Take one more token; the value after it."""
        ...

    def reset(self) -> None:
        """Begin a new span."""
        ...

    def end_sentence(self) -> None:
        """The next token begins a new sentence. The value stays until then.

        For a signal over a longer span than a sentence that looks at its sentences too; others do nothing. One over a
        sentence is `reset` instead.
        """
        ...


def bend(values: Sequence[float]) -> float:
    """The largest second difference of `values` after each was averaged with the one before it; at least 0.

    It takes four values to have one. It is large where an uncertainty that had been falling or level begins to rise
    steeply, which is before it is high.
    """
    smooth = [(left + right) / 2 for left, right in pairwise(values)]
    second = (c - 2 * b + a for a, b, c in zip(smooth, smooth[1:], smooth[2:], strict=False))
    return max(0.0, max(second, default=0.0))


class _SentenceBlind:
    """A value that is the same however its span falls into sentences."""

    __slots__ = ()

    def end_sentence(self) -> None:
        """Do nothing."""


class OnlineMax(_SentenceBlind):
    """The largest value so far."""

    __slots__ = ("_measure", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool) -> None:
        self._measure, self._words_only = measure, words_only
        self.value = 0.0

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._words_only or is_word(token):
            measured = self._measure(token)
            if measured > self.value:
                self.value = measured
        return self.value

    def reset(self) -> None:  # noqa: D102
        self.value = 0.0


class OnlineMean(_SentenceBlind):
    """The mean so far."""

    __slots__ = ("_count", "_measure", "_sum", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool) -> None:
        self._measure, self._words_only = measure, words_only
        self.reset()

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._words_only or is_word(token):
            self._sum += self._measure(token)
            self._count += 1
            self.value = self._sum / self._count
        return self.value

    def reset(self) -> None:  # noqa: D102
        self._sum, self._count, self.value = 0.0, 0, 0.0


class OnlineWindow(_SentenceBlind):
    """The last n measured values; n is small, so reducing them afresh is constant time and gathers no rounding."""

    __slots__ = ("_fewest", "_measure", "_reduce", "_values", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool, reduce: Reduce, size: int, fewest: int) -> None:
        self._measure, self._words_only, self._reduce, self._fewest = measure, words_only, reduce, fewest
        self._values: deque[float] = deque(maxlen=size)
        self.value = 0.0

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._words_only or is_word(token):
            self._values.append(self._measure(token))
            if len(self._values) >= self._fewest:
                self.value = self._reduce(self._values)
        return self.value

    def reset(self) -> None:  # noqa: D102
        self._values.clear()
        self.value = 0.0


class OnlineSum(_SentenceBlind):
    """The sum so far."""

    __slots__ = ("_measure", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool) -> None:
        self._measure, self._words_only = measure, words_only
        self.value = 0.0

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._words_only or is_word(token):
            self.value += self._measure(token)
        return self.value

    def reset(self) -> None:  # noqa: D102
        self.value = 0.0


class OnlineFirst(_SentenceBlind):
    """The first value."""

    __slots__ = ("_measure", "_seen", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool) -> None:
        self._measure, self._words_only = measure, words_only
        self.value, self._seen = 0.0, False

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._seen and (not self._words_only or is_word(token)):
            self.value, self._seen = self._measure(token), True
        return self.value

    def reset(self) -> None:  # noqa: D102
        self.value, self._seen = 0.0, False


class OnlineBend(_SentenceBlind):
    """The last four measured values say what the newest second difference is."""

    __slots__ = ("_last", "_measure", "_words_only", "value")

    def __init__(self, measure: Measure, words_only: bool) -> None:
        self._measure, self._words_only = measure, words_only
        self._last: deque[float] = deque(maxlen=4)
        self.value = 0.0

    def update(self, token: Token) -> float:  # noqa: D102 - see OnlineSignal
        if not self._words_only or is_word(token):
            self._last.append(self._measure(token))
            if len(self._last) == 4:
                self.value = max(self.value, bend(list(self._last)))
        return self.value

    def reset(self) -> None:  # noqa: D102
        self._last.clear()
        self.value = 0.0
