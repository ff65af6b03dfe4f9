"""What a policy's trigger saw on every recorded question, and what acting on it or not comes to.

No model is asked: the values are recomputed from the records (`flarekit.eval.replay.readings`), and other arms of the
run hold the answers that the policy gives when its trigger never fires, and when its action is always taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flarekit.actions import Action, Escalate, Retrieve, Watch, question_query
from flarekit.costs import Prices, price
from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError, DataError, FlarekitError
from flarekit.escalation.split import alike
from flarekit.eval.calibration.thresholds import Flags, Floats
from flarekit.eval.data.metrics import f1
from flarekit.eval.replay.readings import answer_of, probes, read_trigger
from flarekit.eval.results.fitted import Lessons, lessons
from flarekit.eval.results.outcomes import WRONG_BELOW
from flarekit.eval.runs.recorded import RecordedRun
from flarekit.policies import Policy, Rule, parse_policy
from flarekit.policies.spec import parse_spec
from flarekit.policies.triggers import always
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.answer import POST_SIGNALS, PostSignal
from flarekit.signals.question import PreSignal
from flarekit.signals.token import ALWAYS, StreamSignal
from flarekit.trace import Probe, Trace

Traces = Mapping[str, Trace]


@dataclass(frozen=True, slots=True)
class Sample:
    """The questions that a threshold is calibrated or judged on; all arrays have the shape (n,)."""

    base: str
    """The arm whose answer is accepted when the trigger doesn't fire."""
    helped: str | None
    """The arm that tells what acting costs; None where none is recorded for all of these questions."""
    left_out: int
    """Questions of the run that the signal was trained on."""
    unread: int
    """Others that it was not measured on."""
    values: Floats
    """What the trigger sees."""
    wrong: Flags
    """Whether the base arm's answer has an F1 below `WRONG_BELOW`."""
    left: Floats | None
    """What a question costs when the trigger doesn't fire; None, like `acted`, without `helped`."""
    acted: Floats | None
    """What it costs when it fires; after the answer began, that of `helped` on top."""
    said: NDArray[np.int64]
    """What the question says, as a number: questions of the same words have the same."""

    def part(self, rows: Any) -> Sample:
        """The questions at these places."""
        left, acted = (None if costs is None else costs[rows] for costs in (self.left, self.acted))
        return replace(
            self, values=self.values[rows], wrong=self.wrong[rows], left=left, acted=acted, said=self.said[rows]
        )


def calibrated_rule(policy: Policy) -> Rule:
    """The policy's first rule that asks a signal; a `ConfigError` where there is none."""
    for rule in policy.rules:
        if rule.trigger.signal is not ALWAYS:
            return rule
    raise ConfigError(f"policy {policy.spec} has no threshold to calibrate")


def read_sample(run: RecordedRun, policy: Policy, prices: Prices, *, needs_costs: bool = False) -> Sample:
    """The run's questions as the policy's first signal sees them, less those that it was trained on.

    `DataError` where the run lacks the arm that the policy is when its trigger never fires, the values of its signal,
    or, if `needs_costs`, the arm that does nothing but act.
    """
    rule = calibrated_rule(policy)
    base, helped = _arms(run, policy, rule)
    if helped is None and needs_costs:
        raise DataError(f"{run.path}: has no answers of {_named([_alone(rule)])}, which tell what acting costs")
    taught = _lessons(policy).among(run.questions.values(), run.manifest.dataset.name)
    answered = {key: trace for key, trace in run.traces[base].items() if key not in taught}
    if not answered:
        raise DataError(f"{run.path}: {rule.trigger.signal.name} was trained on every question that {base} answered")
    left_out = len(run.traces[base]) - len(answered)
    seen = _seen(run, policy, rule, answered)
    keys = [key for key in answered if key in seen]
    if helped and needs_costs:
        keys = [key for key in keys if key in run.traces[helped]]
    if not keys:
        why = f"; {left_out} were left out because it was trained on them" if left_out else ""
        raise DataError(f"{run.path}: has no question with a value of {rule.trigger.signal.name}{why}")
    metric, questions = run.manifest.dataset.metric, run.questions
    left, acted = None, None
    if helped and all(key in run.traces[helped] for key in keys):
        alone = np.array([_price(answered[key].events, prices) for key in keys])
        help_ = np.array([_price(run.traces[helped][key].events, prices) for key in keys])
        left = alone + [price(_costs([seen[key]]), prices) for key in keys]
        # Before the answer, help takes its place; later, it comes on top.
        acted = left + help_ - (alone if rule.trigger.moment == "pre" else 0.0)
    return Sample(
        base,
        helped if left is not None else None,
        left_out,
        len(answered) - len(keys),
        np.array([seen[key].value for key in keys]),
        np.array([f1(answered[key].answer, questions[key].answers, metric) < WRONG_BELOW for key in keys], dtype=bool),
        left,
        acted,
        alike([questions[key].text for key in keys]),
    )


