"""Sentences of a text that is still being written.

What may end a sentence is Unicode's to say (UAX 29, `Sentence_Break`); whether it does is sentencex's (Wikimedia),
which knows "Jr.", "U.S.", "St. Louis", initials and decimals. A sentence is known to be over when the next one has
begun, that is one character later; the caller ends the last one itself. sentencex is asked about the text up to that
character and no further, so that the sentences are the same however the text is cut into pieces, and in one piece.
"""

from __future__ import annotations

import re
from itertools import pairwise

import regex
import sentencex

# Tibetan's and Thai's marks are not among Unicode's, which has Burmese's comma; ";" and ":" end sentences where the
# script is Greek or Armenian.
_END = r"[[\p{Sentence_Break=STerm}\p{Sentence_Break=ATerm}…།-༒༔๚๛]--[၊]]"
_SHUT = r"[\p{Pe}\p{Pf}]"
_CLOSE = r"[[\p{Sentence_Break=Close}*_]--\p{Ps}]"
_OPEN = r"[\p{Pi}\"'*_]"
_SPACE = r"[\s\p{Cf}]"
_CHANGE = regex.compile(
    rf"(?V1)(?:(?:{_END}|[;:])(?:{_END}|{_CLOSE}|\[\w{{0,3}}+\]?+|{_SPACE}+(?={_END}|{_SHUT}))*+|(?=\n))"
    rf"(?:(?<space>{_SPACE}++)(?:{_OPEN}|{_SPACE})*+|(?<space>))(?<next>(?!{_SPACE}).)"
)
"""The marks that end a sentence and what closes it, the space behind them, and the first character of the next sentence
that is no quotation mark or bracket which opens it."""
_MARK = regex.compile(rf"(?V1){_END}|[;:\n]")
_ASCII_MARK = re.compile(r"[.!?;:\n]")
"""The same for ASCII, in a third of the time."""
_INITIAL = regex.compile(r"(?V1)\p{Lu}\p{M}*|[\p{Arabic}\p{Hebrew}]\p{M}*|(?:[[\p{Thai}\p{Lao}]&&\p{L}]\.?)+")
"""A letter that stands for a name or a word, other than ASCII's; Thai and Lao write several in a row."""
_INSIDE = regex.compile(r"\p{Nd}\.(?=\p{Nd})|(?<!\p{L})\p{L}\.\p{L}\.(?=\p{Lu})")
"""A full stop inside a number, or inside a name such as "N.W.A"."""
_TITLES = (
    "Ms Mme Mlle Msgr Mgr Ste Ft Rte Vol Vols vol vols approx Approx Const amend Sra Srta Dra Dhr Mw Sig sig Dl Dna "
    "Ing EE Ul ul Np np TP TS ThS PGS GS डॉ डा श्री प्रो पं मो ডঃ ডা ড মো "
    "ए बी सी डी ई एफ जी एच आई जे के एल एम एन ओ पी क्यू आर एस टी यू वी डब्ल्यू वाई"
)
_ABBREVIATIONS = frozenset(_TITLES.split())
"""Abbreviations and names of letters, hardly ever the last word of a sentence, that sentencex does not know."""
_FUNCTION_WORDS = {
    "en": "the is was were are of and in to he she it his her by at with for from that this a an i they so no not",
    "de": "der das die und ist er sie es ein eine einen wurde den dem des im am mit von auf zu nicht war hat in",
    "fr": "le la les et est un une des du il elle en dans au aux sont à fut de pour que",
    "es": "el la los las y es un una del en se por con de que no",
    "pt": "o a os as e é um uma do da dos em na no de que foi",
    "it": "il la lo gli e è un una del della di che si per nel",
    "nl": "de het een en is van hij zij op werd niet was in met",
    "pl": "w i jest na się z to nie do był",
}
_LATIN = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
"""By which languages with one script are told apart, for the sake of their abbreviations and ordinals."""
_WORDS_TOO = frozenset({"no", "art", "ill", "me", "may", "miss", "ore", "ok", "bart", "ida", "ken", "penn"})
"""Words that sentencex takes for the abbreviations that they are before a number: "No. 5", but "They did no. It is"."""
_GOES_ON = regex.compile(r"\.\s+\p{Ll}$|\b(?i:am|im|der|die|das|den|dem|des|vom|zum|bis) \d\d?\.\s+\p{Lu}$")
"""Behind a full stop that ends no sentence, but in English: a small letter, or what a German ordinal number counts."""
_OPENING = "([{<«‹“‘„‚\"'*_"
_ALPHANUMERIC = regex.compile(r"[\p{L}\p{N}]")
_BLANK = regex.compile(f"{_SPACE}*")
_LANGUAGES = regex.compile(r"(?<el>\p{Greek})|(?<ru>\p{Cyrillic})|(?<hy>\p{Armenian})")
"""Scripts whose sentences and abbreviations sentencex knows only by the language's name."""
_AS_KNOWN = str.maketrans(dict.fromkeys("។៕᭎᭏᭿⳹⳺⳻⹠⹡︒︕︖།༎༏༐༑༒༔๚๛", "।"))
"""Marks that sentencex does not know, as one that it knows."""


LOOKAHEAD = 64
"""Tokens after which a sentence is judged as it is (FLARE's look-ahead), unless a policy says otherwise."""


