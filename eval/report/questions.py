"""Single questions as compact JSON, for the report's browser of questions.

A trace holds ten alternatives for every token with all digits; the page needs the few that matter. A question's arms
often share a stream, or its beginning: every token is stored once in a question, and a segment is a list of runs of
them. Everything in here is text of a model or of a data set, so the page must treat it as text and never as markup.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from flarekit.engines.vocabulary import BY_ID
from flarekit.eval.replay.fire_points import COLUMNS, Seen, counted_as, peaks, walk
from flarekit.eval.results.groups import Group, Result
from flarekit.tokens import Token
from flarekit.trace import Chosen, Event, Failed, Fired, HandedOver, Probe, Retrieved, Segment

_ALTERNATIVES = 5
_LEAST = 0.005
"""An alternative less likely than this is left out, which saves most of the file's size."""


class Pool:
    """The distinct tokens of a question, column by column: equal tokens in equal company are one."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}
        self._tokens: list[tuple[str, tuple[Any, ...], int, tuple[int, ...]]] = []

    def runs(self, seen: Seen) -> list[int]:
        """Where a segment's tokens are, as the first place and the number of each run of them."""
        runs: list[int] = []
        for token, values in zip(seen.segment.tokens, seen.values, strict=True):
            place = self._place((token.text, _alternatives(token), counted_as(token), values))
            if runs and place == runs[-2] + runs[-1]:
                runs[-1] += 1
            else:
                runs += [place, 1]
        return runs

    def view(self) -> dict[str, Any]:
        """The columns; `counts` is a digit a token, and alternatives alternate text and thousandths."""
        texts, tops, counts, values = zip(*self._tokens, strict=True) if self._tokens else ((), (), (), ())
        columns = zip(*values, strict=True) if values else ((),) * len(COLUMNS)
        return {
            "text": texts,
            "top": [top or 0 for top in tops],
            "counts": "".join(map(str, counts)),
            "values": dict(zip(COLUMNS, columns, strict=True)),
        }

    def _place(self, token: tuple[str, tuple[Any, ...], int, tuple[int, ...]]) -> int:
        place = self._places.setdefault(token, len(self._tokens))
        if place == len(self._tokens):
            self._tokens.append(token)
        return place


def answered(group: Group) -> list[str]:
    """The questions that any arm has finished, in the group's order."""
    return [key for key in group.questions if any(key in arm.results for arm in group.arms.values())]


def question_view(group: Group, key: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """All that the page shows of one question: what is known of it, the passages found, and every arm's answer.

    With every arm's `peaks`, by policy.
    """
    question = group.questions[key]
    results = {policy: arm.results[key] for policy, arm in group.arms.items() if key in arm.results}
    found = {
        hit.passage.id: {"title": hit.passage.title, "text": hit.passage.text}
        for result in results.values()
        for retrieved in result.trace.retrievals
        for hit in retrieved.hits
    }
    pool = Pool()
    seen = {policy: walk(result.trace) for policy, result in results.items()}
    view = {
        "text": question.text,
        "kind": question.kind,
        "answers": list(question.answers),
        "supporting": list(question.supporting),
        "invented": list(question.needs_retrieval) if question.needs_retrieval is not None else None,
        "passages": found,
        "arms": {policy: _result_view(result, seen[policy], pool) for policy, result in results.items()},
        "tokens": pool.view(),
    }
    return view, {policy: peaks(parts) for policy, parts in seen.items()}


def packed(view: Any) -> str:
    """JSON, deflated, as base64: the page unpacks the one question that is on show."""
    text = json.dumps(view, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    squeeze = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    return base64.b64encode(squeeze.compress(text.encode()) + squeeze.flush()).decode("ascii")


def index_view(group: Group, seen: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """What the page searches, filters and counts by without opening a question; `seen` are the questions' peaks.

    Scores and peaks are by policy and in the questions' order, None where the arm has not finished one.
    """
    keys = answered(group)
    questions = [group.questions[key] for key in keys]
    results = {policy: [arm.results.get(key) for key in keys] for policy, arm in group.arms.items()}
    return {
        "ids": keys,
        "texts": [question.text for question in questions],
        "answers": [list(question.answers) for question in questions],
        "em": {policy: [found and found.exact_match for found in own] for policy, own in results.items()},
        "f1": {policy: [found and round(found.f1, 4) for found in own] for policy, own in results.items()},
        "peaks": {policy: [peaks.get(policy) for peaks in seen] for policy in group.arms},
    }


def _result_view(result: Result, seen: list[Seen], pool: Pool) -> dict[str, Any]:
    streams = iter(seen)
    return {
        "answer": result.trace.answer,
        "discarded": result.costs.discarded_tokens,
        "retrievals": result.costs.retrievals,
        "escalations": result.costs.escalations,
        "generated": result.costs.generated_tokens,
        "seconds": round(result.costs.seconds, 2),
        "events": [_event_view(event, streams, pool) for event in result.trace.events],
    }


def _event_view(event: Event, streams: Iterator[Seen], pool: Pool) -> dict[str, Any]:
    match event:
        case Segment():
            seen = next(streams)
            own = {"kind": event.kind, "role": event.role, "kept": event.kept}
            return {**own, "runs": pool.runs(seen), "starts": seen.starts}
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
        case Failed():
            return {"kind": event.kind, "part": event.part, "error": event.error}
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


def _alternatives(token: Token) -> tuple[Any, ...]:
    """The other likely tokens, likeliest first: text and thousandths by turns."""
    own = {token.text, f"{BY_ID}{token.id}"}
    others = sorted(((p, text) for text, p in token.top.items() if text not in own), reverse=True)
    likely = [(text, math.exp(p)) for p, text in others[:_ALTERNATIVES] if math.exp(p) >= _LEAST]
    return tuple(part for text, p in likely for part in (text, round(1000 * p)))


def _rounded(value: float) -> float | None:
    """Four digits after the point; None for what JSON cannot hold."""
    return round(value, 4) if math.isfinite(value) else None
