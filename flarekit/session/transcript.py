"""The answer as it grows: what is committed of it, by which engine it was written, and the draft behind that."""

from __future__ import annotations

from collections.abc import Sequence

from flarekit.prompts.few_shot import Prompt
from flarekit.text.stops import StopFinder, shorten
from flarekit.tokens import Token, text_of
from flarekit.trace import Segment


class Transcript:
    """Committed text, and the draft: the tokens of the last stream that are not committed."""

    def __init__(self, form: Prompt) -> None:
        """`form` knows what an answer is to look like."""
        self._form = form
        self.own: list[Token] = []
        """Committed tokens of the engine at work, which goes on from their ids."""
        self.inherited = ""
        """Committed text of an engine that handed over."""
        self.sentence = ""
        """What is committed of a sentence that is not complete yet."""
        self.complete = False
        """Whether nothing more is to be generated."""
        self.unsettled = False
        """Whether the answer is given, but what follows decides if it is whole."""
        self._mentioned = False  # whether a committed sentence may give the answer
        self.segment = Segment("weak")
        """The last stream; its tokens from `kept` on are the draft."""
        self.stops: StopFinder | None = None
        """What looks for stop strings in it; None where the engine does."""
        self.excess = 0
        """Characters at the end of the committed text that proved to begin a stop string; no client has seen them."""

    @property
    def text(self) -> str:
        """All that is committed."""
        return self.inherited + text_of(self.own)

    def prompt_ids(self, head: Sequence[int]) -> list[int]:
        """The ids to go on from: those of the prompt with the inherited text, and of the engine's own tokens."""
        return [*head, *(token.id for token in self.own)]

    def begin(self, segment: Segment, stops: StopFinder | None) -> None:
        """A stream begins that goes on from the committed text."""
        self.segment, self.stops, self.excess = segment, stops, 0

    def draft(self, end: int) -> Sequence[Token]:
        """The draft up to token `end` of the stream."""
        return self.segment.tokens[self.segment.kept : end]

    def written(self, end: int) -> int:
        """How many tokens the engine at work has committed, and drafted up to `end`."""
        return len(self.own) + end - self.segment.kept

    def only_stops(self, end: int) -> bool:
        """Whether the draft up to `end` was but a stop string: no client is to see it, so it needs no help."""
        return self.stops is not None and self.stops.found and not text_of(self.draft(end)).strip()

    def commit(self, end: int, *, whole: bool) -> Sequence[Token]:
        """Make the draft up to `end` part of the answer; `whole` where that ends its sentence. Its tokens."""
        tokens = self.draft(end)
        self.segment.kept = end
        self.own += tokens
        self.sentence += text_of(tokens)
        if whole:
            self.settle()
            self.sentence = ""
        if self.stops and self.stops.stop and end == len(self.segment.tokens):
            self.excess = self.stops.excess
            if left := shorten(self.own, self.excess):
                self.inherited = self.inherited[:-left]
        return tokens

    def settle(self) -> bool:
        """Whether the committed text gives the answer whole, as far as the draft behind it tells."""
        self._mentioned = self._mentioned or self._form.mentions_answer(self.sentence)
        if not self._mentioned:
            self.complete = self.unsettled = False
            return False
        stands = self._form.ends_answer(self.text, text_of(self.segment.tokens[self.segment.kept :]))
        self.complete, self.unsettled = stands is True, stands is None
        return self.complete

    def gives_answer(self, end: int) -> bool:
        """Whether the answer is given where the draft ends at `end`."""
        draft = text_of(self.draft(end))
        if not (self._mentioned or self._form.mentions_answer(self.sentence + draft)):
            return False
        return self._form.ends_answer(self.text + draft, text_of(self.segment.tokens[end:])) is not False

    def inherit(self, text: str) -> None:
        """Another engine goes on from `text`."""
        self.inherited, self.own = text, []

    def answer_with(self, tokens: Sequence[Token]) -> None:
        """Tokens of the engine at work are the whole answer."""
        self.own, self.excess, self.complete = list(tokens), 0, True

    def discard(self) -> None:
        """Begin the whole answer again."""
        self.inherited, self.sentence, self.own, self.excess = "", "", [], 0
        self._mentioned = self.unsettled = False
