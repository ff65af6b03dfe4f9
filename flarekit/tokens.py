"""What an engine emits: tokens with their log-probabilities, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from flarekit.errors import QUOTED, quoted

Finish = Literal["stop", "length", "closed"]
"""Why a stream ended: by itself (end of text or a stop string), at its token limit, or because we closed it."""
IMPOSSIBLE = -9999.0
"""ln p of what cannot happen: JSON has no -inf, and vLLM writes this in its place."""
_ROUNDING = 1e-4
"""How far above 0 rounding may lift the logarithm of a probability of 1."""


class Token(NamedTuple):
    """One generated token.

    A named tuple, because one is made for every token of every stream: it is the cheapest object that has names.
    """

    text: str
    """What the token adds to the text; empty while a character is still incomplete."""
    id: int
    """Its id in the engine's vocabulary."""
    logprob: float
    """ln p of this token, at most 0."""
    top: Mapping[str, float]
    """ln p of the engine's K most likely tokens at this place (K is 10 unless asked otherwise).

    The keys tell the tokens apart: "token_id:7042" as the engine sends them, or the text of a token that no other one
    here has (`flarekit.engines.vocabulary`), as in records.
    """


class Shown(Token):
    """A token with more alternatives than signals read, for a client that has asked for them."""

    alternatives: Mapping[str, float]
    """ln p of all that the engine sent; `top` has the most likely of them."""

    def _replace(self, /, **changes: Any) -> Shown:
        other = super()._replace(**changes)
        other.alternatives = self.alternatives
        return other


def narrowed(token: Token, most: int) -> Token:
    """`token` with its `most` likeliest alternatives, and itself, as `top`: what signals read depends on no client."""
    if len(token.top) <= most:
        return token
    least = nlargest(most, token.top.values())[-1]
    top = {text: logprob for text, logprob in token.top.items() if logprob >= least or logprob == token.logprob}
    shown = Shown(token.text, token.id, token.logprob, top)
    shown.alternatives = token.top
    return shown


def alternatives(token: Token, most: int) -> dict[str, float]:
    """The `most` likeliest alternatives at the token's place that are known, likeliest first."""
    return dict(nlargest(most, known(token).items(), key=itemgetter(1)))


def known(token: Token) -> Mapping[str, float]:
    """ln p of all alternatives at the token's place that are known."""
    return token.alternatives if isinstance(token, Shown) else token.top


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the server counted them."""

    prompt: int
    cached: int | None
    """Prompt tokens served from the server's prefix cache; None where the server does not say."""
    completion: int
    estimated: bool = False
    """Whether `cached` is reckoned (`engines.prefix`), because the stream was closed before its usage was sent."""
    replayed: int = 0
    """Part of `completion` that a store of completions told again (`flarekit.engines.cache.engine`)."""
    spared: float = 0.0
    """Seconds that those took when they were generated."""

    def __add__(self, other: Usage) -> Usage:
        """What both requests took together."""
        cached = None if self.cached is None or other.cached is None else self.cached + other.cached
        return Usage(
            self.prompt + other.prompt,
            cached,
            self.completion + other.completion,
            self.estimated or other.estimated,
            self.replayed + other.replayed,
            self.spared + other.spared,
        )


class NotLogprobs(ValueError):
    """What came with a token is no log-probability; the message, in one line, names the token."""


def as_token(fields: Any) -> Token:
    """The token whose `[text, id, logprob, top]` a file holds; `ValueError` where they are of other types.

    Whether its numbers are log-probabilities is for `admit` to say.
    """
    match fields:
        case [str(text), int(id_), logprob, dict(top)] if type(id_) is int and 0 <= id_ < 1 << 63:
            return Token(text, id_, logprob, top)
    raise ValueError(f"expected a token's text, id, log-probability and candidates, found {quoted(fields)}")


def admit(text: str, id_: int, logprob: float, top: Mapping[str, float]) -> Token:
    """The token of these fields: the gate that every token passes, from a server, a cache or a record.

    A log-probability is a number of at most 0. What rounding has lifted above 0 is put back. A candidate may be
    impossible (-inf, where a sampler masks tokens); a token that was generated may not. `NotLogprobs` for all else:
    null (as JSON has NaN), NaN, a value above 0 (a logit), a list that is missing.
    """
    try:
        values = top.values()
        # The sum is NaN or -inf where a value is; `max` alone does not see a NaN behind a number.
        if (
            (type(logprob) is float and -math.inf < logprob <= 0)
            and ((most := max(values)) <= 0 and sum(values) > -math.inf)
            and (most or bool not in map(type, values))  # False is 0 too
        ):
            return Token(text, id_, logprob, top)
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass
    place = f"token {id_} ({_spelt(text)})"
    if not isinstance(top, Mapping):
        raise NotLogprobs(f"{place} came without candidates")
    found = as_logprob(logprob, place)
    if logprob == -math.inf:
        raise NotLogprobs(f"{place} was generated with the log-probability {logprob}, so could not be")
    whose = {key: f"the candidate {_spelt(key)} of {place}" for key in top}
    return Token(text, id_, found, {key: as_logprob(value, whose[key]) for key, value in top.items()})


def _spelt(text: object) -> str:
    """A token's text for a message, with its spaces."""
    return repr(text[:QUOTED]) if isinstance(text, str) else quoted(text)


def as_logprob(value: object, whose: str) -> float:
    """`value` as ln p, from `IMPOSSIBLE` to 0; `NotLogprobs` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= _ROUNDING:  # NaN is not <= either
        raise NotLogprobs(f"{whose} came with {quoted(value)} for a log-probability")
    return float(min(max(value, IMPOSSIBLE), 0.0))


def text_of(tokens: Iterable[Token]) -> str:
    """The text of consecutive tokens."""
    return "".join(token.text for token in tokens)
