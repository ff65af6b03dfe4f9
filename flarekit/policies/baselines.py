"""Policies that decide nothing: one model, with passages or without, in one way of working or another.

They are the ends of every comparison, and the arms that `masrouter` and `avengers-pro` choose among.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from flarekit.actions import Escalate, Retrieve, Revise, Vote, Watch, question_query
from flarekit.policies.base import Count, Engines, K, Number, Policy, Probability, Rule, policy
from flarekit.policies.triggers import NEVER, Trigger, always
from flarekit.prompts.few_shot import DIRECT_EXEMPLARS, DIRECT_INSTRUCTION, ROLES, Prompt
from flarekit.signals.answer import POST_SIGNALS
from flarekit.signals.question import PRE_SIGNALS

RoleName = Literal["", "expert", "historian", "sceptic"]


@policy("closed-book")
def closed_book(*, role: RoleName = "", model: Engines = "weak") -> Policy:
    """The weak model alone, reasoning step by step; or the strong one, or either in a role (`prompts.ROLES`)."""
    return Policy(rules=_on(model), prompt=_as(role))


@policy("direct", cost="fewer tokens: no reasoning")
def direct(*, role: RoleName = "", model: Engines = "weak") -> Policy:
    """The answer at once, without any reasoning."""
    prompt = Prompt(instruction=DIRECT_INSTRUCTION, exemplars=DIRECT_EXEMPLARS)
    return Policy(rules=_on(model), prompt=_as(role, prompt))


@policy("rag", cost="1 look-up")
def rag(*, k: Count = K, model: Engines = "weak") -> tuple[Rule, ...]:
    """Retrieve once with the question, then answer."""
    return (*_on(model), Rule(always("pre"), Retrieve(question_query, k)))


@policy("strong", cost="the strong model's answer")
def strong() -> tuple[Rule, ...]:
    """The strong model alone."""
    return _on("strong")


@policy("self-consistency", paper="Wang et al. 2022, arXiv:2203.11171", cost="n answers instead of one")
def self_consistency(
    *, samples: Count = 5, temperature: Probability = 0.7, role: RoleName = "", model: Engines = "weak", k: Number = 0
) -> Policy:
    """Sample several answers and take the one that most of them give (section 2), of `k` passages if any.

    The paper samples 40 paths at a temperature of .5 to .7 from large models; here 5, since each costs an answer.
    Ties go to the answer that was sampled first.
    """
    look_up = (Rule(always("pre"), Retrieve(question_query, k)),) if k else ()
    return Policy(rules=(*_on(model), *look_up, Rule(always("pre"), Vote(samples, temperature))), prompt=_as(role))


@policy("critic", paper="Madaan et al. 2023, arXiv:2303.17651", cost="an answer and a criticism more a round")
def critic(*, rounds: Count = 1, role: RoleName = "", model: Engines = "weak") -> Policy:
    """Answer, criticise the answer, and answer again with the criticism in the prompt (Self-Refine, algorithm 1).

    The paper stops when the critic finds nothing; here every round is taken, so that its cost is known beforehand.
    """
    return Policy(rules=(*_on(model), Rule(always("post"), Revise(), times=rounds)), prompt=_as(role))


@policy("watch", cost="every probe of the engine; n answers")
def watch(*, samples: Count = 5, model: Engines = "weak") -> tuple[Rule, ...]:
    """Closed-book, with every signal measured before and after it and none acted on: what calibration reads."""
    before = (Rule(Trigger(signal, NEVER, "pre"), Watch()) for signal in PRE_SIGNALS.values())
    after = (Rule(Trigger(make(samples=samples), NEVER, "post"), Watch()) for make in POST_SIGNALS.values())
    return (*_on(model), *before, *after)


def _on(model: Engines) -> tuple[Rule, ...]:
    """Nothing for the weak engine; for the strong one a hand-over before the first token."""
    return (Rule(always("pre"), Escalate()),) if model == "strong" else ()


def _as(role: str, prompt: Prompt | None = None) -> Prompt:
    prompt = prompt or Prompt()
    return replace(prompt, instruction=ROLES[role] + prompt.instruction)
