"""Outcomes for routers to learn from, out of what was recorded: our own runs, or a file of another system's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from flarekit.costs import Prices, price
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.outcomes import WRONG_BELOW, Outcomes, Target, find_arm, label
from flarekit.eval.data.dataset import Metric, Question
from flarekit.eval.data.metrics import f1
from flarekit.eval.data.pool import optional, take, take_strings, unescaped
from flarekit.eval.results.fitted import lessons_of
from flarekit.eval.runs.recorded import RecordedRun, read_run
from flarekit.policies.spec import family_of
from flarekit.prompts.few_shot import Prompt
from flarekit.retrievers.corpus.formats import read_records
from flarekit.signals.answer import agrees
from flarekit.tokens import Token, text_of
from flarekit.trace import Probe, Trace

__all__ = ["WRONG_BELOW", "Target", "label", "read_answers", "read_judgements", "read_outcomes"]

T = TypeVar("T")

_FILE_ARMS = {"no_retrieval": "closed-book", "one_retrieval": "rag"}
"""The fields of a file of recorded answers, with the arms that they stand for."""
_JUDGED = ("self-verification", "automix")
"""The signals whose probes hold judgements of an answer."""
_FILE_COSTS = (1.0, 2.0)
"""Such a file counts no tokens: only that looking up costs more than not is known."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """One arm's answer to one question."""

    score: float
    cost: float
    samples: tuple[float, ...]


