"""The one prompt that every policy uses, and how an answer is read out of what was generated.

The stable part (instruction and exemplars) comes first, so that a server's prefix cache serves it to every question;
passages follow, best first; then the question. One template for all is part of a fair comparison.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flarekit.engines.engine import Engine
from flarekit.prompts.marks import without_marks
from flarekit.prompts.reading import read
from flarekit.retrieval import Passage
from flarekit.text.words import first_words
from flarekit.tokens import Token, text_of

INSTRUCTION = (
    "Answer the question by reasoning in a few short sentences, one fact in each. "
    'Then end with "So the answer is" and a short answer. Use the passages if there are any.'
)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked question, with passages or without."""

    question: str
    answer: str
    passages: tuple[Passage, ...] = ()


EXEMPLARS = (
    Exemplar(
        "In which sea does the river end that flows through Vienna?",
        "The river that flows through Vienna is the Danube. The Danube ends in the Black Sea. "
        "So the answer is the Black Sea.",
        (
            Passage(
                "1",
                "Danube",
                "The Danube is a river in Europe. It flows through Vienna, Budapest and Belgrade, and ends in the "
                "Black Sea.",
            ),
            Passage("2", "Elbe", "The Elbe flows through Dresden and Hamburg and ends in the North Sea."),
        ),
    ),
    Exemplar(
        "Who was born first, Marie Curie or Albert Einstein?",
        "Marie Curie was born in 1867. Albert Einstein was born in 1879. So the answer is Marie Curie.",
    ),
    Exemplar(
        "When was the architect born who designed the Sagrada Familia?",
        "The Sagrada Familia was designed by Antoni Gaudi. Antoni Gaudi was born on 25 June 1852. "
        "So the answer is 25 June 1852.",
        (
            Passage("1", "Antoni Gaudi", "Antoni Gaudi was a Spanish architect, born on 25 June 1852."),
            Passage("2", "Sagrada Familia", "The Sagrada Familia is a church in Barcelona, designed by Antoni Gaudi."),
        ),
    ),
    Exemplar(
        "Do the authors of Emma and Oliver Twist come from the same country?",
        "Emma was written by Jane Austen, who came from England. Oliver Twist was written by Charles Dickens, "
        "who came from England. So the answer is yes.",
    ),
)
"""Four worked questions written for flarekit, two of them with passages: a small model reads passages far better once
it has been shown how. (FLARE used eight from its datasets, without passages; appendix D of arXiv:2305.06983.)"""

DIRECT_INSTRUCTION = 'Answer the question at once. Write "So the answer is" and a short answer, and nothing else.'
DIRECT_EXEMPLARS = tuple(replace(one, answer=one.answer[one.answer.index("So the answer is") :]) for one in EXEMPLARS)
"""The same questions, answered without reasoning."""

SEARCH_INSTRUCTION = (
    "Answer the question by reasoning in a few short sentences, one fact in each. "
    "Where you are not sure of a fact, write [Search(what to look up)] before it; passages that were found stand above "
    'the question. Then end with "So the answer is" and a short answer.'
)
SEARCH_EXEMPLARS = (
    Exemplar(
        "In which sea does the river end that flows through Vienna?",
        "The river that flows through Vienna is [Search(river that flows through Vienna)] the Danube. "
        "The Danube ends in [Search(sea where the Danube ends)] the Black Sea. So the answer is the Black Sea.",
    ),
    Exemplar(
        "When was the architect born who designed the Sagrada Familia?",
        "The Sagrada Familia was designed by Antoni Gaudi. Antoni Gaudi was born on "
        "[Search(Antoni Gaudi date of birth)] 25 June 1852. So the answer is 25 June 1852.",
        (Passage("2", "Sagrada Familia", "The Sagrada Familia is a church in Barcelona, designed by Antoni Gaudi."),),
    ),
    Exemplar(
        "Who was born first, Marie Curie or Albert Einstein?",
        "Marie Curie was born in [Search(Marie Curie year of birth)] 1867. Albert Einstein was born in "
        "[Search(Albert Einstein year of birth)] 1879. So the answer is Marie Curie.",
    ),
)
"""Worked questions in which the model asks for what it does not know (FLARE-instruct, appendix D of
arXiv:2305.06983 does the same in two separate lessons)."""

ROLES = {
    "": "",
    "expert": "You are an expert in the subject of the question. ",
    "historian": "You are a historian who knows people, places and dates. ",
    "sceptic": "You are a sceptic who writes down only what is certain. ",
}
"""Who answers, by name; what MasRouter (arXiv:2502.11133) calls a role."""

