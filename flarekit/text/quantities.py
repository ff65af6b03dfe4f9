"""Numbers and dates as English writes them, each in one form: "June 7, 1952" and "forty-five million".

What could be read in two ways ("06/07/1952", "1.000") stays as it was written, and so is equal to itself alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

_NAMES = "january february march april may june july august september october november december"
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_FIRSTS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_MONTHS = {name: place for place, name in enumerate(_NAMES.split(), start=1)}
_MONTHS |= {name[:3]: place for name, place in _MONTHS.items()} | {"sept": 9}
_CARDINALS = {name: value for value, name in enumerate(_ONES.split())}
_CARDINALS |= {name: value for value, name in zip(range(20, 100, 10), _TENS.split(), strict=True)}
_ORDINALS = (
    {name: value for value, name in enumerate(_FIRSTS.split(), start=1)}
    | {f"{name}th": value for name, value in _CARDINALS.items() if 13 <= value <= 19}
    | {f"{name[:-1]}ieth": _CARDINALS[name] for name in _TENS.split()}
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_DAY, _YEAR = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?", r"(?P<year>\d{3,4})"
_NAME = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DATES = [
    re.compile(rf"(?<![\w./-])(?:(?:on|in)\s+)?(?:the\s+)?{form}(?![\w/-]|[.,]\d)", re.IGNORECASE | re.ASCII)
    for form in (
        r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})",
        rf"{_DAY}\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}})",
        r"(?P<first>\d{1,2})([-/])(?P<second>\d{1,2})\2(?P<year>\d{4})",
        rf"{_DAY}(?:\s+of)?[\s-]+{_NAME},?[\s-]+{_YEAR}",
        rf"{_NAME}\s+(?:the\s+)?{_DAY},?\s+{_YEAR}",
        rf"{_YEAR},?\s+{_NAME}\s+{_DAY}",
        rf"{_NAME},?(?:\s+of)?\s+{_YEAR}",
        rf"{_DAY}(?:\s+of)?[\s-]+{_NAME}",
        rf"{_NAME}\s+(?:the\s+)?{_DAY}",
    )
]
"""The forms of a date, the longest first; a year of the first two or three figures alone would be another date."""
_WHOLE = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,3}(?:\.\d{3}){2,}|-?\d*\.?\d+", re.ASCII)
_TWO_WAYS = re.compile(r"-?[1-9]\d{0,2}\.\d{3}|-?0\d+", re.ASCII)


def with_dates(text: str, mark: str) -> str:
    """`text` with every date as a word of its own, `mark` and year-month-day: what is not given is left out."""
    for form in _DATES:
        text = form.sub(lambda found: _date(found, mark), text)
    return text


def _date(found: re.Match[str], mark: str) -> str:
    given = found.groupdict()
    year, month, day = given.get("year") or "", given.get("month") or "", given.get("day") or ""
    if "first" in given:
        first, second = int(given["first"]), int(given["second"])
        if first <= 12 and second <= 12 and first != second:
            return f" {mark}{first}/{second}/{year} "  # the seventh of June or the sixth of July
        day, month = (str(first), str(second)) if second <= 12 else (str(second), str(first))
    number = int(month) if month.isdigit() else _MONTHS[month.lower()]
    if not (1 <= number <= 12 and (not day or 1 <= int(day) <= 31)):
        return found[0]
    return f" {mark}{year}-{number}-{int(day) if day else ''} "


def number(word: str) -> str | None:
    """The number that a word in figures is, in one form; None where it is none, or could be two."""
    if not _WHOLE.fullmatch(word) or _TWO_WAYS.fullmatch(word):
        return None
    plain = word.replace(",", "")
    return _written(Decimal(plain.replace(".", "") if plain.count(".") > 1 else plain))


def in_figures(words: Sequence[str]) -> list[str]:
    """Lower-case words with numbers in figures: ["forty", "five", "million"] is ["45000000"], ["first"] is ["1th"]."""
    figures: list[str] = []
    place = 0
    while place < len(words):
        value, end = _cardinal(words, place)
        tens = value is not None and value % 10 == 0 and value % 100 >= 20
        ordinal = _ORDINALS.get(words[end]) if end < len(words) else None
        if ordinal is not None and (value is None or (tens and ordinal < 10)):
            figures.append(f"{_written((value or Decimal(0)) + ordinal)}th")
            place = end + 1
        elif value is not None:
            figures.append(_written(value))
            place = end
        else:
            figures.append(words[place])
            place += 1
    return figures


def _cardinal(words: Sequence[str], start: int) -> tuple[Decimal | None, int]:
    """The number that begins at `start`, and where the words after it begin; None where none begins there."""
    if words[start : start + 1] == ["minus"]:
        value, end = _cardinal(words, start + 1)
        return (None, start) if value is None else (-value, end)
    total, place, room = Decimal(0), start, math.inf
    while room > 1:  # millions, then thousands, then the rest
        begin = place + (place > start and words[place : place + 1] == ["and"])
        part, end = _hundreds(words, begin)
        if part is None:
            break
        scale = _SCALES.get(words[end]) if end < len(words) else None
        in_figures = number(words[begin]) is not None
        if part * (scale or 1) >= room or (in_figures and not scale and place > start):
            break
        total, place, room = total + part * (scale or 1), end + (scale is not None), scale or 1
    return (total, place) if place > start else (None, start)


def _hundreds(words: Sequence[str], start: int) -> tuple[Decimal | None, int]:
    """A number in words up to where its thousand or million stands; one in figures may be of any size."""
    word, after = (words[start] if start < len(words) else ""), words[start + 1 : start + 2]
    figures = number(word)
    if word.lower() == "a" and after and (after[0] == "hundred" or after[0] in _SCALES):
        value, end = Decimal(1), start + 1
    elif figures is not None:
        value, end = Decimal(figures), start + 1
    else:
        tens, end = _tens(words, start)
        if tens is None:
            return None, start
        value = Decimal(tens)
    if words[end : end + 1] != ["hundred"] or not 0 < value < 100:
        return value, end
    rest, rest_end = _tens(words, end + 1 + (words[end + 1 : end + 2] == ["and"]))
    return (value * 100, end + 1) if rest is None else (value * 100 + rest, rest_end)


def _tens(words: Sequence[str], start: int) -> tuple[int | None, int]:
    """A number in words below a hundred."""
    tens = _CARDINALS.get(words[start]) if start < len(words) else None
    if tens is None:
        return None, start
    ones = _CARDINALS.get(words[start + 1], 0) if start + 1 < len(words) else 0
    return (tens + ones, start + 2) if tens >= 20 and 0 < ones < 10 else (tens, start + 1)


def _written(value: Decimal) -> str:
    """Without an exponent and without zeros that change nothing."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
