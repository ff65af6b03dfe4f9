"""What a request asks for: the part that the policy's session needs, and what is handed on to the engine as it is.

The protocol is OpenAI's as vLLM speaks it. Parameters that are not known here go to the engine, which ignores those
that it does not know either; requests that no session can serve are found by `passed_through`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from flarekit.errors import ConfigError, quoted
from flarekit.prompts.chat import Continuation, Conversation

Body = Mapping[str, Any]

COMPLETION_TOKENS = 16
"""How long a completion is where the request does not say, as in OpenAI's API and in vLLM."""
MOST_LOGPROBS = 20
_FLAG = TypeAdapter(bool)

_CARRIED_OUT = """
    model messages prompt stream stream_options max_tokens max_completion_tokens stop logprobs top_logprobs n best_of
    flarekit user metadata store service_tier
"""
_OTHER_STREAM = """
    return_token_ids return_tokens_as_token_ids detokenize stream_interval request_id add_special_tokens
    add_generation_prompt tools tool_choice
    functions function_call parallel_tool_calls response_format modalities
"""
OTHERS = frozenset({"priority", "cache_salt", "request_id", "session_id", "kv_transfer_params"})
"""Fields that touch other clients of the engine, or its insides: no request's are handed on."""
_OURS = frozenset(f"{_CARRIED_OUT} {_OTHER_STREAM}".split()) | OTHERS
"""Fields that are not handed on: what is carried out here, and what would make the stream another than is read."""
_BEYOND = {
    "tools": "tools that the model may call",
    "functions": "tools, as they were called before",
    "suffix": "text that is to stand after the answer",
    "echo": "the prompt in the answer",
    "prompt_logprobs": "log-probabilities of the prompt",
    "use_beam_search": "beam search",
    "structured_outputs": "guided decoding",
    "guided_json": "guided decoding",
    "guided_regex": "guided decoding",
    "guided_choice": "guided decoding",
    "guided_grammar": "guided decoding",
    "prompt_embeds": "a prompt that is no text",
    "audio": "an answer that is no text",
    "prediction": "a predicted answer",
    "continue_final_message": "an answer that is begun",
    "chat_template": "a chat template of the request's own",
    "chat_template_kwargs": "parameters of the chat template",
    "documents": "documents for the chat template",
    "mm_processor_kwargs": "parameters of what reads images",
    "truncate_prompt_tokens": "a prompt that is to be cut",
}
"""Fields of requests that no session serves: what cannot be continued from its middle, or is no text."""
REASONS = {
    "model": "the name stands for an engine itself, such as `weak`",
    **_BEYOND,
    "n": "several answers",
    "best_of": "the best of several answers",
    "response_format": "a response format other than text",
    "prompt": "a prompt that is a list, or token ids",
    "messages": "no list of turns, or an empty one",
    "turn without text": "a turn whose content is null or missing, or that calls a tool",
    "part that is no text": "images, sound and files",
    "last turn": "the last turn is not the user's: it is a system message, say, or the beginning of the answer",
}
"""Why no policy applies to a request, as its `x-flarekit-policy` header and the log say it."""


