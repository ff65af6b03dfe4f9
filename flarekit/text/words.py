"""Words by Unicode's rules (UAX 29): what a query masks, what a cap counts, what lexical retrieval matches.

A word is what UAX 29 keeps together: letters and digits with their marks, "can't", "3.5", a name with an accent. In
scripts that write no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) the rules part every character
with its marks from the next; what needs longer units there takes several together
(`flarekit.retrievers.lexical.analyzer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

import regex

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

SPACELESS = r"\p{Line_Break=SA}\p{Han}\p{Hiragana}\p{Katakana}ー々〆〇"
"""Characters of scripts without spaces between words, for a class of `regex`."""
_APART = regex.compile(rf"(?<=[{SPACELESS}]) (?=[{SPACELESS}])")
_LETTER = regex.compile(r"[\p{L}\p{M}\p{N}\p{Emoji_Presentation}]")
_BREAK = regex.compile(r"\b", regex.WORD)
_LONGEST = 32
"""Characters that count as one word at most: an address, a row of dots or a word of any language is rarely longer."""
_PIECE = regex.compile(
    rf"(?V1)\s*(?:[[{SPACELESS}]--\p{{M}}][\p{{M}}\p{{Cf}}]*[[\p{{P}}\p{{S}}]--\p{{Ps}}]{{0,{_LONGEST}}}"
    rf"|[^\s{SPACELESS}]{{1,{_LONGEST}}})"
)


def is_word(token: Token) -> bool:
    """Whether a token holds a part of a word, so is neither punctuation nor white space."""
    text = token.text
    return any(map(str.isalnum, text)) or (not text.isascii() and _LETTER.search(text) is not None)


def is_content(text: str) -> bool:
    """Whether a word, or the piece of one that a token holds, carries content: no function word, no punctuation."""
    bare = "".join(filter(str.isalnum, text)) if text.isascii() else "".join(_LETTER.findall(text))
    return bool(bare) and bare.lower() not in FUNCTION_WORDS


def split_words(text: str) -> list[str]:
    """The words of a text, without what stands between them."""
    places = [0, *(found.start() for found in _BREAK.finditer(text)), len(text)]
    parts = (text[begin:end] for begin, end in pairwise(places))
    return [part for part in parts if _LETTER.search(part)]


def words(
    tokens: Sequence[Token],
    measure: Callable[[Token], float] = lambda token: token.logprob,
    reduce: Callable[[float, float], float] = min,
) -> list[tuple[str, float]]:
    """Tokens joined to words, each with its leading space and the least log-probability among its tokens.

    Another `measure` and `reduce` give another number for each word.
    """
    text = "".join(token.text for token in tokens)
    breaks = {found.start() for found in _BREAK.finditer(text)}
    joined: list[tuple[str, float]] = []
    place = 0
    for token in tokens:
        # A token without text is a part of a character, which the next token completes.
        if not joined or (joined[-1][0] and (place in breaks or token.text[:1].isspace())):
            joined.append((token.text, measure(token)))
        else:
            before, value = joined[-1]
            joined[-1] = (before + token.text, reduce(value, measure(token)))
        place += len(token.text)
    return joined


def join_words(parts: Sequence[str]) -> str:
    """Words as one text: with spaces between them, but for those of scripts that write none."""
    return _APART.sub("", " ".join(parts))


def pieces(text: str) -> Iterator[str]:
    """What a cap on words counts, each with one space before it where the text has any.

    What spaces separate counts as one, but in scripts without spaces each character, and of anything each 32.
    """
    for found in _PIECE.finditer(text):
        piece = found[0].lstrip()
        yield f" {piece}" if len(piece) < len(found[0]) else piece


def first_words(text: str, count: int) -> tuple[str, bool]:
    """The first words of a text on one line, at most `count` as `pieces` counts them, and whether there are more."""
    found = list(islice(pieces(text), count + 1))
    return "".join(found[:count]).lstrip(), len(found) > count
