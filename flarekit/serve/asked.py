"""What a request asks for: the part that the policy's session needs, and what is handed on to the engine as it is.

The protocol is OpenAI's as vLLM speaks it. Parameters that are not known here go to the engine, which ignores those
that it does not know either; requests that no session can serve are found by `passed_through`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from flarekit.conversation import Continuation, Conversation
from flarekit.errors import ConfigError

Body = Mapping[str, Any]

COMPLETION_TOKENS = 16
"""How long a completion is where the request does not say, as in OpenAI's API and in vLLM."""
MOST_LOGPROBS = 20

_CARRIED_OUT = """
    model messages prompt stream stream_options max_tokens max_completion_tokens stop logprobs top_logprobs n best_of
    flarekit user metadata store service_tier
"""
_OTHER_STREAM = """
    return_token_ids return_tokens_as_token_ids detokenize stream_interval request_id add_special_tokens
    add_generation_prompt tools tool_choice
    functions function_call parallel_tool_calls response_format modalities
"""
_OURS = frozenset(f"{_CARRIED_OUT} {_OTHER_STREAM}".split())
"""Fields that are not handed on: what is carried out here, and what would make the stream another than is read."""
_NO_SESSION = """
    tools functions suffix echo prompt_logprobs use_beam_search structured_outputs guided_json guided_regex
    guided_choice guided_grammar prompt_embeds audio prediction continue_final_message chat_template
    chat_template_kwargs documents mm_processor_kwargs truncate_prompt_tokens kv_transfer_params
"""
_BEYOND = tuple(_NO_SESSION.split())
"""Fields of requests that no session serves: what cannot be continued from its middle, or is no text."""


class NotUnderstood(ConfigError):
    """A request that cannot be carried out as it is (400); `param` is the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


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
    """The request's JSON object."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise NotUnderstood(f"the request's body is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise NotUnderstood("the request's body is not a JSON object")
    if not isinstance(body.get("model"), str):
        raise NotUnderstood("the request names no model", "model")
    return body


def passed_through(body: Body, chat: bool) -> str | None:
    """Why no policy applies to a request, as the name of the field that says so; None where one does."""
    for field in _BEYOND:
        if body.get(field):
            return field
    for field in ("n", "best_of"):
        if body.get(field) not in (None, 1):
            return field
    if body.get("response_format") not in (None, {"type": "text"}):
        return "response_format"
    if not chat:
        return None if isinstance(body.get("prompt"), str) else "prompt"
    turns = body.get("messages")
    if not isinstance(turns, list) or not turns or not all(map(_is_text, turns)) or turns[-1].get("role") != "user":
        return "messages"
    return None


def understand(body: Body, chat: bool) -> Asked:
    """The request that a session is to serve; `NotUnderstood` for a field outside its range."""
    most = _number(body, "max_completion_tokens") or _number(body, "max_tokens")
    least, included = _number(body, "min_tokens", 0) or 0, bool(body.get("include_stop_str_in_output"))
    form: Conversation | Continuation
    if chat:
        form = Conversation(messages=tuple(body["messages"]), stop=_stops(body), stop_included=included)
        wanted = (_number(body, "top_logprobs", 0) or 0) if body.get("logprobs") else None
    else:
        form = Continuation(text=body["prompt"], stop=_stops(body), stop_included=included)
        most = most or COMPLETION_TOKENS
        wanted = _number(body, "logprobs", 0)
    if most is not None and least > most:
        raise NotUnderstood(f"min_tokens is at most max_tokens ({most}), not {least}", "min_tokens")
    if wanted is not None and wanted > MOST_LOGPROBS:
        raise NotUnderstood(f"at most {MOST_LOGPROBS} alternatives to a token can be told, not {wanted}", "logprobs")
    sampling = {name: value for name, value in body.items() if name not in _OURS and value is not None}
    # Without a temperature the engine takes the model's own default; a session by itself would be greedy.
    sampling.setdefault("temperature", None)
    return Asked(
        form,
        most,
        least,
        sampling,
        stream=bool(body.get("stream")),
        include_usage=bool(_object(body, "stream_options", "include_usage").get("include_usage")),
        events=bool(_object(body, "flarekit", "events").get("events")),
        logprobs=wanted,
    )


def _is_text(turn: Any) -> bool:
    """Whether a turn holds text and nothing else."""
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str) or turn.get("tool_calls"):
        return False
    content = turn.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content) and all(
            part.get("type") == "text" for part in content
        )
    return isinstance(content, str)


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


def _number(body: Body, field: str, least: int = 1) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise NotUnderstood(f"{field} must be a whole number of at least {least}, not {value!r}", field)
    return value