@dataclass(slots=True)
class _Dataset:
    """The questions of one dataset with all that was answered, by arm and question id."""

    name: str
    questions: dict[str, str] = field(default_factory=dict)
    answered: dict[str, dict[str, _Answered]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """The dataset's own type of each question, empty where it tells none."""


def read_outcomes(
    sources: Iterable[Path], *, arms: Sequence[str] = (), weak: str | None = None, prices: Prices | None = None
) -> Outcomes:
    """Outcomes out of run directories, and of JSONL files with `id, question, answers, no_retrieval, one_retrieval`.

    A file may also give the `type` of each question. Sources of one dataset are joined by question, those of several
    stacked. Only questions that every arm answered are kept: every arm in `arms`, or every one that all datasets have;
    and an arm that a trained router decides for has not answered those that the router was fitted on. An arm is a
    policy's specification, or "MODEL/specification" where the sources' weak engines run several models. `weak` then
    names the arm whose model the weak prices are for; answers of other models are priced as the strong engine's.
    `DataError` where nothing is left.
    """
    paths = list(dict.fromkeys(sources))
    runs = {path: read_run(path) for path in paths if path.is_dir()}
    several = len({_model(run) for run in runs.values()}) > 1
    weak_model = _weak_model(runs.values(), weak) if several else None
    datasets: dict[str, _Dataset] = {}
    for path in paths:
        name = runs[path].manifest.dataset.name if path in runs else path.stem
        dataset = datasets.setdefault(name, _Dataset(name))
        if path in runs:
            _add_run(dataset, runs[path], several, _prices(runs[path], weak_model, prices or Prices()))
        else:
            _add_file(dataset, path)
    return _stacked(list(datasets.values()), arms)


def read_answers(sources: Iterable[Path], arm: str = "closed-book") -> dict[str, Sequence[Token]]:
    """The tokens of one arm's answers by question id, as `read_outcomes` calls the questions; files hold none."""
    return _by_question(sources, partial(_tokens_of, wanted=arm))


def read_judgements(sources: Iterable[Path], arm: str = "closed-book") -> dict[str, list[bool]]:
    """Whether each judgement of an answer of `arm` calls it correct, by question id as in `read_outcomes`.

    Policies that judge what they do not change record them: `watch` and `self-verify-cascade`. A judgement of another
    answer than the arm's own is left out.
    """
    return _by_question(sources, partial(_judgements_of, wanted=arm))


def _by_question(
    sources: Iterable[Path], read: Callable[[RecordedRun, Mapping[str, str]], Mapping[str, T]]
) -> dict[str, T]:
    """What `read` finds in every run, which is given the policies by their arms' names, by question id."""
    paths = list(dict.fromkeys(sources))
    runs = [read_run(path) for path in paths if path.is_dir()]
    several = len({_model(run) for run in runs}) > 1
    found: dict[str, dict[str, T]] = {}
    asked: dict[str, dict[str, None]] = {}
    for run in runs:
        asked.setdefault(run.manifest.dataset.name, {}).update(dict.fromkeys(run.questions))
        names = {_arm(run, policy, several): policy for policy in run.traces}
        found.setdefault(run.manifest.dataset.name, {}).update(read(run, names))
    collide = _collisions(asked.values())
    return {
        f"{dataset}/{id_}" if id_ in collide else id_: one
        for dataset, answers in found.items()
        for id_, one in answers.items()
    }


def _tokens_of(run: RecordedRun, names: Mapping[str, str], wanted: str) -> dict[str, Sequence[Token]]:
    policy = _policy_of(names, wanted)
    return {} if policy is None else {id_: _tokens(trace) for id_, trace in run.traces[policy].items()}


def _judgements_of(run: RecordedRun, names: Mapping[str, str], wanted: str) -> dict[str, list[bool]]:
    policy = _policy_of(names, wanted)
    if policy is None:
        return {}
    found: dict[str, list[bool]] = {}
    for traces in run.traces.values():
        for id_, trace in traces.items():
            own = run.traces[policy].get(id_)
            said = [event.texts for event in trace.events if isinstance(event, Probe) and event.signal in _JUDGED]
            if said and own and _first_text(trace) == _first_text(own):
                found.setdefault(id_, [agrees(text) for text in said[0]])
    return found


def _policy_of(names: Mapping[str, str], wanted: str) -> str | None:
    """The policy of the arm that `wanted` names; None where the run has none."""
    try:
        return names[list(names)[find_arm(list(names), wanted)]]
    except ConfigError:
        return None


def _first_text(trace: Trace) -> str:
    """What was generated first, and so judged, whether or not it was thrown away afterwards."""
    return text_of(trace.segments[0].tokens) if trace.segments else ""


def _stacked(datasets: Sequence[_Dataset], wanted: Sequence[str]) -> Outcomes:
    everywhere = (
        [arm for arm in datasets[0].answered if all(arm in one.answered for one in datasets)] if datasets else []
    )
    arms = [everywhere[find_arm(everywhere, arm)] for arm in wanted] or everywhere
    if not arms:
        listed = "; ".join(f"{one.name}: {', '.join(one.answered) or 'none'}" for one in datasets) or "none at all"
        raise DataError(f"no arm answered questions of every dataset ({listed})")
    collide = _collisions(one.questions for one in datasets)
    rows = [
        (
            f"{one.name}/{id_}" if id_ in collide else id_,
            text,
            [one.answered[arm][id_] for arm in arms],
            one.kinds.get(id_, ""),
        )
        for one in datasets
        for id_, text in one.questions.items()
        if all(id_ in one.answered[arm] for arm in arms)
    ]
    if not rows:
        raise DataError(
            f"no question was answered by all of {', '.join(arms)}; run them on the same questions, and those with a "
            "trained router on others than it was fitted on"
        )
    ids, questions, answers, kinds = zip(*rows, strict=True)
    return Outcomes(
        ids,
        questions,
        arms,
        np.array([[one.score for one in row] for row in answers]),
        np.array([[one.cost for one in row] for row in answers]),
        [[one.samples for one in row] for row in answers],
        kinds if any(kinds) else (),
    )


def _add_run(dataset: _Dataset, run: RecordedRun, several: bool, prices: Prices) -> None:
    for question in run.questions.values():
        if dataset.questions.setdefault(question.id, question.text) != question.text:
            raise DataError(f"{run.path}: question {question.id!r} differs from the one of that id in another source")
        dataset.kinds[question.id] = question.kind
    for policy, traces in run.traces.items():
        arm = dataset.answered.setdefault(_arm(run, policy, several), {})
        if twice := arm.keys() & traces.keys():
            raise DataError(
                f"{run.path}: {policy} answered question {min(twice)!r} in another source too; leave one out"
            )
        # What a router answers to the questions that it was fitted on is better than what it will do.
        taught = lessons_of(policy).among(run.questions.values(), run.manifest.dataset.name)
        for id_, trace in traces.items():
            if id_ not in taught:
                arm[id_] = _scored(trace, run.questions[id_], run.manifest.dataset.metric, prices)


def _add_file(dataset: _Dataset, path: Path) -> None:
    for place, raw in read_records(path):
        record = unescaped(raw)
        answers = take_strings(record, "answers", place)
        if not answers:
            raise DataError(f"{place}: the field 'answers' must hold at least one answer")
        id_, question = take(record, "id", str, place), take(record, "question", str, place)
        scores = [f1(take(record, name, str, place), answers) for name in _FILE_ARMS]
        if id_ in dataset.questions:
            raise DataError(f"{place}: the question {id_!r} occurs twice, and could be fitted and judged on")
        dataset.questions[id_] = question
        dataset.kinds[id_] = optional(record, "type", str, place)
        for arm, score, cost in zip(_FILE_ARMS.values(), scores, _FILE_COSTS, strict=True):
            dataset.answered.setdefault(arm, {})[id_] = _Answered(score, cost, (score,))


def _scored(trace: Trace, question: Question, metric: Metric, prices: Prices) -> _Answered:
    score = f1(trace.answer, question.answers, metric)
    samples: tuple[float, ...] = (score,)
    if family_of(trace.policy) == "self-consistency" and trace.segments:
        prompt = Prompt()  # every one of its segments is a whole sampled answer
        said = [prompt.read_answer(text_of(segment.tokens).strip()) for segment in trace.segments]
        samples = tuple(f1(answer, question.answers, metric) for answer in said)
    return _Answered(score, price(trace.costs(), prices), samples)


def _tokens(trace: Trace) -> list[Token]:
    return [token for segment in trace.segments for token in segment.tokens[: segment.kept]]


def _model(run: RecordedRun) -> str:
    return run.manifest.model_of("weak") or "unknown model"


def _arm(run: RecordedRun, policy: str, several: bool) -> str:
    return f"{_model(run)}/{policy}" if several else policy


def _weak_model(runs: Iterable[RecordedRun], weak: str | None) -> str:
    arms = {_arm(run, policy, True): _model(run) for run in runs for policy in run.traces}
    if weak is None:
        raise ConfigError(f"answers of several models are read, so say which arm is the weak one: {', '.join(arms)}")
    return list(arms.values())[find_arm(list(arms), weak)]


def _prices(run: RecordedRun, weak_model: str | None, prices: Prices) -> Prices:
    """The prices of a run's own weak engine; the strong ones where its model is not the weak one of them all."""
    if weak_model in (None, _model(run)):
        return prices
    strong = {
        "generated": prices.strong_generated,
        "prompt": prices.strong_prompt,
        "cached": prices.strong_cached,
    }
    return prices.model_copy(update=strong)


def _collisions(questions: Iterable[Mapping[str, object]]) -> set[str]:
    """Ids that several datasets use."""
    seen: set[str] = set()
    twice: set[str] = set()
    for ids in questions:
        twice |= seen & ids.keys()
        seen |= ids.keys()
    return twice
