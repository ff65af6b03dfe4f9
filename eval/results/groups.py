"""Results: the scores and costs of every question by every arm, read from recorded runs.

`load_runs` reads run directories into groups, one for each dataset, model and prompt, because figures of different
questions or models are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flarekit.costs import Prices, price
from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Metric, Question
from flarekit.eval.data.metrics import exact_match, f1, supporting_recall
from flarekit.eval.results.fitted import lessons_of
from flarekit.eval.runs.recorded import RecordedRun, read_run
from flarekit.policies.spec import family_of
from flarekit.trace import Costs, Trace

COSTS = {
    "price": "cost",
    "prompt": "prompt tokens",
    "cached": "cached prompt tokens",
    "reckoned": "cached prompt tokens that no server counted",
    "generated": "generated tokens",
    "discarded": "discarded tokens",
    "strong": "strong model's tokens",
    "share": "share of the answer's tokens by the strong model",
    "retrievals": "retrievals",
    "escalations": "escalations",
    "seconds": "seconds",
}
"""What is averaged over questions, by name. Cached tokens are part of the prompt's, discarded ones of the generated."""


@dataclass(frozen=True, slots=True)
class Result:
    """One policy's answer to one question, scored. Scores are from 0 to 1."""

    exact_match: float
    f1: float
    recall: float | None
    """Share of the supporting passages that were retrieved; None where the dataset names none."""
    costs: Costs
    trace: Trace


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy with its results, by question id in the group's order."""

    policy: str
    results: Mapping[str, Result]


@dataclass(slots=True)
class Group:
    """Arms that may be compared: the same questions, models, retriever and prompt."""

    dataset: str
    metric: Metric
    weak: str
    strong: str | None
    questions: dict[str, Question] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    """By policy specification."""
    runs: list[RecordedRun] = field(default_factory=list)
    taught: dict[str, int] = field(default_factory=dict)
    """Answers that don't count, because a trained router in the policy was fitted on their questions; by policy."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Policies with a router that does not say what it was fitted on, with its folder."""

    @property
    def models(self) -> str:
        """What answered, for a heading: the engines' models, and what was searched where that was chosen."""
        settings = self.runs[0].manifest.settings if self.runs else {}
        corpus, retriever = settings.get("corpus"), settings.get("retriever", "bm25")
        models = f"{self.weak} + {self.strong}" if self.strong else self.weak
        return models + (f" over {corpus}" if corpus else "") + (f" ({retriever})" if retriever != "bm25" else "")


def load_runs(directories: Iterable[Path]) -> list[Group]:
    """The results in run directories, grouped by dataset and models, in the order of the directories.

    A policy is not judged by questions that a trained router in it was fitted on: `cautions` says which answers are
    left out. `DataError` where a directory cannot be read, none holds a finished question, or two hold the same
    policy's answer to the same question.
    """
    groups: list[Group] = []
    for path in {directory.resolve(): directory for directory in directories}.values():
        run = read_run(path)
        group = next((known for known in groups if _belongs(run, known)), None)
        if group is None:
            dataset, manifest = run.manifest.dataset, run.manifest
            group = Group(dataset.name, dataset.metric, manifest.model_of("weak") or "unknown model", None)
            groups.append(group)
        _add(run, group)
    finished = [group for group in groups if group.arms]
    if not finished:
        said = " ".join(caution for group in groups for caution in cautions(group))
        raise DataError(f"no question is finished in these run directories yet{said and f'. {said}'}")
    return finished


def baseline_of(group: Group, wanted: str | None) -> str:
    """The specification of the arm that `wanted` names in full or, where only one has it, by its policy's name."""
    if wanted is None:
        return next(iter(group.arms))
    found = [policy for policy in group.arms if wanted in (policy, family_of(policy))]
    if wanted in group.arms or len(found) == 1:
        return wanted if wanted in group.arms else found[0]
    problem = "fits several arms" if found else "is no arm"
    raise ConfigError(f"the baseline {wanted!r} {problem} of {group.dataset}; there are: {', '.join(group.arms)}")