class SentenceSplitter:
    """Tells token by token where sentences end; constant work per token except at a mark that may end one."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self.restart()

    @property
    def text(self) -> str:
        """The sentence so far."""
        return self._text

    def restart(self) -> None:
        """Forget the sentence so far: the next piece begins a new one."""
        self._text = ""
        self._mark: int | None = None
        """Where a mark stands in the text that may prove to end the sentence."""
        self._late = False
        """Whether a sentence ended inside the last piece."""

    def push(self, piece: str, *, cut: bool = False) -> bool:
        """Take the next piece of text; True when a sentence ended before it, so that `piece` begins the next one.

        A sentence that ends inside a piece ends for its caller before the next piece. With `cut` one ends before this
        piece, whatever the text says.
        """
        if cut:
            self.restart()
            self.push(piece)
            return True
        start = len(self._text)
        self._text += piece
        if self._mark is None:
            found = (_ASCII_MARK if piece.isascii() else _MARK).search(piece)
            if found:
                self._mark = start + found.start()
            elif not self._late:
                return False
            if not self._late and self._mark == len(self._text) - 1:
                return False  # nothing stands behind it yet
        return self._look(start)

    def _look(self, start: int) -> bool:
        """Look for ends behind the mark, where the last piece begins at `start`; True for one before it."""
        ended = self._late and start < len(self._text)
        self._late = self._late and not ended
        while self._mark is not None:
            found = _CHANGE.match(self._text, self._mark, partial=True)
            if found is None or found.partial:
                break
            place = found.start("next")
            if _ends(self._text[: place + 1], found, self._language):
                within = start < 0 or bool(self._text[start : found.start("space")].strip())
                ended, self._late = ended or not within, self._late or within
                begin = found.end("space")
                self._text, start, place = self._text[begin:], start - begin, place - begin
            more = _MARK.search(self._text, place)
            self._mark = more.start() if more else None
        return ended


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of a complete text, without the space around them."""
    places = [0, *sentence_starts(text, language), len(text)]
    sentences = [text[begin:end].strip() for begin, end in pairwise(places)]
    return [sentence for sentence in sentences if sentence]


def sentence_starts(text: str, language: str = "en") -> list[int]:
    """Where in a complete text its second sentence begins, and all after it."""
    starts: list[int] = []
    place = begin = 0
    while (mark := _MARK.search(text, place)) and (found := _CHANGE.match(text, mark.start())):
        place = found.start("next")
        if _ends(text[begin : place + 1], found, language):
            begin = found.end("space")
            starts.append(begin)
    return starts


def _ends(text: str, found: regex.Match[str], language: str) -> bool:
    """Whether a sentence ends before the last character of `text`, which is the first behind what was `found`."""
    left = len(text) - found.end()
    mark = found.start() + left
    if text[mark] in ".!?;:" and not found["space"] and not text[-1].isalnum():
        return False  # "big.[1]"
    if text[-2] == "." and not found["space"] and text[-3:-2].isspace():
        return False  # "the .NET framework"
    if text[mark] == "\n" and _BLANK.fullmatch(text, endpos=mark):
        return False
    if not text.isascii() and (script := _LANGUAGES.match(text, max(mark - 1, 0))):
        language = script.lastgroup or language
    head = text[:mark].replace("(", " ")  # sentencex sees no end within brackets
    if text[mark] == ".":
        word = head[head.rfind(" ") + 1 :]
        if found["space"] and word.lower() in _WORDS_TOO and text[-1].isalpha():
            return True
        bare = word.lstrip(_OPENING)
        if bare in _ABBREVIATIONS or (not bare.isascii() and _INITIAL.fullmatch(bare)):
            return False
        if not found["space"] and (not bare or _INSIDE.search(text, max(mark - 4, 0), mark + 2)):
            return False
        if word[:1] in _OPENING and (text[mark + 1].isspace() or text[mark + 1].isalnum()):
            # It does not know an abbreviation behind what opens it.
            begin = mark - len(bare)
            if not _splits(head[:begin].rstrip(_OPENING) + " " + head[begin:] + text[mark:], language):
                return False
    return _splits(head + text[mark:], language)


def _splits(text: str, language: str) -> bool:
    """Whether sentencex sees a sentence begin with the last character, or with marks before it.

    It sees one by the rules of English too where the language is only guessed.
    """
    known = text if text.isascii() else text.translate(_AS_KNOWN)
    if not _begins(known, language):
        return False
    if language != "en" or not (others := _others(text)):
        return True
    return not _GOES_ON.search(text) and any(_begins(known, other) for other in others)


def _begins(text: str, language: str) -> bool:
    *before, last = sentencex.segment(language, text)
    return bool(before) and not _ALPHANUMERIC.search(last, endpos=len(last) - 1)


def _others(text: str) -> list[str]:
    """Languages in Latin letters of which a text has more words than of English, which it has one of at most."""
    said = text.lower().split()
    if sum(map(_LATIN["en"].__contains__, said)) > 1:  # it is English, which is known with little work
        return []
    counts = {language: sum(word in known for word in said) for language, known in _LATIN.items()}
    most = max(counts.values())
    return [] if counts["en"] == most else [language for language, count in counts.items() if count == most]
