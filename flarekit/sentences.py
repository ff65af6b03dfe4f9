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

# Tibetan's and Thai's marks are not among Unicode's; ";" and ":" end sentences where the script is Greek or Armenian.
_END = r"[\p{Sentence_Break=STerm}\p{Sentence_Break=ATerm}…།-༒༔๚๛]"
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
_INITIAL = regex.compile(r"\p{Lu}\p{M}*")
_WORDS_TOO = frozenset({"no", "art", "ill", "me", "may", "miss", "ore", "ok", "bart", "ida", "ken", "penn"})
"""Words that sentencex takes for the abbreviations that they are before a number: "No. 5", but "They did no. It is"."""
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
    if text[mark] == "\n" and _BLANK.fullmatch(text, endpos=mark):
        return False
    if not text.isascii() and (script := _LANGUAGES.match(text, max(mark - 1, 0))):
        language = script.lastgroup or language
    head = text[:mark].replace("(", " ")  # sentencex sees no end within brackets
    if text[mark] == ".":
        word = head[head.rfind(" ") + 1 :]
        if found["space"] and word.lower() in _WORDS_TOO and text[-1].isalpha():
            return True
        if not word.isascii() and _INITIAL.fullmatch(word.lstrip(_OPENING)):
            return False
        if word[:1] in _OPENING and (text[mark + 1].isspace() or text[mark + 1].isalnum()):
            # It does not know an abbreviation behind what opens it.
            begin = mark - len(word.lstrip(_OPENING))
            if not _splits(head[:begin].rstrip(_OPENING) + " " + head[begin:] + text[mark:], language):
                return False
    return _splits(head + text[mark:], language)


def _splits(text: str, language: str) -> bool:
    """Whether sentencex sees a sentence begin with the last character, or with marks before it."""
    *before, last = sentencex.segment(language, text if text.isascii() else text.translate(_AS_KNOWN))
    return bool(before) and not _ALPHANUMERIC.search(last, endpos=len(last) - 1)
