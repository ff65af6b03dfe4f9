"""The short answer of a generated text: where it is given, how far it goes, and when nothing more can change it.

One reader serves generation, which stops where the answer `stands`, and scoring, so that both see the same answer. As
the readers of IRCoT and FLARE do, it looks for "the answer is"; the last one counts where the text goes back on an
earlier one ("Wait, that is wrong. So the answer is …"), and none counts that only talks about the answer ("To know what
the answer is, …", "The answer is not stated."). An answer ends with its sentence, its line or its text. Marks within
names are no end: what follows "!", "?" or "..." belongs to the answer if it reads on like a title ("Mamma Mia! Here We
Go Again"), and not if it reads like a sentence.
"""

from __future__ import annotations

from typing import NamedTuple

import regex

from flarekit.text.sentences import sentence_starts, split_sentences
from flarekit.text.words import is_content

_PHRASE = (
    r"(?:(?<so>so|therefore|thus|hence),? )?the (?:(?:final|correct|right|short|best) )?answer"
    r"(?: to (?:the|this|your) question)? is"
    r"(?: (?:simple|clear|as follows|the following)(?=[,:])|,? (?-i:simply|therefore|thus|then)(?=[,:\s]))?"
    r"(?:,(?= (?-i:[\p{Lu}\p{N}\"“‘]|yes\b|no\b)))?"
).replace(" ", r"[\s*_]+")
_ABOUT = regex.compile(
    r"\b(?:what|which|whether|if|when|once|until|unless|before|after|how|why|who|where|suppose|assum\w+|unsure|doubt|because|since|as|although|while)"
    r"(?: that| exactly| really)?\s*$",
    regex.IGNORECASE,
)
"""Before the phrase, where it asks for the answer."""
_OPEN_QUESTION = regex.compile(
    r"(?:[,;]|[.!?)](?:\s|$)|$)|(?:not|never|nowhere|(?:hard|difficult|impossible|easy) to|(?:likely|probably) in|"
    r"un(?:clear|certain|known|stated|specified|available)|missing|given|stated|found|known|"
    r"mentioned|provided|contained|hidden|determined|based on|to (?:be|find)|going to|still|yet|clear|here|"
    r"the following(?=\.)|"
    r"(?:with)?in (?:the |one of the |this |these )?(?:(?:first|second|third|last|following|given) )?"
    r"(?:passages?|texts?|context|question|article|paragraphs?))\b"
)
"""Behind the phrase, in lower case: that there is no answer, or where it is to be looked for."""
_KIND = regex.compile(
    r"(?:an?|one of|the (?:names?|title|year|date|number|place|birthplace|person|country|city|first|second|last|one) )"
    r"[\p{Ll} '-]*\."
)
"""Behind the phrase without its "So": what kind of thing the answer is."""
_OTHER = regex.compile(r"\n|[ \t](?=(?:Question|Passages):)")
"""Where the line ends, or another question begins."""
_BACK = regex.compile(
    r"(?!\W*so\Z)\W*(?:wait|no|not|actually|hmm+|hm|sorry|oops|correction|however|but|although|though|yet|instead|rather|"
    r"or|alternatively|nevertheless|on (?:second|closer|further|reflection)|upon|after (?:re|a )|let me|let us|let's|"
    r"(?:re-?)?(?:check|read|examin|consider|look|think)ing|i (?:made|was|am|must|need|should|have to|apologi[sz]e|"
    r"mis\w+|take)|my (?:mistake|bad|apologies)|scratch that|(?:that|this|it)(?: i|')?s (?:wrong|incorrect|not)|"
    r"that was|in fact|to correct|corrected)(?=\W)",
    regex.IGNORECASE,
)
"""How a sentence begins that goes back on the answer before it; "So" alone is not yet a "Sorry"."""
_SENTENCE = regex.compile(
    r"(?<=\.\.)(?<!\.\.\.)\s+|(?<=\.[\"”’'*)]*)\s+(?=(?:So|The|It|He|She|They|This|That|These|Those|There|We|I|His|Her|"
    r"Its|Their|Both|However|Therefore|Thus|Also|Wait|But|Then),?\s+\p{Ll})"
    r"|(?<!\b(?:Dr|Mrs?|Ms|St|Ste|Prof|Mt|Ft|Gen|Col|Sen|Rep|Gov|Lt|Capt|Sgt|Rev|Fr|Hon|Pres|Sir|vs?|No|Op|Vol)\.)"
    r"(?<=\.)\s+(?=\p{Lu}[\w'’-]*(?:\s\p{Lu}[\w'’-]*){0,3}\s(?:is|was|are|were|has|had|have|did|does|"
    r"can|could|will|would|became|also)\s)"
)
"""Where a new sentence begins behind an abbreviation, told by how it goes on: "Washington, D.C. It is the capital."."""
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}'’]*")
_SMALL_WORDS = "a an and as at by da de del der des di du el en et for from in la le of on or the to van von vs y"
_SMALL = frozenset(_SMALL_WORDS.split())
"""Words that titles write in lower case."""
_SOFT = regex.compile(r"(?:[!?‽！？…]|\.\.\.)[\p{Pe}\p{Pf}\"'*_]*$")
"""Marks that stand within names too."""
_MARKS = "\"\" '' “” ““ ”” ‘’ ’’ „“ „” ‚‘ ‚’ «» »« ‹› ›‹ 「」 『』 《》 〈〉 ＂＂ ** __"
_QUOTES = _MARKS.split()
"""Marks around an answer, the opening and the closing one."""
_PLAIN = str.maketrans(dict.fromkeys("“”„‟", '"') | dict.fromkeys("‘’‚‛", "'"))
"""Quotation marks and apostrophes as the datasets write them."""
_EDGE = regex.compile(r"^[\s\p{Cf}]+|[\s\p{Cf}]+$")
_MARKUP = regex.compile(
    r"\*\*|__|`|</?(?:b|i|em|strong|answer|s)>|<\|\w+\|>|\$*\\boxed\{(?:\\text\{)?(?<in>[^{}]*)\}+\$*"
)
_SOURCE = regex.compile(
    r"(?<=\S)\s*(?:\[\d\d?(?:, ?\d\d?)*\]|[(\[](?:see )?passages? \d+(?:(?:,| and) \d+)*[)\]])$", regex.IGNORECASE
)
"""The passage that an answer is from."""
_VERDICT = regex.compile(
    r"[\"“‘']?(?<verdict>yes|no)[\"”’']?(?!\s*\((?:[\w ]* )?(?:band|group|film|album|song|single|novel|musical)\)$)"
    r"(?:\s*[,;:.!(–—]+\s*|\s+-\s+|\s+(?=(?:they|it|he|she|both|neither|there|because|since|as|not)\b))"
    r"(?<reason>.*)",
    regex.IGNORECASE | regex.DOTALL,
)


