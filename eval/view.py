"""Single questions as compact JSON, for the report's browser of questions.

A trace holds ten alternatives for every token with all digits; the page needs the few that matter. Everything in here
is text of a model or of a data set, so the page must treat it as text and never as markup.
"""

from __future__ import annotations

import math
from typing import Any

from flarekit.escalation.costs import Prices
from flarekit.eval.compare import Group, Result, costs_of
from flarekit.tokens import Token
from flarekit.trace import Chosen, Event, Fired, HandedOver, Probe, Retrieved, Segment

_ALTERNATIVES = 5
_LEAST = 0.005
"""An alternative less likely than this is left out, which saves most of the file's size."""


def question_view(group: Group, key: str, prices: Prices) -> dict[str, Any]:
    """All that the page shows of one question: what is known of it, the passages found, and every arm's answer."""
    question = group.questions[key]
    results = {policy: arm.results[key] for policy, arm in group.arms.items() if key in arm.results}
    found = {
        hit.passage.id: {"title": hit.passage.title, "text": hit.passage.text}
        for result in results.values()
        for retrieved in result.trace.retrievals
        for hit in retrieved.hits
    }
    return {
        "id": key,
        "text": question.text,
        "kind": question.kind,
        "answers": list(question.answers),
        "supporting": list(question.supporting),
        "invented": list(question.needs_retrieval) if question.needs_retrieval is not None else None,
        "passages": found,
        "arms": {policy: _result_view(result, prices) for policy, result in results.items()},
    }


def index_entry(group: Group, place: int, key: str) -> dict[str, Any]:
    """What the page searches and filters by without opening the question; `place` is the group's."""
    question = group.questions[key]
    scores = {
        policy: [arm.results[key].exact_match, round(arm.results[key].f1, 3)]
        for policy, arm in group.arms.items()
        if key in arm.results
    }
    return {"group": place, "id": key, "text": question.text, "answers": list(question.answers), "scores": scores}


def _result_view(result: Result, prices: Prices) -> dict[str, Any]:
    return {
        "answer": result.trace.answer,
        "em": result.exact_match,
        "f1": round(result.f1, 3),
        "costs": {name: round(value, 3) for name, value in costs_of(result.costs, prices).items()},
        "events": [_event_view(event) for event in result.trace.events],
    }


def _event_view(event: Event) -> dict[str, Any]:
    match event:
        case Segment():
            tokens = [_token_view(token) for token in event.tokens]
            return {"kind": event.kind, "role": event.role, "tokens": tokens, "kept": event.kept}
        case Retrieved():
            hits = [[hit.passage.id, _rounded(hit.score)] for hit in event.hits]
            return {"kind": event.kind, "query": event.query, "hits": hits, "seconds": round(event.seconds, 4)}
        case HandedOver():
            return {"kind": event.kind, "source": event.source, "target": event.target, "anew": not event.text}
        case Probe():
            return {
                "kind": event.kind,
                "signal": event.signal,
                "value": _rounded(event.value),
                "role": event.role,
                "texts": list(event.texts),
            }
        case Chosen():
            return {"kind": event.kind, "router": event.router, "policy": event.policy}
        case Fired():
            return {
                "kind": event.kind,
                "signal": event.signal,
                "moment": event.moment,
                "value": _rounded(event.value),
                "threshold": _rounded(event.threshold),
                "action": event.action,
                "segment": event.segment,
                "token": event.token,
            }


def _token_view(token: Token) -> list[Any]:
    """`[text, p, [text, p, text, p, ...]]`: the alternatives are the other likely tokens, likeliest first."""
    others = sorted(((p, text) for text, p in token.top.items() if text != token.text), reverse=True)
    likely = [(text, math.exp(p)) for p, text in others[:_ALTERNATIVES] if math.exp(p) >= _LEAST]
    flat = [part for text, p in likely for part in (text, round(p, 3))]
    p = round(math.exp(token.logprob), 4)
    return [token.text, p, flat] if flat else [token.text, p]


def _rounded(value: float) -> float | None:
    """Four digits after the point; None for what JSON cannot hold."""
    return round(value, 4) if math.isfinite(value) else None