MAX_PASSAGE_WORDS = 100
"""Longer passages are cut here: reading a prompt is what a retrieval costs."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A few-shot prompt with room for passages."""

    instruction: str = INSTRUCTION
    exemplars: tuple[Exemplar, ...] = EXEMPLARS
    answer_phrase: str = "So the answer is"
    stop: tuple[str, ...] = ("\n",)
    """An answer is one paragraph: its end is the end of the answer."""
    stop_included: bool = False
    """Whether the answer ends with the stop string rather than before it."""
    max_passage_words: int = MAX_PASSAGE_WORDS
    max_criticism_tokens: int = 60
    hidden: re.Pattern[str] | None = None
    """What the model writes for us and not for the reader: it stays in the context and out of the answer."""

    def render(self, question: str, passages: Sequence[Passage] = (), notes: Sequence[str] = ()) -> str:
        """The prompt, up to where the answer begins; `notes` are lines between question and answer."""
        worked = [f"{self._asked(one.question, one.passages)} {one.answer}\n" for one in self.exemplars]
        return "\n".join([f"{self.instruction}\n", *worked, self._asked(question, passages, notes)])

    async def ids(
        self,
        engine: Engine,
        question: str,
        passages: Sequence[Passage] = (),
        notes: Sequence[str] = (),
        said: str = "",
    ) -> list[int]:
        """The prompt as the engine's own token ids, with `said`, the part of the answer that stands already."""
        asked, said = await without_marks(question, engine), await without_marks(said, engine)
        noted = [await without_marks(note, engine) for note in notes]
        return await engine.tokenize(self.render(asked, passages, noted) + said)

    async def criticism_ids(
        self, engine: Engine, question: str, answer: str, passages: Sequence[Passage] = ()
    ) -> list[int]:
        """`criticise` as the engine's own token ids."""
        asked, said = await without_marks(question, engine), await without_marks(answer, engine)
        return await engine.tokenize(self.criticise(asked, said, passages))

    def _asked(self, question: str, passages: Sequence[Passage], notes: Sequence[str] = ()) -> str:
        found = [f"[{number}] {self._line(passage)}" for number, passage in enumerate(passages, start=1)]
        context = ["Passages:", *found, ""] if found else []
        lines = [one_line(note) for note in notes]
        return "\n".join([*context, f"Question: {one_line(question)}", *lines, "Answer:"])

    def criticise(self, question: str, answer: str, passages: Sequence[Passage] = ()) -> str:
        """Asks what is wrong with an answer (Self-Refine, arXiv:2303.17651, section 2)."""
        asked = self._asked(question, passages).removesuffix("Answer:")
        return (
            f"{asked}Proposed answer: {one_line(answer)}\n"
            "In one sentence, name the fact in this answer that is most likely wrong or missing.\nCriticism:"
        )

    def visible(self, text: str) -> str:
        """`text` without what is `hidden`, and the space before it."""
        return "".join(text[start:end] for start, end in self._shown(text))

    def visible_tokens(self, tokens: Sequence[Token]) -> Sequence[Token]:
        """The tokens of what is not `hidden`; one that is hidden in part keeps the rest of its text."""
        if self.hidden is None:
            return tokens
        shown, start, kept = self._shown(text_of(tokens)), 0, []
        for token in tokens:
            end = start + len(token.text)
            text = "".join(token.text[max(a - start, 0) : max(b - start, 0)] for a, b in shown)
            if text or not token.text:
                kept.append(token._replace(text=text))
            start = end
        return kept

    def _shown(self, text: str) -> list[tuple[int, int]]:
        """Where the visible stretches of `text` begin and end."""
        if self.hidden is None:
            return [(0, len(text))]
        hidden = [match.span() for match in re.finditer(rf"\s?{self.hidden.pattern}", text)]
        begins, ends = [0, *(end for _, end in hidden)], [*(start for start, _ in hidden), len(text)]
        return list(zip(begins, ends, strict=True))

    def _line(self, passage: Passage) -> str:
        return f"{one_line(passage.title)}: {self.brief(passage).text}"

    def brief(self, passage: Passage) -> Passage:
        """The passage as the prompt shows it: on one line, and at most `max_passage_words` of it."""
        text, cut = first_words(passage.text, self.max_passage_words)
        return replace(passage, text=f"{text}{' ...' if cut else ''}")

    def mentions_answer(self, sentence: str) -> bool:
        """Whether a sentence may give the answer: quick, for those that have nothing of the phrase."""
        phrase = self.answer_phrase.lower().removeprefix("so ")
        return ("answer" if phrase == "the answer is" else phrase) in sentence.lower()

    def ends_answer(self, text: str, following: str = "") -> bool | None:
        """Whether `text`, up to the end of a sentence, gives the answer whole; None where what follows it decides.

        `following` is what has been generated behind that sentence, which may go on with the answer or go back on it.
        """
        shown = self.visible(text)
        found = read(self.visible(text + following), self.answer_phrase, final=not following)
        return found.stands if found.end <= len(shown) else False

    def read_answer(self, text: str) -> str:
        """The short answer (`flarekit.prompts.reading`); small models often leave the phrase's "So" out."""
        return read(text, self.answer_phrase, final=True).answer


def one_line(text: str) -> str:
    """Text without line breaks, so that it cannot begin a new part of the prompt."""
    return " ".join(text.split())