class Answered(NamedTuple):
    """What a text says so far."""

    answer: str
    end: int
    """Where in the text it ends."""
    stands: bool | None
    """True: nothing that follows can change it; None: what follows decides; False: the text gives none, or goes back
    on it."""


def read(text: str, phrase: str, *, final: bool) -> Answered:
    """The answer that `text` gives behind `phrase`; `final` where nothing follows, or nothing is known to.

    Where none is given, what is said of the answer stands for it, else the last sentence: a reader would look there.
    """
    given, hedged = _mentions(text, phrase)
    if not given:
        sentences = split_sentences(text[hedged[-1] :] if hedged else text)
        return Answered(_bare(sentences[0 if hedged else -1]) if sentences else "", len(text), False)
    starts = [*sentence_starts(text), len(text)]
    found = _answer_at(text, given[0], starts, final)
    for begin in given[1:]:
        if begin < found.end:  # "Paris - no, the answer is Lyon."
            found = _answer_at(text, begin, starts, final)
            continue
        if found.stands is not False or "\n" in text[found.end : begin]:
            break
        before, found = found, _answer_at(text, begin, starts, final)
        if found.stands is not None and found.answer.casefold() == before.answer.casefold():
            return found._replace(stands=True)
    return found


def _mentions(text: str, phrase: str) -> tuple[list[int], list[int]]:
    """Where answers begin that are given, and where something is said of one that is not."""
    known = phrase.lower().removeprefix("so ") == "the answer is"
    pattern = _PHRASE if known else regex.escape(phrase)
    given, hedged = [], []
    seen = 0
    for found in regex.finditer(rf"(?<!\w)(?:{pattern})(?!\w)[:\s\p{{Cf}}]*", text, regex.IGNORECASE):
        if seen and "Question:" in text[seen : found.start()]:
            break
        seen = found.end()
        about = known and _ABOUT.search(text, endpos=found.start())
        tail = regex.compile(r"[*_\"“]*").match(text, found.end())
        assert tail is not None  # noqa: S101 - it matches nothing too
        none = _OPEN_QUESTION.match(text, tail.end()) if known else None
        if none is None and known and not found["so"]:
            none = _KIND.match(text, tail.end())
        if none:
            if not about and (none[0][:1].isalpha() or found.end() == len(text)):
                hedged.append(found.end())
        elif not about:
            given.append(found.end())
    return given, hedged


