"""What is looked up: a query is a function of the `QueryContext`, so a new formulation is a new function."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from string import punctuation

from flarekit.signals.token import REQUEST, entropy
from flarekit.text.words import is_content, join_words, pieces, words
from flarekit.tokens import Token, text_of


@dataclass(frozen=True, slots=True)
class QueryContext:
    """What a query may be made of: the question and the answer as they stand when a trigger fires."""

    question: str
    text: str
    """The committed text."""
    sentence: Sequence[Token]
    """The draft that the trigger fired on: an uncommitted sentence or its beginning. Empty at the moments pre and
    post."""
    answer_phrase: str
    """What the prompt has an answer begin with, such as "So the answer is"."""
    committed: Sequence[Token] = ()
    """The tokens of `text` that the engine at work has generated."""


Query = Callable[[QueryContext], str]


def question_query(context: QueryContext) -> str:
    """The question."""
    return context.question


def question_and_answer_query(context: QueryContext) -> str:
    """The question and all that was generated so far (ITER-RETGEN, arXiv:2305.15294, section 3.2)."""
    return f"{context.question} {context.text}".strip()


def sentence_query(context: QueryContext) -> str:
    """The sentence just written (IRCoT, arXiv:2212.10509, section 3; FLARE's "previous sentence" baseline)."""
    return " ".join(text_of(context.sentence).split())


def last_tokens_query(length: int) -> Query:
    """The last `length` tokens (FLARE's "previous window" baseline, arXiv:2305.06983, section 4)."""

    def query(context: QueryContext) -> str:
        return " ".join(text_of([*context.committed, *context.sentence][-length:]).split())

    return query


def requested_query(context: QueryContext) -> str:
    """What the model has asked for itself, in `[Search(...)]` (FLARE-instruct, arXiv:2305.06983, section 3.1)."""
    found = REQUEST.search(text_of(context.sentence))
    return found["query"].strip().strip("\"'") if found else ""


def masked_draft_query(beta: float) -> Query:
    """The drafted sentence without its uncertain words (FLARE's implicit query, arXiv:2305.06983, section 3.2.1).

    The paper masks tokens with p <= `beta`; here a word is masked when any of its tokens is, because half a word is no
    search term. The sentence that gives the answer ("So the answer is 1983.") says nothing to search for: its words
    are asked together with the question. Where no word is left the question alone is asked: an empty query would
    silently retrieve nothing exactly where the draft is least certain.
    """
    floor = log(beta) if beta > 0 else float("-inf")

    def query(context: QueryContext) -> str:
        sure = "".join(text for text, logprob in words(context.sentence) if logprob > floor)
        said = re.sub(re.escape(context.answer_phrase), "", sure, flags=re.IGNORECASE)
        if said == sure and re.search(r"\w", said):
            return " ".join(said.split())
        return " ".join(f"{context.question} {said}".split()) if re.search(r"\w", said) else context.question

    return query


def uncertain_words_query(count: int) -> Query:
    """The question's content words and the most uncertain ones of the answer, `count` in all, in their order.

    DRAGIN (arXiv:2403.10081, section 3.2) takes the words of question and answer that the uncertain token attends to
    most. No server tells attention over HTTP; here the words with the highest entropy stand for them.
    """

    def query(context: QueryContext) -> str:
        asked = [word.strip().strip(punctuation) for word in pieces(context.question) if is_content(word)][:count]
        said: dict[str, float] = {}  # each word once, at its most uncertain
        for text, value in words([*context.committed, *context.sentence], entropy, max):
            word = text.strip()
            if is_content(word) and word not in asked:
                said[word] = max(value, said.get(word, 0.0))
        ranked = sorted(said, key=lambda word: -said[word])[: count - len(asked)]
        return join_words([*asked, *(word for word in said if word in ranked)]) or context.question

    return query
