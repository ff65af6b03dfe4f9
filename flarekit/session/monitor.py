"""Watches a stream: where its sentences and drafts end, and the online signals of a policy's mid triggers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from flarekit.policies.triggers import Reading, Trigger
from flarekit.signals.online import OnlineSignal
from flarekit.signals.sentences import SentenceTracker
from flarekit.signals.token import StreamSignal
from flarekit.text.sentences import LOOKAHEAD
from flarekit.tokens import Token


class Monitor:
    """One answer while it streams; constant time per token.

    For every token the driver asks `sentences.begins(token)`; where that is True it reads the triggers at the end of
    the sentence before (`fired("sentence")`) and says `end_sentence`. Then it calls `update(token)` and reads the
    triggers at that token (`fired("token")`).
    """

    def __init__(self, triggers: Sequence[Trigger] = (), lookahead: int = LOOKAHEAD) -> None:
        """`TypeError` for a trigger whose signal is not measured on tokens."""
        self.sentences = SentenceTracker(lookahead)
        self._watched: list[tuple[Trigger, OnlineSignal]] = []
        self._at_sentence_end: list[Callable[[], None]] = []
        self._per_action: list[OnlineSignal] = []
        for trigger in triggers:
            if not isinstance(trigger.signal, StreamSignal):
                raise TypeError(f"{trigger.signal.name} cannot be measured on a stream")
            online = trigger.signal.running()
            self._watched.append((trigger, online))
            self._at_sentence_end.append(online.reset if trigger.signal.over == "sentence" else online.end_sentence)
            if trigger.signal.over == "action":
                self._per_action.append(online)

    def update(self, token: Token) -> None:
        """Take the next token of the answer."""
        for _, online in self._watched:
            online.update(token)

    def fired(self, read: Reading) -> Iterator[tuple[int, float]]:
        """The triggers that are read now and fire: their places among the triggers, and their signals' values."""
        for place, (trigger, online) in enumerate(self._watched):
            if trigger.read == read and trigger.fires(online.value):
                yield place, online.value

    def end_sentence(self) -> None:
        """Tell the signals that the next token begins a new sentence."""
        for end in self._at_sentence_end:
            end()

    def rewind(self, committed: Iterable[Token], *, within_sentence: bool = False) -> None:
        """Forget a discarded draft: the signals' values are those after the committed tokens, as a sentence begins.

        `within_sentence`: the next token goes on with the committed text's last sentence, which may still prove to end
        inside that text.
        """
        for _, online in self._watched:
            online.reset()
        for token in committed:
            self.update(token)
        self.end_sentence()
        for online in self._per_action:
            online.reset()
        if not within_sentence:
            self.sentences.restart()

    def value(self, place: int) -> float:
        """The value of one of the triggers' signals now."""
        return self._watched[place][1].value
