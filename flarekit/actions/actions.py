"""What a fired trigger does: look something up, call the stronger engine, vote, revise. And what is looked up.

A query is a function of the session's `Draft`, so a new formulation is a new function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from string import punctuation
from typing import Literal

from flarekit.signals.token import REQUEST, entropy
from flarekit.text.words import is_content, join_words, pieces, words
from flarekit.tokens import Token, text_of


@dataclass(frozen=True, slots=True)
class Draft:
    """What a query may be made of when a trigger fires."""

    question: str
    text: str
    """The committed text."""
    sentence: Sequence[Token]
    """The sentence that the trigger fired in; empty before and after generation."""
    answer_phrase: str
    committed: Sequence[Token] = ()
    """The tokens of `text` that the engine at work has generated."""


Query = Callable[[Draft], str]


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Look passages up, and generate the sentence (or with `restart` the whole answer) again with them."""

    query: Query
    k: int
    restart: bool = False
    keep: bool = False
    """Keep the draft: the passages serve what comes after it."""
    gather: int = 0
    """Add the passages to those already in the prompt, up to so many; 0: they take their place."""
    name: str = "retrieve"


@dataclass(frozen=True, slots=True)
class Escalate:
    """Hand the committed text to the strong engine, or with `restart` only the question."""

    restart: bool = False
    keep: bool = False
    """Keep the draft: the strong engine goes on after it."""
    back: Literal["never", "sentence", "calm"] = "never"
    """When the weak engine goes on again: after one sentence, or once the trigger's signal, read on the strong engine's
    own tokens, is below the threshold."""
    stay: int = 0
    """Tokens that either engine writes at least before the other takes its turn."""
    name: str = "escalate"


@dataclass(frozen=True, slots=True)
class Vote:
    """Sample several whole answers and take the one that most of them give (self-consistency)."""

    samples: int
    temperature: float
    restart: bool = False
    keep: bool = False
    name: str = "vote"


@dataclass(frozen=True, slots=True)
class Revise:
    """Have the engine criticise its answer, then answer again with that criticism in the prompt."""

    restart: bool = True
    keep: bool = False
    name: str = "revise"


@dataclass(frozen=True, slots=True)
class Watch:
    """Do nothing: for signals that are only to be recorded."""

    restart: bool = False
    keep: bool = True
    name: str = "watch"


Action = Retrieve | Escalate | Vote | Revise | Watch


def question_query(draft: Draft) -> str:
    """The question."""
    return draft.question


def question_and_answer_query(draft: Draft) -> str:
    """The question and all that was generated so far (ITER-RETGEN, arXiv:2305.15294, section 3.2)."""
    return f"{draft.question} {draft.text}".strip()


def sentence_query(draft: Draft) -> str:
    """The sentence just written (IRCoT, arXiv:2212.10509, section 3; FLARE's "previous sentence" baseline)."""
    return " ".join(text_of(draft.sentence).split())


def last_tokens_query(length: int) -> Query:
    """The last `length` tokens (FLARE's "previous window" baseline, arXiv:2305.06983, section 4)."""

    def query(draft: Draft) -> str:
        return " ".join(text_of([*draft.committed, *draft.sentence][-length:]).split())

    return query


def requested_query(draft: Draft) -> str:
    """What the model has asked for itself, in `[Search(...)]` (FLARE-instruct, arXiv:2305.06983, section 3.1)."""
    found = REQUEST.search(text_of(draft.sentence))
    return found["query"].strip().strip("\"'") if found else ""


def masked_draft_query(beta: float) -> Query:
    """The drafted sentence without its uncertain words (FLARE's implicit query, arXiv:2305.06983, section 3.2.1).

    The paper masks tokens with p <= `beta`; here a word is masked when any of its tokens is, because half a word is no
    search term. The sentence that gives the answer ("So the answer is 1983.") says nothing to search for: its words
    are asked together with the question. Where no word is left the question alone is asked: an empty query would
    silently retrieve nothing exactly where the draft is least certain.
    """
    floor = log(beta) if beta > 0 else float("-inf")

    def query(draft: Draft) -> str:
        sure = "".join(text for text, logprob in words(draft.sentence) if logprob > floor)
        said = re.sub(re.escape(draft.answer_phrase), "", sure, flags=re.IGNORECASE)
        if said == sure and re.search(r"\w", said):
            return " ".join(said.split())
        return " ".join(f"{draft.question} {said}".split()) if re.search(r"\w", said) else draft.question

    return query


def uncertain_words_query(count: int) -> Query:
    """The question's content words and the most uncertain ones of the answer, `count` in all, in their order.

    DRAGIN (arXiv:2403.10081, section 3.2) takes the words of question and answer that the uncertain token attends to
    most. No server tells attention over HTTP; here the words with the highest entropy stand for them.
    """

    def query(draft: Draft) -> str:
        asked = [word.strip().strip(punctuation) for word in pieces(draft.question) if is_content(word)][:count]
        said: dict[str, float] = {}  # each word once, at its most uncertain
        for text, value in words([*draft.committed, *draft.sentence], entropy, max):
            word = text.strip()
            if is_content(word) and word not in asked:
                said[word] = max(value, said.get(word, 0.0))
        ranked = sorted(said, key=lambda word: -said[word])[: count - len(asked)]
        return join_words([*asked, *(word for word in said if word in ranked)]) or draft.question

    return query
