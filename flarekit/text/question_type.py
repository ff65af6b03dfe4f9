"""What shows of a question without reading for sense: whether it asks for one of two answers, and how long it is.

Questions of multi-hop sets come in types (a comparison of two things, a chain of facts), and how well a model does
differs by type. Whatever predicts an answer's outcome must therefore tell more than the type does.
"""

from __future__ import annotations

import re

_OPENERS = (
    "is are was were am isn't aren't wasn't weren't do does did don't doesn't didn't has have had hasn't haven't "
    "hadn't can could would should shall can't couldn't wouldn't shouldn't will won't may might must"
)
_OPENER = re.compile(rf"\W*({'|'.join(_OPENERS.split())})\b", re.IGNORECASE)
_CHOICE = re.compile(r"\sor\s", re.IGNORECASE)
_ALSO_NAMES = ("will", "may")
_ASKS_OPENLY = re.compile(r"\b(who|whom|whose|which|what|when|where|why|how)\b", re.IGNORECASE)


def two_way(question: str) -> bool:
    """Whether it offers a choice between two (" or ") or is opened as a yes/no question is ("Is", "Did", …).

    By its form alone: a title with "or" in it counts too, and a choice that is not spelt out does not. "Will" and
    "May", which are names as well, open a yes/no question only where no question word follows.
    """
    if _CHOICE.search(question):
        return True
    opener = _OPENER.match(question.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    if opener is None:
        return False
    return opener[1].lower() not in _ALSO_NAMES or not _ASKS_OPENLY.search(question)


def length(question: str) -> int:
    """How many words it has."""
    return len(re.findall(r"\w+", question))
