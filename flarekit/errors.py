"""Every error that flarekit raises on purpose, as one tree.

::

    FlarekitError
    ├── EngineError            a server, or what it answered
    │   ├── EngineUnavailable  no connection, a time-out, or 429/5xx after all retries
    │   ├── UnknownModel       the server does not serve the model that was asked for
    │   ├── PromptTooLong      the prompt does not fit into the model's context
    │   ├── MissingCapability  the server does not send log-probabilities or token ids
    │   ├── BadLogprobs        the server sent numbers that are no log-probabilities
    │   ├── RequestRejected    any other 4xx
    │   ├── StreamBroken       a stream ended or broke before its last token
    │   └── RetrieverFailed    a look-up failed, and the session was not to go on without it
    ├── DataError              a file of questions, passages, runs or weights
    ├── ConfigError            an unknown policy, signal or option, or a value outside its range
    └── RunError               a run directory that belongs to another run, or cannot be written

Messages are one line: what is wrong, where, and what to do. The CLI prints them and exits with status 2; foreign
exceptions are turned into these where they enter (`flarekit.io.refusals` for HTTP), never further in.
"""

from __future__ import annotations

import re

QUOTED = 200
"""The most characters of anything foreign that a message, an answer or a line of a log quotes."""


def quoted(foreign: object, most: int = QUOTED) -> str:
    """At most `most` characters of what somebody else wrote, in one line; "…" stands for the rest.

    Texts are cut before anything else is done with them: they may be of any length. Other values are written as Python
    does.
    """
    text = foreign if isinstance(foreign, str) else _written(foreign)
    line = " ".join(text[: 4 * most].split())
    return line if len(text) <= 4 * most and len(line) <= most else line[: most - 1] + "…"


def _written(value: object) -> str:
    """What `repr` says of a value, but for texts and numbers of any length, which are cut first."""
    match value:
        case bool() | float() | None:
            return repr(value)
        case int():
            return repr(value) if value.bit_length() < 256 else "a number of many digits"
        case list() | dict() | tuple():
            return f"a list of {len(value)}" if not isinstance(value, dict) else f"an object of {len(value)}"
        case bytes():
            return repr(value[:QUOTED])
        case BaseException():
            return str(value)
        case _:
            return repr(value)


_LONG = (
    re.compile(rf"""(?<![^\s(\[=:])(?:'[^']{{{QUOTED},}}'?|"[^"]{{{QUOTED},}}"?)"""),
    re.compile(rf"[^\s/]{{{QUOTED + 1},}}"),
)
"""A quotation, and a word (of a path, one of its names), that are longer than anything that is quoted."""


def _without_length(message: str) -> str:
    """A message whose quotations are cut, whoever wrote it: its beginning says what is wrong, its end what to do."""
    if len(message) <= QUOTED:
        return message
    if len(message) > 20 * QUOTED:
        message = message[: 15 * QUOTED] + "…" + message[-4 * QUOTED :]
    for long in _LONG:
        message = long.sub(lambda found: found[0][: QUOTED - 1] + "…", message)
    return message


class FlarekitError(Exception):
    """Base of all errors that flarekit raises on purpose."""

    def __str__(self) -> str:
        """The message, in which nothing foreign is quoted at length."""
        return _without_length(super().__str__())


class EngineError(FlarekitError):
    """A language-model server failed, or answered something that cannot be used.

    Its text is "where: message (quote); hint". The parts are kept, because not everybody may know all of them.
    """

    generic = "the engine failed"
    """What is told of it where its message does not keep addresses apart."""

    def __init__(
        self,
        message: str = "",
        *,
        where: str = "",
        quote: str = "",
        status: int | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`where`: the server's address; `quote`: what it said itself; `message`: the rest, in our own words.

        `status` is the HTTP status that it answered with, `param` the field of the request that it objects to, and
        `retry_after` the seconds after which it wants to be asked again.
        """
        super().__init__(message)
        self.message, self.where, self.quote = message, where, quoted(quote)
        self.status, self.param, self.retry_after = status, param, retry_after

    def __str__(self) -> str:
        """Everything that is known, in one line."""
        place = f"{self.where}: " if self.where else ""
        # What to do about it comes last.
        what, semicolon, hint = self.message.partition(";")
        return _without_length(f"{place}{what}{f' ({self.quote})' if self.quote else ''}{semicolon}{hint}")


class EngineUnavailable(EngineError):
    """The server cannot be reached, timed out, or kept answering 429 or 5xx."""

    generic = "the engine does not answer"


class UnknownModel(EngineError):
    """The server does not serve the model that was asked for."""

    generic = "the engine does not serve its model"


class PromptTooLong(EngineError):
    """The prompt leaves no room for an answer in the model's context."""

    generic = "the prompt does not fit into the model's context"


class MissingCapability(EngineError):
    """The server does not send what the signals are computed from."""

    generic = "the engine does not send what the policy needs"


class BadLogprobs(EngineError):
    """A token came with a number that is no log-probability."""

    generic = "the engine sent what is no log-probability; `flarekit doctor` says more"


class RequestRejected(EngineError):
    """The server refused a request for another reason (4xx)."""

    generic = "the engine refused the request"


class StreamBroken(EngineError):
    """A stream broke, or ended before its last token."""

    generic = "the engine's answer broke off"


class RetrieverFailed(EngineError):
    """A look-up failed in a session that does not go on without it."""

    generic = "the retriever failed"


class DataError(FlarekitError):
    """A file is missing, malformed, empty or of another format."""


class ConfigError(FlarekitError, ValueError):
    """An unknown name, or a value outside its stated range."""


class RunError(FlarekitError):
    """A run directory belongs to another run, or cannot be written."""


def told(error: BaseException) -> str:
    """What anybody may know of a failure: our own words, without addresses and without what somebody else said."""
    if isinstance(error, EngineError):
        return error.message if error.where else error.generic
    return type(error).__name__


def summary(error: BaseException) -> str:
    """What a log may know of a failure: as `told`, and at which address."""
    place = f"{error.where}: " if isinstance(error, EngineError) and error.where else ""
    return place + told(error)


class RunWarning(UserWarning):
    """A run has no checksums, so that damage goes unseen, or has lost answers, which are asked again."""