class NotUnderstood(ConfigError):
    """A request that cannot be carried out as it is (400); `param` is the field at fault."""

    def __init__(self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that a session can serve."""

    form: Conversation | Continuation
    max_tokens: int | None
    """None: as many as the server allows."""
    min_tokens: int
    sampling: dict[str, Any]
    """Fields of the completions API for the engine's streams."""
    stream: bool
    include_usage: bool
    events: bool
    """Whether the client wants to be told what happens beside the text."""
    logprobs: int | None
    """How many alternatives to each token the client wants to see; None: no log-probabilities at all."""


def read_body(content: bytes) -> dict[str, Any]:
    """The request's JSON object, in whichever of Unicode's encodings, with a mark of byte order or without."""
    try:
        encoding = json.detect_encoding(content)
        body = orjson.loads(content if encoding == "utf-8" else content.decode(encoding))
        orjson.dumps(body)  # what is nested too deeply could not be handed on
    except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise NotUnderstood(f"the request's body is not JSON ({quoted(error)})") from error
    except TypeError as error:
        raise NotUnderstood("the request's body is nested too deeply") from error
    if not isinstance(body, dict):
        raise NotUnderstood("the request's body is not a JSON object")
    if not isinstance(body.get("model"), str):
        raise NotUnderstood("the request names no model", "model")
    return body


def passed_through(body: Body, chat: bool) -> str | None:
    """Why no policy applies to a request, one of `REASONS`; None where one does."""
    for field in _BEYOND:
        if not _is_unset(body.get(field)):
            return field
    for field in ("n", "best_of"):
        if body.get(field) not in (None, 1):
            return field
    if body.get("response_format") not in (None, {"type": "text"}):
        return "response_format"
    if not chat:
        return None if isinstance(body.get("prompt"), str) else "prompt"
    turns = body.get("messages")
    if not isinstance(turns, list) or not turns or not all(_is_turn(turn) for turn in turns):
        return "messages"
    for turn in turns:
        if (lack := _lack(turn)) is not None:
            return lack
    return None if turns[-1]["role"] == "user" else "last turn"


def _is_unset(value: Any) -> bool:
    """Whether a field says what it would say without being there; 0 is a number of something."""
    return value is None or value is False or (not value and not isinstance(value, int | float))


def understand(body: Body, chat: bool) -> Asked:
    """The request that a session is to serve; `NotUnderstood` for a field outside its range."""
    most = (number(body, "max_completion_tokens") if chat else None) or number(body, "max_tokens")
    least, included = number(body, "min_tokens", 0) or 0, _flag(body, "include_stop_str_in_output")
    form: Conversation | Continuation
    if chat:
        form = Conversation(messages=tuple(body["messages"]), stop=_stops(body), stop_included=included)
        wanted = (number(body, "top_logprobs", 0) or 0) if _flag(body, "logprobs") else None
    else:
        form = Continuation(text=body["prompt"], stop=_stops(body), stop_included=included)
        most = most or COMPLETION_TOKENS
        wanted = number(body, "logprobs", 0)
    if most is not None and least > most:
        raise NotUnderstood(f"min_tokens is at most max_tokens ({most}), not {least}", "min_tokens")
    if wanted is not None and wanted > MOST_LOGPROBS:
        raise NotUnderstood(
            f"at most {MOST_LOGPROBS} alternatives to a token can be told, not {quoted(wanted)}", "logprobs"
        )
    sampling = {name: value for name, value in body.items() if name not in _OURS and value is not None}
    # Without a temperature the engine takes the model's own default; a session by itself would be greedy.
    sampling.setdefault("temperature", None)
    return Asked(
        form,
        most,
        least,
        sampling,
        stream=_flag(body, "stream"),
        include_usage=_flag(_object(body, "stream_options", "include_usage"), "include_usage"),
        events=_flag(_object(body, "flarekit", "events"), "events"),
        logprobs=wanted,
    )


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str)


def _lack(turn: Body) -> str | None:
    """Why a session cannot read a turn: it holds something else than text, or nothing."""
    content = turn.get("content")
    if turn.get("tool_calls") or turn.get("function_call") or not isinstance(content, str | list):
        return "turn without text"
    parts = content if isinstance(content, list) else []
    if all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
    ):
        return None
    return "part that is no text"


def _stops(body: Body) -> tuple[str, ...]:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise NotUnderstood("stop is a string or a list of strings, none of them empty", "stop")
    return tuple(stops)


def _object(body: Body, field: str, example: str) -> dict[str, Any]:
    value = body.get(field)
    if value is None or isinstance(value, dict):
        return value or {}
    raise NotUnderstood(f'{field} is an object, such as {{"{example}": true}}', field)


def number(body: Body, field: str, least: int = 1) -> int | None:
    """A whole number, which may be written as 50.0."""
    value = body.get(field)
    if value is None:
        return None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < least:
        raise NotUnderstood(f"{field} must be a whole number of at least {least}, not {quoted(value)}", field)
    return whole


def _flag(body: Body, field: str) -> bool:
    """True or false, also as vLLM takes them: 1 and 0, "true" and "false"."""
    value = body.get(field)
    try:
        return value is not None and _FLAG.validate_python(value)
    except ValidationError as error:
        raise NotUnderstood(f"{field} must be true or false, not {quoted(value)}", field) from error
