"""The server's log on stderr: one JSON object a line, or lines for people where stderr is a terminal.

`configure` sends everything that the process logs the same way, uvicorn's own lines too; `Logs` adds one line for each
exchange. Nothing is logged for a token or a part of a stream.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from typing import Any, TextIO

import orjson
import structlog

from flarekit.io.terminal import shown
from flarekit.serve.observers.record import Exchange, reason
from flarekit.trace import Committed, Event, Failed, Retrieved

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]
"""What is added to every line, whoever logs it."""


def configure(stream: TextIO | None = None) -> None:
    """Log to `stream` (stderr by default) from now on; give uvicorn `log_config=None`, so that it leaves that as it is.

    uvicorn's and flarekit's lines are logged from INFO on, those of other libraries from WARNING on.
    """
    stream = stream or sys.stderr
    formatter = structlog.stdlib.ProcessorFormatter
    handler = {"class": "logging.StreamHandler", "stream": stream, "formatter": "lines"}
    lines = {
        "()": formatter,
        "foreign_pre_chain": _SHARED,
        "processors": [formatter.remove_processors_meta, *_renderers(stream.isatty())],
    }
    talkative = {name: {"level": "INFO"} for name in ("flarekit", "uvicorn", "uvicorn.error", "uvicorn.access")}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"lines": lines},
            "handlers": {"stream": handler},
            "root": {"handlers": ["stream"], "level": "WARNING"},
            "loggers": talkative,
        }
    )
    # Not only for `Logs`: stamina tells of its retries by structlog too, which would print them to stdout.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, formatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class Logs:
    """An observer that logs one line when an exchange ends; `configure` says where it goes.

    Questions, queries and answers are logged only if `text`.
    """

    def __init__(self, *, text: bool = False) -> None:
        self._text = text
        self._logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("flarekit.serve")

    def begin(self, exchange: Exchange) -> None:  # noqa: D102 - see Observer
        pass

    def event(self, exchange: Exchange, event: Event | Committed) -> None:  # noqa: D102
        pass

    def end(self, exchange: Exchange) -> None:  # noqa: D102
        level = logging.ERROR if exchange.outcome == "failed" else logging.INFO
        self._logger.log(level, "request", **_fields(exchange, self._text), **(_texts(exchange) if self._text else {}))


def _fields(exchange: Exchange, text: bool) -> dict[str, Any]:
    costs = exchange.costs()
    events = exchange.trace.events if exchange.trace else []
    return {
        "request_id": exchange.id,
        "endpoint": exchange.endpoint,
        "policy": exchange.policy,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "seconds": round(exchange.seconds, 4),
        "first": None if exchange.first is None else round(exchange.first, 4),
        "prompt_tokens": costs.prompt_tokens,
        "cached_tokens": costs.cached_tokens,
        "generated_tokens": costs.generated_tokens,
        "discarded_tokens": costs.discarded_tokens,
        "retrievals": costs.retrievals,
        "escalations": costs.escalations,
        "failures": [f"{event.part}: {reason(event, text)}" for event in events if isinstance(event, Failed)],
        "passed_through": exchange.passed or None,
        "error": ((exchange.detail if text else "") or exchange.error) or None,
    }


def _texts(exchange: Exchange) -> dict[str, Any]:
    trace = exchange.trace
    return {
        "question": exchange.question,
        "queries": [event.query for event in trace.events if isinstance(event, Retrieved)] if trace else [],
        "answer": trace.text if trace else None,
    }


def _renderers(terminal: bool) -> list[structlog.typing.Processor]:
    # Tracebacks are plain: richer ones show the values of variables, prompts among them.
    if terminal:
        return [_shown, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]


def _shown(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every text as no terminal obeys it, lists of texts too."""
    return {
        key: shown(value) if isinstance(value, str) else shown(str(value)) if isinstance(value, list) else value
        for key, value in fields.items()
    }


def _json(line: Any, **_: Any) -> str:
    try:
        return orjson.dumps(line, default=repr).decode()
    except TypeError:  # a lone surrogate in a text, or an integer of more than 64 bits
        return json.dumps(line, default=repr)
