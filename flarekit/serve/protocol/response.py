"""The words of the protocol: chunks, whole answers and usage, as OpenAI's API has them, and our field in them.

Clients that ask for it (`"flarekit": {"events": true}`) find in each chunk a field `flarekit`: the role of the engine
that wrote the text, or a list of events; each event is an object with a `kind` and `at`, seconds since the session
began.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from flarekit.engines.vocabulary import BY_ID
from flarekit.tokens import Token, alternatives
from flarekit.trace import Chosen, Committed, Event, Failed, Fired, HandedOver, Probe, Retrieved, Role, Segment, Trace

DONE = b"data: [DONE]\n\n"


class Ending(NamedTuple):
    """Why an answer ends, as vLLM says it."""

    finish: Literal["stop", "length"]
    stop_reason: str | int | None = None
    """The stop string or the id of the stop token; None for the model's own end and for a limit."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request's answer is written."""

    id: str
    model: str
    """The name that the client asked for."""
    chat: bool
    logprobs: int | None = None
    """How many alternatives a token is told with; None: none, and no log-probabilities either."""
    events: bool = False
    created: int = 0

    @classmethod
    def to(cls, number: str, model: str, chat: bool, logprobs: int | None, events: bool) -> Reply:
        """A reply that begins now."""
        return cls(f"{'chatcmpl' if chat else 'cmpl'}-{number}", model, chat, logprobs, events, int(time.time()))

    def opening(self) -> bytes:
        """The first chunk of a conversation's answer; completions have none."""
        return self._chunk({"role": "assistant", "content": ""}) if self.chat else b""

    def text(self, committed: Committed) -> bytes:
        """A chunk of committed text."""
        delta = {"content": committed.text} if self.chat else committed.text
        extra = {"role": committed.role} if self.events else None
        return self._chunk(delta, tokens=committed.tokens, extra=extra)

    def event(self, event: Event, models: Mapping[Role, str]) -> bytes:
        """A chunk that tells what happened."""
        return self._chunk({} if self.chat else "", extra={"events": [event_view(event, models)]})

    def ending(self, end: Ending) -> bytes:
        """The chunk that says why the answer ends."""
        return self._chunk({} if self.chat else "", end=end)

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The chunk after the last, which holds no text."""
        return _event({**self._head(chunked=True), "choices": [], "usage": usage})

    def whole(
        self, said: Sequence[Committed], end: Ending, usage: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> bytes:
        """The answer to a request without streaming."""
        text = "".join(one.text for one in said)
        logprobs = self._logprobs([token for one in said for token in one.tokens])
        choice: dict[str, Any] = {"index": 0, **_ended(end), "logprobs": logprobs}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        extra = {"flarekit": {"events": list(events)}} if self.events else {}
        return orjson.dumps({**self._head(chunked=False), "choices": [choice], "usage": usage, **extra})

    def _chunk(
        self,
        delta: Mapping[str, Any] | str,
        *,
        tokens: Sequence[Token] = (),
        end: Ending | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        name = "delta" if self.chat else "text"
        choice = {"index": 0, name: delta, "logprobs": self._logprobs(tokens), **_ended(end)}
        more = {"flarekit": extra} if extra else {}
        return _event({**self._head(chunked=True), "choices": [choice], **more})

    def _head(self, chunked: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunked else "chat.completion") if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if self.logprobs is None or not tokens:
            return None
        if self.chat:
            return {"content": [{**_told(one.text, one.logprob), "top_logprobs": self._top(one)} for one in tokens]}
        offsets, place = [], 0
        for one in tokens:
            offsets.append(place)
            place += len(one.text)
        return {
            "tokens": [one.text for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [alternatives(one, self.logprobs) for one in tokens],
            "text_offset": offsets,
        }

    def _top(self, token: Token) -> list[dict[str, Any]]:
        return [_told(text, logprob) for text, logprob in alternatives(token, self.logprobs or 0).items()]


def event_view(event: Event, models: Mapping[Role, str]) -> dict[str, Any]:
    """An event as clients see it. A segment's `draft` are the tokens that were not committed when it ended."""
    seen: dict[str, Any]
    match event:
        case Segment():
            draft = [{"token": one.text, "logprob": one.logprob} for one in event.tokens[event.kept :]]
            seen = {"role": event.role, "tokens": len(event.tokens), "draft": draft, "seconds": event.seconds}
        case Retrieved():
            sources = [
                {"id": hit.passage.id, "title": hit.passage.title, "text": hit.passage.text, "score": hit.score}
                for hit in event.hits
            ]
            seen = {"query": event.query, "sources": sources, "seconds": event.seconds}
        case Fired():
            seen = {
                "signal": event.signal,
                "moment": event.moment,
                "value": event.value,
                "threshold": event.threshold,
                "action": event.action,
            }
        case HandedOver():
            seen = {"source": event.source, "target": event.target, "model": models.get(event.target, "")}
        case Failed():
            seen = {"part": event.part, "error": event.told}
        case Probe():
            seen = {"signal": event.signal, "value": event.value, "seconds": event.seconds}
        case Chosen():
            seen = {"router": event.router, "policy": event.policy}
    return {"kind": event.kind, "at": event.at, **seen}


def usage_view(trace: Trace, models: Mapping[Role, str], first: float | None) -> dict[str, Any]:
    """What an answer took, of all models and with discarded drafts; `first`: seconds to the first committed text."""
    costs = trace.costs()
    by_role: dict[Role, tuple[int, int, int]] = {
        "weak": (
            costs.prompt_tokens - costs.strong_prompt_tokens,
            costs.cached_tokens - costs.strong_cached_tokens,
            costs.generated_tokens - costs.strong_generated_tokens,
        ),
        "strong": (costs.strong_prompt_tokens, costs.strong_cached_tokens, costs.strong_generated_tokens),
    }
    keys = ("prompt_tokens", "cached_tokens", "completion_tokens")
    by_model: dict[str, dict[str, int]] = {}
    for role, name in models.items():
        counts = by_model.setdefault(name, dict.fromkeys(keys, 0))  # both engines may serve models of one name
        for key, count in zip(keys, by_role[role], strict=True):
            counts[key] += count
    return {
        "prompt_tokens": costs.prompt_tokens,
        "completion_tokens": costs.generated_tokens,
        "total_tokens": costs.prompt_tokens + costs.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": costs.cached_tokens},
        "flarekit": {
            "answer_tokens": costs.answer_tokens,
            "discarded_tokens": costs.discarded_tokens,
            "retrievals": costs.retrievals,
            "escalations": costs.escalations,
            "strong_share": costs.strong_share,
            "seconds": costs.seconds,
            "first_committed": first,
            "models": by_model,
        },
    }


def ending_of(trace: Trace) -> Ending:
    """Why an answer ended: "stop" where the model or a stop string ended it, "length" where it ran into a limit."""
    segments = trace.segments
    # Of several samples the last one may have lost the vote.
    voted = [one for one in segments if one.kept] if segments and segments[-1].tokens else []
    last = (voted or segments)[-1] if segments else None
    return Ending("stop", last.stop) if last is not None and last.finish == "stop" else Ending("length")


def _ended(end: Ending | None) -> dict[str, Any]:
    return {"finish_reason": end and end.finish, "stop_reason": end and end.stop_reason}


def _told(text: str, logprob: float) -> dict[str, Any]:
    # A part of a character has no text of its own: its id stands for it.
    written = None if text.startswith(BY_ID) else list(text.encode(errors="replace"))
    return {"token": text, "logprob": logprob, "bytes": written}


def _event(content: Any) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"
