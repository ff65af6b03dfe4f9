"""Words, as queries and signals see them: whole ones made of tokens, and which of them carry content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flarekit.tokens import Token

_FUNCTION_WORDS = (
    "a about above after again against all also although am an and any are as at be because been before being below "
    "between both but by can could did do does doing down during each either else ever every few for from further had "
    "has have having he hence her here hers herself him himself his how however i if in indeed into is it its itself "
    "just least less may me might more most much must my myself neither no nor not now of off on once one only onto or "
    "other our ours ourselves out over own per perhaps rather s same she should since so some such t than that the "
    "their theirs them themselves then there therefore these they this those though through thus to too under until up "
    "upon us very via was we were what when where whether which while who whom whose why will with within without "
    "would yes yet you your yours yourself answer question "
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that say nothing to search for, with the two that this project's own prompt adds."""


def is_word(token: Token) -> bool:
    """Whether a token holds a letter or a digit, so is neither punctuation nor white space."""
    return any(map(str.isalnum, token.text))


def is_content(text: str) -> bool:
    """Whether a word, or the piece of one that a token holds, carries content: no function word, no punctuation."""
    bare = "".join(character for character in text if character.isalnum()).lower()
    return bool(bare) and bare not in FUNCTION_WORDS


def words(
    tokens: Sequence[Token],
    measure: Callable[[Token], float] = lambda token: token.logprob,
    reduce: Callable[[float, float], float] = min,
) -> list[tuple[str, float]]:
    """Tokens joined to words, each with its leading space and the least log-probability among its tokens.

    Another `measure` and `reduce` give another number for each word.
    """
    joined: list[tuple[str, float]] = []
    for token in tokens:
        starts = not joined or not token.text[:1].isalnum() or not joined[-1][0][-1:].isalnum()
        if starts:
            joined.append((token.text, measure(token)))
        else:
            text, value = joined[-1]
            joined[-1] = (text + token.text, reduce(value, measure(token)))
    return joined
