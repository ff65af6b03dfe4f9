"""Answers in a form in which those that say the same are equal, and no others.

Only what cannot change an answer is levelled: case, accents of Latin letters, articles, quotes and other punctuation,
full stops in initials, contractions, and the ways in which English writes numbers and dates. "June 7, 1952" is
"7 June 1952" and "45 million" is "45,000,000"; "8 June 1952", "54 million", "North Korea", "C++" and "not guilty" are
nothing but themselves. Synonyms are not known here: that takes a model (`flarekit.signals.entailment`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from flarekit.text.quantities import in_figures, number, with_dates

_DATE = "\ue000"
"""Marks a date: a character that no text has."""
_ARTICLES = frozenset(("a", "an", "the"))
_KEPT = frozenset("%#@&*")
"""Punctuation that says something; symbols ("+", "=", "$") all do."""
_NAMED = {"&": "and", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "dollars": "dollar", "euros": "euro"} | {
    "pounds": "pound",
    "percent": "%",
    "cannot": "can not",
    "can't": "can not",
    "won't": "will not",
    "shan't": "shall not",
}
_CURRENCIES = frozenset(("dollar", "euro", "pound", "yen"))
_LIKE = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-") | dict.fromkeys("’‘ʼ＇´`", "'"))
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|__)(?=\S)(.+?)(?<=\S)\1(?![\w*])")
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(IX|IV|V?I{0,3})")
_POLARITY = re.compile(r"\W*(yes|no)\s*(?:[,;:.!-].*)?", re.IGNORECASE | re.DOTALL)
_ASKS_WHETHER = re.compile(
    r"\W*(?:is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|shall|should|may|might|must)\b",
    re.IGNORECASE,
)


def canonical(answer: str, question: str = "") -> tuple[str, ...]:
    """The words of an answer in their one form; equal for answers that say the same, and at least one.

    Where `question` asks whether something is so, an answer that begins with yes or no is that word.
    """
    answer = answer.strip()  # a mark at the very beginning belongs to no space before it
    if _ASKS_WHETHER.match(question) and (found := _POLARITY.fullmatch(answer)):
        return (found[1].lower(),)
    text = _level(answer)
    words = in_figures(list(_words(with_dates(text, _DATE))))
    plain = _without_articles(_amounts(words))
    return tuple(word.lower().lstrip(_DATE) for word in plain) or (" ".join(answer.split()),)


def _level(text: str) -> str:
    """One character for all that mean the same; Latin letters without accents, and no emphasis of Markdown."""
    plain = "".join(_plain(character) for character in unicodedata.normalize("NFC", text).translate(_LIKE))
    letters: list[str] = []
    for character in unicodedata.normalize("NFD", plain):
        if not (unicodedata.category(character) == "Mn" and letters and letters[-1].isascii()):
            letters.append(character)
    plain = _EMPHASIS.sub(r"\2", unicodedata.normalize("NFC", "".join(letters)))
    plain = re.sub(r"\b(\d{1,3})((?: \d{3})+)(?![\w]|[.,]\d)", lambda one: one[0].replace(" ", ""), plain)
    return re.sub(r"(?<=[^\W\d_])\*(?=[^\W\d_])", "", plain)  # M*A*S*H


def _plain(character: str) -> str:
    """A character as Unicode's compatibility form has it, but for 10⁵, which is not 105, and 2½, which is not 21/2."""
    decomposed = unicodedata.decomposition(character)
    if decomposed.startswith("<super>"):
        return "^" + unicodedata.normalize("NFKC", character)
    if decomposed.startswith("<fraction>"):
        return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
    if character.isspace() or unicodedata.category(character) == "Cf":
        return " " if character.isspace() else ""
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.digit(character))
    return unicodedata.normalize("NFKC", character).translate(_LIKE)


def _words(text: str) -> Iterator[str]:
    """The words, numbers and symbols of levelled text, in lower case but for a capital A that is no article."""
    spaced = "".join(one if _joins(one) else f" {one} " if _says(one) else " " for one in text)
    initials = ""
    for chunk in spaced.split():
        if re.fullmatch(r"[^\W\d_]\.", chunk):
            initials += chunk[0]
            continue
        if initials:
            yield initials.lower()
            initials = ""
        yield from _parts(chunk)
    if initials:
        yield initials.lower()


def _joins(character: str) -> bool:
    """Whether a character may stand within a word or a number."""
    return unicodedata.category(character)[0] in "LNM" or character in "'.,:/-" or character == _DATE


def _says(character: str) -> bool:
    return unicodedata.category(character)[0] == "S" or character in _KEPT


def _parts(chunk: str) -> Iterator[str]:
    """The words of what stands between spaces: "Jean-Paul" has two, "U.S." one."""
    if chunk.startswith(_DATE):
        yield chunk
        return
    bare = re.sub(r"^(?!-?\.?\d)['.,:/-]+|['.,:/]+$", "", chunk)
    if re.fullmatch(r"-?[\d.,:/]*\d", bare, re.ASCII):
        yield number(bare) or bare
        return
    if bounds := re.fullmatch(r"(\d[\d.,]*)-(\d[\d.,]*)", bare, re.ASCII):
        yield from (number(bounds[1]) or bounds[1], "to", number(bounds[2]) or bounds[2])
        return
    letters = bare.split(".")
    if len(letters) > 1 and all(one.isalpha() and len(one) <= 2 for one in letters):
        yield "".join(letters).lower()
        return
    pieces = [one for one in re.split(r"[.,:/-]+", bare) if one]
    for piece in pieces:
        yield from _word(piece, alone=len(pieces) == 1)
    if len(bare) > 1 and bare.endswith("-"):
        yield "-"  # A- is no A


def _word(piece: str, alone: bool) -> Sequence[str]:
    word = piece.strip("'")
    if _ROMAN.fullmatch(word):
        return [str(_roman(word))]
    if word == "A" and not alone:
        return [word]
    lower = word.casefold() if word != "A" else word
    if lower in _NAMED:
        return _NAMED[lower].split()
    if lower.endswith("n't"):
        return [lower[:-3], "not"]
    ordinal = re.fullmatch(r"(\d+)(?:st|nd|rd|th)", lower, re.ASCII)
    return [f"{int(ordinal[1])}th" if ordinal else lower.replace("'", "")] if lower else []


def _roman(word: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in word]
    return sum(-one if one < max(values[place:]) else one for place, one in enumerate(values))


def _amounts(words: Sequence[str]) -> list[str]:
    """Currencies after their amounts, "per cent" as its sign, and no "in" before a year that begins the answer."""
    found = [_NAMED.get(word, word) for word in words]
    for place in range(len(found) - 1):
        pair = found[place : place + 2]
        if pair[0] in _CURRENCIES and number(pair[1]) is not None:
            found[place : place + 2] = pair[::-1]
        elif pair == ["per", "cent"]:
            found[place : place + 2] = ["", "%"]
    if len(found) > 1 and found[0].lower() == "in" and re.fullmatch(r"\d{4}", found[1]):
        found[0] = ""
    return [word for word in found if word]


def _without_articles(words: Sequence[str]) -> Sequence[str]:
    """Without articles; the letter A is none at the end, as a capital after another word, or before a sign."""
    kept = [word for place, word in enumerate(words) if not _is_article(words, place)]
    return kept or words


def _is_article(words: Sequence[str], place: int) -> bool:
    word = words[place]
    if word.lower() not in _ARTICLES or place + 1 == len(words):
        return False
    named = word == "A" and place > 0
    return not (named or (word.lower() == "a" and words[place + 1] in ("+", "-", "*")))
