"""Trying again: one policy for all that is asked of servers, and one count over all layers that may try again."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import stamina
from stamina.instrumentation import RetryDetails

from flarekit.errors import EngineUnavailable, told

LONGEST = 60.0
"""Seconds: a server that wants to be left alone for longer is not asked again."""
_FAR = 86_400.0
_LOGGER = logging.getLogger("stamina")


class Retries:
    """How often one request may be tried again, whichever layer does it; the first try is not counted.

    A client's request is carried out by several of ours, one after the other: each of them takes from the same count.
    """

    def __init__(self, most: int = 3, *, longest: float = LONGEST) -> None:
        """At most `most` tries again, none of them after a wait of more than `longest` seconds."""
        self.left = most
        self._longest = longest

    def take(self) -> bool:
        """Whether one more try may be made, which is counted."""
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def attempts(self, first_wait: float = 0.2) -> Any:
        """Iterate over it (`async for` or `for`) and try `with` each attempt: it ends with the last error.

        Only `EngineUnavailable` is tried again: after the wait that the server has asked for, and without one after
        `first_wait` seconds, then twice as many, at most 10, and a part at random.
        """
        return stamina.retry_context(
            on=self._again, attempts=self.left + 1, timeout=None, wait_initial=first_wait, wait_max=10
        )

    def _again(self, error: Exception) -> bool | float:
        """stamina's hook: whether there is another attempt, or after how many seconds."""
        if not isinstance(error, EngineUnavailable):
            return False
        hint = error.retry_after
        if hint is not None and hint > self._longest:
            return False
        if not self.take():
            return False
        # Not to the moment: others were given the same hint.
        return True if hint is None else hint + random.uniform(0.01, 0.1 + 0.05 * hint)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds in a `Retry-After` header, 0 to a day, from its number or its date; None where it says neither."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _FAR)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), _FAR)


def _log(details: RetryDetails) -> None:
    """Without what a server said: that may quote a prompt."""
    error = details.caused_by
    where = f" at {error.where}" if isinstance(error, EngineUnavailable) and error.where else ""
    _LOGGER.warning("asked again in %.1f s%s: %s", details.wait_for, where, told(error))


# Retries are logged for those who listen; to nobody in particular they would be noise before the one line of an error.
# Where structlog is installed, stamina would print them to stdout by it.
stamina.instrumentation.set_on_retry_hooks([_log])
_LOGGER.addHandler(logging.NullHandler())