def costs_of(costs: Costs, prices: Prices) -> dict[str, float]:
    """The costs of one answer by the names of `COSTS`."""
    return {
        "price": price(costs, prices),
        "prompt": costs.prompt_tokens,
        "cached": costs.cached_tokens,
        "reckoned": costs.reckoned_tokens,
        "generated": costs.generated_tokens,
        "discarded": costs.discarded_tokens,
        "strong": costs.strong_prompt_tokens + costs.strong_generated_tokens,
        "share": costs.strong_share,
        "retrievals": costs.retrievals,
        "escalations": costs.escalations,
        "seconds": costs.seconds,
    }


def measures(results: Iterable[Result], prices: Prices) -> dict[str, NDArray[np.float64]]:
    """Scores ("exact_match", "f1") and costs of every result, each of shape (n,)."""
    rows = [
        {"exact_match": result.exact_match, "f1": result.f1, **costs_of(result.costs, prices)} for result in results
    ]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in ("exact_match", "f1", *COSTS)}


def cautions(group: Group) -> list[str]:
    """A sentence for every policy that a trained router decides for, where that bears on its questions."""
    return [
        *(
            f"{policy}: {count} answers don't count, because its router was fitted on their questions."
            for policy, count in group.taught.items()
        ),
        *(
            f"{policy}: {folder} does not say which questions its router was fitted on; they may be among these."
            for policy, folder in group.unknown.items()
        ),
    ]


def notes_of(group: Group) -> list[str]:
    """What is to be known of the runs' data, each once."""
    return list(dict.fromkeys(note for run in group.runs for note in run.manifest.dataset.notes))


def _belongs(run: RecordedRun, group: Group) -> bool:
    """A run without a strong model belongs to one that has any: its policies never asked it."""
    manifest = run.manifest
    same = (manifest.dataset.name, manifest.dataset.metric, manifest.model_of("weak") or "unknown model")
    strong = manifest.model_of("strong")
    return (
        same == (group.dataset, group.metric, group.weak)
        and (strong is None or group.strong is None or strong == group.strong)
        and not any(known.manifest.differs(manifest.settings) for known in group.runs)
    )


def _add(run: RecordedRun, group: Group) -> None:
    group.strong = group.strong or run.manifest.model_of("strong")
    for question in run.questions.values():
        if group.questions.setdefault(question.id, question) != question:
            raise DataError(f"{run.path}: question {question.id!r} differs from the one of that id in another run")
    for policy, traces in run.traces.items():
        known = group.arms[policy].results if policy in group.arms else {}
        if twice := known.keys() & traces.keys():
            raise DataError(
                f"{run.path}: {policy} answered question {min(twice)!r} in another of these runs too; "
                "leave one of the directories out"
            )
        untaught = _untaught(run, group, policy, traces)
        new = {key: _result(trace, group.questions[key], group.metric) for key, trace in untaught.items()}
        if results := {**known, **new}:
            group.arms[policy] = Arm(policy, {key: results[key] for key in group.questions if key in results})
    group.runs.append(run)


def _untaught(run: RecordedRun, group: Group, policy: str, traces: Mapping[str, Trace]) -> Mapping[str, Trace]:
    """The answers that may judge the policy; of the others the group keeps count."""
    known = lessons_of(policy)
    taught = known.among(run.questions.values(), group.dataset) & traces.keys()
    if taught:
        group.taught[policy] = group.taught.get(policy, 0) + len(taught)
    if known.unknown:
        group.unknown[policy] = ", ".join(sorted(known.unknown))
    return {key: trace for key, trace in traces.items() if key not in taught}


def _result(trace: Trace, question: Question, metric: Metric) -> Result:
    found = [hit.passage.id for retrieved in trace.retrievals for hit in retrieved.hits]
    return Result(
        exact_match(trace.answer, question.answers, metric),
        f1(trace.answer, question.answers, metric),
        supporting_recall(found, question.supporting),
        trace.costs(),
        trace,
    )