def _lessons(policy: Policy) -> Lessons:
    """The questions that the policy's routers were fitted on; a `DataError` where one does not say."""
    found = Lessons()
    for rule in policy.rules:
        signal = rule.trigger.signal
        if manifest := getattr(signal, "manifest", None):
            found |= lessons(manifest, signal.name)
    if found.unknown:
        raise DataError(
            f"the router of {policy.spec} does not say which questions it was fitted on, so none can be told to be new "
            "to it; train it again"
        )
    return found


def _arms(run: RecordedRun, policy: Policy, rule: Rule) -> tuple[str, str | None]:
    """The recorded arms that do what the policy does when its trigger never fires, and what its action alone does."""
    before = policy.rules[: policy.rules.index(rule)]
    base = _find(run, before, policy.prompt)
    if base is None:
        raise DataError(
            f"{run.path}: has no answers of {_named(before)}, which is what {policy.family} comes to when its trigger "
            "doesn't fire; run that policy too"
        )
    return base, _find(run, (_alone(rule),), policy.prompt)


def _alone(rule: Rule) -> Rule:
    """Acting before generation, whatever the signal says."""
    action: Action = Retrieve(question_query, rule.action.k) if isinstance(rule.action, Retrieve) else Escalate()
    return Rule(always("pre"), action)


def _find(run: RecordedRun, rules: tuple[Rule, ...], prompt: Prompt) -> str | None:
    """The arm of exactly these rules with the most answers; rules that only record something don't count."""
    found = []
    for spec in run.traces:
        if "router" in parse_spec(spec).parameters:  # loading one takes long, and none of these arms has any
            continue
        try:
            known = parse_policy(spec)
        except FlarekitError:  # a policy that somebody registered elsewhere
            continue
        acting = tuple(rule for rule in known.rules if not isinstance(rule.action, Watch))
        if acting == rules and known.prompt == prompt and known.chooser is None:
            found.append(spec)
    return max(found, key=lambda spec: len(run.traces[spec]), default=None)


def _named(rules: Iterable[Rule]) -> str:
    """The policy that a user would run for these rules."""
    names: dict[type, str] = {Retrieve: "rag", Escalate: "strong"}
    return next((names.get(type(rule.action), "self-consistency") for rule in rules), "closed-book")


def _seen(run: RecordedRun, policy: Policy, rule: Rule, answered: Traces) -> Mapping[str, Probe]:
    """What the trigger sees on each question, and what measuring that costs (nothing, of a token signal)."""
    trigger, signal = rule.trigger, rule.trigger.signal
    if isinstance(signal, StreamSignal):
        answers = {key: answer_of(trace, policy.lookahead) for key, trace in answered.items()}
        stay = rule.action.stay if isinstance(rule.action, Escalate) else 0
        return {
            key: Probe(signal.name, read_trigger(trigger, answer, keep=rule.action.keep, stay=stay), "weak")
            for key, answer in answers.items()
        }
    if isinstance(signal, PreSignal) and (measured := _measured(signal, policy, answered)):
        return measured
    router = parse_spec(policy.spec).parameters.get("router")
    recorded = probes(run, trigger.moment).get(f"{signal.name} ({router})" if router else signal.name, {})
    if not recorded:
        raise DataError(f"{run.path}: has no values of {signal.name}; run it with --policy watch")
    if isinstance(signal, PostSignal) and (made := POST_SIGNALS.get(signal.name)):
        samples = len(next(iter(recorded.values())).texts)
        if samples and made(samples=samples) != signal:
            raise DataError(
                f"{run.path}: recorded {signal.name} with {samples} samples and its other settings as usual"
            )
    return recorded


def _measured(signal: PreSignal, policy: Policy, answered: Traces) -> Mapping[str, Probe] | None:
    """The values of a signal that reads nothing but the question, such as a trained router's; else None."""

    async def measure() -> dict[str, Probe]:
        engine = cast(Engine, _NoEngine())
        return {key: await signal.measure(trace.question, engine, policy.prompt) for key, trace in answered.items()}

    try:
        return asyncio.run(measure())
    except _EngineNeeded:
        return None


class _EngineNeeded(Exception):
    """A signal asked the engine that isn't there."""


class _NoEngine:
    def __getattr__(self, name: str) -> Any:
        raise _EngineNeeded(name)


def _price(events: Iterable[Any], prices: Prices) -> float:
    """What an answer cost without the probes that `watch` records beside it."""
    return price(_costs(event for event in events if not isinstance(event, Probe)), prices)


def _costs(events: Iterable[Any]) -> Any:
    return Trace("", "", "", events=list(events)).costs()
