"""Every policy's sessions, held to what they were: each event, token, query and count (times aside).

    FLAREKIT_GOLDEN=write pytest tests/test_golden.py

writes the files anew, for a change of behaviour that is meant; the difference then shows what it changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.toy_model import ToyModel, ToyRetriever
from flarekit import Budget, Policy, Prompt, Session, parse_policy, with_settings, write_trace
from flarekit.policies import POLICIES
from flarekit.prompts.chat import Continuation, Conversation

FOLDER = Path(__file__).parent / "golden"
QUESTIONS = ("Who wrote Emma?", "In which year was the director of the film born?")
TRAINED = ("adaptive-rag", "avengers-pro", "masrouter")
"""Policies that choose another one; here by a scripted router."""
VARIANTS = (
    "flare:theta=0.3,beta=0.1,k=1",
    "flare:read=token",
    "mid-retrieve:signal=entropy,threshold=1.2",
    "mid-retrieve:signal=mean-logprob,threshold=0.3,over=answer",
    "mid-retrieve:signal=margin,read=token,query=question",
    "mid-retrieve:signal=rolling-entropy,threshold=0.5,over=3",
    "mid-retrieve:words_only=no,over=token,read=token,threshold=0.9,actions=2",
    "escalate:back=sentence",
    "escalate:back=sentence,read=sentence,actions=2",
    "escalate:restart=yes",
    "escalate:read=sentence",
    "rolling-entropy:threshold=0.6,stay=4",
    "rolling-retrieve:threshold=0.6",
    "step-entropy:threshold=0.3",
    "iter-retgen:rounds=3,k=1",
    "ircot:passages=4,sentences=3",
    "fixed-length:length=5",
    "critic:rounds=2",
    "self-consistency:samples=3,k=2",
    "post-retrieve:signal=self-verification,samples=3",
    "cascade:signal=entropy,threshold=1",
    "cascade:signal=vote-share,threshold=0.4,samples=3",
    "vote-cascade:samples=3,threshold=0.3",
    "semantic-entropy:samples=3,threshold=0.5",
    "pre-retrieve:signal=question-perplexity,threshold=1",
    "pre-retrieve:signal=random,threshold=0.5",
    "pre-escalate:signal=p-ik,threshold=0.5",
    "rag:k=1,model=strong",
)
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "short": {"budget": Budget(answer=12, total=30)},
    "long": {"budget": Budget(answer=60, total=400, least=25)},
    "stops": {"prompt": Prompt(stop=("\n", "river w", "of a"))},
    "faults": {"strict": False, "fails": (1, 3), "breaks": (9, 25), "resumes": 3},
    "no sentence ends": {"rambles": True},
    "weak strong": {"strict": False, "strong_breaks": (4,)},
}
_TURNS = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello to you."},
    {"role": "user", "content": "Who wrote Emma?"},
)
SERVED: Mapping[str, Mapping[str, Any]] = {
    "conversation": {"prompt": Conversation(messages=_TURNS)},
    "conversation with stops and faults": {
        "prompt": Conversation(messages=_TURNS, stop=("river w", "of a"), stop_included=True),
        "budget": Budget(answer=40, total=200, least=5),
        **SETTINGS["faults"],
        "strong_breaks": (7,),
    },
    "continuation": {"prompt": Continuation(text="Emma is a novel.\n\nWho wrote it?"), "budget": Budget(30, 90)},
}
"""What the server adds: a client's own prompt."""
SERVED_SPECS = (
    "closed-book",
    "rag",
    "flare",
    "mid-retrieve:read=token,actions=2",
    "escalate:back=sentence",
    "rolling-entropy:threshold=0.6,stay=4",
    "cascade",
    "vote-cascade:samples=3,threshold=0.3",
    "critic",
    "avengers-pro",
)


class Always:
    """A router that chooses each of its arms in turn, by the length of the question."""

    name, arms, needs, source = "scripted", ("closed-book", "strong/rag", "flare"), "nothing", ""

    def choose(self, questions: Sequence[str], tradeoff: float | None = None) -> Sequence[int]:
        return [len(question) % len(self.arms) for question in questions]


def policy_of(spec: str, settings: Mapping[str, Any]) -> Policy:
    policy = Policy(spec=f"{spec}:router=scripted", chooser=Always()) if spec in TRAINED else parse_policy(spec)
    return with_settings(policy, settings.get("prompt"), settings.get("budget"))


def bare(value: Any) -> Any:
    """Without times, with tokens as their texts, hits as their ids, and numbers as any machine computes them."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, dict):
        if "passage" in value:
            return value["passage"]["id"]
        if "finish" in value:  # a segment
            value = value | {"tokens": [one[0] for one in value["tokens"]]}
        return {key: bare(one) for key, one in value.items() if key not in ("at", "seconds", "first_token")}
    return [bare(one) for one in value] if isinstance(value, list) else value


async def recorded(spec: str, settings: Mapping[str, Any], question: str) -> dict[str, Any]:
    session = Session(
        policy_of(spec, settings),
        question,
        weak=ToyModel("weak", breaks_after=settings.get("breaks", ()), rambles=settings.get("rambles", False)),
        strong=ToyModel("strong", breaks_after=settings.get("strong_breaks", ())),
        retriever=ToyRetriever(fails=settings.get("fails", ())),
        strict=settings.get("strict", True),
        resumes=settings.get("resumes", 0),
    )
    events: list[str] = []
    try:
        async for event in session:
            text = getattr(event, "text", None)
            events.append(f"{type(event).__name__}" + (f": {text}" if isinstance(text, str) else ""))
    except Exception as error:
        events.append(f"{type(error).__name__}: {error}")
    return {"events": events, "trace": bare(json.loads(write_trace(session.trace)))}


def hold(name: str, found: Mapping[str, Any]) -> None:
    """Compare sessions with the file of that name, or write it."""
    file = FOLDER / f"{name}.json"
    written = "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(one)}" for key, one in found.items()) + "\n}\n"
    if os.environ.get("FLAREKIT_GOLDEN") == "write":
        file.write_text(written)
    expected = json.loads(file.read_text())
    for key, one in json.loads(written).items():
        assert one == expected[key], f"{name} | {key}"
    assert len(found) == len(expected)


SPECS = [*POLICIES, *VARIANTS]


@pytest.mark.parametrize("spec", SPECS)
async def test_a_policy_does_what_it_did(spec: str) -> None:
    found = {
        f"{name}|{question}": await recorded(spec, settings, question)
        for name, settings in SETTINGS.items()
        for question in QUESTIONS
    }
    hold(spec.replace(":", "+").replace("/", "_"), found)


async def test_a_clients_own_prompt_is_answered_as_it_was() -> None:
    found = {
        f"{spec}|{name}": await recorded(spec, settings, settings["prompt"].question)
        for spec in SERVED_SPECS
        for name, settings in SERVED.items()
    }
    hold("own-prompt", found)


def test_every_policy_has_its_file_and_no_file_is_left_over() -> None:
    names = {spec.replace(":", "+").replace("/", "_") for spec in SPECS} | {"own-prompt"}
    assert {file.stem for file in FOLDER.glob("*.json")} == names


def test_the_sessions_are_of_every_kind() -> None:
    """Else the files would hold little: every kind of event, and failures on every side."""
    text = "".join(file.read_text() for file in FOLDER.glob("*.json"))
    for kind in ("Segment", "Retrieved", "HandedOver", "Probe", "Fired", "Failed", "Chosen", "Committed"):
        assert text.count(f'"{kind}') > 20, kind
    for part in ("retriever", "weak", "strong"):
        assert f'"part": "{part}"' in text
