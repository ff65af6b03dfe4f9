"""Signals computed from the tokens of an answer: one number, higher meaning less certain.

A signal is a measure of one token, reduced over a span. It is a pure function of tokens (`signal(tokens)`), and has a
running form of the same value that costs constant time per token (`signal.running()`), which is what watches a stream.

===============  =====================================  ==========  ==================================================
name             measure of a token, reduction          range       source
===============  =====================================  ==========  ==================================================
min-prob         1 - p, max                             0 to 1      FLARE, arXiv:2305.06983, section 3.2
mean-logprob     -ln p, mean                            0 to inf    Malinin & Gales, arXiv:2002.07650, section 3
entropy          entropy of the top K, max              0 to inf    DRAGIN, arXiv:2403.10081, section 3.1
mean-entropy     entropy of the top K, mean             0 to inf    as above
margin           1 - (p of the first - p of the         0 to 1      Scheffer et al. 2001, margin sampling
                 second), max
content-entropy  entropy, of content words only, max    0 to inf    DRAGIN, section 3.1, without its attention
rolling-entropy  entropy, mean of the last 5 tokens,    0 to inf    EAD, arXiv:2502.06833, section 3
                 0 before there are 5
step-entropy     entropy of a sentence's first token    0 to inf    GlimpRouter, arXiv:2601.05110, section 3
entropy-trend    second difference of the smoothed      0 to inf    ETC, arXiv:2511.09980
                 entropy, max
length           1, sum since the last action           0 to inf    RETRO's chunks; FLARE's "previous window" baseline
search-request   whether `[Search(...)]` was written    0 to 1      FLARE, section 3.1
===============  =====================================  ==========  ==================================================

All of them read what the stream carries anyway (`logprobs` of the completions API): they cost no model call. Signals
that ask a model are in `flarekit.signals.question` (before generation) and `flarekit.signals.answer` (after it).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from flarekit.errors import ConfigError
from flarekit.signals.online import (
    Measure,
    OnlineBend,
    OnlineFirst,
    OnlineMax,
    OnlineMean,
    OnlineSignal,
    OnlineSum,
    OnlineWindow,
    Reduce,
    bend,
)
from flarekit.text.words import is_content, is_word
from flarekit.tokens import Token, text_of

Span = Literal["sentence", "answer", "action"] | int
"""What a signal is reduced over: the sentence so far, the answer so far, what was generated since the last action, or
the last n tokens (1: the token alone)."""
Reduction = Literal["max", "mean", "rolling", "sum", "first", "bend"]
"""How the measured values become one; "rolling" is the mean of a window that is full and 0 before, "first" takes the
value of the span's first token, "bend" the largest rise of the slope of their smoothed sequence (see `bend`)."""
LOGPROBS = "logprobs of the stream"
"""What most signals need of a server; vLLM and other servers of the completions API send them when asked."""


def improbability(token: Token) -> float:
    """1 - p, from 0 to 1."""
    return 1.0 - math.exp(token.logprob)


def surprisal(token: Token) -> float:
    """-ln p in nats, at least 0."""
    return -token.logprob


def entropy(token: Token) -> float:
    """Entropy in nats over the top K and one lump for the rest of the vocabulary.

    Lumping can only lower an entropy: this is a lower bound on that of the whole distribution, and at most ln(K + 1).
    """
    total = 0.0
    rest = 1.0
    for logprob in token.top.values():
        p = math.exp(logprob)
        total -= p * logprob
        rest -= p
    return total - rest * math.log(rest) if rest > 1e-12 else total


def margin(token: Token) -> float:
    """1 - (p1 - p2), from 0 (one choice) to 1 (a tie); 0 where only one candidate is known."""
    first = second = -math.inf
    for logprob in token.top.values():
        if logprob > first:
            first, second = logprob, first
        elif logprob > second:
            second = logprob
    return 0.0 if second == -math.inf else 1.0 - (math.exp(first) - math.exp(second))


def content_entropy(token: Token) -> float:
    """`entropy`, but 0 for function words, punctuation and white space, whose uncertainty no look-up can settle."""
    return entropy(token) if is_content(token.text) else 0.0


def certainly(_: Token) -> float:
    """1 for any token."""
    return 1.0


class SignalCard(Protocol):
    """What every signal says of itself, at whatever moment it is read."""

    @property
    def name(self) -> str:
        """As it appears in traces."""
        ...

    @property
    def high(self) -> float:
        """Upper end of its range; the lower end is 0."""
        ...

    @property
    def source(self) -> str:
        """Where it was published."""
        ...

    @property
    def needs(self) -> str:
        """What it asks of a server."""
        ...


@runtime_checkable
class StreamSignal(SignalCard, Protocol):
    """What watches a stream: a `Signal`, or anything else with these members, such as a trained one."""

    @property
    def over(self) -> Span:
        """Its span."""
        ...

    def __call__(self, tokens: Iterable[Token]) -> float:
        """The value after `tokens`."""
        ...

    def running(self) -> OnlineSignal:
        """The same value, token by token."""
        ...


