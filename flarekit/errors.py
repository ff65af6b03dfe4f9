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
    │   └── StreamBroken       a stream ended or broke before its last token
    ├── DataError              a file of questions, passages, runs or weights
    ├── ConfigError            an unknown policy, signal or option, or a value outside its range
    └── RunError               a run directory that belongs to another run, or cannot be written

Messages are one line: what is wrong, where, and what to do. The CLI prints them and exits with status 2; foreign
exceptions are turned into these where they enter (`flarekit.vllm` for HTTP), never further in.
"""


class FlarekitError(Exception):
    """Base of all errors that flarekit raises on purpose."""


class EngineError(FlarekitError):
    """A language-model server failed, or answered something that cannot be used."""


class EngineUnavailable(EngineError):
    """The server cannot be reached, timed out, or kept answering 429 or 5xx."""


class UnknownModel(EngineError):
    """The server does not serve the model that was asked for."""


class PromptTooLong(EngineError):
    """The prompt leaves no room for an answer in the model's context."""


class MissingCapability(EngineError):
    """The server does not send what the signals are computed from."""


class BadLogprobs(EngineError):
    """A token came with a number that is no log-probability."""


class RequestRejected(EngineError):
    """The server refused a request for another reason (4xx)."""


class StreamBroken(EngineError):
    """A stream broke, or ended before its last token."""


class DataError(FlarekitError):
    """A file is missing, malformed, empty or of another format."""


class ConfigError(FlarekitError, ValueError):
    """An unknown name, or a value outside its stated range."""


class RunError(FlarekitError):
    """A run directory belongs to another run, or cannot be written."""
