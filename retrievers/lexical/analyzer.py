"""The one way in which passages and queries become words for lexical retrieval.

Supporting passages found among the best 2 / 5 by BM25 (k1 0.9, b 0.4), over the pooled passages of 100 questions each,
without and with the stopwords: HotpotQA .580/.755 and .580/.780, 2WikiMultihopQA .542/.645 and .552/.652, MuSiQue
.430/.565 and .485/.590. Cutting a plural "s" on top changed none of them by more than .01, up or down, so that
there is no stemmer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import regex

from flarekit.text.words import SPACELESS

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = rf"[[{SPACELESS}\p{{Hangul}}]--\p{{M}}]"
# Small kana and the mark of a long vowel belong to the sound before them.
_CLUSTER = regex.compile(rf"(?V1){_UNSPACED}[\p{{M}}ーゃゅょャュョぁぃぅぇぉァィゥェォ]*")
_UNICODE_WORD = regex.compile(
    rf"(?V1)(?<run>(?:{_UNSPACED}\p{{M}}*)+)|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]*"
    r"|\p{Emoji_Presentation}"
)
_SPECIAL = regex.compile(rf"[{SPACELESS}\p{{Hangul}}\p{{M}}\p{{Emoji_Presentation}}]")
"""What Python's own `re` takes no words out of as UAX 29 does; it is several times as fast with the others."""
_LONG = regex.compile(r"[\p{Thai}\p{Lao}]")
"""Alphabets, of which a word takes more characters."""
_HIRAGANA = regex.compile(r"\p{Hiragana}+")
# Accents and points that readers leave out, and what joins letters; the vowel signs of other scripts are letters.
_UNREAD = regex.compile(
    r"(?V1)[[\p{Mn}&&[\p{Inherited}\p{Common}\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}]]--[\u3099\u309A]]"
    r"|[\u00AD\u0640\u200C\u200D]|(?<=\p{Hebrew})['\"׳״](?=\p{Hebrew})"
)
# Letters that Unicode does not decompose, though readers type them without their stroke or as two letters.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})
# One letter for readers, with as many code points as languages and keyboards.
_VARIANTS = _LETTERS | str.maketrans(dict(zip("یىکہ", "ييكه", strict=True)))
_DIGIT = regex.compile(r"(?V1)[\p{Nd}--[0-9]]")
_STOPWORDS = """
a an and are as at be been by did do does for from had has have he her his how in is it its of on or s she that the
their them they this to was were what when where which who whom whose why will with
"""
STOPWORDS = frozenset(_STOPWORDS.split())
"""Words that nearly every passage or question holds; the "s" is what an apostrophe leaves."""


_ENDINGS = frozenset({"입니", "니다", "니까", "습니", "이다", "있다"})
"""Ends of Korean sentences."""


def words(text: str) -> list[str]:
    """The words of a passage that count for matching, in order: case, accents and digits folded, stopwords left out.

    "Müller's Häuser" gives `["muller", "hauser"]`. A text of stopwords only gives an empty list. Where a script writes
    no spaces, and in Korean, which writes particles onto words, each character with its marks is a word, and so is each
    two in a row, or up to three in Thai and Lao.
    """
    return [word for word in _words(text, asked=False) if word not in STOPWORDS]


def asked_words(text: str) -> list[str]:
    """The words of a query, as `words` has them, but only the longest ones where the script writes no spaces.

    Those of Japanese particles and endings alone count only where a query has no others.
    """
    found = [word for word in _words(text, asked=True) if word not in STOPWORDS]
    if text.isascii():
        return found
    return [word for word in found if word not in _ENDINGS and not _HIRAGANA.fullmatch(word)] or found


def words_before(text: str) -> list[str]:
    """The words as indexes have them that were built before scripts without spaces were told apart."""
    if text.isascii():
        return words(text)
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_LETTERS)
    return [word for word in _WORD.findall(folded) if word not in STOPWORDS]


def _words(text: str, *, asked: bool) -> Iterable[str]:
    if text.isascii():
        return _WORD.findall(text.lower())
    folded = _fold(text)
    return _unicode_words(folded, asked=asked) if _SPECIAL.search(folded) else _WORD.findall(folded)


def _unicode_words(text: str, *, asked: bool) -> Iterator[str]:
    for found in _UNICODE_WORD.finditer(text):
        if not found["run"]:
            yield found[0]
            continue
        clusters = _CLUSTER.findall(found[0])
        longest = min(3 if _LONG.match(found[0]) else 2, len(clusters))
        for length in range(longest if asked else 1, longest + 1):
            for begin in range(len(clusters) - length + 1):
                yield "".join(clusters[begin : begin + length])


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = unicodedata.normalize("NFC", _UNREAD.sub("", decomposed).translate(_VARIANTS))
    return _DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), folded)