@dataclass(frozen=True, slots=True)
class Signal:
    """A measure of tokens, reduced over a span."""

    name: str
    measure: Measure
    reduce: Reduction
    high: float
    """Upper end of its range; the lower end is 0."""
    source: str
    over: Span = "sentence"
    words_only: bool = False
    """Skip punctuation and white space."""
    needs: str = LOGPROBS

    def __post_init__(self) -> None:
        if isinstance(self.over, int):
            if self.over < 1:
                raise ConfigError(f"signal {self.name}: a window holds at least 1 token, not {self.over}")
            if self.reduce not in ("max", "mean", "rolling"):
                raise ConfigError(f"signal {self.name} is not read over a window, but over a sentence or the answer")
        elif self.reduce == "rolling":
            raise ConfigError(f"signal {self.name} is read over a window, that is a number of tokens, not {self.over}")

    def __call__(self, tokens: Iterable[Token]) -> float:
        """The value after `tokens`, which are taken as one span; 0 where none counts."""
        values = [self.measure(token) for token in tokens if not self.words_only or is_word(token)]
        if isinstance(self.over, int):
            values = values[-self.over :]
        if len(values) < self._fewest:
            return 0.0
        return _REDUCTIONS[self.reduce](values)

    @property
    def _fewest(self) -> int:
        """How many values it takes to have one."""
        return self.over if self.reduce == "rolling" and isinstance(self.over, int) else 1

    def running(self) -> OnlineSignal:
        """The same value, in constant time per token."""
        if isinstance(self.over, int):
            return OnlineWindow(self.measure, self.words_only, _REDUCTIONS[self.reduce], self.over, self._fewest)
        return _ONLINE[self.reduce](self.measure, self.words_only)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_REDUCTIONS: dict[Reduction, Reduce] = {
    "max": max,
    "mean": _mean,
    "rolling": _mean,
    "sum": sum,
    "first": lambda values: values[0],
    "bend": bend,
}
_ONLINE: dict[Reduction, Callable[[Measure, bool], OnlineSignal]] = {
    "max": OnlineMax,
    "mean": OnlineMean,
    "sum": OnlineSum,
    "first": OnlineFirst,
    "bend": OnlineBend,
}
REQUEST = re.compile(r"\[Search\((?P<query>[^\]]*)\)\]")
"""What FLARE-instruct has the model write where it wants something looked up."""


@dataclass(frozen=True, slots=True)
class _SearchRequest:
    name: str = "search-request"
    high: float = 1.0
    source: str = "FLARE, arXiv:2305.06983, section 3.1"
    needs: str = "the text alone"
    over: Span = "sentence"

    def __call__(self, tokens: Iterable[Token]) -> float:
        return float(REQUEST.search(text_of(tokens)) is not None)

    def running(self) -> OnlineSignal:
        return _OnlineRequest()


class _OnlineRequest:
    __slots__ = ("_text", "value")

    def __init__(self) -> None:
        self._text, self.value = "", 0.0

    def update(self, token: Token) -> float:
        self._text += token.text
        if not self.value and "]" in token.text and REQUEST.search(self._text):
            self.value = 1.0
        return self.value

    def reset(self) -> None:
        self._text, self.value = "", 0.0

    def end_sentence(self) -> None:
        """Do nothing: it is read over one sentence."""


SEARCH_REQUEST: StreamSignal = _SearchRequest()
"""1 as soon as the model has asked for a look-up in its own words."""
LENGTH = Signal("length", certainly, "sum", math.inf, "FLARE, arXiv:2305.06983, section 4", "action", needs="nothing")
"""Tokens since the last action."""

ALWAYS = Signal("always", certainly, "max", 1.0, "", over="answer")
"""At its highest whatever the tokens: for actions that are taken without asking a signal."""

_FLARE = "FLARE, arXiv:2305.06983, section 3.2"
_MALININ = "Malinin & Gales, arXiv:2002.07650, section 3"
_DRAGIN = "DRAGIN, arXiv:2403.10081, section 3.1"

SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal("min-prob", improbability, "max", 1.0, _FLARE),
        Signal("mean-logprob", surprisal, "mean", math.inf, _MALININ),
        Signal("entropy", entropy, "max", math.inf, _DRAGIN),
        Signal("mean-entropy", entropy, "mean", math.inf, _DRAGIN),
        Signal("margin", margin, "max", 1.0, "Scheffer et al. 2001, margin sampling"),
        Signal("content-entropy", content_entropy, "max", math.inf, _DRAGIN),
        Signal("rolling-entropy", entropy, "rolling", math.inf, "EAD, arXiv:2502.06833, section 3", over=5),
        Signal("step-entropy", entropy, "first", math.inf, "GlimpRouter, arXiv:2601.05110, section 3"),
        Signal("entropy-trend", entropy, "bend", math.inf, "ETC, arXiv:2511.09980"),
    )
}
"""The signals by name, over their own spans and over all tokens; `find_signal` gives them other spans."""


def find_signal(name: str, over: Span | str | None = None, words_only: bool = False) -> Signal:
    """The signal called `name`, over another span ("sentence", "answer", "token" or a number of tokens)."""
    if name not in SIGNALS:
        raise ConfigError(f"no signal is called {name!r}; there are {', '.join(SIGNALS)}")
    signal = SIGNALS[name]
    return replace(signal, over=signal.over if over is None else _span(over), words_only=words_only)


def _span(over: Span | str) -> Span:
    match over:
        case int() | "sentence" | "answer":
            return over
        case "token":
            return 1
        case str() if over.isdigit():
            return int(over)
    raise ConfigError(f'a span is "token", "sentence", "answer" or a number of tokens, not {over!r}')
