"""Watches a stream: the running signals of a policy's mid triggers, in constant time per token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from flarekit.policies.triggers import Reading, Trigger
from flarekit.signals.online import Running
from flarekit.signals.token import StreamSignal
from flarekit.tokens import Token


class Monitor:
    """The values of several triggers' signals along one answer."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._watched: list[tuple[Trigger, Running]] = []
        self._per_sentence: list[Callable[[], None]] = []
        self._per_action: list[Running] = []
        for trigger in triggers:
            if not isinstance(trigger.signal, StreamSignal):
                raise TypeError(f"{trigger.signal.name} cannot be measured on a stream")
            running = trigger.signal.running()
            self._watched.append((trigger, running))
            if trigger.signal.over == "sentence":
                self._per_sentence.append(running.reset)
            elif trigger.signal.over == "action":
                self._per_action.append(running)
            elif hasattr(running, "end_sentence"):  # a signal over the whole answer that also looks at its sentences
                self._per_sentence.append(running.end_sentence)

    def update(self, token: Token) -> None:
        """Take the next token of the answer."""
        for _, running in self._watched:
            running.update(token)

    def fired(self, read: Reading) -> Iterator[tuple[int, float]]:
        """The triggers that are read now and fire: their places among the triggers, and their signals' values."""
        for place, (trigger, running) in enumerate(self._watched):
            if trigger.read == read and trigger.fires(running.value):
                yield place, running.value

    def end_sentence(self) -> None:
        """Begin a new sentence."""
        for reset in self._per_sentence:
            reset()

    def rewind(self, committed: Iterable[Token]) -> None:
        """Forget a discarded draft: the values are those after the committed tokens, at the start of a sentence."""
        for _, running in self._watched:
            running.reset()
        for token in committed:
            self.update(token)
        self.end_sentence()
        for running in self._per_action:
            running.reset()

    def value(self, place: int) -> float:
        """The value of one of the triggers' signals now."""
        return self._watched[place][1].value