def _answer_at(text: str, begin: int, starts: list[int], final: bool) -> Answered:
    """The answer that begins at `begin`, where it ends, and whether what follows leaves it as it is."""
    line = _OTHER.search(text, begin)
    limit = line.start() if line else len(text)
    end, *later = [min(start, limit) for start in starts if start > begin] or [limit]
    stands: bool | None = True
    for after in later:
        if end == limit or not _SOFT.search(text[begin:end].rstrip()):
            break
        goes_on = _reads_on(_bare(text[begin:end]), text[end:after], whole=final or after < len(text))
        stands = True if goes_on is not None else None
        if not goes_on:
            break
        end = after
    if cut := _SENTENCE.search(text, begin, end):
        end = cut.start()
    answer, shown = _bare(text[begin:end]), begin + len(text[begin:end].rstrip())
    if final or (end == limit and line):
        back = not line and _BACK.match(text, end)
        return Answered(answer, shown, not back)
    if end == len(text) or stands is None:
        return Answered(answer, shown, None)
    back = _BACK.match(text, end, partial=True)
    return Answered(answer, shown, (None if back.partial else False) if back else True)


def _reads_on(said: str, rest: str, *, whole: bool) -> bool | None:
    """Whether `rest`, the sentence behind a mark, goes on with the name that was `said`; None where it is too short."""
    if said.casefold() in ("yes", "no"):
        return False
    if cut := _SENTENCE.search(rest):
        rest, whole = rest[: cut.start()], True
    if rest[:1] in "([,;:–—-&":
        return True
    words = _WORD.findall(rest if whole else rest.rpartition(" ")[0])
    if words and words[0][0].islower():
        return True
    if len(words) > 12 or _is_prose(words) or (whole and words and not any(map(is_content, words))):
        return False
    return True if whole else None


def _is_prose(words: list[str]) -> bool:
    """Whether words are a sentence's and no title's, which writes all but small words with a capital."""
    return any(word[0].islower() and word not in _SMALL for word in words)


def _bare(text: str) -> str:
    """An answer without the marks around it, and of "no, they are not" the "no"."""
    text = _MARKUP.sub(lambda found: found["in"] or "", text)
    before = None
    while text != before:
        before = text
        text = _EDGE.sub("", text).removesuffix(".").rstrip("。．｡।۔።။։།").strip(" :")
        text = _SOURCE.sub("", text)
        for opening, closing in map(tuple, _QUOTES):
            inside = text[1:-1]
            if len(text) > 1 and text[0] == opening and text[-1] == closing and not {opening, closing} & {*inside}:
                text = inside
        if text[:1] in ("“", '"') and not {"”", '"'} & {*text[1:]}:
            text = text[1:]
        if text[-1:] in ("”", '"') and not {"“", '"'} & {*text[:-1]}:
            text = text[:-1]
    if verdict := _VERDICT.fullmatch(text):
        reason = verdict["reason"]
        if not reason or (text[0].islower() and not reason[:1].isdigit()) or _is_prose(_WORD.findall(reason)):
            return verdict["verdict"]
    return text.translate(_PLAIN)
