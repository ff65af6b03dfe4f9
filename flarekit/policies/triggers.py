"""When to act: a signal, a threshold and a moment.

The moment is a value like the threshold, not another code path: the same trigger machinery decides before generation,
during it and after it, which is what makes their comparison fair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flarekit.errors import ConfigError
from flarekit.signals.answer import PostSignal
from flarekit.signals.question import PreSignal
from flarekit.signals.token import ALWAYS, StreamSignal
from flarekit.trace import Moment

Reading = Literal["token", "sentence"]
"""How often a mid trigger is read: at every token, or only when a sentence is complete."""
NEVER = math.inf
"""The threshold that nothing reaches, on any scale: for signals that are only recorded."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Fires when its signal is at or above its threshold at its moment."""

    signal: StreamSignal | PreSignal | PostSignal
    threshold: float
    moment: Moment
    read: Reading = "sentence"

    def __post_init__(self) -> None:
        """Refuse a threshold on another scale than the signal's, which could never fire or would always."""
        if not (0 <= self.threshold <= self.signal.high or self.threshold == NEVER):
            raise ConfigError(
                f"threshold {self.threshold:g} is outside the range of {self.signal.name}, 0 to {self.signal.high:g}"
            )
        if self.signal is not ALWAYS and self.moment not in moments_of(self.signal):
            raise ConfigError(f"{self.signal.name} cannot be measured at the moment {self.moment!r}")

    def fires(self, value: float) -> bool:
        """Whether a value of the signal reaches the threshold."""
        return value >= self.threshold


def moments_of(signal: StreamSignal | PreSignal | PostSignal) -> Sequence[Moment]:
    """When a signal can be measured."""
    if isinstance(signal, StreamSignal):
        return ("mid", "post")
    return ("pre",) if isinstance(signal, PreSignal) else ("post",)


def always(moment: Moment) -> Trigger:
    """Fires at its moment, whatever the model's certainty."""
    return Trigger(ALWAYS, 1.0, moment)
